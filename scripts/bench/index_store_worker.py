"""One step of `index_stores.py`, in a process and an environment of its own: a store of vectors, built, changed, asked.

Documents are numbers: row r of the vectors is the document of that id, and what embeds a text reads the row from it.
"""

# ruff: noqa: D102 - what the methods do stands in `Store`
from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Hits = list[tuple[str, float]]
FILLER = "A passage of some two hundred characters stands in each document, as it does in collections of passages. " * 2
ROWS_PER_BATCH = 50_000  # given to a library at once while it builds
ROWS_PER_ADD = 1_000  # acknowledged together in the test of kill -9


def doc_id(row: int) -> str:
    """As wide as the others, so that ids are ordered as rows are."""
    return f"d{row:08}"


class Store(Protocol):
    """What is compared."""

    def build(self, rows: range, structure: str) -> None:
        """Make it, of these rows."""

    def add(self, rows: range) -> None:
        """Return when the rows are there for good; those already there are replaced."""

    def delete(self, rows: Sequence[int]) -> None:
        """Likewise."""

    def search(self, queries: Vectors, k: int) -> list[Hits]:
        """The k best of each query."""

    def ids(self) -> list[str]:
        """Of all documents, as often as they are there."""


class Ours:
    """`inpars index`, with an encoder that looks vectors up."""

    name, fingerprint = "rows", "rows"

    def __init__(self, folder: Path, vectors: Vectors) -> None:
        self._folder, self._vectors = folder, vectors
        self._index: Any = None

    def encode_documents(self, texts: Sequence[str], progress: object = None) -> Vectors:
        """The rows that the texts begin with."""
        rows = [0 if text == "width" else int(text.split(" ", 1)[0]) for text in texts]
        return np.array(self._vectors[rows])

    def build(self, rows: range, structure: str) -> None:
        from inpars.retrieval.index_writer import build_index

        build_index(self._folder, OurDocuments(rows), self, structure=structure)  # type: ignore[arg-type]

    def add(self, rows: range) -> None:
        from inpars.retrieval.index_writer import add_documents

        add_documents(self._folder, OurDocuments(rows), self)  # type: ignore[arg-type]

    def delete(self, rows: Sequence[int]) -> None:
        from inpars.retrieval.index_writer import delete_documents

        delete_documents(self._folder, map(doc_id, rows))

    def search(self, queries: Vectors, k: int) -> list[Hits]:
        from inpars.retrieval.vector_index import VectorIndex

        self._index = self._index or VectorIndex(self._folder)
        return [list(hits.items()) for hits in self._index.search(queries, k)]

    def ids(self) -> list[str]:
        from inpars.retrieval.vector_index import VectorIndex

        return [document.doc_id for document in VectorIndex(self._folder)]


class OurDocuments:
    """A collection of rows."""

    def __init__(self, rows: range) -> None:
        self._rows, self.sha256 = rows, repr(rows)

    def __iter__(self) -> Iterator[Any]:
        from inpars.records import Document

        return (Document(doc_id(row), f"{row} {FILLER}") for row in self._rows)


class LanceDB:
    """A table of id, text and vector; sizes of its structure are its own defaults but for the refining."""

    def __init__(self, folder: Path, vectors: Vectors) -> None:
        import lancedb

        self._vectors, self._database = vectors, lancedb.connect(folder)

    def _rows(self, rows: range) -> Any:  # noqa: ANN401 - a pyarrow table
        import pyarrow

        flat = pyarrow.array(np.ascontiguousarray(self._vectors[rows.start : rows.stop]).reshape(-1))
        vectors = pyarrow.FixedSizeListArray.from_arrays(flat, self._vectors.shape[1])
        texts = [f"{row} {FILLER}" for row in rows]
        return pyarrow.table({"doc_id": list(map(doc_id, rows)), "text": texts, "vector": vectors})

    def build(self, rows: range, structure: str) -> None:
        table = None
        for start in range(rows.start, rows.stop, ROWS_PER_BATCH):
            part = self._rows(range(start, min(start + ROWS_PER_BATCH, rows.stop)))
            if table is None:
                table = self._database.create_table("documents", part)
            else:
                table.add(part)
        if structure != "exact" and table is not None:
            from lancedb.index import HnswSq, IvfSq

            kinds = {"hnsw": HnswSq, "ivf": IvfSq}
            table.create_index("vector", config=kinds[structure](distance_type="dot"))
            table.create_scalar_index("doc_id")

    def add(self, rows: range) -> None:
        merging = self._database.open_table("documents").merge_insert("doc_id")
        merging.when_matched_update_all().when_not_matched_insert_all().execute(self._rows(rows))

    def delete(self, rows: Sequence[int]) -> None:
        table = self._database.open_table("documents")
        table.delete(f"doc_id IN ({', '.join(repr(doc_id(row)) for row in rows)})")
        table.optimize(cleanup_older_than=timedelta(0))

    def search(self, queries: Vectors, k: int) -> list[Hits]:
        table = self._database.open_table("documents")
        asked = table.search(queries).distance_type("dot").limit(k)
        if any(index.columns == ["vector"] for index in table.list_indices()):
            asked = asked.refine_factor(2).nprobes(20)
        found: list[Hits] = [[] for _ in queries]
        for row in asked.select(["doc_id", "_distance"]).to_list():
            found[row.get("query_index", 0)].append((row["doc_id"], 1 - row["_distance"]))
        return found

    def ids(self) -> list[str]:
        table = self._database.open_table("documents")
        return list(table.search().select(["doc_id"]).limit(None).to_arrow().column("doc_id").to_pylist())


