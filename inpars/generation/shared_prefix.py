"""Rows that share the beginning of their prompt: its keys and values are computed once and never copied.

The logits come from a transformers network with its attention exchanged: the prefix is attended to once
for the whole batch, the rows' own tokens lie in buffers that are allocated once, and grouped heads are not expanded.
`hf_kv_cache.py` does the same work for networks that this does not fit.
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
    """Keys and values of the rows, and where the next ones go; passed to the network as its cache."""

    def __init__(self, prefix: list[tuple[Tensor, Tensor]], multiple: int = 1) -> None:
        self.prefix = prefix  # for each layer keys and values, (key heads, prefix tokens, head width)
        self.buffers: list[tuple[Tensor, Tensor]] = []  # for each layer, (rows, key heads, tokens, head width)
        self.first = 0  # the row that the part being read begins at
        self.seen: Tensor | None = None  # which of its row's tokens a token sees, (rows, tokens, tokens); else causal
        self._shape = (0, 0)
        self._multiple = multiple  # of tokens that are attended to
        self._positions: Tensor | None = None  # where each row's next token goes; None while prompts are read
        self._row_numbers = self._hidden = torch.empty(0)

    @property
    def prefix_tokens(self) -> int:
        return self.prefix[0][0].shape[1] if self.prefix else 0

    @property
    def stepping(self) -> bool:
        """Whether the prompts have been read and tokens come one by one."""
        return self._positions is not None

    def allocate(self, rows: int, tokens: int) -> None:
        """Say how large the buffers of the rows' own tokens have to be."""
        self._shape = (rows, rounded_up(tokens, self._multiple))

    def begin_steps(self, lengths: Tensor) -> None:
        """From now on each row gets one token at a time, after `lengths` (rows,) of its own."""
        self._positions = lengths
        self._row_numbers = torch.arange(len(lengths), device=lengths.device)
        self._hide()

    def next_positions(self) -> Tensor:
        """Positions as the network counts them, prefix included, (rows,)."""
        return self._required_positions() + self.prefix_tokens

    def advance(self) -> None:
        self._positions = self._required_positions() + 1
        self._hide()

    def keep(self, rows: Tensor) -> None:
        tokens = min(rounded_up(int(self._required_positions()[rows].max()) + 1, self._multiple), self._shape[1])
        spare = self._shape[1] - tokens
        self.buffers = [
            (_with_room(keys[rows, :, :tokens], spare), _with_room(values[rows, :, :tokens], spare))
            for keys, values in self.buffers
        ]
        self.begin_steps(self._required_positions()[rows])

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any) -> tuple[Tensor, Tensor]:
        """Store what a layer computed; transformers calls this before attention. Returns what attention shall see."""
        if layer == len(self.buffers):
            rows, tokens = self._shape
            shape = (rows, keys.shape[1], tokens, keys.shape[3])
            # zeros: what lies behind a row's end is masked, but must be a number
            self.buffers.append((keys.new_zeros(shape), values.new_zeros((*shape[:3], values.shape[3]))))
        all_keys, all_values = self.buffers[layer]
        if self._positions is None:
            rows, tokens = keys.shape[0], keys.shape[2]
            all_keys[self.first : self.first + rows, :, :tokens] = keys
            all_values[self.first : self.first + rows, :, :tokens] = values
            return keys, values
        all_keys[self._row_numbers, :, self._positions] = keys[:, :, 0]
        all_values[self._row_numbers, :, self._positions] = values[:, :, 0]
        return all_keys[:, :, : self._hidden.shape[3]], all_values[:, :, : self._hidden.shape[3]]

    def get_seq_length(self, layer: int = 0) -> int:
        """What transformers asks a cache for where it gets no positions; it always gets them."""
        return 0

    def hidden(self) -> Tensor:
        """Which of the rows' own tokens do not exist yet, (rows, 1, 1, tokens)."""
        return self._hidden

    def _hide(self) -> None:
        positions = self._required_positions()
        columns = torch.arange(rounded_up(int(positions.max()) + 1, self._multiple), device=positions.device)
        self._hidden = (columns[None] > positions[:, None])[:, None, None]

    def _required_positions(self) -> Tensor:
        if self._positions is None:
            raise RuntimeError("a step before the prompts were read")
        return self._positions


def _with_room(cache: Tensor, tokens: int) -> Tensor:
    """The same with free places behind, along the third dimension."""
    return nn.functional.pad(cache, (0, 0, 0, tokens))


