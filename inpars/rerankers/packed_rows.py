"""Rows of a document and its queries as one function of tensors: what torch runs, and what other engines convert.

The network is transformers' own; its attention is exchanged for one that lets every token see the shared prefix and
what `seen` says of its own row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock, local
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from inpars.models.networks import upcast_to_float32

ATTENTION_NAME = "inpars_packed_rows"

PrefixStates = Sequence[tuple[Tensor, Tensor]]
"""Keys and values of the prefix for each layer, (key heads, prefix tokens, width); none where there is no prefix."""


class PackedRows(nn.Module):
    """A causal network that reads packed rows, by several threads if need be.

    While it reads, the network's attention and head are exchanged; it is otherwise left as it is.
    """

    def __init__(self, network: Any) -> None:  # noqa: ANN401
        super().__init__()
        self._network, self._readers, self._lock = network, 0, Lock()

    def forward(
        self, ids: Tensor, positions: Tensor, mask: Tensor, predicting: Tensor, targets: Tensor, *prefix: Tensor
    ) -> Tensor:
        """Log-probabilities of the targets, (targets,), each predicted by the token before it.

        `ids` and `positions` are (rows, tokens); `mask` (rows, 1, tokens, prefix + tokens) is added to scores;
        `predicting` (2, targets) are rows and columns; `prefix` are keys and values of all layers in turn.
        """
        _read.prefix, _read.mask, _read.predicting = list(zip(prefix[::2], prefix[1::2], strict=True)), mask, predicting
        with self._exchanged():
            logits = upcast_to_float32(self._network(input_ids=ids, position_ids=positions, use_cache=False).logits[0])
        shifted = logits - logits.amax(1, keepdim=True)  # (targets, vocabulary)
        log_probs: Tensor = shifted.gather(1, targets[:, None])[:, 0] - shifted.exp().sum(1).log()
        return log_probs

    @contextmanager
    def _exchanged(self) -> Iterator[None]:
        """Attention and head are exchanged by the first reader, and put back by the last."""
        with self._lock:
            if not self._readers:
                config = self._network.config.get_text_config()
                self._former = config._attn_implementation, self._network.get_output_embeddings()
                self._network.set_attn_implementation(ATTENTION_NAME)
                self._network.set_output_embeddings(_HeadAtPlaces(self._former[1]))
            self._readers += 1
        try:
            yield
        finally:
            with self._lock:
                self._readers -= 1
                if not self._readers:
                    self._network.set_attn_implementation(self._former[0])
                    self._network.set_output_embeddings(self._former[1])


class _HeadAtPlaces(nn.Module):
    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self._head = head

    def forward(self, hidden: Tensor) -> Tensor:
        rows, columns = _read.predicting
        logits: Tensor = self._head(hidden[rows, columns])[None]
        return logits


def can_pack_rows(network: Any) -> bool:  # noqa: ANN401
    """Whether the network's attention can be exchanged and has no windows."""
    config = network.config.get_text_config()
    windows = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    return not windows and kinds == {"full_attention"} and bool(getattr(network, "_supports_attention_backend", False))


_read = local()  # what this thread reads; attention functions get no other word from their caller


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
    prefix: PrefixStates = _read.prefix
    rows, heads, tokens, width = query.shape
    kinds = key.shape[1]  # heads that have keys of their own; the others share them unexpanded
    if prefix:
        keys, values = prefix[module.layer_idx]  # type: ignore[call-overload]
        key = torch.cat([keys[None].expand(rows, -1, -1, -1), key], dim=2)
        value = torch.cat([values[None].expand(rows, -1, -1, -1), value], dim=2)
    group = heads // kinds
    grouped = query.reshape(rows, kinds, group * tokens, width)
    mask = _read.mask.to(query.dtype).repeat(1, 1, group, 1)
    scale = width**-0.5 if scaling is None else scaling
    output = nn.functional.scaled_dot_product_attention(grouped, key, value, attn_mask=mask, scale=scale)
    return output.reshape(rows, heads, tokens, -1).transpose(1, 2), None


AttentionInterface.register(ATTENTION_NAME, _attention)
