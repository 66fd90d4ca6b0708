"""Score existing queries with a causal model (teacher forcing), without generating.

One forward pass over prompt and query gives each token's log-probability under the model's raw distribution, the same
numbers that generation stores. Queries from any generator, or from people, can thus be compared and filtered with one
model. The prefix that all prompts share is computed once. Judging uses the same forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar, Unpack

import torch
from torch import Tensor
from transformers import DynamicCache

from inpars.engines.int8_products import with_int8_products
from inpars.errors import ConfigError
from inpars.generation.causal_lm import end_tokens
from inpars.generation.decoding import even_number_of_rows, even_tokens, rounded_up
from inpars.generation.hf_kv_cache import keeps_only_keys_and_values, read_keys_and_values
from inpars.generation.prompt_tokens import PromptTokens, decoded, shared_tokens
from inpars.generation.settings import chunks_by_length
from inpars.models import loading as models
from inpars.models.compute_options import Placement, engine
from inpars.models.hardware import describe
from inpars.models.networks import head_replaced, pad_id, upcast_to_float32, with_cache
from inpars.prompts.mixture import PromptSource, prompt_named
from inpars.records import Document

BATCH_ROWS = {"cpu": 32, "cuda": 256}
MAX_LOGITS = 1 << 26  # predicted tokens times vocabulary per batch: 256 MiB in float32

Row: TypeAlias = tuple[list[int], list[int]]
"""A prompt's tokens and the tokens that follow it; the latter and one more are predicted."""

Result = TypeVar("Result")


