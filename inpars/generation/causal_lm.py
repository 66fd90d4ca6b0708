"""A local causal language model as a query generator.

The documents are cut, put into the prompt and sorted by length; what all prompts begin with is read once, of a mixture
for each of its prompts, whose documents stand in chunks of their own.
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
from inpars.generation.prompt_tokens import PromptTokens, decoded
from inpars.generation.settings import DecodingSettings, chunks_by_length
from inpars.generation.shared_prefix import SharedPrefixRows, best_forward
from inpars.models import loading as models
from inpars.models.compute_options import Placement
from inpars.models.hardware import describe
from inpars.models.networks import pad_id
from inpars.models.processor import memory_bytes
from inpars.prompts.mixture import PromptSource, parts_of
from inpars.records import Document, LogProbKind

CHUNK_DOCUMENTS = {"cpu": 32, "cuda": 1024}  # generated and stored as a whole
CUE_TOKENS = 32  # allowed for what a prompt says after the document


class CausalGenerator:
    """Writes queries by continuing a few-shot prompt."""

    log_prob_kind: LogProbKind = "raw"

    def __init__(
        self, model: str, prompt: PromptSource, settings: DecodingSettings | None = None, **where: Unpack[Placement]
    ) -> None:
        """Load the model and read the prompt's beginning. Raises ConfigError where the prompt is too long for it."""
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
        # chunks may be written side by side: this forward pass keeps nothing of a text outside its state
        self._alone = forward is not None and computes_in_bfloat16(self._network)
        own_tokens = self._settings.max_doc_tokens + CUE_TOKENS + self._settings.max_new_tokens
        copied = 0 if forward else max(len(inputs.prefix) for inputs in self._inputs.values())
        self._batch = self._settings.batch_size or batch_rows(
            self._network, copied + own_tokens, torch.get_num_threads() if self._alone else 1
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
        self._of_thread = threading.local()

    def plan(self, documents: Sequence[Document]) -> list[list[int]]:
        """Chunks of documents of one prompt and of similar length, short ones first."""
        names = [self._prompt.name_for(document.doc_id) for document in documents]
        chunks: list[list[int]] = []
        for name, inputs in self._inputs.items():
            positions = [position for position, prompt_name in enumerate(names) if prompt_name == name]
            lengths = (
                [len(text) for text in inputs.cut([documents[position] for position in positions])] if positions else []
            )
            chunks += [[positions[position] for position in chunk] for chunk in chunks_by_length(lengths, self._chunk)]
        return chunks

    def generate(self, documents: Sequence[Document]) -> list[list[GeneratedQuery]]:
        prompts = self._prompts(documents)
        return self._written(self._writers[prompts.name], prompts)

    def generate_each(self, chunks: Iterable[Sequence[Document]]) -> Iterator[list[list[GeneratedQuery]]]:
        """`generate` of each chunk, in order; in bfloat16 on a processor several at once, one thread each."""
        if not self._alone:
            return map(self.generate, chunks)
        unwanted = threading.Event()

        def written(prompts: _Prompts) -> list[list[GeneratedQuery]]:
            return self._written(replace(self._own_writer(prompts.name), unwanted=unwanted), prompts)

        return map_single_threaded(written, map(self._prompts, chunks), unwanted.set)

    def _prompts(self, documents: Sequence[Document]) -> _Prompts:
        several = self._settings.num_queries
        name = self._prompt.name_for(documents[0].doc_id)
        prompts = [prompt for prompt in self._inputs[name].prompts(documents) for _ in range(several)]
        return _Prompts(name, prompts, [f"{document.doc_id}-q{n}" for document in documents for n in range(several)])

    def _own_writer(self, name: str) -> _Writer:
        """This thread's of a prompt: its rows have a state, and a tokenizer cannot encode and decode at once."""
        if not hasattr(self._of_thread, "writers"):
            decode = partial(decoded, copy.deepcopy(self._tokenizer))
            self._of_thread.writers = {
                known: _Writer(copy.copy(writer.rows), replace(writer.end, decode=decode))
                for known, writer in self._writers.items()
            }
        writer: _Writer = self._of_thread.writers[name]
        return writer

    def _written(self, writer: _Writer, prompts: _Prompts) -> list[list[GeneratedQuery]]:
        queries: list[GeneratedQuery] = []
        while len(queries) < len(prompts.tokens):
            rows = slice(len(queries), len(queries) + self._batch)
            try:
                shared = self._inputs[prompts.name].shared(prompts.tokens[rows])
                queries += self._decode_batch(writer, prompts.tokens[rows], prompts.keys[rows], shared)
            except torch.OutOfMemoryError:
                if self._batch == 1:
                    raise
                self._batch //= 2
                torch.cuda.empty_cache()
        return [list(group) for group in slices(queries, self._settings.num_queries)]

    def _decode_batch(
        self, writer: _Writer, prompts: Sequence[list[int]], keys: Sequence[str], shared: int
    ) -> list[GeneratedQuery]:
        return decode_rows(
            BatchInvariantRows(writer.rows, self._network, shared),
            [prompt[shared:] for prompt in prompts],
            max_new_tokens=self._settings.max_new_tokens,
            end=writer.end,
            choose=writer.unless_unwanted(choice(self._settings, keys)),
        )


@dataclass(frozen=True, slots=True)
class _Prompts:
    """Token ids of each query's prompt, and what its random numbers are drawn by; all are of the prompt `name`."""

    name: str
    tokens: list[list[int]]
    keys: list[str]


@dataclass(frozen=True, slots=True)
class _Writer:
    """What one thread writes with; it ends early once that is `unwanted`."""

    rows: SharedPrefixRows | HFCacheDecoder
    end: StopCondition
    unwanted: threading.Event | None = None

    def unless_unwanted(self, choose: Choice) -> Choice:
        unwanted = self.unwanted
        if unwanted is None:
            return choose

        def chosen(logits: torch.Tensor, rows: Sequence[int], step: int) -> tuple[torch.Tensor, torch.Tensor]:
            if unwanted.is_set():
                raise CancelledError
            return choose(logits, rows, step)

        return chosen


def end_tokens(network: Any, tokenizer: Any) -> list[int]:
    """Every token that model or tokenizer name as the end of a text."""
    ids = [network.generation_config.eos_token_id, network.config.eos_token_id, tokenizer.eos_token_id]
    return end_ids(*ids)


def end_ids(*named: int | list[int] | None) -> list[int]:
    """Token ids that are named one by one, in lists, or not at all."""
    return [token for ids in named if ids is not None for token in (ids if isinstance(ids, list) else [ids])]


MAX_ROWS = {"cpu": 128, "cuda": 1024}  # more are not quicker
MEMORY_SHARE = {"cpu": 0.25, "cuda": 0.5}  # of the total, for what grows with the rows
COPIES = 2  # keys and values are copied when finished rows leave


def batch_rows(network: Any, tokens: int, batches: int = 1) -> int:
    """Rows for prompts and queries of so many tokens together, at least 1, where so many batches exist at once.

    Total memory decides, not what happens to be free: the same machine always gets the same batches, and so the same
    bytes.
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
    """Memory of one row: keys and values of its tokens in every layer, and the scores of one step."""
    config = network.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    size = next(network.parameters()).element_size()
    caches = tokens * config.num_hidden_layers * 2 * heads * width * size * COPIES
    scores = config.vocab_size * (size + 2 * max(4, size))  # as computed, and twice in full precision
    return int(caches + scores)
