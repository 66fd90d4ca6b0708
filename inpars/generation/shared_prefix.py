"""Rows that share the beginning of their prompt: its keys and values are computed once and never copied.

The network is a transformers one with its attention exchanged: the shared prefix is attended to once for the whole
batch, the rows' own tokens lie in buffers that are allocated once, and grouped heads are not expanded.
`plain_rows.py` does the same work for networks whose attention cannot be exchanged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from inpars.networks import head_replaced

ATTENTION_NAME = "inpars_shared_prefix"
PREFILL_TOKENS = 4096  # padded prompt tokens read in one pass
PROBE_TOKENS = (12, 4)  # lengths of prefix and continuation in the check that the exchanged attention agrees
PROBE_TOLERANCE = 0.2  # of the logits' deviation; bfloat16 rounding stays far below, a wrong mask far above


class SharedPrefixRows:
    """A `Rows` over one network and one prefix."""

    def __init__(self, network: Any, prefix: Sequence[int], pad: int) -> None:  # noqa: ANN401
        """Exchange the network's attention and read the prefix, which may be empty."""
        network.set_attn_implementation(ATTENTION_NAME)
        self._network, self._pad = network, pad
        self._device = network.device
        self._state = _State([])
        self._prefix: list[tuple[Tensor, Tensor]] = []
        if prefix:
            with torch.inference_mode():
                self._state.allocate(1, len(prefix))
                self._read(torch.tensor([list(prefix)], device=self._device), torch.tensor([len(prefix)]), 0)
            self._prefix = [(keys[0], values[0]) for keys, values in self._state.buffers]

    def start(self, prompts: Sequence[Sequence[int]], room: int, prefix_tokens: int | None = None) -> Tensor:
        """Read what follows the prefix; of the prefix the first `prefix_tokens` are used, all by default."""
        used = self.prefix_tokens if prefix_tokens is None else prefix_tokens
        self._state = _State([(keys[:, :used], values[:, :used]) for keys, values in self._prefix])
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=self._device)
        width = int(lengths.max())
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
        """Read one token a row."""
        state = self._state
        with torch.inference_mode():
            logits = self._forward(tokens[:, None], state.next_positions()[:, None])[:, -1]
        state.advance()
        return logits

    def keep(self, rows: Tensor) -> None:
        """Drop the other rows' keys and values."""
        self._state.keep(rows)

    @property
    def prefix_tokens(self) -> int:
        """Tokens of the shared prefix."""
        return int(self._prefix[0][0].shape[1]) if self._prefix else 0

    def _read(self, ids: Tensor, lengths: Tensor, first: int) -> Tensor:
        """Logits after each prompt's last token, (rows, vocabulary)."""
        self._state.first = first
        positions = torch.arange(ids.shape[1], device=ids.device) + self._state.prefix_tokens
        rows = torch.arange(len(ids), device=ids.device)
        last = lengths.to(ids.device) - 1
        with head_replaced(self._network, lambda head, hidden: head(hidden[rows, last])[:, None]):
            return self._forward(ids, positions[None])[:, 0]

    def _forward(self, ids: Tensor, positions: Tensor) -> Tensor:
        global _ACTIVE  # noqa: PLW0603 - attention functions get no other word from their caller
        _ACTIVE = self._state
        try:
            logits: Tensor = self._network(
                input_ids=ids, position_ids=positions, past_key_values=self._state, use_cache=True
            ).logits
        finally:
            _ACTIVE = None
        return logits


class _State:
    """Keys and values of the rows, and where the next ones go; passed to the network as its cache."""

    def __init__(self, prefix: list[tuple[Tensor, Tensor]]) -> None:
        self.prefix = prefix  # for each layer keys and values, (key heads, prefix tokens, head width)
        self.buffers: list[tuple[Tensor, Tensor]] = []  # for each layer, (rows, key heads, tokens, head width)
        self.first = 0  # the row that the part being read begins at
        self._shape = (0, 0)
        self._positions: Tensor | None = None  # where each row's next token goes; None while prompts are read
        self._row_numbers = self._hidden = torch.empty(0)

    @property
    def prefix_tokens(self) -> int:
        return self.prefix[0][0].shape[1] if self.prefix else 0

    @property
    def stepping(self) -> bool:
        return self._positions is not None

    def allocate(self, rows: int, tokens: int) -> None:
        self._shape = (rows, tokens)

    def begin_steps(self, lengths: Tensor) -> None:
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
        tokens = int(self._required_positions()[rows].max()) + 1
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
        return 0

    def hidden(self) -> Tensor:
        """Which of the rows' own tokens do not exist yet, (rows, 1, 1, tokens)."""
        return self._hidden

    def _hide(self) -> None:
        positions = self._required_positions()
        columns = torch.arange(int(positions.max()) + 1, device=positions.device)
        self._hidden = (columns[None] > positions[:, None])[:, None, None]

    def _required_positions(self) -> Tensor:
        if self._positions is None:
            raise RuntimeError("a step before the prompts were read")
        return self._positions


_ACTIVE: _State | None = None


def _with_room(cache: Tensor, tokens: int) -> Tensor:
    """The same with free places behind, along the third dimension."""
    return nn.functional.pad(cache, (0, 0, 0, tokens))


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **_: Any,  # noqa: ANN401
) -> tuple[Tensor, None]:
    """Attention to the shared prefix and to the rows' own tokens, from query (rows, heads, tokens, width)."""
    if _ACTIVE is None:
        raise RuntimeError(f"{ATTENTION_NAME} works inside SharedPrefixRows only")
    scale = scaling if scaling is not None else 1 / math.sqrt(query.shape[-1])
    prefix = _ACTIVE.prefix[module.layer_idx] if _ACTIVE.prefix else None  # type: ignore[index]
    if _ACTIVE.stepping:
        found = _attend_one(query, key, value, prefix, _ACTIVE.hidden(), scale)
    else:
        found = _attend_prompts(query, key, value, prefix, scale)
    return found.transpose(1, 2), None


