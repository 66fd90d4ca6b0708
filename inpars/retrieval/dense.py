"""Exact search with a bi-encoder: documents are embedded once, in shards on disk, and searched block by block.

A document is one vector, or one for each of its windows, the nearest of which counts.

Embeddings depend on documents, model and number format; they are kept in the cache under their hashes, and an
interrupted encoding resumes after its last whole shard.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
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
from inpars.errors import DataFormatError
from inpars.io.corpus import Documents
from inpars.io.manifest import sha256_of
from inpars.models import loading as models
from inpars.models.compute_options import DtypeName
from inpars.models.hardware import pick_device, pick_dtype
from inpars.models.networks import check_length
from inpars.progress import SILENT, Progress
from inpars.records import Document
from inpars.retrieval.blocks import FillBlocks, ShardFolder, counts_path, damaged
from inpars.retrieval.passages import document_windows, require_offsets
from inpars.retrieval.retrievers import Index, ScoreOf
from inpars.retrieval.segments import save_array

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Embeddings = npt.NDArray[np.float32]
DEFAULT_BATCH_SIZE = 64
MAX_ON_PROCESSOR = 16  # texts per batch: more are padded more, and are no quicker
DOCUMENTS_PER_SHARD = 4096
DOCUMENTS_PER_PASS = 256  # whose windows are sorted by length together
QUERIES_PER_BLOCK = 512
INDEX_FORMAT = 2


class Encoder:
    """A sentence-transformers model that embeds queries and documents, with the prompts it wants for each.

    Safe to call from several threads, which take turns batch by batch.
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
        """Load the model; `max_length` tokens of a text are read, the model's own limit by default.

        With `window_tokens`, an index has a vector for each window of so many tokens of a document.
        """
        torch_device = pick_device(device)
        number_format = pick_dtype(dtype, torch_device)
        self.name, self.window_tokens = model, window_tokens
        self.batch_size = min(batch_size, MAX_ON_PROCESSOR) if torch_device.type == "cpu" else batch_size
        self._lock = Lock()  # its tokenizer cannot be used by two threads
        self._of_thread = local()  # so those that compute side by side have one each
        self._model = models.load_sentence_transformer(
            model, device=str(torch_device), dtype="float32", trust_remote_code=trust_remote_code
        )
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
        # else products in bfloat16 over float32 weights: as fast as bfloat16 weights, and nearer to float32
        own_format = number_format != torch.float32 and not self._side_by_side
        self._autocast = torch.autocast(torch_device.type, number_format, enabled=own_format)

    def reading(self, window_tokens: int | None) -> Encoder:
        """The same network for whole documents or for windows of another size; nothing is loaded again."""
        if window_tokens is not None:
            require_offsets(self._model.tokenizer, self.name)
        view = copy.copy(self)
        view.window_tokens = window_tokens
        return view

    def encode_queries(self, texts: Sequence[str]) -> Embeddings:
        """Embeddings of queries, (queries, width), of unit length unless the model compares by plain dot product."""
        return self._encode("encode_query", texts, lambda _: None)

    def encode_documents(self, texts: Sequence[str], progress: Progress = SILENT) -> Embeddings:
        """Embeddings of documents, (documents, width); advances the progress by documents."""
        return self._encode("encode_document", texts, lambda rows: progress.advance(len(rows)))

    def encode_in_windows(
        self, documents: Sequence[Document], progress: Progress = SILENT, whole: Embeddings | None = None
    ) -> tuple[Embeddings, npt.NDArray[np.int64]]:
        """Embeddings of all windows, (windows, width), and how many each document has, (documents,).

        One each where there are no windows. `whole` are the embeddings of the whole documents, (documents, width): a
        document that is its only window keeps that one. Advances the progress by documents.
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
            fresh = [part for part, is_known in zip(parts, known, strict=True) if not is_known]
            progress.advance(sum(known))
            texts = [text for part in fresh for text in part]
            vectors = self._encode("encode_document", texts, _in_proportion(len(fresh), len(texts), progress))
            if whole is not None:
                of_known = np.repeat(known, [len(part) for part in parts])
                both = np.empty((len(of_known), whole.shape[1]), dtype=np.float32)
                both[of_known], both[~of_known] = whole[start : start + len(some)][known], vectors
                vectors = both
            embeddings.append(vectors)
            counts += map(len, parts)
        return np.concatenate(embeddings), np.array(counts, dtype=np.int64)

    def save_documents(
        self, shard: Path, documents: Sequence[Document], progress: Progress = SILENT, whole: Path | None = None
    ) -> None:
        """Write the embeddings of an index's documents; `whole` is their shard as whole documents, if it is there."""
        known = _loaded(whole) if whole is not None and whole.exists() else None
        vectors, counts = self.encode_in_windows(documents, progress, known)
        if self.window_tokens is not None:
            save_array(counts_path(shard), counts)
        save_array(shard, vectors)  # last: it says that the shard is whole

    def index(self, corpus: Documents, *, fill: FillBlocks | None = None, progress: Progress = SILENT) -> Index:
        """The corpus's, made in the cache where it is not there yet; `fill` has others embed."""
        whole = _folder(corpus, self.reading(None)).folder  # made before, as a measured system's stages are

        def save(shard: Path, documents: Sequence[Document]) -> None:
            known = whole / shard.name if self.window_tokens is not None else None
            self.save_documents(shard, documents, progress, known)

        shards, doc_ids = _folder(corpus, self).fill(corpus, self, fill=fill, progress=progress, save=save)
        return Index(DenseIndex(shards, doc_ids, self).find, self.name, QUERIES_PER_BLOCK)

    def share_read(self, texts: Sequence[str]) -> float:
        """The share of the texts' tokens that it reads; the rest is cut off."""
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
        """Sorted by length, so that a batch is padded little; `done` is called with the positions of each batch."""
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
        return result


