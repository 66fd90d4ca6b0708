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
from inpars.models.networks import upcast_to_float32
from inpars.text.hashing import sampling_key

UNIFORM_STEPS = 2.0**64


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
    ordered, tokens = upcast_to_float32(logits).softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
    reached = ordered.cumsum(dim=-1)
    inside = (reached - ordered < top_p).sum(dim=-1)  # the token that crosses top_p is still inside
    total = reached.gather(1, inside[:, None] - 1)
    drawn = (reached < uniform[:, None] * total).sum(dim=-1).clamp(max=inside - 1)
    return tokens.gather(1, drawn[:, None])[:, 0]


def choice(settings: DecodingSettings, keys: Sequence[str]) -> Choice:
    """How the settings pick tokens, for prompts of these keys."""
    if not settings.temperature:
        return most_likely
    return Sampled(keys, settings.temperature, settings.top_p, settings.seed)