class Qdrant:
    """Its local mode: all points in memory and in SQLite, searched exactly."""

    def __init__(self, folder: Path, vectors: Vectors) -> None:
        from qdrant_client import QdrantClient

        self._vectors, self._client = vectors, QdrantClient(path=str(folder))

    def build(self, rows: range, structure: str) -> None:
        from qdrant_client import models

        size = models.VectorParams(size=self._vectors.shape[1], distance=models.Distance.DOT)
        self._client.create_collection("documents", vectors_config=size)
        self.add(rows)

    def add(self, rows: range) -> None:
        from qdrant_client import models

        for start in range(rows.start, rows.stop, ROWS_PER_ADD):
            some = range(start, min(start + ROWS_PER_ADD, rows.stop))
            payloads = [{"doc_id": doc_id(row), "text": f"{row} {FILLER}"} for row in some]
            vectors = self._vectors[some.start : some.stop].tolist()
            self._client.upsert("documents", models.Batch(ids=list(some), vectors=vectors, payloads=payloads))

    def delete(self, rows: Sequence[int]) -> None:
        self._client.delete("documents", list(rows))

    def search(self, queries: Vectors, k: int) -> list[Hits]:
        answers = [self._client.query_points("documents", query.tolist(), limit=k) for query in queries]
        return [[(doc_id(point.id), point.score) for point in answer.points] for answer in answers]

    def ids(self) -> list[str]:
        count = self._client.count("documents").count
        points, _ = self._client.scroll("documents", limit=count + 1, with_payload=False)
        return [doc_id(point.id) for point in points]


STORES = {"ours": Ours, "lancedb": LanceDB, "qdrant-local": Qdrant}


def main() -> None:
    """Do the step and print what it took as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=["build", "add", "delete", "search", "ids", "add-until-killed"])
    parser.add_argument("--store", choices=list(STORES), required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder of vectors.npy and queries.npy")
    parser.add_argument("--rows", type=int, nargs=2, default=[0, 0], help="first, and the one after the last")
    parser.add_argument("--structure", default="exact")
    flags = parser.parse_args()
    vectors = np.load(flags.data / "vectors.npy", mmap_mode="r")
    store: Store = STORES[flags.store](flags.folder, vectors)
    rows = range(*flags.rows)
    if flags.step == "add-until-killed":
        for start in range(rows.start, rows.stop, ROWS_PER_ADD):
            store.add(range(start, start + ROWS_PER_ADD))
            print(start + ROWS_PER_ADD, flush=True)
        return
    done: dict[str, Any] = {}
    if flags.step == "search":
        queries = np.load(flags.data / "queries.npy")
        store.search(queries[:1], 10)  # opens the files
        done = timed(lambda: [store.search(query[None], 10)[0] for query in queries], "hits")
        done |= {f"batch_{name}": value for name, value in timed(lambda: store.search(queries, 10), "hits").items()}
    elif flags.step == "ids":
        done = {"ids": store.ids()}
    elif flags.step == "build":
        done = timed(lambda: store.build(rows, flags.structure))
    else:
        change = store.add if flags.step == "add" else store.delete
        done = timed(lambda: change(rows))
    json.dump({**done, "peak_mb": memory("VmHWM"), "own_mb": memory("RssAnon")}, sys.stdout)


def timed(work: Any, name: str = "result") -> dict[str, Any]:  # noqa: ANN401 - whatever it returns
    """Seconds on the clock and of the processor, and the result."""
    began, used = time.perf_counter(), time.process_time()
    result = work()
    return {"seconds": time.perf_counter() - began, "processor": time.process_time() - used, name: result}


def memory(name: str) -> float:
    """Megabytes: VmHWM is the peak with pages of mapped files, RssAnon what is held now without them."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(name))


if __name__ == "__main__":
    main()
