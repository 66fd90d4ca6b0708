"""BM25 with Lucene: index a corpus once, search it with many threads.

The index depends only on the documents and is cached under their hash; k1 and b are set per search. Robertson and
Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009; defaults as in Anserini.
"""

from __future__ import annotations

import math
import os
import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from inpars.batches import slices
from inpars.cache import cache_folder
from inpars.errors import BackendError, ConfigError, InparsError, UnknownNameError
from inpars.io.corpus import Documents
from inpars.io.storage import atomic_folder, to_json_line
from inpars.progress import SILENT, Progress
from inpars.records import Query, Run
from inpars.retrieval.java import Pool, find_jar, java_class, java_error
from inpars.retrieval.lucene import (
    CONTENTS,
    Hits,
    LuceneSearch,
    cut_inside_tie,
    decreasing,
    finish,
    ids_in_order,
    open_reader,
    unequal_scores,
)
from inpars.text.hashing import hex_key

DEFAULT_K1 = 0.9
DEFAULT_B = 0.4
DEFAULT_LANGUAGE = "en"
INDEX_FORMAT = 1
QUERIES_PER_BATCH = 250
SPARE = 10  # hits retrieved beyond 1.25 k, since ids decide among hits tied with the k-th
MAX_INDEXING_MEGABYTES = 2048
MAX_CLAUSES = 1 << 16  # some collections use whole documents as queries; Lucene's default limit is 1,024


