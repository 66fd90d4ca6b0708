"""How likely a causal model finds queries that are there already: their tokens are read, none is drawn.

One forward pass over prompt and query gives every token's log-probability under the model's raw distribution, the same
numbers that generation keeps. What all prompts begin with is read once. So queries of any generator, or of people, can
be compared and filtered under one model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor

from inpars.errors import ConfigError
from inpars.generation.causal_lm import end_tokens
from inpars.generation.prompt_forward import PromptForward, Row
from inpars.generation.prompt_tokens import PromptTokens
from inpars.generation.settings import chunks_by_length
from inpars.models.compute_options import Placement
from inpars.prompts.mixture import PromptSource, prompt_named
from inpars.records import Document

CHUNK_QUERIES = {"cpu": 64, "cuda": 2048}  # scored and stored as a whole
LIKELY_QUERY_TOKENS = 32  # a query of this length must have room before anything is scored


@dataclass(frozen=True, slots=True)
class KnownQuery:
    """A query for a document; `token_ids` are the model's own where it wrote the query, `prompt` names a mixture's."""

    document: Document
    text: str
    token_ids: tuple[int, ...] = ()
    prompt: str = ""


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
        self._forward, self.device = PromptForward.load(model, batch_size, **where)
        self.name, self._tokenizer, network = model, self._forward.tokenizer, self._forward.network
        self._chunk = CHUNK_QUERIES.get(network.device.type, CHUNK_QUERIES["cpu"])
        self._inputs = PromptTokens(self._tokenizer, prompt, max_doc_tokens)
        self._inputs.check_room(network.config, model, LIKELY_QUERY_TOKENS)
        self._prompt = prompt
        self._stop_ids = torch.tensor(self._ending_tokens(), device=network.device)
        self._forward.share(self._inputs.prefix)

    def plan(self, queries: Sequence[KnownQuery]) -> list[list[int]]:
        """Positions of the queries in chunks of similar length, short ones first."""
        cut = self._inputs.cut([query.document for query in queries])
        lengths = [len(document) + len(query.text) for document, query in zip(cut, queries, strict=True)]
        return chunks_by_length(lengths, self._chunk)

    def score(self, queries: Sequence[KnownQuery]) -> list[QueryScore]:
        named = [prompt_named(self._prompt, query.prompt) for query in queries]
        texts = self._inputs.texts([query.document for query in queries], named)
        prompts = self._inputs.encode(texts)
        rows = [
            (prompt, self._own_tokens(query) or self._continuation(text, prompt, query.text))
            for query, text, prompt in zip(queries, texts, prompts, strict=True)
        ]
        self._check_lengths(rows)
        return self._forward.each(rows, self._read_off)

    def _own_tokens(self, query: KnownQuery) -> list[int]:
        """The query's token ids if they decode to its text; none if the text was changed."""
        text = self._decode(query.token_ids)
        unchanged = text[: self._prompt.stop_position(text)].strip() == query.text.strip()
        return list(query.token_ids) if unchanged else []

    def _continuation(self, text: str, prompt: list[int], query: str) -> list[int]:
        """A text's tokens as they follow the prompt, with the blank that generation would begin with."""
        following = query.strip() if not query.strip() or text[-1:].isspace() else " " + query.strip()
        whole: list[int] = self._tokenizer(text + following, verbose=False)["input_ids"]
        if whole[: len(prompt)] == prompt:
            return whole[len(prompt) :]
        alone: list[int] = self._tokenizer(following, add_special_tokens=False, verbose=False)["input_ids"]
        return alone

    def _read_off(self, logits: Tensor, rows: Sequence[Row]) -> list[QueryScore]:
        """The tokens' values and the likeliest end's, from logits (query tokens and ends, vocabulary)."""
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
                stop = log_probs[-1]  # its last token carries the stop itself
            scores.append(QueryScore(tuple(query), log_probs, stop))
            start = end + 1
        return scores

    def _ending_tokens(self) -> list[int]:
        """Tokens after which a query is over: the model's own ends and those that begin with a stop string."""
        network = self._forward.network
        ends = set(end_tokens(network, self._tokenizer))
        texts = [self._decode([token]) for token in range(len(self._tokenizer))]
        stops = {
            n for n, text in enumerate(texts) if text.strip(" ") and not self._prompt.stop_position(text.lstrip(" "))
        }
        return sorted(token for token in ends | stops if token < network.config.get_text_config().vocab_size)

    def _decode(self, tokens: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(tokens, clean_up_tokenization_spaces=False)
        return text

    def _check_lengths(self, rows: Sequence[Row]) -> None:
        longest = max((len(prompt) + len(query) for prompt, query in rows), default=0)
        limit = self._forward.limit
        if limit is not None and longest > limit:
            raise ConfigError(
                f"{self.name} reads {limit} tokens; the longest prompt with its query has {longest}: "
                "lower --max-doc-tokens, or shorten the prompt's examples"
            )
