"""Search batches of queries with Lucene, and order ties like Anserini.

Lucene returns internal document numbers. Ids come from a table next to the index, written once, since fetching the
stored id of every hit takes longer than the search.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from inpars.io.storage import atomic_file, storage_errors
from inpars.retrieval import java
from inpars.retrieval.java import java_cast, java_class

Numbers = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]

_DECIMALS = 1e4  # scores are rounded to four decimals
_TIE = np.float32(1e-4)  # largest gap within a tie
_STEP = np.float32(1e-6)  # by which each further score of a tie is lowered


@dataclass(frozen=True, slots=True)
class Hits:
    """The best documents per query as Lucene's numbers, (queries, depth); the first `counts` of each row are filled.

    Ordered by score descending, then number ascending.
    """

    documents: Numbers
    scores: Scores
    counts: Numbers

    @property
    def filled(self) -> npt.NDArray[np.bool_]:
        """The mask of hits, (queries, depth)."""
        return np.arange(self.scores.shape[1]) < self.counts[:, None]


def cut_inside_tie(hits: Hits, k: int) -> list[int]:
    """The queries whose k-th and last scores are equal, so that tied documents beyond the depth may be missing."""
    depth = hits.scores.shape[1]
    return [int(row) for row in np.flatnonzero((hits.counts == depth) & (hits.scores[:, k - 1] == hits.scores[:, -1]))]


def ids_in_order(hits: Hits, names: Sequence[str], k: int) -> list[list[str]]:
    """The ids of the k best per query, ties in ascending order of ids; `names` are the ids of all hits."""
    remaining, ids = iter(names), []
    for scores, count in zip((-hits.scores).tolist(), hits.counts.tolist(), strict=True):
        best = sorted(zip(scores[:count], remaining, strict=False))[:k]
        ids.append([name for _, name in best])
    return ids


def unequal_scores(hits: Hits) -> npt.NDArray[np.float64]:
    """Anserini's tie-breaking: round scores to four decimals and lower each further tied score slightly (float32).

    Scores that are still equal become the next smaller double, so that scores alone determine the order. As float32
    they equal Anserini's to the last bit.
    """
    scores = np.where(hits.filled, hits.scores, np.float32(0)).astype(np.float64)
    rounded = (np.floor(scores * _DECIMALS + 0.5) / _DECIMALS).astype(np.float32)
    rank_in_tie = np.zeros(len(rounded), dtype=np.float32)
    for column in range(1, rounded.shape[1]):
        apart = rounded[:, column - 1] - rounded[:, column] > _TIE
        rank_in_tie = np.where(apart, np.float32(0), rank_in_tie + np.float32(1))
        rounded[:, column] -= _STEP * rank_in_tie
    return decreasing(rounded)


def decreasing(scores: Scores) -> npt.NDArray[np.float64]:
    """Make the scores of each row strictly decreasing, by replacing a score with the next smaller double."""
    lowered = scores.astype(np.float64)
    for column in range(1, lowered.shape[1]):
        lowered[:, column] = np.minimum(lowered[:, column], np.nextafter(lowered[:, column - 1], -np.inf))
    return lowered


CONTENTS, ID = "contents", "id"  # Anserini's fields
IDS_AT_ONCE = 100_000
_LETTERS = b"docsrehaIndx=[],"  # non-digits in Java's text of hits: [doc=7 score=1.5 shardIndex=-1, ...]
_NUMBERS_A_HIT = 3


class LuceneSearch:
    """Searches one index with one similarity and analyser."""

    def __init__(self, folder: Path, similarity: Any, analyzer: Any) -> None:
        self.reader = open_reader(folder)
        self._searcher = java_class("org.apache.lucene.search.IndexSearcher")(self.reader)
        self._searcher.setSimilarity(similarity)
        self._query = _query_builder(analyzer)
        self._functions: dict[int, java.Handle] = {}  # by depth
        self.doc_ids = DocIds(folder, self.reader)

    def start(self, texts: Sequence[str], depth: int, pool: java.Pool) -> Any:
        """Start a search in Java threads; `finish` returns its hits."""
        queries = java_class("java.util.ArrayList")()
        for text in texts:
            queries.add(text)
        if depth not in self._functions:
            self._functions[depth] = java.mapped_in_parallel(self._text_of_hits(depth))
        return pool.submit(self._functions[depth].bindTo(queries))

    def _text_of_hits(self, depth: int) -> java.Handle:
        """A Java function from a query's text to its hits as a string."""
        top, hit = "org.apache.lucene.search.TopDocs", "[Lorg.apache.lucene.search.ScoreDoc;"
        search = java.method(
            "org.apache.lucene.search.IndexSearcher",
            "search",
            "(Lorg/apache/lucene/search/Query;I)Lorg/apache/lucene/search/TopDocs;",
        ).bindTo(self._searcher)
        limit = java_class("java.lang.Integer")(depth)
        hits = java.retyped(java.field(top, "scoreDocs", hit), f"(L{top.replace('.', '/')};)[Ljava/lang/Object;")
        text = java.static_method("java.util.Arrays", "toString", "([Ljava/lang/Object;)Ljava/lang/String;")
        return java.pipe(self._query, java.with_arguments(search, 1, limit), hits, text)

    def close(self) -> None:
        self.reader.close()


