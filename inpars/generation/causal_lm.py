"""Query generation with a local causal language model.

Documents are cut, put into the prompt and sorted by length. The prefix that all prompts share is computed once; a
mixture has one prefix per prompt, and chunks contain documents of one prompt only.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Unpack

import torch

from inpars.batches import slices
from inpars.engines.batch_parallel import computes_in_bfloat16, map_single_threaded
from inpars.generation import GeneratedQuery
from inpars.generation.decoding import BatchInvariantRows, Choice, StopCondition, choice, decode_rows
from inpars.generation.hf_kv_cache import HFCacheDecoder
from inpars.generation.prompt_tokens import PromptTokens, decoded, shared_tokens
from inpars.generation.settings import DecodingSettings, chunks_by_length, query_ids
from inpars.generation.shared_prefix import SharedPrefixRows, best_forward
from inpars.models import loading as models
from inpars.models.compute_options import Placement
from inpars.models.hardware import describe
from inpars.models.networks import pad_id
from inpars.models.processor import memory_bytes
from inpars.prompts.mixture import PromptSource, parts_of
from inpars.records import Document, LogProbKind

CHUNK_DOCUMENTS = {"cpu": 32, "cuda": 1024}  # generated and stored as a whole
CUE_TOKENS = 32  # assumed length of the prompt after the document


class CausalGenerator:
    """Generates queries by continuing a few-shot prompt."""

    log_prob_kind: LogProbKind = "raw"

    def __init__(
        self, model: str, prompt: PromptSource, settings: DecodingSettings | None = None, **where: Unpack[Placement]
    ) -> None:
        """Load the model and compute the prefix. Raises ConfigError if the prompt is too long for the model."""
        self._settings = settings or DecodingSettings()
        self._settings.check()
        self._network, self._tokenizer = models.load_causal_lm(model, **where)
        self.name, self.device = model, describe(self._network.device, self._network.dtype)
        self._chunk = CHUNK_DOCUMENTS.get(self._network.device.type, CHUNK_DOCUMENTS["cpu"])
        self._prompt, parts = prompt, parts_of(prompt)
        self._inputs = {
            name: PromptTokens(self._tokenizer, part, self._settings.max_doc_tokens) for name, part in parts.items()
        }
        for inputs in self._inputs.values():
            inputs.check_room(self._network.config, model, self._settings.max_new_tokens)
        forward, pad = best_forward(self._network), pad_id(self._tokenizer)
        # threads may share this forward pass, which keeps its state outside the network
        self._concurrent = forward is not None and computes_in_bfloat16(self._network)
        row_tokens = self._settings.max_doc_tokens + CUE_TOKENS + self._settings.max_new_tokens
        if forward is None:  # each row copies the prefix
            row_tokens += max(len(inputs.prefix) for inputs in self._inputs.values())
        self._batch = self._settings.batch_size or batch_rows(
            self._network, row_tokens, torch.get_num_threads() if self._concurrent else 1
        )
        ends = frozenset(end_tokens(self._network, self._tokenizer))
        stop = StopCondition(ends, prompt.stop_position, partial(decoded, self._tokenizer))
        self._writers: dict[str, _Writer] = {}
        for name, inputs in self._inputs.items():
            rows: SharedPrefixRows | HFCacheDecoder = (
                HFCacheDecoder(self._network, inputs.prefix, pad)
                if forward is None
                else SharedPrefixRows(self._network, inputs.prefix, pad, forward)
            )
            self._writers[name] = _Writer(rows, stop)
        self._thread_local = threading.local()

    def plan(self, documents: Sequence[Document]) -> list[list[int]]:
        """Chunks of documents with the same prompt and similar length, shortest first."""
        names = [self._prompt.name_for(document.doc_id) for document in documents]
        chunks: list[list[int]] = []
        for name, inputs in self._inputs.items():
            positions = [position for position, prompt_name in enumerate(names) if prompt_name == name]
            if not positions:
                continue  # tokenizers reject empty batches
            lengths = [len(text) for text in inputs.cut([documents[position] for position in positions])]
            chunks += [[positions[index] for index in chunk] for chunk in chunks_by_length(lengths, self._chunk)]
        return chunks

    def generate(self, documents: Sequence[Document]) -> list[list[GeneratedQuery]]:
        prompts = self._prompts(documents)
        return self._decode(self._writers[prompts.name], prompts)

    def generate_each(self, chunks: Iterable[Sequence[Document]]) -> Iterator[list[list[GeneratedQuery]]]:
        """`generate` for each chunk, in order; on CPUs with fast bfloat16 concurrently, one thread per chunk."""
        if not self._concurrent:
            return map(self.generate, chunks)
        cancelled = threading.Event()

        def decode(prompts: _Prompts) -> list[list[GeneratedQuery]]:
            return self._decode(replace(self._thread_writer(prompts.name), cancelled=cancelled), prompts)

        return map_single_threaded(decode, map(self._prompts, chunks), cancelled.set)

    def _prompts(self, documents: Sequence[Document]) -> _Prompts:
        several = self._settings.num_queries
        name = self._prompt.name_for(documents[0].doc_id)
        prompts = [prompt for prompt in self._inputs[name].prompts(documents) for _ in range(several)]
        return _Prompts(name, prompts, query_ids(documents, several))

    def _thread_writer(self, name: str) -> _Writer:
        """This thread's copy of a prompt's writer: rows have state, and tokenizers are not thread-safe."""
        if not hasattr(self._thread_local, "writers"):
            decode = partial(decoded, copy.deepcopy(self._tokenizer))
            self._thread_local.writers = {
                prompt_name: _Writer(copy.copy(writer.rows), replace(writer.end, decode=decode))
                for prompt_name, writer in self._writers.items()
            }
        writer: _Writer = self._thread_local.writers[name]
        return writer

    def _decode(self, writer: _Writer, prompts: _Prompts) -> list[list[GeneratedQuery]]:
        """The queries of one chunk; on a GPU without enough memory with smaller batches."""
        prefix = self._inputs[prompts.name].prefix
        queries: list[GeneratedQuery] = []
        while len(queries) < len(prompts.tokens):
            rows = slice(len(queries), len(queries) + self._batch)
            tokens = prompts.tokens[rows]
            shared = shared_tokens(prefix, tokens)
            try:
                queries += decode_rows(
                    BatchInvariantRows(writer.rows, self._network, shared),
                    [prompt[shared:] for prompt in tokens],
                    max_new_tokens=self._settings.max_new_tokens,
                    end=writer.end,
                    choose=writer.cancellable(choice(self._settings, prompts.query_ids[rows])),
                )
            except torch.OutOfMemoryError:
                if self._batch == 1:
                    raise
                self._batch //= 2
                torch.cuda.empty_cache()
        return [list(group) for group in slices(queries, self._settings.num_queries)]


@dataclass(frozen=True, slots=True)
class _Prompts:
    """Token ids and query ids of one chunk, whose documents all have the prompt `name`."""

    name: str
    tokens: list[list[int]]
    query_ids: list[str]


@dataclass(frozen=True, slots=True)
class _Writer:
    """Rows and stop condition of one prompt, for one thread at a time."""

    rows: SharedPrefixRows | HFCacheDecoder
    end: StopCondition
    cancelled: threading.Event | None = None

    def cancellable(self, choose: Choice) -> Choice:
        """`choose`, which raises CancelledError once `cancelled` is set."""

        def choose_unless_cancelled(
            logits: torch.Tensor, rows: Sequence[int], step: int
        ) -> tuple[torch.Tensor, torch.Tensor]:
            if self.cancelled is not None and self.cancelled.is_set():
                raise CancelledError
            return choose(logits, rows, step)

        return choose_unless_cancelled


def end_tokens(network: Any, tokenizer: Any) -> list[int]:
    """The end-of-text tokens of model and tokenizer."""
    return end_ids(network.generation_config.eos_token_id, network.config.eos_token_id, tokenizer.eos_token_id)


def end_ids(*named: int | list[int] | None) -> list[int]:
    """Flatten token ids that are single, in lists, or missing."""
    return [token for ids in named if ids is not None for token in (ids if isinstance(ids, list) else [ids])]


MAX_ROWS = {"cpu": 128, "cuda": 1024}  # more are not faster
MEMORY_SHARE = {"cpu": 0.25, "cuda": 0.5}  # of the total, for memory that grows with the rows
COPIES = 2  # keys and values are copied when finished rows leave


def batch_rows(network: Any, tokens: int, batches: int = 1) -> int:
    """Rows per batch, at least 1, if each row has `tokens` tokens and `batches` batches run at the same time.

    Depends on total, not free memory: the same machine always uses the same batches and so gives the same bytes.
    """
    device = network.device
    kind = "cuda" if device.type == "cuda" else "cpu"
    weights = sum(weight.numel() * weight.element_size() for weight in network.parameters())
    total = torch.cuda.get_device_properties(device).total_memory if kind == "cuda" else memory_bytes()
    if total is None:
        return MAX_ROWS[kind]
    room = max(0, total - 2 * weights) * MEMORY_SHARE[kind]
    return max(1, min(MAX_ROWS[kind], int(room // (batches * row_bytes(network, tokens)))))


def row_bytes(network: Any, tokens: int) -> int:
    """Bytes per row: keys and values of its tokens in every layer, and the logits of one step."""
    config = network.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    size = next(network.parameters()).element_size()
    caches = tokens * config.num_hidden_layers * 2 * heads * width * size * COPIES
    scores = config.vocab_size * (size + 2 * max(4, size))  # as computed, and two copies in full precision
    return int(caches + scores)
