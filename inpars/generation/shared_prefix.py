"""Rows that share the beginning of their prompt: its keys and values are computed once and never copied.

The logits come from a `Forward`, a transformers network with its attention exchanged. `plain_rows.py` does the same
work for networks that this does not fit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from threading import local
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from inpars.generation.batch_invariance import even_tokens, rounded_up
from inpars.generation.prefix_attention import RowState, attend
from inpars.models.networks import with_cache

ATTENTION_NAME = "inpars_shared_prefix"
PREFILL_TOKENS = 4096  # padded prompt tokens read in one pass
PROBE_TOKENS = (12, 4)  # lengths of prefix and continuation in the check that a forward pass agrees with the network's
PROBE_TOLERANCE = 0.2  # of the logits' deviation; bfloat16 rounding stays far below, a wrong mask far above


class Forward(Protocol):
    """A network's forward pass over rows that share a prefix."""

    def __call__(self, ids: Tensor, positions: Tensor, state: RowState, last: Tensor) -> Tensor:
        """Logits after token `last` (rows,) of each row, (rows, vocabulary), for ids (rows, tokens)."""


class SharedPrefixRows:
    """A `Rows` over one network and one prefix."""

    def __init__(self, network: Any, prefix: Sequence[int], pad: int, forward: Forward | None = None) -> None:  # noqa: ANN401
        """Read the prefix, which may be empty; without a `forward` the network's attention is exchanged."""
        self._forward = forward or ExchangedAttention(network)
        self._pad, self._device = pad, network.device
        self._multiple = even_tokens(network)
        self._state = RowState([])
        self._prefix: list[tuple[Tensor, Tensor]] = []
        if prefix:
            with torch.inference_mode():
                self._state.allocate(1, len(prefix))
                self._read(torch.tensor([list(prefix)], device=self._device), torch.tensor([len(prefix)]), 0)
            self._prefix = [(keys[0], values[0]) for keys, values in self._state.buffers]

    def start(self, prompts: Sequence[Sequence[int]], room: int, prefix_tokens: int | None = None) -> Tensor:
        """Read what follows the prefix; of the prefix the first `prefix_tokens` are used, all by default."""
        used = self.prefix_tokens if prefix_tokens is None else prefix_tokens
        self._state = RowState([(keys[:, :used], values[:, :used]) for keys, values in self._prefix], self._multiple)
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=self._device)
        width = rounded_up(int(lengths.max()), self._multiple)
        ids = torch.full((len(prompts), width), self._pad)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = torch.tensor(list(prompt))
        ids = ids.to(self._device)
        self._state.allocate(len(prompts), width + room)
        rows = max(1, PREFILL_TOKENS // width)
        with torch.inference_mode():
            parts = [
                self._read(ids[first : first + rows], lengths[first : first + rows], first)
                for first in range(0, len(prompts), rows)
            ]
        self._state.begin_steps(lengths)
        return torch.cat(parts)

    def step(self, tokens: Tensor) -> Tensor:
        state = self._state
        with torch.inference_mode():
            logits = self._forward(tokens[:, None], state.next_positions()[:, None], state, torch.zeros_like(tokens))
        state.advance()
        return logits

    def keep(self, rows: Tensor) -> None:
        """Drop the other rows' keys and values."""
        self._state.keep(rows)

    @property
    def prefix_tokens(self) -> int:
        return int(self._prefix[0][0].shape[1]) if self._prefix else 0

    def _read(self, ids: Tensor, lengths: Tensor, first: int) -> Tensor:
        """Logits after each prompt's last token, (rows, vocabulary)."""
        self._state.first = first
        positions = torch.arange(ids.shape[1], device=ids.device) + self._state.prefix_tokens
        return self._forward(ids, positions[None], self._state, lengths.to(ids.device) - 1)


class ExchangedAttention:
    """A transformers network's own forward pass with our attention in it, and its head at one token a row alone.

    Several threads may call it, each with a state of its own; the network then does nothing else.
    """

    def __init__(self, network: Any) -> None:  # noqa: ANN401
        network.set_attn_implementation(ATTENTION_NAME)
        network.set_output_embeddings(_HeadAtLast(network.get_output_embeddings()))
        self._network = network

    def __call__(self, ids: Tensor, positions: Tensor, state: RowState, last: Tensor) -> Tensor:
        _of_thread.state, _of_thread.last = state, last
        try:
            logits: Tensor = self._network(
                input_ids=ids, position_ids=positions, use_cache=True, **with_cache(self._network, state)
            ).logits
        finally:
            _of_thread.state = None
        return logits[:, 0]


class _HeadAtLast(nn.Module):
    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, hidden: Tensor) -> Tensor:
        rows = torch.arange(len(hidden), device=hidden.device)
        logits: Tensor = self.head(hidden[rows, _of_thread.last])[:, None]
        return logits


_of_thread = local()  # what the thread reads; attention functions get no other word from their caller


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **_: Any,  # noqa: ANN401
) -> tuple[Tensor, None]:
    """What transformers calls: from query (rows, heads, tokens, width) to (rows, tokens, heads, width)."""
    state: RowState | None = getattr(_of_thread, "state", None)
    if state is None:
        raise RuntimeError(f"{ATTENTION_NAME} works inside ExchangedAttention only")
    scale = scaling if scaling is not None else 1 / math.sqrt(query.shape[-1])
    return attend(query, key, value, state, module.layer_idx, scale).transpose(1, 2), None  # type: ignore[arg-type]


AttentionInterface.register(ATTENTION_NAME, _attention)


def best_forward(network: Any) -> Forward | None:  # noqa: ANN401
    """The `Forward` of the network where, tried on a few tokens, it agrees with the network's own; else None."""
    config = network.config.get_text_config()
    windows = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if windows or kinds != {"full_attention"} or not getattr(network, "_supports_attention_backend", False):
        return None
    former = config._attn_implementation, network.get_output_embeddings()
    forward = _agreeing(network)
    if forward is None:
        network.set_attn_implementation(former[0])
        network.set_output_embeddings(former[1])
    return forward


def _agreeing(network: Any) -> Forward | None:  # noqa: ANN401
    """The forward pass where its logits for a short text are the network's, else None."""
    size = network.config.get_text_config().vocab_size
    whole = [size * (number + 1) // (sum(PROBE_TOKENS) + 2) for number in range(sum(PROBE_TOKENS))]
    prefix, continuation = whole[: PROBE_TOKENS[0]], whole[PROBE_TOKENS[0] :]
    try:
        with torch.inference_mode():
            expected = network(input_ids=torch.tensor([whole], device=network.device)).logits[0, -1].float()
            forward = ExchangedAttention(network)
            rows = SharedPrefixRows(network, prefix, pad=0, forward=forward)
            rows.start([continuation[:-1]] * 2, room=1)
            logits = rows.step(torch.tensor(continuation[-1:] * 2, device=network.device))[1].float()
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError):
        return None
    return forward if (logits - expected).std() < PROBE_TOLERANCE * expected.std() + 1e-4 else None
