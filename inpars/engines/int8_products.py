"""Linear layers whose products torch computes in 8 bits, by oneDNN: inputs rounded row by row, weights to 7 bits.

A row of inputs has a scale of its own and whole numbers are summed exactly, so that a product does not depend on the
other rows. Weights keep to 7 bits because processors without VNNI add pairs of products in 16 bits, in which 255 x 2 x
64 just fits. Everything between the products stays in float32.
"""

from __future__ import annotations

import copy
from threading import local
from typing import Any

import torch
from torch import Tensor, nn

WEIGHT_LEVELS, INPUT_LEVELS, ZERO = 63, 127, 128
TINY = 1e-12  # rows of zeros have a scale too


class Int8Linear(nn.Module):
    """Stands for a linear layer, not differentiable."""

    def __init__(self, linear: nn.Linear) -> None:
        """Round and pack the weights. Raises AttributeError or RuntimeError if torch or the processor cannot."""
        super().__init__()
        self.weight = linear.weight  # whose number format T5 asks for
        weight = linear.weight.detach().float()
        self._scales = weight.abs().amax(1).clamp(min=TINY) / WEIGHT_LEVELS
        rounded = (weight / self._scales[:, None]).round().to(torch.int8)
        self._packed = torch.ops.onednn.qlinear_prepack(rounded, None)
        self._zeros = torch.zeros(len(weight), dtype=torch.int32)
        self._bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, inputs: Tensor) -> Tensor:
        """The product in float32, from inputs (..., width)."""
        rounded, scales = _rounded(inputs)
        product: Tensor = torch.ops.onednn.qlinear_pointwise(
            rounded, 1.0, ZERO, self._packed, self._scales, self._zeros, None,
            1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        product = product.view(*inputs.shape[:-1], -1).mul_(scales)
        return product if self._bias is None else product.add_(self._bias)


_last = local()


def _rounded(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Whole numbers (rows, width), and the scales of the inputs' rows, (..., 1).

    Projections of one input follow each other, so that this thread's last one is kept. A network that changes an input
    in place between two of them would not agree with torch's float32 and is not used.
    """
    if getattr(_last, "inputs", None) is not inputs:
        scales = inputs.abs().amax(-1, keepdim=True).float().clamp(min=TINY) / INPUT_LEVELS
        rounded = (inputs / scales).add_(ZERO + 0.5).to(torch.uint8).flatten(0, -2)
        _last.inputs, _last.rounded = inputs, (rounded, scales)
    result: tuple[Tensor, Tensor] = _last.rounded
    return result


def with_int8_products(network: Any) -> Any:
    """The same float32 network, its other weights shared, whose layers' products are in 8 bits; its head's are not.

    Raises one of `networks.UNFIT` where it has no such layers, or torch or processor cannot.
    """
    shared = {id(weight): weight for weight in (*network.parameters(), *network.buffers())}
    rounded = copy.deepcopy(network, shared)
    head = rounded.get_output_embeddings() if hasattr(rounded, "get_output_embeddings") else None
    layers = [
        (parent, name, layer)
        for parent in list(rounded.modules())
        for name, layer in parent.named_children()
        if type(layer) is nn.Linear and layer is not head
    ]
    if not layers or next(network.parameters()).dtype != torch.float32:
        raise ValueError("no linear layers in float32")
    for parent, name, layer in layers:
        setattr(parent, name, Int8Linear(layer))
    return rounded