def _in_proportion(documents: int, windows: int, progress: Progress) -> Callable[[Sequence[int]], None]:
    """Advances the progress by the documents' share of the windows that are embedded.

    Windows of all documents are embedded in the order of their lengths, so few documents are whole before the end.
    """
    embedded = advanced = 0

    def done(rows: Sequence[int]) -> None:
        nonlocal embedded, advanced
        embedded += len(rows)
        progress.advance(documents * embedded // windows - advanced)
        advanced = documents * embedded // windows

    return done


def _twin(model: SentenceTransformer) -> SentenceTransformer:
    """The same network behind a tokenizer of its own."""
    twin, first = copy.copy(model), copy.copy(model[0])
    first.processor = copy.deepcopy(first.processor)
    twin._modules = {**model._modules, next(iter(model._modules)): first}
    return twin


def time_in_format(network: Any, number_format: torch.dtype, stop_watch: Callable[[Read], float]) -> float:
    """The seconds that a network of torch takes in a number format."""

    def read(inputs: Mapping[str, torch.Tensor]) -> None:
        with torch.autocast("cpu", number_format, enabled=number_format != torch.float32):
            network(**inputs)

    return stop_watch(read)


class DenseIndex:
    """Document embeddings on disk, compared with queries exactly."""

    def __init__(self, shards: Sequence[Path], doc_ids: Sequence[str], encoder: Encoder) -> None:
        """`doc_ids` name the rows of all shards, one after the other."""
        self._shards, self._doc_ids, self._encoder = shards, doc_ids, encoder
        self._order: npt.NDArray[np.intp] | None = None
        self._hashes: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def find(self, texts: Sequence[str], k: int) -> tuple[list[dict[str, float]], ScoreOf]:
        queries = torch.from_numpy(self._encoder.encode_queries(texts))
        results = [
            {self._doc_ids[row]: score for score, row in zip(scores, rows, strict=True)}
            for scores, rows in zip(*(table.tolist() for table in self._nearest(queries, k)), strict=True)
        ]
        return results, lambda query, doc_id: float((self._vectors(doc_id) @ queries[query]).max())

    def _vectors(self, doc_id: str) -> torch.Tensor:
        """A document's embeddings, (windows, width)."""
        if self._order is None:  # 16 bytes a document, instead of a dictionary of all ids
            hashes = np.array([hash(name) for name in self._doc_ids], dtype=np.int64)
            self._order = np.argsort(hashes)
            self._hashes = hashes[self._order]
        index = int(np.searchsorted(self._hashes, hash(doc_id)))
        while index < len(self._hashes) and self._hashes[index] == hash(doc_id):
            row = int(self._order[index])
            if self._doc_ids[row] == doc_id:
                shard, position = divmod(row, DOCUMENTS_PER_SHARD)
                start, end = _rows_of(self._shards[shard], position)
                return torch.from_numpy(np.array(_loaded(self._shards[shard], "r")[start:end]))
            index += 1
        raise DataFormatError(f"no document {doc_id!r} in the dense index; its ids belong to another corpus")

    def _nearest(self, queries: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores and rows of the k best, both (queries, at most k)."""
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
    """Whether the cache holds the index of a corpus under an encoder."""
    return _folder(corpus, encoder).doc_ids(len(corpus)) is not None


def _folder(corpus: Documents, encoder: Encoder) -> ShardFolder:
    windows = "" if encoder.window_tokens is None else f"\0windows of {encoder.window_tokens}"
    key = f"{INDEX_FORMAT}\0{corpus.sha256}\0{encoder.fingerprint}{windows}"
    return ShardFolder.of("dense", key, ".npy", DOCUMENTS_PER_SHARD)


def _loaded(path: Path, mode: Literal["c", "r"] | None = None) -> npt.NDArray[Any]:
    """An array's file. Raises DataFormatError where it is torn."""
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode=mode)
    except (ValueError, EOFError) as error:
        raise damaged(path, error) from None
    return array


def _of_documents(similarities: torch.Tensor, shard: Path) -> torch.Tensor:
    """From the similarities of a shard's rows, (queries, rows), those of its documents, (queries, documents)."""
    path = counts_path(shard)
    if not path.exists():
        return similarities
    counts = torch.from_numpy(_loaded(path))
    owners = torch.repeat_interleave(torch.arange(len(counts)), counts).expand(len(similarities), -1)
    best = torch.full((len(similarities), len(counts)), -torch.inf)
    return best.scatter_reduce(1, owners, similarities, "amax")


def _rows_of(shard: Path, position: int) -> tuple[int, int]:
    """First row of a shard's document and the one after its last."""
    path = counts_path(shard)
    if not path.exists():
        return position, position + 1
    ends = np.cumsum(_loaded(path)[: position + 1])
    return int(ends[-2]) if position else 0, int(ends[-1])


def fingerprint(name: str, model: Any, dtype: torch.dtype) -> str:
    """What decides embeddings: the weights' folder by content (or the hub's commit), length limit, number format."""
    source = models.resolve_model(name)
    config = getattr(getattr(model[0], "auto_model", None), "config", None)
    commit = f"{source}@{getattr(config, '_commit_hash', None)}"
    weights = sha256_of(Path(source)) if Path(source).is_dir() else commit
    return f"{weights}\0{model.max_seq_length}\0{dtype}"
