"""Decoding of many rows at once: the likeliest token or one drawn by temperature and nucleus, stopped on decoded text.

Only the chosen token's log-probability is kept, under the model's raw distribution, not the one it was drawn from. What
is drawn for a row depends on (seed, row key, step) alone, never on the rows beside it. Finished rows leave the batch.
How the network computes its logits is the `Rows`' matter. Nucleus sampling: Holtzman et al. (arXiv 1904.09751).
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
SORTED_TOKENS = 1024  # more than nearly every nucleus has
ROUNDING = 1e-5  # of a sum of probabilities


Choice: TypeAlias = Callable[[Tensor, Sequence[int], int], tuple[Tensor, Tensor]]
"""Tokens and raw natural-log probabilities, both (rows,), for logits (rows, vocabulary), rows and step.

Rows say which prompt of the batch each row belongs to; steps count tokens from 0.
"""


def most_likely(logits: Tensor, rows: Sequence[int] = (), step: int = 0) -> tuple[Tensor, Tensor]:
    """The likeliest token of each row and its natural-log probability in float32, both (rows,)."""
    best, tokens = logits.max(dim=-1)
    return tokens, upcast_to_float32(best) - torch.logsumexp(upcast_to_float32(logits), dim=-1)


@dataclass(frozen=True, slots=True)
class Sampled:
    """Draws from the distribution at a temperature, cut to its nucleus."""

    keys: Sequence[str]  # one for each prompt of the batch
    temperature: float
    top_p: float
    seed: int

    def __call__(self, logits: Tensor, rows: Sequence[int], step: int) -> tuple[Tensor, Tensor]:
        raw = upcast_to_float32(logits).log_softmax(dim=-1)
        uniform = [sampling_key(self.seed, f"{self.keys[row]}\0{step}") / UNIFORM_STEPS for row in rows]
        tokens = draw(raw / self.temperature, torch.tensor(uniform, device=raw.device), self.top_p)
        return tokens, raw.gather(1, tokens[:, None])[:, 0]


def draw(logits: Tensor, uniform: Tensor, top_p: float) -> Tensor:
    """The token at each row's uniform number in the cumulated nucleus, likeliest first; ties by token id, (rows,)."""
    probabilities = upcast_to_float32(logits).softmax(dim=-1)
    ordered, tokens = _likeliest(probabilities)
    drawn = _drawn(ordered, tokens, uniform, top_p)
    wide = ordered.sum(dim=-1) < top_p + ROUNDING  # the nucleus goes beyond them
    if wide.any():
        whole = probabilities[wide].sort(dim=-1, descending=True, stable=True)
        drawn[wide] = _drawn(*whole, uniform[wide], top_p)
    return drawn


def _drawn(ordered: Tensor, tokens: Tensor, uniform: Tensor, top_p: float) -> Tensor:
    """`draw` from probabilities in order, (rows, tokens), and whose they are."""
    reached = ordered.cumsum(dim=-1)
    inside = (reached - ordered < top_p).sum(dim=-1)  # the token that crosses top_p is still inside
    total = reached.gather(1, inside[:, None] - 1)
    drawn = (reached < uniform[:, None] * total).sum(dim=-1).clamp(max=inside - 1)
    return tokens.gather(1, drawn[:, None])[:, 0]


def _likeliest(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """The first of all tokens in the order of a whole sort, a sixth of its time; 0 for those that tie with the next."""
    values, tokens = probabilities.topk(min(SORTED_TOKENS + 1, probabilities.shape[-1]), dim=-1)
    by_id, order = tokens[:, :SORTED_TOKENS].sort(dim=-1)
    known = values[:, :SORTED_TOKENS].gather(1, order)
    ordered, positions = known.where(known > values[:, -1:], 0).sort(dim=-1, descending=True, stable=True)
    return ordered, by_id.gather(1, positions)


def choice(settings: DecodingSettings, keys: Sequence[str]) -> Choice:
    """How the settings pick tokens, for prompts of these keys."""
    if not settings.temperature:
        return most_likely
    return Sampled(keys, settings.temperature, settings.top_p, settings.seed)


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


ROWS_A_THREAD = 4
TOKENS = 32
EXACT = (torch.float32, torch.float64)


def even_number_of_rows(network: torch.nn.Module) -> int:
    """What the number of rows shall be a multiple of."""
    return ROWS_A_THREAD * torch.get_num_threads() if _is_exact(network) else 1


def even_tokens(network: torch.nn.Module) -> int:
    """What the numbers of tokens shall be multiples of."""
    return TOKENS if _is_exact(network) else 1


def rounded_up(number: int, multiple: int) -> int:
    """The next whole multiple."""
    return number + -number % multiple


def _is_exact(network: torch.nn.Module) -> bool:
    weight = next(network.parameters())
    return weight.device.type == "cpu" and weight.dtype in EXACT


class BatchInvariantRows:
    """A `Rows` that repeats its last row up to a whole multiple, where its network computes exactly enough for that.

    A processor's library sums float32 in another order when a thread is left with fewer than four rows, or with a
    length that does not fill its blocks. Copies of a row and masked tokens make the numbers even, and a query's
    log-probabilities no longer depend on the batch. Reduced formats are not made even: their sums differ for more
    reasons.

    Equal prompts, of several queries for one document, are read once. `prefix_tokens` is what the rows' `start` is told
    besides, if anything.
    """

    def __init__(self, rows: Any, network: torch.nn.Module, *prefix_tokens: int) -> None:
        self._rows, self._multiple, self._prefix_tokens = rows, even_number_of_rows(network), prefix_tokens

    def start(self, prompts: Sequence[Sequence[int]], room: int) -> Tensor:
        numbers: dict[tuple[int, ...], int] = {}
        row_of = [numbers.setdefault(tuple(prompt), len(numbers)) for prompt in prompts]
        distinct = list(numbers)
        copies = [distinct[-1]] * (-len(distinct) % self._multiple)
        logits: Tensor = self._rows.start([*distinct, *copies], room, *self._prefix_tokens)
        if len(distinct) == len(prompts):
            return logits[: len(prompts)]
        rows = torch.tensor(row_of, device=logits.device)
        self.keep(rows)
        return logits[rows]

    def step(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self._rows.step(self._repeated(tokens))
        return logits[: len(tokens)]

    def keep(self, rows: Tensor) -> None:
        self._rows.keep(self._repeated(rows))

    def _repeated(self, values: Tensor) -> Tensor:
        return torch.cat([values, values[-1:].expand(-len(values) % self._multiple)])
