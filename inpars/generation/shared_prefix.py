"""Decoding rows with a shared prefix, whose keys and values are computed once and never copied.

The attention of a transformers network is replaced: the prefix is attended to once for the whole batch, the rows' own
tokens are in preallocated buffers, and grouped heads are not expanded. `hf_kv_cache.py` is the fallback for other
networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from threading import local
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from inpars.generation.decoding import even_tokens, rounded_up
from inpars.models.networks import UNFIT, can_exchange_attention, upcast_to_float32, with_cache


class RowState:
    """Keys and values of the rows; passed to the network as its cache."""

    def __init__(self, prefix: list[tuple[Tensor, Tensor]], multiple: int = 1) -> None:
        self.prefix = prefix  # per layer keys and values, (key heads, prefix tokens, head width)
        self.buffers: list[tuple[Tensor, Tensor]] = []  # per layer, (rows, key heads, tokens, head width)
        self.first = 0  # first row of the prompts being read
        self.stepping = False  # whether the prompts have been read and tokens come one by one
        self.hidden = torch.empty(0)  # the rows' own tokens that do not exist yet, (rows, 1, 1, tokens)
        self._shape = (0, 0)
        self._multiple = multiple  # the number of tokens attended to is a multiple of this
        self._positions = self._row_numbers = torch.empty(0)  # own position of each row's next token, once stepping

    @property
    def prefix_tokens(self) -> int:
        return self.prefix[0][0].shape[1] if self.prefix else 0

    def allocate(self, rows: int, tokens: int) -> None:
        """Set the size of the buffers for the rows' own tokens."""
        self._shape = (rows, rounded_up(tokens, self._multiple))

    def begin_steps(self, lengths: Tensor) -> None:
        """From now on each row gets one token at a time, after its own `lengths` (rows,) tokens."""
        self.stepping, self._positions = True, lengths
        self._row_numbers = torch.arange(len(lengths), device=lengths.device)
        self._hide()

    def next_positions(self) -> Tensor:
        """Position ids for the network, which include the prefix, (rows,)."""
        return self._positions + self.prefix_tokens

    def advance(self) -> None:
        self._positions = self._positions + 1
        self._hide()

    def keep(self, rows: Tensor) -> None:
        tokens = min(rounded_up(int(self._positions[rows].max()) + 1, self._multiple), self._shape[1])
        spare = self._shape[1] - tokens
        self.buffers = [
            (_with_room(keys[rows, :, :tokens], spare), _with_room(values[rows, :, :tokens], spare))
            for keys, values in self.buffers
        ]
        self.begin_steps(self._positions[rows])

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any) -> tuple[Tensor, Tensor]:
        """Store a layer's keys and values and return those to attend to; transformers calls this before attention."""
        if layer == len(self.buffers):
            rows, tokens = self._shape
            shape = (rows, keys.shape[1], tokens, keys.shape[3])
            # zeros: positions past a row's end are masked, but must not be NaN
            self.buffers.append((keys.new_zeros(shape), values.new_zeros((*shape[:3], values.shape[3]))))
        all_keys, all_values = self.buffers[layer]
        if not self.stepping:
            rows, tokens = keys.shape[0], keys.shape[2]
            all_keys[self.first : self.first + rows, :, :tokens] = keys
            all_values[self.first : self.first + rows, :, :tokens] = values
            return keys, values
        all_keys[self._row_numbers, :, self._positions] = keys[:, :, 0]
        all_values[self._row_numbers, :, self._positions] = values[:, :, 0]
        return all_keys[:, :, : self.hidden.shape[3]], all_values[:, :, : self.hidden.shape[3]]

    def get_seq_length(self, layer: int = 0) -> int:
        """Part of transformers' cache interface; unused, as position ids are always passed."""
        return 0

    def _hide(self) -> None:
        positions = self._positions
        columns = torch.arange(rounded_up(int(positions.max()) + 1, self._multiple), device=positions.device)
        self.hidden = (columns[None] > positions[:, None])[:, None, None]


def _with_room(cache: Tensor, tokens: int) -> Tensor:
    """The cache with zeros for `tokens` more tokens."""
    return nn.functional.pad(cache, (0, 0, 0, tokens))


def _attend_one(
    query: Tensor, key: Tensor, value: Tensor, prefix: tuple[Tensor, Tensor] | None, hidden: Tensor, scale: float
) -> Tensor:
    """One new token per row: one softmax over the concatenated scores of prefix and own tokens."""
    rows, heads, _, width = query.shape
    kinds = key.shape[1]  # key heads
    group = heads // kinds
    grouped = query.reshape(rows, kinds, group, width) * scale
    scores = upcast_to_float32(torch.matmul(grouped, key.transpose(2, 3))).masked_fill(hidden, -torch.inf)
    if prefix is None:
        return torch.matmul(scores.softmax(-1).to(value.dtype), value).view(rows, heads, 1, -1)
    keys, values = prefix  # (kinds, prefix tokens, width)
    stacked = grouped.transpose(0, 1).reshape(kinds, rows * group, width)
    shared = upcast_to_float32(torch.matmul(stacked, keys.transpose(1, 2)).view(kinds, rows, group, -1).transpose(0, 1))
    weights = torch.cat([shared, scores], dim=-1).softmax(-1).to(value.dtype)
    tokens = keys.shape[1]
    to_prefix = weights[..., :tokens].transpose(0, 1).reshape(kinds, rows * group, tokens)
    of_prefix = torch.matmul(to_prefix, values).view(kinds, rows, group, -1).transpose(0, 1)
    return (of_prefix + torch.matmul(weights[..., tokens:], value)).reshape(rows, heads, 1, -1)


