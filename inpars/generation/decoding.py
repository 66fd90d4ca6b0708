"""Batched decoding: greedy, or sampling with temperature and top-p; stop strings are matched on decoded text.

The chosen token's log-probability is that of the model's raw distribution, before temperature and top-p. Sampling
depends on (seed, row key, step) only, not on the other rows. Finished rows leave the batch. `Rows` implementations
compute the logits. Nucleus sampling: Holtzman et al. (arXiv 1904.09751).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from inpars.generation import GeneratedQuery
from inpars.generation.settings import DecodingSettings
from inpars.models.networks import upcast_to_float32
from inpars.text.hashing import sampling_key

UNIFORM_STEPS = 2.0**64
SORTED_TOKENS = 1024  # larger than nearly every nucleus
ROUNDING = 1e-5  # tolerance for sums of probabilities


Choice: TypeAlias = Callable[[Tensor, Sequence[int], int], tuple[Tensor, Tensor]]
"""Tokens and raw log-probabilities, both (rows,), for logits (rows, vocabulary), each row's prompt index, and step."""


def most_likely(logits: Tensor, rows: Sequence[int] = (), step: int = 0) -> tuple[Tensor, Tensor]:
    """The most probable token of each row and its natural-log probability in float32, both (rows,)."""
    best, tokens = logits.max(dim=-1)
    return tokens, upcast_to_float32(best) - torch.logsumexp(upcast_to_float32(logits), dim=-1)


@dataclass(frozen=True, slots=True)
class Sampled:
    """Sampling with temperature and top-p."""

    keys: Sequence[str]  # one per prompt of the batch
    temperature: float
    top_p: float
    seed: int

    def __call__(self, logits: Tensor, rows: Sequence[int], step: int) -> tuple[Tensor, Tensor]:
        raw = upcast_to_float32(logits).log_softmax(dim=-1)
        uniform = [sampling_key(self.seed, f"{self.keys[row]}\0{step}") / UNIFORM_STEPS for row in rows]
        tokens = draw(raw / self.temperature, torch.tensor(uniform, device=raw.device), self.top_p)
        return tokens, raw.gather(1, tokens[:, None])[:, 0]


def draw(logits: Tensor, uniform: Tensor, top_p: float) -> Tensor:
    """Inverse-CDF sampling from the nucleus: the token, (rows,), at each row's uniform number; ties by token id."""
    probabilities = upcast_to_float32(logits).softmax(dim=-1)
    ordered, tokens = _top_tokens(probabilities)
    drawn = _draw_sorted(ordered, tokens, uniform, top_p)
    wide = ordered.sum(dim=-1) < top_p + ROUNDING  # rows whose nucleus exceeds the top tokens
    if wide.any():
        whole = probabilities[wide].sort(dim=-1, descending=True, stable=True)
        drawn[wide] = _draw_sorted(*whole, uniform[wide], top_p)
    return drawn


def _draw_sorted(ordered: Tensor, tokens: Tensor, uniform: Tensor, top_p: float) -> Tensor:
    """`draw` from descending probabilities and their tokens, both (rows, tokens)."""
    cumulative = ordered.cumsum(dim=-1)
    inside = (cumulative - ordered < top_p).sum(dim=-1)  # includes the token that crosses top_p
    total = cumulative.gather(1, inside[:, None] - 1)
    drawn = (cumulative < uniform[:, None] * total).sum(dim=-1).clamp(max=inside - 1)
    return tokens.gather(1, drawn[:, None])[:, 0]


