"""How likely a causal model finds queries that are there already: their tokens are read, none is drawn.

One forward pass over prompt and query gives every token's log-probability under the model's raw distribution, the same
numbers that generation keeps. What all prompts begin with is read once. So queries of any generator, or of people, can
be compared and filtered under one model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor
from transformers import DynamicCache

from inpars.engines.int8_products import with_int8_products
from inpars.errors import ConfigError
from inpars.generation.batch_invariance import even_number_of_rows, even_tokens, rounded_up
from inpars.generation.causal_lm import end_tokens
from inpars.generation.hf_kv_cache import keeps_only_keys_and_values, read_keys_and_values
from inpars.generation.prompt_tokens import PromptTokens
from inpars.generation.settings import chunks_by_length
from inpars.models import loading as models
from inpars.models.compute_options import Placement
from inpars.models.engine_backend import engine
from inpars.models.hardware import describe
from inpars.models.networks import head_replaced, pad_id, precise
from inpars.prompting.mixture import PromptSource
from inpars.records import Document

CHUNK_QUERIES = {"cpu": 64, "cuda": 2048}  # scored and stored as a whole
BATCH_ROWS = {"cpu": 32, "cuda": 256}
MAX_LOGITS = 1 << 26  # query tokens by vocabulary of one batch: 256 MiB in float32
LIKELY_QUERY_TOKENS = 32  # a query of this length must have room before anything is scored


@dataclass(frozen=True, slots=True)
class KnownQuery:
    """A query for a document; `token_ids` are the model's own where it wrote the query."""

    document: Document
    text: str
    token_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class QueryScore:
    """Natural logs, one for each of the tokens; `stop_log_prob` is that of the likeliest token that ends the query."""

    token_ids: tuple[int, ...]
    token_log_probs: tuple[float, ...]
    stop_log_prob: float | None