def _attend_one(
    query: Tensor, key: Tensor, value: Tensor, prefix: tuple[Tensor, Tensor] | None, hidden: Tensor, scale: float
) -> Tensor:
    """One new token a row: scores of prefix and own tokens side by side under one softmax."""
    rows, heads, _, width = query.shape
    kinds = key.shape[1]  # heads that have keys of their own
    group = heads // kinds
    grouped = query.reshape(rows, kinds, group, width) * scale
    own = torch.matmul(grouped, key.transpose(2, 3)).float().masked_fill_(hidden, -torch.inf)
    if prefix is None:
        return torch.matmul(own.softmax(-1).to(value.dtype), value).view(rows, heads, 1, -1)
    keys, values = prefix  # (kinds, prefix tokens, width)
    stacked = grouped.transpose(0, 1).reshape(kinds, rows * group, width)
    shared = torch.matmul(stacked, keys.transpose(1, 2)).view(kinds, rows, group, -1).transpose(0, 1).float()
    weights = torch.cat([shared, own], dim=-1).softmax(-1).to(value.dtype)
    tokens = keys.shape[1]
    to_prefix = weights[..., :tokens].transpose(0, 1).reshape(kinds, rows * group, tokens)
    of_prefix = torch.matmul(to_prefix, values).view(kinds, rows, group, -1).transpose(0, 1)
    return (of_prefix + torch.matmul(weights[..., tokens:], value)).reshape(rows, heads, 1, -1)


def _attend_prompts(
    query: Tensor, key: Tensor, value: Tensor, prefix: tuple[Tensor, Tensor] | None, scale: float
) -> Tensor:
    """Whole prompts: causal among themselves, everything of the prefix visible."""
    rows, heads, tokens, width = query.shape
    kinds = key.shape[1]
    grouped = query.reshape(rows, kinds, heads // kinds * tokens, width)  # heads of one kind share its keys unexpanded
    if prefix is not None and query.dtype != torch.float32 and query.device.type == "cpu":
        found = _attend_in_parts(grouped * scale, key, value, prefix, tokens)
        return found.reshape(rows, heads, tokens, -1)
    seen = torch.ones(tokens, tokens, dtype=torch.bool, device=query.device).tril()
    if prefix is not None:
        keys, values = prefix
        key = torch.cat([keys.expand(rows, -1, -1, -1), key], dim=2)
        value = torch.cat([values.expand(rows, -1, -1, -1), value], dim=2)
        seen = torch.cat([seen.new_ones(tokens, keys.shape[1]), seen], dim=1)
    found = nn.functional.scaled_dot_product_attention(
        grouped, key, value, attn_mask=seen.repeat(heads // kinds, 1), scale=scale
    )
    return found.reshape(rows, heads, tokens, -1)


def _attend_in_parts(query: Tensor, key: Tensor, value: Tensor, prefix: tuple[Tensor, Tensor], tokens: int) -> Tensor:
    """Attention to the prefix and to the own tokens apart, joined by their log-sum-exps; query is scaled.

    Half the time of the fused function on a processor, where bfloat16's softmax is quick and expanded keys are not.
    """
    rows, kinds, lines, width = query.shape
    keys, values = prefix
    stacked = query.transpose(0, 1).reshape(kinds, rows * lines, width)
    to_prefix, prefix_sum = _softmax(torch.matmul(stacked, keys.transpose(1, 2)))
    of_prefix = torch.matmul(to_prefix, values).view(kinds, rows, lines, -1).transpose(0, 1)
    later = torch.full((tokens, tokens), -torch.inf, dtype=query.dtype, device=query.device).triu(1)
    own = torch.matmul(query, key.transpose(2, 3)).add_(later.repeat(lines // tokens, 1))
    to_own, own_sum = _softmax(own)
    share = torch.sigmoid(prefix_sum.view(kinds, rows, lines).transpose(0, 1) - own_sum)
    return torch.lerp(torch.matmul(to_own, value), of_prefix, share[..., None].to(query.dtype))


def _softmax(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (..., keys) and the float32 log-sum-exp (...), which is the first key's score less its log-weight."""
    weights = scores.softmax(dim=-1)
    first = weights[..., 0].float().clamp(min=torch.finfo(torch.float32).tiny)
    return weights, scores[..., 0].float() - first.log()


AttentionInterface.register(ATTENTION_NAME, _attention)


def can_share(network: Any) -> bool:  # noqa: ANN401
    """Whether the network's attention can be exchanged: tried out on a few tokens against its own attention."""
    config = network.config.get_text_config()
    windows = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if windows or kinds != {"full_attention"} or not getattr(network, "_supports_attention_backend", False):
        return False
    former = config._attn_implementation
    whole = [config.vocab_size * (number + 1) // (sum(PROBE_TOKENS) + 2) for number in range(sum(PROBE_TOKENS))]
    prefix, continuation = whole[: PROBE_TOKENS[0]], whole[PROBE_TOKENS[0] :]
    try:
        with torch.inference_mode():
            expected = network(input_ids=torch.tensor([whole], device=network.device)).logits[0, -1].float()
            rows = SharedPrefixRows(network, prefix, pad=0)
            rows.start([continuation[:-1]] * 2, room=1)
            found = rows.step(torch.tensor(continuation[-1:] * 2, device=network.device))[1].float()
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError):
        return False
    finally:
        network.set_attn_implementation(former)
    return bool((found - expected).std() < PROBE_TOLERANCE * expected.std() + 1e-4)
