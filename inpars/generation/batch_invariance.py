"""Numbers of rows and tokens for which matrix products in float32 come out the same whatever else is in the batch.

A processor's library sums in another order when a thread is left with fewer than four rows, or with a length that does
not fill its blocks. Copies of a row and masked tokens make the numbers even, and a query's log-probabilities no longer
depend on the batch. Reduced formats are not made even: their sums differ for more reasons.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

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