class BM25Index:
    """A Lucene index of one corpus."""

    def __init__(
        self, folder: Path, *, k1: float = DEFAULT_K1, b: float = DEFAULT_B, language: str = DEFAULT_LANGUAGE
    ) -> None:
        """Open an index. Raises BackendError if the folder contains none, ConfigError for invalid parameters."""
        if k1 < 0 or not 0 <= b <= 1:
            raise ConfigError(f"BM25 needs k1 >= 0 and 0 <= b <= 1; k1 is {k1}, b is {b}")
        self.folder = folder
        try:
            java_class("org.apache.lucene.search.IndexSearcher").setMaxClauseCount(MAX_CLAUSES)
            self._searcher = java_class("io.anserini.search.SimpleSearcher")(str(folder))
            self._searcher.set_bm25(k1, b)
            if language != DEFAULT_LANGUAGE:
                self._searcher.set_language(language)
            self._lucene = LuceneSearch(folder, self._searcher.get_similarity(), self._searcher.get_analyzer())
        except InparsError:
            raise
        except Exception as error:
            raise _failed(f"the BM25 index {folder} cannot be opened; remove it to rebuild it", error) from error

    def search(
        self, queries: Sequence[Query], k: int, *, threads: int | None = None, progress: Progress = SILENT
    ) -> Run:
        """The k best documents per query; none for a query without indexed terms. Query ids must be unique."""
        if k < 1:
            raise ConfigError(f"k is {k}; it must be at least 1")
        k = min(k, max(1, int(self._lucene.reader.numDocs())))
        threads = threads or os.cpu_count() or 1
        run: Run = {}
        batches = list(slices(queries, QUERIES_PER_BATCH))
        track = progress.track(batches, total=len(queries), description="search BM25", unit="queries")
        with closing(Pool(threads)) as pool:
            hits = self._hits(batches, k + k // 4 + SPARE, pool)
            for batch in track:
                run |= self._as_run(batch, next(hits), k, threads)
                progress.advance(len(batch))
        return run

    def coverage(self) -> TermCoverage:
        """The term coverage of queries by texts, with this index's statistics."""
        return TermCoverage(self._lucene.reader, self._searcher.get_analyzer())

    def _hits(self, batches: Sequence[Sequence[Query]], depth: int, pool: Pool) -> Iterator[Hits]:
        """The hits of each batch; Java searches the next batch while the caller processes one."""
        running: deque[Any] = deque()
        try:
            for batch in batches:
                running.append(self._lucene.start([query.text for query in batch], depth, pool))
                if len(running) > 1:
                    yield finish(running.popleft(), depth)
            while running:
                yield finish(running.popleft(), depth)
        except Exception as error:
            raise _failed("BM25 search failed", error) from error

    def _as_run(self, queries: Sequence[Query], hits: Hits, k: int, threads: int) -> Run:
        slow = self._search_in_order([queries[row] for row in cut_inside_tie(hits, k)], k, threads)
        ids = ids_in_order(hits, self._lucene.doc_ids[hits.documents[hits.filled]], k)
        rows = zip(queries, ids, unequal_scores(hits).tolist(), strict=True)
        return {query.query_id: dict(zip(doc_ids, scores, strict=False)) for query, doc_ids, scores in rows} | slow

    def _search_in_order(self, queries: Sequence[Query], k: int, threads: int) -> Run:
        """Anserini's search, in which Lucene orders ties by id; several times slower."""
        texts, ids = java_class("java.util.ArrayList")(), java_class("java.util.ArrayList")()
        for query in queries:
            texts.add(query.text)
            ids.add(query.query_id)
        try:
            hits = self._searcher.batch_search(texts, ids, k, threads) if queries else {}
        except Exception as error:
            raise _failed("BM25 search failed", error) from error
        return {query.query_id: _scores(hits.get(query.query_id)) for query in queries}

    def close(self) -> None:
        self._lucene.close()
        self._searcher.close()


def bm25_index(
    corpus: Documents,
    *,
    k1: float = DEFAULT_K1,
    b: float = DEFAULT_B,
    language: str = DEFAULT_LANGUAGE,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> BM25Index:
    """The index of a corpus (title and text in one field), built in the cache the first time."""
    if language != DEFAULT_LANGUAGE and language not in (known := _languages()):
        raise UnknownNameError("language", language, known)  # Anserini would fall back to English
    jar = find_jar()
    key = f"{INDEX_FORMAT}\0{corpus.sha256}\0{language}\0{jar.name if jar else ''}"
    folder = cache_folder() / "bm25" / hex_key(key)
    if not folder.exists():
        _build(corpus, folder, language, threads or os.cpu_count() or 1, progress)
    return BM25Index(folder, k1=k1, b=b, language=language)


def _build(corpus: Documents, folder: Path, language: str, threads: int, progress: Progress) -> None:
    with atomic_folder(folder) as working:
        texts_folder = working / "input"
        texts_folder.mkdir()
        texts = _write_shards(corpus, texts_folder, threads, progress)
        progress.note(f"BM25: indexing {len(corpus)} documents")
        settings = {
            "-collection": "JsonCollection",
            "-generator": "DefaultLuceneDocumentGenerator",
            "-input": texts_folder,
            "-index": working,
            "-threads": threads,
            "-memoryBuffer": _indexing_megabytes(),
            "-language": language,
        }
        try:
            java_class("io.anserini.index.IndexCollection").main(
                [*(str(part) for pair in settings.items() for part in pair), "-quiet"]
            )
        except Exception as error:
            raise _failed("BM25 indexing failed", error) from error
        if (indexed := _document_count(working)) < texts:  # Anserini ignores a full disk
            raise BackendError(
                f"BM25: only {indexed} of {texts} documents were indexed; free disk space in {folder.parent} and run "
                "the same command again"
            )
        shutil.rmtree(texts_folder)


def _indexing_megabytes() -> int:
    """The indexing buffer. Anserini's default of 4 GB exceeds many Java heaps, by default a quarter of the memory."""
    heap = int(java_class("java.lang.Runtime").getRuntime().maxMemory())
    return max(MAX_INDEXING_MEGABYTES // 32, min(MAX_INDEXING_MEGABYTES, heap // 4 // 2**20))


def _write_shards(corpus: Documents, folder: Path, shards: int, progress: Progress) -> int:
    """Write one file per thread, as Anserini reads a file with one thread; return the number of non-empty documents."""
    texts = 0
    with ExitStack() as stack:
        files = [
            stack.enter_context((folder / f"{shard}.jsonl").open("w", encoding="utf-8")) for shard in range(shards)
        ]
        documents = progress.track(corpus, total=len(corpus), description="read corpus", unit="documents")
        for position, document in enumerate(documents):
            files[position % shards].write(to_json_line({"id": document.doc_id, "contents": document.full_text}) + "\n")
            texts += bool(document.full_text.strip())
    return texts


def _languages() -> list[str]:
    """The languages for which Anserini has an analyser."""
    keys = java_class("io.anserini.analysis.AnalyzerMap").analyzerMap.keySet().iterator()
    languages = [DEFAULT_LANGUAGE]
    while keys.hasNext():
        languages.append(str(keys.next()))
    return languages


def _document_count(index: Path) -> int:
    """The number of documents in an index, 0 if it is incomplete; Anserini skips documents without text."""
    try:
        reader = open_reader(index)
    except Exception as error:
        if "IndexNotFound" in str(error):
            return 0
        raise _failed("the new BM25 index cannot be opened", error) from error
    count = int(reader.numDocs())
    reader.close()
    return count


def _scores(hits: Any) -> dict[str, float]:
    pairs = [(hit.docid, hit.score) for hit in hits or ()]
    scores = decreasing(np.array([[score for _, score in pairs]], dtype=np.float32))[0].tolist()
    return {doc_id: score for (doc_id, _), score in zip(pairs, scores, strict=True)}


def _failed(step: str, error: Exception) -> BackendError:
    return BackendError(f"{step}: {java_error(error)}")


MAX_CACHED_TERMS = 100_000


class TermCoverage:
    """The share of a query's total inverse document frequency covered by a text, with BM25's analyser. Thread-safe."""

    def __init__(self, reader: Any, analyzer: Any) -> None:
        self._reader, self._analyzer = reader, analyzer
        self._analyze = java_class("io.anserini.analysis.AnalyzerUtils").analyze
        self._term = java_class("org.apache.lucene.index.Term")
        self._documents = int(reader.numDocs())
        self._weights: dict[str, float] = {}
        self._lock = Lock()

    def __call__(self, query: str, text: str) -> float:
        """The coverage, from 0 to 1; 0 for a query without terms."""
        with self._lock:
            terms, present = self._terms(query), self._terms(text)
            total = math.fsum(map(self._weight, terms))
            return math.fsum(map(self._weight, terms & present)) / total if total else 0.0

    def _terms(self, text: str) -> set[str]:
        written = self._analyze(self._analyzer, text).toString()  # "[one, another]": a single call into Java
        return set(written[1:-1].split(", ")) - {""}

    def _weight(self, term: str) -> float:
        """BM25's inverse document frequency."""
        if term not in self._weights:
            if len(self._weights) >= MAX_CACHED_TERMS:
                self._weights.clear()
            count = int(self._reader.docFreq(self._term(CONTENTS, term)))
            self._weights[term] = math.log(1 + (self._documents - count + 0.5) / (count + 0.5))
        return self._weights[term]