def _attend_prompts(
    query: Tensor, key: Tensor, value: Tensor, prefix: tuple[Tensor, Tensor] | None, scale: float
) -> Tensor:
    """Whole prompts: each token attends to the prefix and causally to its own row."""
    rows, heads, tokens, width = query.shape
    kinds = key.shape[1]
    grouped = query.reshape(rows, kinds, heads // kinds * tokens, width)  # query heads share keys without expansion
    visible = torch.ones(tokens, tokens, dtype=torch.bool, device=query.device).tril()
    if prefix is not None:
        keys, values = prefix
        key = torch.cat([keys.expand(rows, -1, -1, -1), key], dim=2)
        value = torch.cat([values.expand(rows, -1, -1, -1), value], dim=2)
        visible = torch.cat([visible.new_ones(tokens, keys.shape[1]), visible], dim=1)
    output = nn.functional.scaled_dot_product_attention(
        grouped, key, value, attn_mask=visible.repeat(heads // kinds, 1)[None, None], scale=scale
    )
    return output.reshape(rows, heads, tokens, -1)


ATTENTION_NAME = "inpars_shared_prefix"
PREFILL_TOKENS = 4096  # padded prompt tokens per pass
PROBE_TOKENS = (12, 4)  # lengths of prefix and continuation when checking agreement with the network
PROBE_TOLERANCE = 0.2  # times the logits' standard deviation; bfloat16 rounding is far below, a wrong mask far above


class SharedPrefixRows:
    """A `Rows` for one network and one prefix."""

    def __init__(self, network: Any, prefix: Sequence[int], pad: int, forward: ExchangedAttention) -> None:
        """Compute the prefix, which may be empty."""
        self._forward = forward
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
        """Read the prompts, which follow the first `prefix_tokens` tokens of the prefix (all by default)."""
        prefix = [(keys[:, :prefix_tokens], values[:, :prefix_tokens]) for keys, values in self._prefix]
        self._state = RowState(prefix, self._multiple)
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
        self._state.keep(rows)

    def _read(self, ids: Tensor, lengths: Tensor, first: int) -> Tensor:
        """Logits after each prompt's last token, (rows, vocabulary)."""
        self._state.first = first
        positions = torch.arange(ids.shape[1], device=ids.device) + self._state.prefix_tokens
        return self._forward(ids, positions[None], self._state, lengths.to(ids.device) - 1)


class ExchangedAttention:
    """A transformers network's forward pass with our attention, and logits for one token per row.

    Several threads may call it, each with its own state. The network cannot be used otherwise.
    """

    def __init__(self, network: Any) -> None:
        network.set_attn_implementation(ATTENTION_NAME)
        network.set_output_embeddings(_HeadAtLast(network.get_output_embeddings()))
        self._network = network

    def __call__(self, ids: Tensor, positions: Tensor, state: RowState, last: Tensor) -> Tensor:
        """Logits after token `last` (rows,) of each row, (rows, vocabulary), for ids (rows, tokens)."""
        _thread_local.state, _thread_local.last = state, last
        try:
            logits: Tensor = self._network(
                input_ids=ids, position_ids=positions, use_cache=True, **with_cache(self._network, state)
            ).logits
        finally:
            _thread_local.state = None
        return logits[:, 0]


class _HeadAtLast(nn.Module):
    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, hidden: Tensor) -> Tensor:
        rows = torch.arange(len(hidden), device=hidden.device)
        logits: Tensor = self.head(hidden[rows, _thread_local.last])[:, None]
        return logits


_thread_local = local()  # state of the current call; attention functions get no arguments from our caller


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Called by transformers: from query (rows, heads, tokens, width) to (rows, tokens, heads, width)."""
    state: RowState | None = getattr(_thread_local, "state", None)
    if state is None:
        raise RuntimeError(f"{ATTENTION_NAME} works inside ExchangedAttention only")
    scale = scaling if scaling is not None else 1 / math.sqrt(query.shape[-1])
    prefix = state.prefix[module.layer_idx] if state.prefix else None  # type: ignore[index]
    if state.stepping:
        output = _attend_one(query, key, value, prefix, state.hidden, scale)
    else:
        output = _attend_prompts(query, key, value, prefix, scale)
    return output.transpose(1, 2), None


AttentionInterface.register(ATTENTION_NAME, _attention)


def best_forward(network: Any) -> ExchangedAttention | None:
    """The network with our attention if it gives the same logits on a few tokens; else None, the network unchanged."""
    if not can_exchange_attention(network):
        return None
    implementation, head = network.config.get_text_config()._attn_implementation, network.get_output_embeddings()
    forward = _agreeing(network)
    if forward is None:
        network.set_attn_implementation(implementation)
        network.set_output_embeddings(head)
    return forward


def _agreeing(network: Any) -> ExchangedAttention | None:
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
    except UNFIT:
        return None
    return forward if (logits - expected).std() < PROBE_TOLERANCE * expected.std() + 1e-4 else None
