"""Which token comes next: the likeliest, or one drawn by temperature and nucleus.

A drawn token is recorded with its probability under the raw distribution, not the one it was drawn from. What is drawn
for a row depends on (seed, row key, step) alone, never on the rows beside it.
Nucleus sampling: Holtzman et al. (arXiv 1904.09751).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from inpars.generation.settings import DecodingSettings
from inpars.models.networks import precise
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
    return tokens, precise(best) - torch.logsumexp(precise(logits), dim=-1)


@dataclass(frozen=True, slots=True)
class Sampled:
    """Draws from the distribution at a temperature, cut to its nucleus."""

    keys: Sequence[str]  # one for each prompt of the batch
    temperature: float
    top_p: float
    seed: int

    def __call__(self, logits: Tensor, rows: Sequence[int], step: int) -> tuple[Tensor, Tensor]:
        """See `Choice`."""
        raw = precise(logits).log_softmax(dim=-1)
        uniform = [sampling_key(self.seed, f"{self.keys[row]}\0{step}") / UNIFORM_STEPS for row in rows]
        tokens = draw(raw / self.temperature, torch.tensor(uniform, device=raw.device), self.top_p)
        return tokens, raw.gather(1, tokens[:, None])[:, 0]


def draw(logits: Tensor, uniform: Tensor, top_p: float) -> Tensor:
    """The token at each row's uniform number in the cumulated nucleus, likeliest first; ties by token id, (rows,)."""
    probabilities = precise(logits).softmax(dim=-1)
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
    place = (reached < uniform[:, None] * total).sum(dim=-1).clamp(max=inside - 1)
    return tokens.gather(1, place[:, None])[:, 0]


def _likeliest(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """The first of all tokens in the order of a whole sort, a sixth of its time; 0 for those that tie with the next."""
    values, tokens = probabilities.topk(min(SORTED_TOKENS + 1, probabilities.shape[-1]), dim=-1)
    by_id, order = tokens[:, :SORTED_TOKENS].sort(dim=-1)
    known = values[:, :SORTED_TOKENS].gather(1, order)
    ordered, places = known.where(known > values[:, -1:], 0).sort(dim=-1, descending=True, stable=True)
    return ordered, by_id.gather(1, places)


def choice(settings: DecodingSettings, keys: Sequence[str]) -> Choice:
    """How the settings pick tokens, for prompts of these keys."""
    if not settings.temperature:
        return most_likely
    return Sampled(keys, settings.temperature, settings.top_p, settings.seed)
