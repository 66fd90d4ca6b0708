"""Search with a learned sparse retriever (SPLADE) and an inverted index.

A text is represented by weights of a few vocabulary words; a score is a dot product. The index is a scipy sparse matrix
of words by documents. The product with a query reads only the postings of its words, in order, so scores do not depend
on the other queries of a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Unpack

import numpy as np
import numpy.typing as npt
from scipy import sparse

from inpars.engines.splade_pooling import pool_before_activation
from inpars.io.corpus import Documents
from inpars.io.runs import rank
from inpars.io.storage import atomic_file
from inpars.models.loading import load_sparse
from inpars.progress import SILENT, Progress
from inpars.records import Document
from inpars.retrieval.blocks import FillBlocks, ShardFolder, damaged
from inpars.retrieval.dense import check_finite
from inpars.retrieval.library_encoder import DEFAULT_BATCH_SIZE, EncoderSettings, LibraryEncoder, refuse_windows
from inpars.retrieval.retrievers import DocumentRows, Index, ScoreOf

DOCUMENTS_PER_SHARD = 4096
INDEX_FORMAT = 1
SCORES_AT_ONCE = 1 << 25  # per block of queries
MAX_ON_PROCESSOR = 16  # texts per batch on a CPU: each needs a logit per token and vocabulary word


class Encoder:
    """A sparse encoder of sentence-transformers. Thread-safe."""

    window_tokens = None

    def __init__(
        self, model: str, *, batch_size: int = DEFAULT_BATCH_SIZE, **settings: Unpack[EncoderSettings]
    ) -> None:
        self.name, self._encoder = model, LibraryEncoder(load_sparse, model, **settings)
        self._batch_size = min(batch_size, MAX_ON_PROCESSOR) if self._encoder.device.type == "cpu" else batch_size
        self.fingerprint = self._encoder.fingerprint
        pool_before_activation(self._encoder.model)

    def reading(self, window_tokens: int | None) -> Encoder:
        """This encoder. Raises ConfigError for windows."""
        refuse_windows(self.name, window_tokens)
        return self

    def encode_queries(self, texts: Sequence[str]) -> sparse.csr_array:
        """Word weights of queries, (queries, vocabulary)."""
        return self._encode("encode_query", texts, SILENT)

    def encode_documents(self, texts: Sequence[str], progress: Progress = SILENT) -> sparse.csr_array:
        """Word weights of documents, (documents, vocabulary); advances the progress by documents."""
        return self._encode("encode_document", texts, progress)

    def words(self, columns: Iterable[int]) -> list[str]:
        words: list[str] = self._encoder.model.tokenizer.convert_ids_to_tokens(list(map(int, columns)))
        return words

    def save_documents(self, shard: Path, documents: Sequence[Document], progress: Progress = SILENT) -> None:
        weights = self.encode_documents([document.full_text for document in documents], progress)
        with atomic_file(shard) as working, working.open("wb") as stream:
            sparse.save_npz(stream, weights, compressed=False)

    def index(self, corpus: Documents, *, fill: FillBlocks | None = None, progress: Progress = SILENT) -> Index:
        """The index of a corpus, its weights cached; `fill` encodes with other processes."""
        key = f"{INDEX_FORMAT}\0{corpus.sha256}\0{self.fingerprint}"
        folder = ShardFolder.of("sparse", key, ".npz", DOCUMENTS_PER_SHARD)
        save = partial(self.save_documents, progress=progress)
        shards, doc_ids = folder.fill(corpus, self.name, save, fill=fill, progress=progress)
        index = SparseIndex([_loaded(shard) for shard in shards], doc_ids, self)
        return Index(index.find, self.name, max(1, SCORES_AT_ONCE // max(1, len(doc_ids))))

    def _encode(self, method: str, texts: Sequence[str], progress: Progress) -> sparse.csr_array:
        order, parts = list[int](), list[sparse.csr_array]()
        for rows, weights in self._encoder.encoded(method, texts, self._batch_size, convert_to_sparse_tensor=False):
            parts.append(sparse.csr_array(weights.float().cpu().numpy()))
            check_finite(self.name, [parts[-1].data])
            order += rows
            progress.advance(len(rows))
        if not parts:
            return sparse.csr_array((0, 0), dtype=np.float32)
        return sparse.vstack(parts, format="csr")[np.argsort(order)]


class SparseIndex:
    """An inverted index in memory."""

    def __init__(self, shards: Sequence[sparse.csr_array], doc_ids: Sequence[str], encoder: Encoder) -> None:
        """`shards` are the documents' weights; `doc_ids` are the ids of all shards' rows, in order."""
        self._doc_ids, self._encoder = doc_ids, encoder
        weights = sparse.vstack(shards, format="csr") if shards else sparse.csr_array((0, 0), dtype=np.float32)
        self._postings = weights.T.tocsr()  # (vocabulary, documents)
        self._rows = DocumentRows(doc_ids, "sparse")

    def find(self, texts: Sequence[str], k: int) -> tuple[list[dict[str, float]], ScoreOf]:
        scores = self.scores(texts)
        entries = [slice(*scores.indptr[number : number + 2]) for number in range(len(texts))]

        def score_of(query: int, doc_id: str) -> float:
            positions = np.flatnonzero(scores.indices[entries[query]] == self._rows[doc_id])
            return float(scores.data[entries[query]][positions[0]]) if len(positions) else 0.0

        return [self._best(scores.indices[part], scores.data[part], k) for part in entries], score_of

    def scores(self, texts: Sequence[str]) -> sparse.csr_array:
        """Scores of documents that share words with queries, (queries, documents)."""
        scores: sparse.csr_array = self._encoder.encode_queries(texts) @ self._postings
        return scores

    def _best(self, columns: npt.NDArray[np.integer], values: npt.NDArray[np.float32], k: int) -> dict[str, float]:
        """The k best documents of a query; ties by descending id."""
        if len(values) > k:
            near = values >= np.partition(values, -k)[-k]
            columns, values = columns[near], values[near]
        pairs = ((self._doc_ids[column], value) for column, value in zip(columns, values.tolist(), strict=True))
        return dict(rank(dict(pairs), k))


def _loaded(path: Path) -> sparse.csr_array:
    try:
        return sparse.csr_array(sparse.load_npz(path))
    except (ValueError, EOFError, OSError, KeyError) as error:
        raise damaged(path, error) from None
