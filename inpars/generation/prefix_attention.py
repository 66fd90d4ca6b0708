"""Attention of many rows to one shared prefix and to their own tokens, and where those tokens' keys and values lie.

The prefix is attended to once for the whole batch, the rows' own tokens lie in buffers that are allocated once, and
grouped heads are not expanded.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from inpars.generation.batch_invariance import rounded_up
from inpars.models.networks import upcast_to_float32


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
        """Tokens of the shared prefix."""
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
        """Every row has got its token."""
        self._positions = self._required_positions() + 1
        self._hide()

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows."""
        tokens = min(rounded_up(int(self._required_positions()[rows].max()) + 1, self._multiple), self._shape[1])
        spare = self._shape[1] - tokens
        self.buffers = [
            (_with_room(keys[rows, :, :tokens], spare), _with_room(values[rows, :, :tokens], spare))
            for keys, values in self.buffers
        ]
        self.begin_steps(self._required_positions()[rows])

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401
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