def attend(query: Tensor, key: Tensor, value: Tensor, state: RowState, layer: int, scale: float) -> Tensor:
    """Attention of one layer, (rows, heads, tokens, width); key and value are what `RowState.update` returned."""
    prefix = state.prefix[layer] if state.prefix else None
    if state.stepping:
        return _attend_one(query, key, value, prefix, state.hidden(), scale)
    visible = torch.ones(query.shape[2], query.shape[2], dtype=torch.bool, device=query.device).tril()
    return _attend_prompts(query, key, value, prefix, visible[None] if state.seen is None else state.seen, scale)


def _attend_one(
    query: Tensor, key: Tensor, value: Tensor, prefix: tuple[Tensor, Tensor] | None, hidden: Tensor, scale: float
) -> Tensor:
    """One new token a row: scores of prefix and own tokens side by side under one softmax."""
    rows, heads, _, width = query.shape
    kinds = key.shape[1]  # heads that have keys of their own
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
    query: Tensor, key: Tensor, value: Tensor, prefix: tuple[Tensor, Tensor] | None, visible: Tensor, scale: float
) -> Tensor:
    """Whole prompts: each token sees the prefix and what is `visible` (1 or rows, tokens, tokens) of its own row."""
    rows, heads, tokens, width = query.shape
    kinds = key.shape[1]
    grouped = query.reshape(rows, kinds, heads // kinds * tokens, width)  # heads of one kind share its keys unexpanded
    if prefix is not None:
        keys, values = prefix
        key = torch.cat([keys.expand(rows, -1, -1, -1), key], dim=2)
        value = torch.cat([values.expand(rows, -1, -1, -1), value], dim=2)
        visible = torch.cat([visible.new_ones(len(visible), tokens, keys.shape[1]), visible], dim=2)
    output = nn.functional.scaled_dot_product_attention(
        grouped, key, value, attn_mask=visible.repeat(1, heads // kinds, 1)[:, None], scale=scale
    )
    return output.reshape(rows, heads, tokens, -1)


ATTENTION_NAME = "inpars_shared_prefix"
PREFILL_TOKENS = 4096  # padded prompt tokens read in one pass
PROBE_TOKENS = (12, 4)  # lengths of prefix and continuation in the check that a forward pass agrees with the network's
PROBE_TOLERANCE = 0.2  # of the logits' deviation; bfloat16 rounding stays far below, a wrong mask far above


class SharedPrefixRows:
    """A `Rows` over one network and one prefix."""

    def __init__(
        self, network: Any, prefix: Sequence[int], pad: int, forward: ExchangedAttention | None = None
    ) -> None:
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

    def __init__(self, network: Any) -> None:
        network.set_attn_implementation(ATTENTION_NAME)
        network.set_output_embeddings(_HeadAtLast(network.get_output_embeddings()))
        self._network = network

    def __call__(self, ids: Tensor, positions: Tensor, state: RowState, last: Tensor) -> Tensor:
        """Logits after token `last` (rows,) of each row, (rows, vocabulary), for ids (rows, tokens)."""
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
    **_: Any,
) -> tuple[Tensor, None]:
    """What transformers calls: from query (rows, heads, tokens, width) to (rows, tokens, heads, width)."""
    state: RowState | None = getattr(_of_thread, "state", None)
    if state is None:
        raise RuntimeError(f"{ATTENTION_NAME} works inside ExchangedAttention only")
    scale = scaling if scaling is not None else 1 / math.sqrt(query.shape[-1])
    return attend(query, key, value, state, module.layer_idx, scale).transpose(1, 2), None  # type: ignore[arg-type]


AttentionInterface.register(ATTENTION_NAME, _attention)


def best_forward(network: Any) -> ExchangedAttention | None:
    """The forward pass of the network where, tried on a few tokens, it agrees with the network's own; else None."""
    if not can_exchange_attention(network):
        return None
    former = network.config.get_text_config()._attn_implementation, network.get_output_embeddings()
    forward = _agreeing(network)
    if forward is None:
        network.set_attn_implementation(former[0])
        network.set_output_embeddings(former[1])
    return forward


def _agreeing(network: Any) -> ExchangedAttention | None:
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
    except UNFIT:
        return None
    return forward if (logits - expected).std() < PROBE_TOLERANCE * expected.std() + 1e-4 else None
