"""An index of documents and embeddings on disk, memory-mapped, with exact or approximate search.

It is a collection like `Corpus`, so BM25 and other models can read it. An open index is a snapshot; later changes by
`index_writer.py` do not affect it.
"""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import TYPE_CHECKING, get_args

import numpy as np
import numpy.typing as npt

from inpars.errors import DataFormatError, MissingDependencyError
from inpars.records import Document
from inpars.retrieval.index_state import DELETIONS, SEGMENTS, IndexState, SegmentEntry, StructureKind, read_state
from inpars.retrieval.segments import Embeddings, Rows, Segment, best, nearest_by_window, nearest_rows

if TYPE_CHECKING:
    from inpars.retrieval.approximate import Structure

STRUCTURE_FILE = "structure.faiss"
EXACT_LIMIT = 100_000  # documents of a segment up to which "auto" means exact search
GRAPH_LIMIT = 2_000_000  # documents beyond which inverted lists are smaller and faster to build than a graph
EXACT_SEARCH_BELOW = 10_000  # allowed rows up to which search is exact with any structure
OPENING_ATTEMPTS = 5
CACHED_FILTERS = 16


class VectorIndex:
    """A snapshot of an index, opened for reading. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        """Open the latest state. Raises DataFormatError if there is none."""
        self.folder = folder
        self.state, self.segments, self._structures = _open(folder)
        self._allowed: OrderedDict[str, list[npt.NDArray[np.bool_]]] = OrderedDict()
        self._lock = Lock()

    @property
    def sha256(self) -> str:
        """A hash of the documents' content."""
        return self.state.digest

    def __len__(self) -> int:
        return sum(segment.live_count for segment in self.segments)

    def __iter__(self) -> Iterator[Document]:
        return (document for segment in self.segments for document in segment.documents())

    def __contains__(self, doc_id: object) -> bool:
        return isinstance(doc_id, str) and self.find(doc_id) is not None

    def __getitem__(self, doc_id: str) -> Document:
        location = self.find(doc_id)
        if location is None:
            raise DataFormatError(f"no document {doc_id!r} in this index", path=self.folder)
        return self.segments[location[0]].document(location[1])

    def texts(self, doc_ids: Iterable[str]) -> list[str]:
        return [self[doc_id].full_text for doc_id in doc_ids]

    def find(self, doc_id: str) -> tuple[int, int] | None:
        for number, segment in enumerate(self.segments):
            if (row := segment.find(doc_id)) is not None:
                return number, row
        return None

    def search(
        self,
        queries: Embeddings,
        k: int,
        *,
        allowed: Sequence[npt.NDArray[np.bool_]] | None = None,
        view: str | None = None,
    ) -> list[dict[str, float]]:
        """The k nearest documents per query embedding, with exact scores.

        `allowed` restricts each segment's rows, see `matching`; a `view` is always searched exactly.
        """
        results: list[dict[str, float]] = [{} for _ in range(len(queries))]
        for number, segment in enumerate(self.segments):
            rows = segment.live if allowed is None else segment.live & allowed[number]
            for position, (scores, neighbours) in enumerate(self._nearest(number, queries, k, rows, view)):
                for score, row in zip(scores.tolist(), neighbours.tolist(), strict=True):
                    results[position][segment.document(row).doc_id] = score
        return [dict(sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:k]) for scores in results]

    def matching(self, key: str, matches: Callable[[Document], bool]) -> list[npt.NDArray[np.bool_]]:
        """Masks of the rows of each segment whose documents match; the masks of recent keys are cached."""
        with self._lock:
            if key not in self._allowed:
                self._allowed[key] = [_matching(segment, matches) for segment in self.segments]
                while len(self._allowed) > CACHED_FILTERS:
                    self._allowed.popitem(last=False)
            self._allowed.move_to_end(key)
            return self._allowed[key]

    def info(self) -> Mapping[str, object]:
        return {
            "documents": len(self),
            "deleted": sum(len(segment) - segment.live_count for segment in self.segments),
            "segments": len(self.segments),
            "structures": sorted({entry.structure for entry in self.state.segments}),
            "model": self.state.model,
            "width": self.state.width,
            "generation": self.state.generation,
            **({"views": sorted(self.state.views)} if self.state.views else {}),
        }

    def _nearest(
        self, number: int, queries: Embeddings, k: int, allowed: npt.NDArray[np.bool_], view: str | None
    ) -> list[tuple[Embeddings, Rows]]:
        """Scores and rows of the best documents of one segment per query."""
        segment, structure = self.segments[number], self._structures[number]
        if view is not None:
            return list(zip(*nearest_by_window(segment.view(view), queries, k, allowed), strict=True))
        if structure is None or allowed.sum() <= EXACT_SEARCH_BELOW:
            return list(zip(*nearest_rows(segment.vectors, queries, k, allowed), strict=True))
        proposed = structure.propose(queries, k, allowed)
        exact = [segment.vectors[rows] @ query for query, rows in zip(queries, proposed, strict=True)]
        pairs = (best(scores[None], rows[None], k) for scores, rows in zip(exact, proposed, strict=True))
        return [(scores[0], rows[0]) for scores, rows in pairs]


def choose_structure(name: str, documents: int) -> StructureKind:
    """The structure of a segment: the named one or, for "auto", by its number of documents."""
    if name in get_args(StructureKind):
        return name  # type: ignore[return-value]
    if documents <= EXACT_LIMIT:
        return "exact"
    return "hnsw" if documents <= GRAPH_LIMIT else "ivf"


def _open(folder: Path) -> tuple[IndexState, list[Segment], list[Structure | None]]:
    """Open the latest state; retries if a writer replaces the state and removes its files meanwhile."""
    for attempt in range(OPENING_ATTEMPTS):
        state = read_state(folder)
        try:
            deleted = [folder / DELETIONS / entry.deleted if entry.deleted else None for entry in state.segments]
            folders = [folder / SEGMENTS / entry.name for entry in state.segments]
            return state, list(map(Segment, folders, deleted)), list(map(_structure, folders, state.segments))
        except FileNotFoundError as error:
            if attempt + 1 == OPENING_ATTEMPTS or read_state(folder) == state:
                raise DataFormatError(
                    f"{error.filename} of this index is missing; build it again", path=folder
                ) from None
    raise AssertionError  # the loop returns or raises


def require_faiss(purpose: str) -> None:
    """Raise MissingDependencyError unless faiss can be imported."""
    try:
        import faiss  # noqa: F401
    except ModuleNotFoundError:
        raise MissingDependencyError("faiss", purpose, "pip install 'faiss-cpu>=1.11'") from None


def approximate() -> ModuleType:
    """The module of search structures. Raises MissingDependencyError without faiss."""
    require_faiss("for an index with a --structure other than exact")
    from inpars.retrieval import approximate

    return approximate


def _structure(segment: Path, entry: SegmentEntry) -> Structure | None:
    if entry.structure == "exact":
        return None
    path = segment / STRUCTURE_FILE
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    try:
        structure: Structure = approximate().Structure(entry.structure, path)
    except RuntimeError as error:  # faiss's
        reason = str(error).splitlines()[0][:200]
        raise DataFormatError(f"the search structure is damaged ({reason}); build the index again", path=path) from None
    return structure


def _matching(segment: Segment, matches: Callable[[Document], bool]) -> npt.NDArray[np.bool_]:
    rows = (bool(live) and matches(segment.document(row)) for row, live in enumerate(segment.live))
    return np.fromiter(rows, dtype=np.bool_, count=len(segment))
