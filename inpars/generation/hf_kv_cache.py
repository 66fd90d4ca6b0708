"""Decoding rows with transformers' own cache, for any causal network; slower than `shared_prefix.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from inpars.models.networks import cache_of, with_cache


class HFCacheDecoder:
    """A `Rows` that computes the prefix once and copies it for every batch, if the network allows it."""

    def __init__(self, network: Any, prefix: Sequence[int], pad: int) -> None:
        """Compute the prefix, which may be empty."""
        self._network, self._pad, self._prefix = network, pad, list(prefix)
        self._mask = self._positions = torch.empty(0)
        self._cache: Any = None
        self._prefix_cache: list[tuple[Tensor, Tensor]] | None = None
        if prefix and keeps_only_keys_and_values(network):
            self._prefix_cache = read_keys_and_values(network, self._prefix)

    def start(self, prompts: Sequence[Sequence[int]], room: int, prefix_tokens: int | None = None) -> Tensor:
        """Read the prompts.

        Padding comes before the prefix, so that distances are right for sliding windows: a row shorter than the longest
        recomputes the last tokens of the prefix, and its cached prefix is shifted right by their number.
        """
        used = len(self._prefix) if prefix_tokens is None else prefix_tokens
        cached = used if self._prefix_cache is not None else 0
        width = max(map(len, prompts)) + used - cached
        shifts = [min(width - len(prompt), used) for prompt in prompts]
        rows = [self._prefix[used - shift : used] + list(prompt) for shift, prompt in zip(shifts, prompts, strict=True)]
        ids = torch.full((len(rows), width), self._pad)
        mask = torch.zeros(len(rows), cached + width, dtype=torch.long)
        for row, tokens in enumerate(rows):
            ids[row, width - len(tokens) :] = torch.tensor(tokens)
            mask[row, cached + width - used - len(prompts[row]) :] = 1
        self._mask = mask.to(self._network.device)
        self._cache = self._shifted(shifts, cached) if cached else None
        positions = (self._mask.cumsum(1) - 1).clamp(min=0)[:, cached:]
        self._positions = positions[:, -1:]
        return self._forward(ids.to(self._network.device), positions)

    def _shifted(self, shifts: Sequence[int], tokens: int) -> DynamicCache:
        """The prefix's first tokens for each row, shifted right; the positions before them are masked."""
        device = self._network.device
        columns = torch.arange(tokens, device=device) - torch.tensor(list(shifts), device=device)[:, None]
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(self._prefix_cache or ()):
            # (key heads, prefix tokens, width) to (rows, key heads, tokens, width)
            cache.update(keys[:, columns % tokens].transpose(0, 1), values[:, columns % tokens].transpose(0, 1), layer)
        return cache

    def step(self, tokens: Tensor) -> Tensor:
        self._positions = self._positions + 1
        self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], dim=1)
        return self._forward(tokens[:, None], self._positions)

    def keep(self, rows: Tensor) -> None:
        self._cache.reorder_cache(rows)  # unlike batch_select_indices, handles states other than keys and values
        self._mask, self._positions = self._mask[rows], self._positions[rows]

    def _forward(self, ids: Tensor, positions: Tensor) -> Tensor:
        with torch.inference_mode():
            output = self._network(
                input_ids=ids,
                attention_mask=self._mask,
                position_ids=positions,
                **with_cache(self._network, self._cache),
                use_cache=True,
                logits_to_keep=1,
            )
        self._cache = cache_of(output)
        logits: Tensor = output.logits[:, -1]
        return logits


def keeps_only_keys_and_values(network: Any) -> bool:
    """Whether the network's cache holds only keys and values per token, which can be shifted."""
    start = torch.zeros(1, 1, dtype=torch.long, device=network.device)
    with torch.inference_mode():  # explicit: training sets use_cache=False in the config
        cache = cache_of(network(input_ids=start, use_cache=True))
    layers: Sequence[Any] = cache.layers if isinstance(cache, DynamicCache) else []
    kinds = (DynamicLayer, DynamicSlidingWindowLayer)
    return bool(layers) and all(type(layer) in kinds and layer.keys is not None for layer in layers)


def read_keys_and_values(network: Any, tokens: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of every layer, also beyond sliding windows, (key heads, tokens, width)."""
    cache: Any = DynamicCache()
    with torch.inference_mode():
        ids = torch.tensor([list(tokens)], device=network.device)
        network(input_ids=ids, use_cache=True, **with_cache(network, cache))
    return [(layer.keys[0], layer.values[0]) for layer in cache.layers]