class TeacherForcing:
    """One causal model and one prompt that score queries."""

    def __init__(
        self,
        model: str,
        prompt: PromptSource,
        *,
        max_doc_tokens: int = 256,
        batch_size: int | None = None,
        **where: Unpack[Placement],
    ) -> None:
        """Load the model and read the prompt's beginning. Raises ConfigError where the prompt is too long for it."""
        self._network, self._tokenizer = models.load_causal_lm(model, **where)
        kind = self._network.device.type
        self.name, self.device = model, describe(self._network.device, self._network.dtype)
        if engine() == "torch-int8" and kind == "cpu" and self._network.dtype == torch.float32:
            self._network = with_int8_products(self._network)
            self.device += ", 8-bit products"
        self._chunk = CHUNK_QUERIES.get(kind, CHUNK_QUERIES["cpu"])
        self._batch = batch_size or BATCH_ROWS.get(kind, BATCH_ROWS["cpu"])
        self._inputs = PromptTokens(self._tokenizer, prompt, max_doc_tokens)
        self._inputs.check_room(self._network.config, model, LIKELY_QUERY_TOKENS)
        self._prompt, self._pad = prompt, pad_id(self._tokenizer)
        self._limit = getattr(self._network.config.get_text_config(), "max_position_embeddings", None)
        self._stop_ids = torch.tensor(self._ending_tokens(), device=self._network.device)
        shared = bool(self._inputs.prefix) and keeps_only_keys_and_values(self._network)
        self._prefix = read_keys_and_values(self._network, self._inputs.prefix) if shared else []

    def plan(self, queries: Sequence[KnownQuery]) -> list[list[int]]:
        """Positions of the queries in chunks of similar length, short ones first."""
        cut = self._inputs.cut([query.document for query in queries])
        lengths = [len(document) + len(query.text) for document, query in zip(cut, queries, strict=True)]
        return chunks_by_length(lengths, self._chunk)

    def score(self, queries: Sequence[KnownQuery]) -> list[QueryScore]:
        """The score of each query, in their order."""
        texts = self._inputs.texts([query.document for query in queries])
        prompts = self._inputs.encode(texts)
        rows = [
            (prompt, self._own_tokens(query) or self._continuation(text, prompt, query.text))
            for query, text, prompt in zip(queries, texts, prompts, strict=True)
        ]
        self._check_lengths(rows)
        found: dict[int, QueryScore] = {}
        for positions in self._batches(rows):
            found |= zip(positions, self._score_batch([rows[position] for position in positions]), strict=True)
        return [found[position] for position in range(len(queries))]

    def _own_tokens(self, query: KnownQuery) -> list[int]:
        """The query's token ids where they say its text; none where somebody changed it."""
        text = self._decode(query.token_ids)
        said = text[: self._prompt.stop_position(text)].strip() == query.text.strip()
        return list(query.token_ids) if said else []

    def _continuation(self, text: str, prompt: list[int], query: str) -> list[int]:
        """A text's tokens as they follow the prompt, with the blank that generation would begin with."""
        following = query.strip() if not query.strip() or text[-1:].isspace() else " " + query.strip()
        whole: list[int] = self._tokenizer(text + following, verbose=False)["input_ids"]
        if whole[: len(prompt)] == prompt:
            return whole[len(prompt) :]
        alone: list[int] = self._tokenizer(following, add_special_tokens=False, verbose=False)["input_ids"]
        return alone

    def _batches(self, rows: Sequence[tuple[list[int], list[int]]]) -> Iterator[list[int]]:
        """Positions of rows that are read together, by length; few where the vocabulary is large."""
        budget = max(1, MAX_LOGITS // self._network.config.get_text_config().vocab_size)
        batch: list[int] = []
        targets = 0
        for position in sorted(range(len(rows)), key=lambda position: (sum(map(len, rows[position])), position)):
            size = len(rows[position][1]) + 1
            if batch and (len(batch) == self._batch or targets + size > budget):
                yield batch
                batch, targets = [], 0
            batch.append(position)
            targets += size
        if batch:
            yield batch

    def _score_batch(self, rows: Sequence[tuple[list[int], list[int]]]) -> list[QueryScore]:
        """Scores of rows of prompt and query; on a GPU without memory for all, of one half after the other."""
        try:
            return self._forward(rows)
        except torch.OutOfMemoryError:
            if len(rows) == 1:
                raise
            torch.cuda.empty_cache()
            self._batch = max(1, len(rows) // 2)
            return [score for part in (rows[: self._batch], rows[self._batch :]) for score in self._score_batch(part)]

    def _forward(self, rows: Sequence[tuple[list[int], list[int]]]) -> list[QueryScore]:
        """One pass: each query token is foretold by the position before it, the end by the last one."""
        queries, even = [query for _, query in rows], even_number_of_rows(self._network)
        rows = [*rows, *[rows[-1]] * (-len(rows) % even)]
        device, shared = self._network.device, self._inputs.shared([prompt for prompt, _ in rows])
        cached = shared if self._prefix else 0
        width = rounded_up(max(len(prompt) + len(query) for prompt, query in rows) - cached, even_tokens(self._network))
        ids, mask = torch.full((len(rows), width), self._pad), torch.zeros(len(rows), cached + width, dtype=torch.long)
        for row, (prompt, query) in enumerate(rows):
            own = torch.tensor(prompt[cached:] + query)
            ids[row, : len(own)], mask[row, : cached + len(own)] = own, 1
        foretelling = [
            (row, len(prompt) - cached - 1 + n)
            for row, (prompt, query) in enumerate(rows)
            for n in range(len(query) + 1)
        ]
        foretelling += [foretelling[-1]] * (-len(foretelling) % even)
        chosen, places = torch.tensor(foretelling, device=device).T
        with torch.inference_mode(), head_replaced(self._network, lambda head, x: head(x[chosen, places])[None]):
            logits = self._network(
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                position_ids=torch.arange(cached, cached + width, device=device)[None].expand(len(rows), -1),
                past_key_values=self._prefix_cache(len(rows), cached),
                use_cache=cached > 0,
            ).logits[0]  # (query tokens and ends, vocabulary)
        return self._read_off(precise(logits[: sum(len(query) + 1 for query in queries)]), queries)

    def _read_off(self, logits: Tensor, queries: Sequence[list[int]]) -> list[QueryScore]:
        """The tokens' values and the likeliest end's, from logits (query tokens and ends, vocabulary)."""
        sums = torch.logsumexp(logits, dim=-1)
        tokens = torch.tensor([token for query in queries for token in (*query, 0)], device=logits.device)
        values = (logits.gather(1, tokens[:, None])[:, 0] - sums).tolist()
        scores, start = [], 0
        for query in queries:
            end = start + len(query)
            stop = float(logits[end, self._stop_ids].max() - sums[end]) if len(self._stop_ids) else None
            log_probs = tuple(values[start:end])
            if query and self._prompt.stop_position(text := self._decode(query)) < len(text):
                stop = log_probs[-1]  # its last token carries the stop itself
            scores.append(QueryScore(tuple(query), log_probs, stop))
            start = end + 1
        return scores

    def _prefix_cache(self, rows: int, tokens: int) -> DynamicCache | None:
        """The prefix's first tokens for each row."""
        if not tokens:
            return None
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(self._prefix):
            shape = (rows, -1, -1, -1)
            cache.update(keys[None, :, :tokens].expand(shape), values[None, :, :tokens].expand(shape), layer)
        return cache

    def _ending_tokens(self) -> list[int]:
        """Tokens after which a query is over: the model's own ends and those that begin with a stop string."""
        own = set(end_tokens(self._network, self._tokenizer))
        texts = [self._decode([token]) for token in range(len(self._tokenizer))]
        stops = {
            n for n, text in enumerate(texts) if text.strip(" ") and not self._prompt.stop_position(text.lstrip(" "))
        }
        return sorted(token for token in own | stops if token < self._network.config.get_text_config().vocab_size)

    def _decode(self, tokens: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(tokens, clean_up_tokenization_spaces=False)
        return text

    def _check_lengths(self, rows: Sequence[tuple[list[int], list[int]]]) -> None:
        longest = max((len(prompt) + len(query) for prompt, query in rows), default=0)
        if self._limit is not None and longest > self._limit:
            raise ConfigError(
                f"{self.name} reads {self._limit} tokens; the longest prompt with its query has {longest}: "
                "lower --max-doc-tokens, or shorten the prompt's examples"
            )
