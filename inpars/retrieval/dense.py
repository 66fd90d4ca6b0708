"""Exact search with a bi-encoder: documents are embedded once, in shards on disk.

A document has one vector, or one per window, of which the nearest counts. Embeddings are cached under a hash of
documents, model and number format; interrupted encoding resumes after the last complete shard.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Lock, local
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from inpars.batches import slices
from inpars.engines.batch_parallel import in_worker_thread, map_batches
from inpars.engines.choice import Read, openvino_form
from inpars.errors import BackendError, ConfigError
from inpars.io.corpus import Documents
from inpars.io.manifest import sha256_of
from inpars.models import loading as models
from inpars.models.compute_options import DtypeName
from inpars.models.hardware import pick_device, pick_dtype
from inpars.models.networks import check_length
from inpars.models.retrievers import is_classifier
from inpars.progress import SILENT, Progress
from inpars.records import Document
from inpars.retrieval.blocks import FillBlocks, ShardFolder, counts_path, damaged
from inpars.retrieval.passages import document_windows, require_offsets
from inpars.retrieval.retrievers import DocumentRows, Index, ScoreOf
from inpars.retrieval.segments import save_array

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Embeddings = npt.NDArray[np.float32]
DEFAULT_BATCH_SIZE = 64
MAX_ON_PROCESSOR = 16  # texts per batch on a CPU: larger batches only add padding
DOCUMENTS_PER_SHARD = 4096
DOCUMENTS_PER_PASS = 256  # whose windows are sorted by length together
QUERIES_PER_BLOCK = 512
INDEX_FORMAT = 2


class Encoder:
    """A sentence-transformers bi-encoder, with its prompts for queries and documents.

    Thread-safe: threads take turns batch by batch.
    """

    def __init__(
        self,
        model: str,
        *,
        device: str = "auto",
        dtype: DtypeName = "auto",
        max_length: int | None = None,
        window_tokens: int | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        trust_remote_code: bool = False,
    ) -> None:
        """Load the model; `max_length` is the maximum input length in tokens (default: the model's).

        With `window_tokens`, documents are embedded in windows of that many tokens.
        """
        torch_device = pick_device(device)
        number_format = pick_dtype(dtype, torch_device)
        self.name, self.window_tokens = model, window_tokens
        self.batch_size = min(batch_size, MAX_ON_PROCESSOR) if torch_device.type == "cpu" else batch_size
        self._lock = Lock()  # the tokenizer is not thread-safe
        self._of_thread = local()  # a model with its own tokenizer per worker thread
        self._model = models.load_sentence_transformer(
            model, device=str(torch_device), dtype="float32", trust_remote_code=trust_remote_code
        )
        if is_classifier(model):
            raise ConfigError(f"{model} scores pairs and embeds no texts; give a bi-encoder, or rerank a run with it")
        if max_length is not None:
            check_length(self._model, model, max_length)
            self._model.max_seq_length = max_length
        if window_tokens is not None:
            require_offsets(self._model.tokenizer, model)
        self._number_format = number_format
        network = getattr(self._model[0], "auto_model", None)
        time_torch = partial(time_in_format, network, number_format)
        compiled = openvino_form(network, "last_hidden_state", dtype, time_torch, model)
        if compiled is not None:
            self._model[0].model = compiled
        self._side_by_side = compiled is not None
        self.fingerprint = fingerprint(model, self._model, number_format) + (f"\0{compiled}" if compiled else "")
        # bfloat16 products of float32 weights: as fast as bfloat16 weights, and closer to float32
        is_autocast = number_format != torch.float32 and not self._side_by_side
        self._autocast = torch.autocast(torch_device.type, number_format, enabled=is_autocast)

    def reading(self, window_tokens: int | None) -> Encoder:
        """The same encoder for whole documents or another window size; shares the network."""
        if window_tokens is not None:
            require_offsets(self._model.tokenizer, self.name)
        view = copy.copy(self)
        view.window_tokens = window_tokens
        return view

    def encode_queries(self, texts: Sequence[str]) -> Embeddings:
        """Query embeddings, (queries, width); unit length unless the model's similarity is the dot product."""
        return self._encode("encode_query", texts, lambda _: None)

    def encode_documents(self, texts: Sequence[str], progress: Progress = SILENT) -> Embeddings:
        """Document embeddings, (documents, width); advances the progress by documents."""
        return self._encode("encode_document", texts, lambda rows: progress.advance(len(rows)))

    def encode_in_windows(
        self, documents: Sequence[Document], progress: Progress = SILENT, whole: Embeddings | None = None
    ) -> tuple[Embeddings, npt.NDArray[np.int64]]:
        """Embeddings of all windows, (windows, width), and the number of windows per document, (documents,).

        Without `window_tokens` each document is one window. `whole` are known embeddings of whole documents,
        (documents, width), reused for documents of a single window. Advances the progress by documents.
        """
        if self.window_tokens is None or not documents:
            vectors = self.encode_documents([document.full_text for document in documents], progress)
            return vectors, np.ones(len(documents), dtype=np.int64)
        embeddings: list[Embeddings] = []
        counts: list[int] = []
        for start in range(0, len(documents), DOCUMENTS_PER_PASS):
            some = documents[start : start + DOCUMENTS_PER_PASS]
            parts = self.windows_of(some)
            known = [whole is not None and part == [text.full_text] for text, part in zip(some, parts, strict=True)]
            fresh = [part for part, skip in zip(parts, known, strict=True) if not skip]
            progress.advance(sum(known))
            texts = [text for part in fresh for text in part]
            vectors = self._encode("encode_document", texts, _in_proportion(len(fresh), len(texts), progress))
            if whole is not None:
                is_known = np.repeat(known, [len(part) for part in parts])  # (windows,)
                merged = np.empty((len(is_known), whole.shape[1]), dtype=np.float32)
                merged[is_known], merged[~is_known] = whole[start : start + len(some)][known], vectors
                vectors = merged
            embeddings.append(vectors)
            counts += map(len, parts)
        return np.concatenate(embeddings), np.array(counts, dtype=np.int64)

    def save_documents(
        self, shard: Path, documents: Sequence[Document], progress: Progress = SILENT, whole: Path | None = None
    ) -> None:
        """Write a shard; `whole` is the shard of the same documents without windows, reused if it exists."""
        known = _loaded(whole) if whole is not None and whole.exists() else None
        vectors, counts = self.encode_in_windows(documents, progress, known)
        if self.window_tokens is not None:
            save_array(counts_path(shard), counts)
        save_array(shard, vectors)  # last, as it marks the shard as complete

    def index(self, corpus: Documents, *, fill: FillBlocks | None = None, progress: Progress = SILENT) -> Index:
        """The index of a corpus, built in the cache if necessary; `fill` embeds with other processes."""
        whole = _folder(corpus, self.reading(None)).folder

        def save(shard: Path, documents: Sequence[Document]) -> None:
            known = whole / shard.name if self.window_tokens is not None else None
            self.save_documents(shard, documents, progress, known)

        shards, doc_ids = _folder(corpus, self).fill(corpus, self.name, save, fill=fill, progress=progress)
        return Index(DenseIndex(shards, doc_ids, self).find, self.name, QUERIES_PER_BLOCK)

    def share_read(self, texts: Sequence[str]) -> float:
        """The share of the texts' tokens that fit into the maximum input length."""
        lengths = [len(self._model.tokenizer(text, verbose=False)["input_ids"]) for text in texts]
        limit = self._model.max_seq_length
        return sum(min(length, limit) if limit else length for length in lengths) / max(1, sum(lengths))

    def windows_of(self, documents: Sequence[Document]) -> list[list[str]]:
        """The texts that are embedded for each document."""
        if self.window_tokens is None:
            return [[document.full_text] for document in documents]
        return document_windows(documents, self._model.tokenizer, self.window_tokens)

    def _own_model(self) -> SentenceTransformer:
        if not hasattr(self._of_thread, "model"):
            with self._lock:
                self._of_thread.model = _twin(self._model)
        model: SentenceTransformer = self._of_thread.model
        return model

    def _encode(self, method: str, texts: Sequence[str], done: Callable[[Sequence[int]], object]) -> Embeddings:
        """Embed in order of length, which reduces padding; calls `done` with the positions of each batch."""
        order = sorted(range(len(texts)), key=lambda position: -len(texts[position]))
        batches = list(slices(order, self.batch_size))

        def embedded(rows: Sequence[int]) -> Embeddings:
            some = [texts[row] for row in rows]
            settings: dict[str, Any] = {"batch_size": len(rows), "show_progress_bar": False, "convert_to_tensor": True}
            if in_worker_thread():
                vectors = getattr(self._own_model(), method)(some, **settings)
            else:
                with self._lock, self._autocast:
                    vectors = getattr(self._model, method)(some, **settings)
            vectors = vectors.float()
            if self._model.similarity_fn_name != "dot":
                vectors = torch.nn.functional.normalize(vectors, dim=-1)
            embeddings: Embeddings = vectors.cpu().numpy()
            return embeddings

        parts: list[Embeddings] = []
        for rows, vectors in zip(batches, map_batches(embedded, batches, wanted=self._side_by_side), strict=True):
            parts.append(vectors)
            done(rows)
        width = self._model.get_embedding_dimension() or 0
        result = np.empty((len(texts), parts[0].shape[1] if parts else width), dtype=np.float32)
        if parts:
            result[order] = np.concatenate(parts)
        check_finite(self.name, [result])
        return result


def check_finite(model: str, embeddings: Iterable[npt.NDArray[np.float32]]) -> None:
    """Raise BackendError if some embeddings of a model are not finite."""
    if not all(np.isfinite(values).all() for values in embeddings):
        raise BackendError(
            f"{model} embeds some texts as NaN or infinity, which rank nothing; try --dtype float32, or another model"
        )


def _in_proportion(documents: int, windows: int, progress: Progress) -> Callable[[Sequence[int]], None]:
    """Advance the progress by documents in proportion to the embedded windows.

    Windows are embedded in order of length across documents, so few documents are complete before the end.
    """
    embedded = advanced = 0

    def done(rows: Sequence[int]) -> None:
        nonlocal embedded, advanced
        embedded += len(rows)
        progress.advance(documents * embedded // windows - advanced)
        advanced = documents * embedded // windows

    return done


def _twin(model: SentenceTransformer) -> SentenceTransformer:
    """The same network with a copy of the tokenizer."""
    twin, first = copy.copy(model), copy.copy(model[0])
    first.processor = copy.deepcopy(first.processor)
    twin._modules = {**model._modules, next(iter(model._modules)): first}
    return twin


def time_in_format(network: Any, number_format: torch.dtype, stop_watch: Callable[[Read], float]) -> float:
    """The seconds that a torch network takes in a number format."""

    def read(inputs: Mapping[str, torch.Tensor]) -> None:
        with torch.autocast("cpu", number_format, enabled=number_format != torch.float32):
            network(**inputs)

    return stop_watch(read)


class DenseIndex:
    """Exact search over document embeddings on disk."""

    def __init__(self, shards: Sequence[Path], doc_ids: Sequence[str], encoder: Encoder) -> None:
        """`doc_ids` are the ids of all shards' rows, in order."""
        self._shards, self._doc_ids, self._encoder = shards, doc_ids, encoder
        self._rows = DocumentRows(doc_ids, "dense")

    def find(self, texts: Sequence[str], k: int) -> tuple[list[dict[str, float]], ScoreOf]:
        queries = torch.from_numpy(self._encoder.encode_queries(texts))
        results = [
            {self._doc_ids[row]: score for score, row in zip(scores, rows, strict=True)}
            for scores, rows in zip(*(table.tolist() for table in self._nearest(queries, k)), strict=True)
        ]
        return results, lambda query, doc_id: float((self._vectors(doc_id) @ queries[query]).max())

    def _vectors(self, doc_id: str) -> torch.Tensor:
        """A document's embeddings, (windows, width)."""
        shard, position = divmod(self._rows[doc_id], DOCUMENTS_PER_SHARD)
        start, end = _rows_of(self._shards[shard], position)
        return torch.from_numpy(np.array(_loaded(self._shards[shard], "r")[start:end]))

    def _nearest(self, queries: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores and rows of the k nearest documents, both (queries, at most k)."""
        scores, rows = torch.empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.long)
        start = 0
        for shard in self._shards:
            similarities = _of_documents(queries @ torch.from_numpy(_loaded(shard, "c")).T, shard)
            best = similarities.topk(min(k, similarities.shape[1]), dim=1)
            scores = torch.cat([scores, best.values], dim=1)
            rows = torch.cat([rows, best.indices + start], dim=1)
            top = scores.topk(min(k, scores.shape[1]), dim=1)
            scores, rows = top.values, rows.gather(1, top.indices)
            start += similarities.shape[1]
        return scores, rows


def is_embedded(corpus: Documents, encoder: Encoder) -> bool:
    """Whether the encoder's index of a corpus is in the cache."""
    return _folder(corpus, encoder).doc_ids(len(corpus)) is not None


def _folder(corpus: Documents, encoder: Encoder) -> ShardFolder:
    windows = "" if encoder.window_tokens is None else f"\0windows of {encoder.window_tokens}"
    key = f"{INDEX_FORMAT}\0{corpus.sha256}\0{encoder.fingerprint}{windows}"
    return ShardFolder.of("dense", key, ".npy", DOCUMENTS_PER_SHARD)


def _loaded(path: Path, mode: Literal["c", "r"] | None = None) -> npt.NDArray[Any]:
    """Load an array. Raises DataFormatError if the file is damaged."""
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode=mode)
    except (ValueError, EOFError) as error:
        raise damaged(path, error) from None
    return array


def _of_documents(similarities: torch.Tensor, shard: Path) -> torch.Tensor:
    """The best similarity per document, (queries, documents), from those of a shard's rows, (queries, rows)."""
    path = counts_path(shard)
    if not path.exists():
        return similarities
    counts = torch.from_numpy(_loaded(path))
    owners = torch.repeat_interleave(torch.arange(len(counts)), counts).expand(len(similarities), -1)
    best = torch.full((len(similarities), len(counts)), -torch.inf)
    return best.scatter_reduce(1, owners, similarities, "amax")


def _rows_of(shard: Path, position: int) -> tuple[int, int]:
    """The start and end of a document's rows in a shard."""
    path = counts_path(shard)
    if not path.exists():
        return position, position + 1
    ends = np.cumsum(_loaded(path)[: position + 1])
    return int(ends[-2]) if position else 0, int(ends[-1])


def fingerprint(name: str, model: Any, dtype: torch.dtype) -> str:
    """Identifies embeddings: a hash of the weights' folder (or the hub's commit), length limit, number format."""
    source = models.resolve_model(name)
    config = getattr(getattr(model[0], "auto_model", None), "config", None)
    commit = f"{source}@{getattr(config, '_commit_hash', None)}"
    weights = sha256_of(Path(source)) if Path(source).is_dir() else commit
    prompt = model.prompts.get("document")
    return f"{weights}\0{model.max_seq_length}\0{dtype}" + (f"\0{prompt}" if prompt else "")