def _top_tokens(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """The top of a full sort in a sixth of its time; probabilities that tie with the first one left out become 0."""
    values, tokens = probabilities.topk(min(SORTED_TOKENS + 1, probabilities.shape[-1]), dim=-1)
    by_id, order = tokens[:, :SORTED_TOKENS].sort(dim=-1)
    known = values[:, :SORTED_TOKENS].gather(1, order)
    ordered, positions = known.where(known > values[:, -1:], 0).sort(dim=-1, descending=True, stable=True)
    return ordered, by_id.gather(1, positions)


def choice(settings: DecodingSettings, keys: Sequence[str]) -> Choice:
    """Greedy decoding or sampling, for prompts with these keys."""
    if not settings.temperature:
        return most_likely
    return Sampled(keys, settings.temperature, settings.top_p, settings.seed)


COMPACT_BELOW = 0.75  # finished rows are removed once the share of unfinished ones falls below this


class Rows(Protocol):
    """Computes the next token's logits for a batch of rows."""

    def start(self, prompts: Sequence[Sequence[int]], room: int) -> Tensor:
        """Read the prompts, with room for `room` more tokens; logits after each prompt, (rows, vocabulary)."""

    def step(self, tokens: Tensor) -> Tensor:
        """Read one more token per row, (rows,); logits, (rows, vocabulary)."""

    def keep(self, rows: Tensor) -> None:
        """Continue with these rows only, in this order."""


@dataclass(frozen=True, slots=True)
class StopCondition:
    """A continuation ends at one of these tokens, or where `position` finds a stop string in the decoded text."""

    token_ids: frozenset[int]
    position: Callable[[str], int]  # of the stop string; the text's length if there is none
    decode: Callable[[Sequence[int]], str]


@dataclass(slots=True)
class _Row:
    tokens: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)

    def finished(self, end: StopCondition) -> GeneratedQuery | None:
        """The query if the latest token ended it."""
        if self.tokens[-1] in end.token_ids:
            return self._query(end, len(self.tokens) - 1, stop=self.log_probs[-1])
        text = end.decode(self.tokens)
        position = end.position(text)
        if position == len(text):
            return None
        count = self._token_count(text[:position].rstrip(), end)
        stop = self.log_probs[count] if count < len(self.tokens) else self.log_probs[-1]
        return self._query(end, count, stop)

    def cut(self, end: StopCondition) -> GeneratedQuery:
        """The query cut off by the length limit."""
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

    def _token_count(self, text: str, end: StopCondition) -> int:
        """How many leading tokens are needed to decode to `text`; a character may span several tokens."""
        count = len(self.tokens)
        while count and end.decode(self.tokens[: count - 1]).startswith(text):
            count -= 1
        return count


def truncate_at_stop(tokens: Sequence[int], log_probs: Sequence[float], end: StopCondition) -> GeneratedQuery:
    """The query in another engine's tokens, truncated as in `decode_rows`."""
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
    """Decode a continuation of each prompt."""
    queries: list[GeneratedQuery | None] = [None] * len(prompts)
    states = [_Row() for _ in prompts]
    active = list(range(len(prompts)))  # prompt index of each row
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
            kept = torch.tensor(unfinished, device=tokens.device)
            rows.keep(kept)
            tokens, active = tokens[kept], [active[row] for row in unfinished]
        logits = rows.step(tokens)
    return [query or state.cut(end) for query, state in zip(queries, states, strict=True)]


ROWS_PER_THREAD = 4
TOKEN_BLOCK = 32
EXACT = (torch.float32, torch.float64)


def even_number_of_rows(network: torch.nn.Module) -> int:
    """The number of rows must be a multiple of this."""
    return ROWS_PER_THREAD * torch.get_num_threads() if _is_exact(network) else 1


def even_tokens(network: torch.nn.Module) -> int:
    """The number of tokens must be a multiple of this."""
    return TOKEN_BLOCK if _is_exact(network) else 1


def rounded_up(number: int, multiple: int) -> int:
    """The smallest multiple that is at least `number`."""
    return number + -number % multiple


def _is_exact(network: torch.nn.Module) -> bool:
    weight = next(network.parameters())
    return weight.device.type == "cpu" and weight.dtype in EXACT


class BatchInvariantRows:
    """A `Rows` that pads batches on CPUs, so that a query's log-probabilities do not depend on the batch.

    CPU libraries sum float32 in another order if a thread gets fewer than four rows, or a length that does not fill a
    block. The last row is therefore repeated to a full multiple, and lengths are padded with masked tokens. Reduced
    formats are not padded: their sums differ for further reasons.

    Equal prompts, for several queries per document, are read once. `prefix_tokens` is passed on to `start`.
    """

    def __init__(self, rows: Any, network: torch.nn.Module, *prefix_tokens: int) -> None:
        self._rows, self._multiple, self._prefix_tokens = rows, even_number_of_rows(network), prefix_tokens

    def start(self, prompts: Sequence[Sequence[int]], room: int) -> Tensor:
        row_of: dict[tuple[int, ...], int] = {}
        indices = [row_of.setdefault(tuple(prompt), len(row_of)) for prompt in prompts]
        distinct = list(row_of)
        copies = [distinct[-1]] * (-len(distinct) % self._multiple)
        logits: Tensor = self._rows.start([*distinct, *copies], room, *self._prefix_tokens)
        if len(distinct) == len(prompts):
            return logits[: len(prompts)]
        rows = torch.tensor(indices, device=logits.device)
        self.keep(rows)
        return logits[rows]

    def step(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self._rows.step(self._padded(tokens))
        return logits[: len(tokens)]

    def keep(self, rows: Tensor) -> None:
        self._rows.keep(self._padded(rows))

    def _padded(self, values: Tensor) -> Tensor:
        return torch.cat([values, values[-1:].expand(-len(values) % self._multiple)])