class PromptForward:
    """Batched forward passes of one network over rows with a shared prefix."""

    def __init__(self, network: Any, tokenizer: Any, batch_size: int | None = None) -> None:
        self.network, self.tokenizer, self.prefix = network, tokenizer, list[int]()
        self._batch = batch_size or BATCH_ROWS.get(network.device.type, BATCH_ROWS["cpu"])
        self._states: list[tuple[Tensor, Tensor]] = []

    @classmethod
    def load(cls, model: str, batch_size: int | None = None, **where: Unpack[Placement]) -> tuple[PromptForward, str]:
        """Load a model; also returns its device for manifests."""
        network, tokenizer = models.load_causal_lm(model, **where)
        device = describe(network.device, network.dtype)
        if engine() == "torch-int8" and network.device.type == "cpu" and network.dtype == torch.float32:
            network = with_int8_products(network)
            device += ", 8-bit products"
        return cls(network, tokenizer, batch_size), device

    @property
    def limit(self) -> int | None:
        """The network's maximum length in tokens, or None if it is not known."""
        positions: int | None = getattr(self.network.config.get_text_config(), "max_position_embeddings", None)
        return positions

    def share(self, prefix: Sequence[int]) -> None:
        """Compute the prefix that the prompts are likely to share, once for all rows."""
        self.prefix = list(prefix)
        shared = bool(self.prefix) and keeps_only_keys_and_values(self.network)
        self._states = read_keys_and_values(self.network, self.prefix) if shared else []

    def each(self, rows: Sequence[Row], evaluate: Callable[[Tensor, Sequence[Row]], Sequence[Result]]) -> list[Result]:
        """The results of `evaluate` on each batch's logits, in the order of the rows.

        The logits are (predicted tokens, vocabulary), row after row, in float32 or float64.
        """
        results: dict[int, Result] = {}
        for positions in self._batches(rows):
            batch = [rows[position] for position in positions]
            results |= zip(positions, self._evaluate(batch, evaluate), strict=True)
        return [results[position] for position in range(len(rows))]

    def _batches(self, rows: Sequence[Row]) -> Iterator[list[int]]:
        """Positions of rows in batches by length, smaller if the vocabulary is large."""
        max_targets = max(1, MAX_LOGITS // self.network.config.get_text_config().vocab_size)
        batch: list[int] = []
        targets = 0
        for position in sorted(range(len(rows)), key=lambda position: (sum(map(len, rows[position])), position)):
            size = len(rows[position][1]) + 1
            if batch and (len(batch) == self._batch or targets + size > max_targets):
                yield batch
                batch, targets = [], 0
            batch.append(position)
            targets += size
        if batch:
            yield batch

    def _evaluate(
        self, rows: Sequence[Row], evaluate: Callable[[Tensor, Sequence[Row]], Sequence[Result]]
    ) -> Sequence[Result]:
        """One batch; in halves if the GPU runs out of memory."""
        try:
            return evaluate(self._logits(rows), rows)
        except torch.OutOfMemoryError:
            if len(rows) == 1:
                raise
            torch.cuda.empty_cache()
            self._batch = max(1, len(rows) // 2)
            halves = (rows[: self._batch], rows[self._batch :])
            return [result for half in halves for result in self._evaluate(half, evaluate)]

    def _logits(self, rows: Sequence[Row]) -> Tensor:
        """One forward pass; each position predicts the next token, the last one what ends the row."""
        count, even = sum(len(following) + 1 for _, following in rows), even_number_of_rows(self.network)
        rows = [*rows, *[rows[-1]] * (-len(rows) % even)]
        cached = shared_tokens(self.prefix, [prompt for prompt, _ in rows]) if self._states else 0
        device = self.network.device
        longest = max(len(prompt) + len(following) for prompt, following in rows)
        width = rounded_up(longest - cached, even_tokens(self.network))
        ids = torch.full((len(rows), width), pad_id(self.tokenizer))
        mask = torch.zeros(len(rows), cached + width, dtype=torch.long)
        for row, (prompt, following) in enumerate(rows):
            tokens = torch.tensor(prompt[cached:] + following)
            ids[row, : len(tokens)], mask[row, : cached + len(tokens)] = tokens, 1
        predicting = [
            (row, len(prompt) - cached - 1 + n)
            for row, (prompt, following) in enumerate(rows)
            for n in range(len(following) + 1)
        ]
        predicting += [predicting[-1]] * (-len(predicting) % even)
        chosen, columns = torch.tensor(predicting, device=device).T
        with torch.inference_mode(), head_replaced(self.network, lambda head, x: head(x[chosen, columns])[None]):
            logits = self.network(
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                position_ids=torch.arange(cached, cached + width, device=device)[None].expand(len(rows), -1),
                **with_cache(self.network, self._cache(len(rows), cached)),
                use_cache=cached > 0,
            ).logits[0]  # (predicted tokens, vocabulary)
        return upcast_to_float32(logits[:count])

    def _cache(self, rows: int, tokens: int) -> DynamicCache | None:
        """A cache with the prefix's first tokens for each row."""
        if not tokens:
            return None
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(self._states):
            shape = (rows, -1, -1, -1)
            cache.update(keys[None, :, :tokens].expand(shape), values[None, :, :tokens].expand(shape), layer)
        return cache


CHUNK_QUERIES = {"cpu": 64, "cuda": 2048}  # scored and stored as a whole
LIKELY_QUERY_TOKENS = 32  # assumed when checking the prompt's length before anything is scored


@dataclass(frozen=True, slots=True)
class KnownQuery:
    """A query for a document."""

    document: Document
    text: str
    token_ids: tuple[int, ...] = ()  # if this model generated the query
    prompt: str = ""  # name of the mixture's prompt it was generated with


@dataclass(frozen=True, slots=True)
class QueryScore:
    """Natural-log probabilities per token; `stop_log_prob` is that of the most probable ending token."""

    token_ids: tuple[int, ...]
    token_log_probs: tuple[float, ...]
    stop_log_prob: float | None


class TeacherForcing:
    """Scores queries with one causal model and one prompt."""

    def __init__(
        self,
        model: str,
        prompt: PromptSource,
        *,
        max_doc_tokens: int = 256,
        batch_size: int | None = None,
        **where: Unpack[Placement],
    ) -> None:
        """Load the model and compute the prefix. Raises ConfigError if the prompt is too long for the model."""
        self._forward, self.device = PromptForward.load(model, batch_size, **where)
        self.name, self._tokenizer, network = model, self._forward.tokenizer, self._forward.network
        self._decode = partial(decoded, self._tokenizer)
        self._chunk = CHUNK_QUERIES.get(network.device.type, CHUNK_QUERIES["cpu"])
        self._inputs = PromptTokens(self._tokenizer, prompt, max_doc_tokens)
        self._inputs.check_room(network.config, model, LIKELY_QUERY_TOKENS)
        self._prompt = prompt
        self._stop_ids = torch.tensor(self._ending_tokens(), device=network.device)
        self._forward.share(self._inputs.prefix)

    def plan(self, queries: Sequence[KnownQuery]) -> list[list[int]]:
        """Positions of the queries in chunks of similar length, shortest first."""
        cut = self._inputs.cut([query.document for query in queries])
        lengths = [len(document) + len(query.text) for document, query in zip(cut, queries, strict=True)]
        return chunks_by_length(lengths, self._chunk)

    def score(self, queries: Sequence[KnownQuery]) -> list[QueryScore]:
        sources = [prompt_named(self._prompt, query.prompt) for query in queries]
        texts = self._inputs.texts([query.document for query in queries], sources)
        prompts = self._inputs.encode(texts)
        rows = [
            (prompt, self._stored_tokens(query) or self._continuation(text, prompt, query.text))
            for query, text, prompt in zip(queries, texts, prompts, strict=True)
        ]
        self._check_lengths(rows)
        return self._forward.each(rows, self._score_batch)

    def _stored_tokens(self, query: KnownQuery) -> list[int]:
        """The query's token ids if they decode to its text; empty if the text was changed."""
        text = self._decode(query.token_ids)
        unchanged = text[: self._prompt.stop_position(text)].strip() == query.text.strip()
        return list(query.token_ids) if unchanged else []

    def _continuation(self, text: str, prompt: list[int], query: str) -> list[int]:
        """The query's tokens as they follow the prompt, with the leading space that generation would produce."""
        following = query.strip() if not query.strip() or text[-1:].isspace() else " " + query.strip()
        (whole,) = self._inputs.encode([text + following])
        if whole[: len(prompt)] == prompt:
            return whole[len(prompt) :]
        alone: list[int] = self._tokenizer(following, add_special_tokens=False, verbose=False)["input_ids"]
        return alone

    def _score_batch(self, logits: Tensor, rows: Sequence[Row]) -> list[QueryScore]:
        """Scores from logits (query tokens and ends, vocabulary)."""
        queries = [query for _, query in rows]
        sums = torch.logsumexp(logits, dim=-1)
        tokens = torch.tensor([token for query in queries for token in (*query, 0)], device=logits.device)
        values = (logits.gather(1, tokens[:, None])[:, 0] - sums).tolist()
        scores, start = [], 0
        for query in queries:
            end = start + len(query)
            stop = float(logits[end, self._stop_ids].max() - sums[end]) if len(self._stop_ids) else None
            log_probs = tuple(values[start:end])
            if query and self._prompt.stop_position(text := self._decode(query)) < len(text):
                stop = log_probs[-1]  # the last token contains the stop string
            scores.append(QueryScore(tuple(query), log_probs, stop))
            start = end + 1
        return scores

    def _ending_tokens(self) -> list[int]:
        """Tokens that end a query: end-of-text tokens and those that start with a stop string."""
        network = self._forward.network
        ends = set(end_tokens(network, self._tokenizer))
        texts = [self._decode([token]) for token in range(len(self._tokenizer))]
        stops = {
            n for n, text in enumerate(texts) if text.strip(" ") and not self._prompt.stop_position(text.lstrip(" "))
        }
        return sorted(token for token in ends | stops if token < network.config.get_text_config().vocab_size)

    def _check_lengths(self, rows: Sequence[Row]) -> None:
        longest = max((len(prompt) + len(query) for prompt, query in rows), default=0)
        limit = self._forward.limit
        if limit is not None and longest > limit:
            raise ConfigError(
                f"{self.name} reads {limit} tokens; the longest prompt with its query has {longest}: "
                "lower --max-doc-tokens, or shorten the prompt's examples"
            )
