"""Rows over any causal network, through the cache that transformers gives it; slower than `shared_prefix.py`."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class PlainRows:
    """A `Rows` whose prefix is computed once and copied for every batch."""

    def __init__(self, network: Any, prefix: Sequence[int], pad: int) -> None:  # noqa: ANN401
        """Read the prefix, which may be empty."""
        self._network, self._pad, self._prefix = network, pad, list(prefix)
        self._mask = self._positions = torch.empty(0)
        self._cache: Any = None
        self._prefix_cache: Any = None
        if prefix:
            with torch.inference_mode():
                ids = torch.tensor([self._prefix], device=network.device)
                self._prefix_cache = network(input_ids=ids, use_cache=True).past_key_values

    @property
    def prefix_tokens(self) -> int:
        """Tokens of the shared prefix."""
        return len(self._prefix)

    def start(self, prompts: Sequence[Sequence[int]], room: int, prefix_tokens: int | None = None) -> Tensor:
        """Read the prompts, padded on the left; a prefix used in part is read again with every prompt."""
        used = self.prefix_tokens if prefix_tokens is None else prefix_tokens
        cached = self._prefix_cache if used == self.prefix_tokens else None
        rows = [list(prompt) if cached is not None else self._prefix[:used] + list(prompt) for prompt in prompts]
        before = used if cached is not None else 0
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self._pad)
        self._mask = torch.zeros(len(rows), before + width, dtype=torch.long)
        self._mask[:, :before] = 1
        for row, tokens in enumerate(rows):
            ids[row, width - len(tokens) :] = torch.tensor(tokens)
            self._mask[row, before + width - len(tokens) :] = 1
        self._mask = self._mask.to(self._network.device)
        self._cache = copy.deepcopy(cached)
        if self._cache is not None:
            self._cache.batch_repeat_interleave(len(rows))
        positions = (self._mask.cumsum(1) - 1).clamp(min=0)[:, before:]
        self._positions = positions[:, -1:]
        return self._forward(ids.to(self._network.device), positions)

    def step(self, tokens: Tensor) -> Tensor:
        """Read one token a row."""
        self._positions = self._positions + 1
        self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], dim=1)
        return self._forward(tokens[:, None], self._positions)

    def keep(self, rows: Tensor) -> None:
        """Drop the other rows."""
        self._cache.batch_select_indices(rows)
        self._mask, self._positions = self._mask[rows], self._positions[rows]

    def _forward(self, ids: Tensor, positions: Tensor) -> Tensor:
        with torch.inference_mode():
            output = self._network(
                input_ids=ids,
                attention_mask=self._mask,
                position_ids=positions,
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            )
        self._cache = output.past_key_values
        logits: Tensor = output.logits[:, -1]
        return logits
