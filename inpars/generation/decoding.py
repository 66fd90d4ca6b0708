"""Decoding of many rows at once, stopped on decoded text.

Only the chosen token's log-probability is kept, under the model's raw distribution. Finished rows leave the batch. How
the network computes its logits is the `Rows`' matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from inpars.generation import GeneratedQuery
from inpars.generation.sampling import Choice, most_likely

COMPACT_BELOW = 0.75  # rows are moved together once fewer than this share of them is still unfinished


class Rows(Protocol):
    """Logits of the next token for a batch of rows."""

    def start(self, prompts: Sequence[Sequence[int]], room: int) -> Tensor:
        """Read the prompts and make room for further tokens; logits after each prompt, (rows, vocabulary)."""

    def step(self, tokens: Tensor) -> Tensor:
        """Read one more token a row, (rows,); logits, (rows, vocabulary)."""

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only, in this order."""


@dataclass(frozen=True, slots=True)
class StopCondition:
    """When a continuation is over: at one of these token ids, or where `position` finds a stop in the decoded text."""

    token_ids: frozenset[int]
    position: Callable[[str], int]  # where the query ends in the text; the text's length where nothing stops it
    decode: Callable[[Sequence[int]], str]


@dataclass(slots=True)
class _Row:
    tokens: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)

    def finished(self, end: StopCondition) -> GeneratedQuery | None:
        """The query once the latest token has ended it."""
        if self.tokens[-1] in end.token_ids:
            return self._query(end, len(self.tokens) - 1, stop=self.log_probs[-1])
        text = end.decode(self.tokens)
        position = end.position(text)
        if position == len(text):
            return None
        count = self._tokens_of(text[:position].rstrip(), end)
        stop = self.log_probs[count] if count < len(self.tokens) else self.log_probs[-1]
        return self._query(end, count, stop)

    def cut(self, end: StopCondition) -> GeneratedQuery:
        """The query as cut off by the length limit."""
        return self._query(end, len(self.tokens), None)

    def _query(self, end: StopCondition, count: int, stop: float | None) -> GeneratedQuery:
        text = end.decode(self.tokens[:count])
        return GeneratedQuery(
            text[: end.position(text)].strip(),
            tuple(self.tokens[:count]),
            tuple(self.log_probs[:count]),
            stop,
            "length" if stop is None else "stop",
        )

    def _tokens_of(self, text: str, end: StopCondition) -> int:
        """How many leading tokens have a share in a text they begin with; a letter may be several tokens."""
        count = len(self.tokens)
        while count and end.decode(self.tokens[: count - 1]).startswith(text):
            count -= 1
        return count


def truncate_at_stop(tokens: Sequence[int], log_probs: Sequence[float], end: StopCondition) -> GeneratedQuery:
    """The query in tokens drawn by another engine, truncated as `decode_rows` would."""
    row = _Row()
    for token, log_prob in zip(tokens, log_probs, strict=True):
        row.tokens.append(token)
        row.log_probs.append(log_prob)
        if (query := row.finished(end)) is not None:
            return query
    return row.cut(end)


def decode_rows(
    rows: Rows,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    end: StopCondition,
    choose: Choice = most_likely,
) -> list[GeneratedQuery]:
    """A continuation of each prompt, token by token as `choose` picks them."""
    queries: list[GeneratedQuery | None] = [None] * len(prompts)
    states = [_Row() for _ in prompts]
    active = list(range(len(prompts)))  # which prompt each row of the batch belongs to
    logits = rows.start(prompts, max_new_tokens)
    for step in range(max_new_tokens):
        tokens, log_probs = choose(logits, active, step)
        for position, token, log_prob in zip(active, tokens.tolist(), log_probs.tolist(), strict=True):
            if queries[position] is None:
                states[position].tokens.append(token)
                states[position].log_probs.append(log_prob)
                queries[position] = states[position].finished(end)
        unfinished = [row for row, position in enumerate(active) if queries[position] is None]
        if not unfinished or step == max_new_tokens - 1:
            break
        if len(unfinished) < COMPACT_BELOW * len(active):
            chosen = torch.tensor(unfinished, device=tokens.device)
            rows.keep(chosen)
            tokens, active = tokens[chosen], [active[row] for row in unfinished]
        logits = rows.step(tokens)
    return [query or state.cut(end) for query, state in zip(queries, states, strict=True)]
