"""Search with a late-interaction retriever (ColBERT): one vector per token, compared by MaxSim.

A document's score is the sum over query tokens of the maximum similarity to a document token (Khattab and Zaharia,
arXiv 2004.12832). Search scores all documents of a small corpus; of a large one those that faiss proposes. The index
stores vectors in float16, which changes scores by about 1 in 10,000, unless the encoder was asked for float32;
reranking is exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, Unpack

import numpy as np
import numpy.typing as npt

from inpars.io.corpus import Documents
from inpars.io.runs import rank
from inpars.models.loading import load_multi_vector
from inpars.progress import SILENT, Progress
from inpars.records import Document
from inpars.retrieval.blocks import FillBlocks, ShardFolder, counts_path, damaged
from inpars.retrieval.dense import MAX_ON_PROCESSOR, check_finite
from inpars.retrieval.library_encoder import DEFAULT_BATCH_SIZE, EncoderSettings, LibraryEncoder, refuse_windows
from inpars.retrieval.retrievers import DocumentRows, Index, ScoreOf
from inpars.retrieval.segments import save_array
from inpars.retrieval.vector_index import require_faiss

DOCUMENTS_PER_SHARD = 512
INDEX_FORMAT = 1
MAX_EXHAUSTIVE = 100_000  # documents that are all scored
TOKEN_LISTS = "tokens.faiss"
QUERIES_PER_BLOCK = 128
SIMILARITIES_AT_ONCE = 1 << 24  # between query tokens and document tokens
MEAN = "meanmaxsim"

Vectors: TypeAlias = npt.NDArray[np.float32]  # (tokens, width)


class Encoder:
    """A multi-vector encoder of sentence-transformers. Thread-safe."""

    window_tokens = None

    def __init__(
        self,
        model: str,
        *,
        of_encoder: bool = False,
        batch_size: int = DEFAULT_BATCH_SIZE,
        **settings: Unpack[EncoderSettings],
    ) -> None:
        """Load the model; with `of_encoder`, a bi-encoder whose token states are used before pooling."""
        load = partial(load_multi_vector, of_encoder=of_encoder)
        self.name, self._encoder = model, LibraryEncoder(load, model, "last_hidden_state", **settings)
        on_processor = self._encoder.device.type == "cpu"
        self.batch_size = min(batch_size, MAX_ON_PROCESSOR) if on_processor else batch_size
        self.fingerprint = self._encoder.fingerprint
        self._mean = self._encoder.model.similarity_fn_name == MEAN
        self._stored = np.dtype("float32" if settings.get("dtype") == "float32" else "float16")

    def reading(self, window_tokens: int | None) -> Encoder:
        """This encoder. Raises ConfigError for windows."""
        refuse_windows(self.name, window_tokens)
        return self

    def encode_queries(self, texts: Sequence[str]) -> list[Vectors]:
        """The token vectors of each query."""
        return self._encode("encode_query", texts, SILENT)

    def encode_documents(self, texts: Sequence[str], progress: Progress = SILENT) -> list[Vectors]:
        """The token vectors of each document; advances the progress by documents."""
        return self._encode("encode_document", texts, progress)

    def max_sim(self, queries: Sequence[Vectors], tokens: Vectors, counts: npt.NDArray[np.int64]) -> Vectors:
        """MaxSim scores, (queries, documents), from the vectors of all documents; -inf for documents without tokens."""
        lengths = np.array([len(query) for query in queries])
        similarities = np.concatenate(queries) @ tokens.T  # (tokens of all queries, tokens of all documents)
        some = counts > 0  # all words of a document may be skipped
        best = np.maximum.reduceat(similarities, (np.cumsum(counts) - counts)[some], axis=1)
        scores = np.full((len(queries), len(counts)), -np.inf, dtype=np.float32)
        scores[:, some] = np.add.reduceat(best, np.cumsum(lengths) - lengths, axis=0)
        return np.divide(scores, lengths[:, None], dtype=np.float32) if self._mean else scores

    def save_documents(self, shard: Path, documents: Sequence[Document], progress: Progress = SILENT) -> None:
        vectors = self.encode_documents([document.full_text for document in documents], progress)
        save_array(counts_path(shard), np.array([len(vectors) for vectors in vectors], dtype=np.int64))
        save_array(shard, np.concatenate(vectors).astype(self._stored))  # last, as it marks the shard as complete

    def index(self, corpus: Documents, *, fill: FillBlocks | None = None, progress: Progress = SILENT) -> Index:
        """The index of a corpus, cached; `fill` encodes with other processes.

        Raises MissingDependencyError for a large corpus without faiss.
        """
        exhaustive = len(corpus) <= MAX_EXHAUSTIVE
        if not exhaustive:
            require_faiss(f"for MaxSim over more than {MAX_EXHAUSTIVE:,} documents")
        key = f"{INDEX_FORMAT}\0{corpus.sha256}\0{self.fingerprint}\0{self._stored}"
        folder = ShardFolder.of("multi-vector", key, ".npy", DOCUMENTS_PER_SHARD)
        save = partial(self.save_documents, progress=progress)
        shards, doc_ids = folder.fill(corpus, self.name, save, fill=fill, progress=progress)
        if exhaustive:
            return Index(MultiVectorIndex(shards, doc_ids, self).find, self.name, QUERIES_PER_BLOCK)
        return Index(ProposingIndex(shards, doc_ids, self, progress).find, self.name, QUERIES_PER_BLOCK)

    def _encode(self, method: str, texts: Sequence[str], progress: Progress) -> list[Vectors]:
        encoded: dict[int, Vectors] = {}
        for rows, vectors in self._encoder.encoded(method, texts, self.batch_size):
            encoded |= {row: tensor.float().cpu().numpy() for row, tensor in zip(rows, vectors, strict=True)}
            check_finite(self.name, (encoded[row] for row in rows))
            progress.advance(len(rows))
        return [encoded[row] for row in range(len(texts))]


class MultiVectorIndex:
    """Exhaustive search over token vectors on disk."""

    def __init__(self, shards: Sequence[Path], doc_ids: Sequence[str], encoder: Encoder) -> None:
        """`doc_ids` are the ids of all shards' documents, in order."""
        self._shards, self._doc_ids, self._encoder = shards, doc_ids, encoder
        self._rows = DocumentRows(doc_ids, "multi-vector")

    def find(self, texts: Sequence[str], k: int) -> tuple[list[dict[str, float]], ScoreOf]:
        scores = self.scores(texts)
        return [self._best(row, k) for row in scores], lambda query, doc_id: float(scores[query, self._rows[doc_id]])

    def scores(self, texts: Sequence[str]) -> Vectors:
        """MaxSim of queries with all documents, (queries, documents)."""
        queries = self._encoder.encode_queries(texts)
        max_tokens = max(1, SIMILARITIES_AT_ONCE // sum(map(len, queries)))
        parts = [
            self._encoder.max_sim(queries, tokens.astype(np.float32, copy=False), counts)
            for shard in self._shards
            for tokens, counts in _parts(shard, max_tokens)
        ]
        return np.concatenate(parts, axis=1) if parts else np.empty((len(texts), 0), dtype=np.float32)

    def _best(self, scores: npt.NDArray[np.float32], k: int) -> dict[str, float]:
        """The k best documents; ties by descending id."""
        least = np.partition(scores, -k)[-k] if len(scores) > k else np.float32(-np.inf)
        near = np.flatnonzero((scores >= least) & np.isfinite(scores)).tolist()
        return dict(rank({self._doc_ids[row]: float(scores[row]) for row in near}, k))


class ProposingIndex:
    """Search of the documents that lists of token vectors propose, scored exactly."""

    def __init__(self, shards: Sequence[Path], doc_ids: Sequence[str], encoder: Encoder, progress: Progress) -> None:
        """Build the lists next to the shards, if necessary."""
        from inpars.retrieval.token_lists import TokenLists, build_token_lists

        opened = [_open(shard) for shard in shards]
        self._tokens = [tokens for tokens, _ in opened]
        self._ends = [np.cumsum(counts) for _, counts in opened]
        self._doc_ids, self._encoder = doc_ids, encoder
        self._rows = DocumentRows(doc_ids, "multi-vector")
        counts, path = np.concatenate([counts for _, counts in opened]), shards[0].with_name(TOKEN_LISTS)
        if not path.exists():
            build_token_lists(self._tokens, path, progress)
        self._lists = TokenLists(path, counts)

    def find(self, texts: Sequence[str], k: int) -> tuple[list[dict[str, float]], ScoreOf]:
        queries = self._encoder.encode_queries(texts)
        results = []
        for query in queries:
            rows = self._lists.propose(query, k).tolist()
            scores = zip((self._doc_ids[row] for row in rows), self._scores(query, rows), strict=True)
            results.append(dict(rank({doc_id: score for doc_id, score in scores if np.isfinite(score)}, k)))
        return results, lambda number, doc_id: self._scores(queries[number], [self._rows[doc_id]])[0]

    def _scores(self, query: Vectors, rows: Sequence[int]) -> list[float]:
        """MaxSim of a query with some documents."""
        vectors = [self._document(row) for row in rows]
        if not vectors:
            return []
        tokens = np.concatenate(vectors).astype(np.float32, copy=False)
        scores: list[float] = self._encoder.max_sim([query], tokens, np.array(list(map(len, vectors))))[0].tolist()
        return scores

    def _document(self, row: int) -> npt.NDArray[np.floating[Any]]:
        shard, number = divmod(row, DOCUMENTS_PER_SHARD)
        ends = self._ends[shard]
        return self._tokens[shard][ends[number - 1] if number else 0 : ends[number]]


def _open(shard: Path) -> tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.int64]]:
    """A shard's token vectors, memory-mapped, and their number per document. Raises DataFormatError."""
    try:
        return np.load(shard, mmap_mode="r"), np.load(counts_path(shard))
    except (ValueError, EOFError, OSError) as error:
        raise damaged(shard, error) from None


def _parts(shard: Path, max_tokens: int) -> Iterator[tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.int64]]]:
    """A shard's token vectors and counts, in parts of about `max_tokens` tokens."""
    tokens, counts = _open(shard)
    ends = np.cumsum(counts)
    start = 0
    while start < len(counts):
        begin = int(ends[start] - counts[start])
        stop = max(start + 1, int(np.searchsorted(ends, begin + max_tokens, side="right")))
        yield tokens[begin : int(ends[stop - 1])], counts[start:stop]
        start = stop
