"""Linear layers with 8-bit products in oneDNN: inputs are quantized per row, weights to 7 bits.

Each input row has its own scale and integers are summed exactly, so a result does not depend on other rows. Weights use
7 bits because CPUs without VNNI add pairs of products in 16 bits, which just holds 255 x 2 x 64. Everything between the
products stays in float32.
"""

from __future__ import annotations

import copy
from threading import local
from typing import Any

import torch
from torch import Tensor, nn

WEIGHT_LEVELS, INPUT_LEVELS, ZERO = 63, 127, 128
TINY = 1e-12  # smallest scale, for rows of zeros


class Int8Linear(nn.Module):
    """Replaces a linear layer; not differentiable."""

    def __init__(self, linear: nn.Linear) -> None:
        """Quantize and pack the weights. Raises AttributeError or RuntimeError without support in torch or the CPU."""
        super().__init__()
        self.weight = linear.weight  # T5 reads its dtype
        weight = linear.weight.detach().float()
        self._scales = weight.abs().amax(1).clamp(min=TINY) / WEIGHT_LEVELS
        rounded = (weight / self._scales[:, None]).round().to(torch.int8)
        self._packed = torch.ops.onednn.qlinear_prepack(rounded, None)
        self._zeros = torch.zeros(len(weight), dtype=torch.int32)
        self._bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, inputs: Tensor) -> Tensor:
        """The product in float32, for inputs (..., width)."""
        rounded, scales = _quantized(inputs)
        product: Tensor = torch.ops.onednn.qlinear_pointwise(
            rounded, 1.0, ZERO, self._packed, self._scales, self._zeros, None,
            1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        product = product.view(*inputs.shape[:-1], -1).mul_(scales)
        return product if self._bias is None else product.add_(self._bias)


_last = local()


def _quantized(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Integers (rows, width) and the scale of each input row, (..., 1).

    Consecutive layers often share an input (query, key, value), so each thread keeps its last one. A network that
    modifies an input in place between two layers would not agree with torch's float32 and is rejected.
    """
    if getattr(_last, "inputs", None) is not inputs:
        scales = inputs.abs().amax(-1, keepdim=True).float().clamp(min=TINY) / INPUT_LEVELS
        rounded = (inputs / scales).add_(ZERO + 0.5).to(torch.uint8).flatten(0, -2)
        _last.inputs, _last.rounded = inputs, (rounded, scales)
    result: tuple[Tensor, Tensor] = _last.rounded
    return result


def with_int8_products(network: Any) -> Any:
    """A copy of a float32 network with 8-bit linear layers, except for its head; other weights are shared.

    Raises one of `networks.UNFIT` if there are no such layers, or if torch or the CPU does not support it.
    """
    shared = {id(weight): weight for weight in (*network.parameters(), *network.buffers())}
    quantized = copy.deepcopy(network, shared)
    head = quantized.get_output_embeddings() if hasattr(quantized, "get_output_embeddings") else None
    layers = [
        (parent, name, layer)
        for parent in list(quantized.modules())
        for name, layer in parent.named_children()
        if type(layer) is nn.Linear and layer is not head
    ]
    if not layers or next(network.parameters()).dtype != torch.float32:
        raise ValueError("no linear layers in float32")
    for parent, name, layer in layers:
        setattr(parent, name, Int8Linear(layer))
    return quantized