def finish(task: Any, depth: int) -> Hits:
    """The hits of a started search of this depth. Raises Java's exceptions."""
    lines: list[str] = task.join()
    counts = np.array([text.count("=") // _NUMBERS_A_HIT for text in lines], dtype=np.int64)
    numbers = _numbers(" ".join(lines), int(counts.sum()) * _NUMBERS_A_HIT).reshape(-1, _NUMBERS_A_HIT)
    filled = np.arange(depth) < counts[:, None]
    documents = np.full(filled.shape, -1, dtype=np.int64)
    scores = np.full(filled.shape, -np.inf, dtype=np.float32)
    documents[filled], scores[filled] = numbers[:, 0], numbers[:, 1]
    return Hits(documents, scores, counts)


def _numbers(text: str, count: int) -> npt.NDArray[np.float64]:
    """The numbers in Java's text of hits."""
    if not count:  # numpy would parse blanks as one number
        return np.empty(0, dtype=np.float64)
    return np.fromstring(text.encode().translate(None, _LETTERS), dtype=np.float64, sep=" ", count=count)


def open_reader(folder: Path) -> Any:
    """Open an index. Raises Java's exceptions."""
    path = java_class("java.io.File")(str(folder)).toPath()
    directory = java_class("org.apache.lucene.store.FSDirectory").open(path)
    return java_cast(
        "org.apache.lucene.index.IndexReader", java_class("org.apache.lucene.index.DirectoryReader").open(directory)
    )


class DocIds:
    """Document ids by Lucene's numbers, in two memory-mapped files: the ids, and 8 bytes per document."""

    def __init__(self, folder: Path, reader: Any) -> None:
        """Open the table; write it first if this state of the index has none."""
        name = f"doc_ids.{_state(folder)}"
        starts = folder / f"{name}.npy"
        if not starts.exists():
            with storage_errors(starts):
                _write_table(folder / f"{name}.txt", starts, reader)
        self._starts = np.load(starts, mmap_mode="r")
        self._text = _mapped(folder / f"{name}.txt")

    def __getitem__(self, numbers: Numbers) -> list[str]:
        text = self._text
        starts, stops = self._starts[numbers].tolist(), (self._starts[numbers + 1] - 1).tolist()
        return [text[start:stop].decode() for start, stop in zip(starts, stops, strict=True)]


def _mapped(path: Path) -> mmap.mmap | bytes:
    """A memory-mapped file, or empty bytes, since empty files (of indexes without text) cannot be mapped."""
    with path.open("rb") as stream:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""


def _state(folder: Path) -> str:
    """A hash of the index's current list of segments, whose ids are random."""
    newest = max(folder.glob("segments_*"), key=lambda path: int(path.name.partition("_")[2], 36))
    return hashlib.sha256(newest.read_bytes()).hexdigest()[:16]


def _write_table(text_file: Path, starts_file: Path, reader: Any) -> None:
    starts, end = [np.zeros(1, dtype=np.int64)], 0
    with atomic_file(text_file) as working, working.open("wb") as stream:
        for ids in _ids_in_order(reader):
            text = ids.encode()
            stream.write(text)
            starts.append(np.flatnonzero(np.frombuffer(text, dtype=np.uint8) == ord("\n")) + end + 1)
            end += len(text)
    with atomic_file(starts_file) as working, working.open("wb") as stream:
        np.save(stream, np.concatenate(starts))


def _ids_in_order(reader: Any) -> Iterator[str]:
    """The ids of all documents in chunks, one per line."""
    leaves, integer = reader.leaves(), java_class("java.lang.Integer")
    for position in range(leaves.size()):
        leaf = leaves.get(position).reader()
        ids = _ids_of(leaf)
        for start in range(0, leaf.maxDoc(), IDS_AT_ONCE):
            stop = min(start + IDS_AT_ONCE, leaf.maxDoc())
            yield java.call(ids, [integer(start), integer(stop)])


def _ids_of(leaf: Any) -> java.Handle:
    """A Java function from a range of a segment's numbers to the ids, one per line."""
    values, stream = "org.apache.lucene.index.BinaryDocValues", "Ljava/util/stream/Stream;"
    column = leaf.getBinaryDocValues(ID)
    advance = java.retyped(java.method(values, "advanceExact", "(I)Z").bindTo(column), "(I)V")
    value = java.method(values, "binaryValue", "()Lorg/apache/lucene/util/BytesRef;").bindTo(column)
    text = java.method("org.apache.lucene.util.BytesRef", "utf8ToString", "()Ljava/lang/String;")
    concat = java.method("java.lang.String", "concat", "(Ljava/lang/String;)Ljava/lang/String;")
    line = java.pipe(value, text, java.with_arguments(concat, 1, "\n"))
    each = java.method("java.util.stream.IntStream", "mapToObj", f"(Ljava/util/function/IntFunction;){stream}")
    collect = java.method("java.util.stream.Stream", "collect", "(Ljava/util/stream/Collector;)Ljava/lang/Object;")
    return java.pipe(
        java.static_method("java.util.stream.IntStream", "range", "(II)Ljava/util/stream/IntStream;"),
        java.taking_function(each, "java.util.function.IntFunction", java.after(advance, line)),
        java.with_arguments(collect, 1, java_class("java.util.stream.Collectors").joining()),
    )


def _query_builder(analyzer: Any) -> java.Handle:
    """A Java function from a text to Anserini's Lucene query."""
    builder = "io.anserini.search.query.BagOfWordsQueryGenerator"
    build = java.method(
        builder,
        "buildQuery",
        "(Ljava/lang/String;Lorg/apache/lucene/analysis/Analyzer;Ljava/lang/String;)Lorg/apache/lucene/search/Query;",
    )
    return build.bindTo(java_class(builder)()).bindTo(CONTENTS).bindTo(analyzer)
