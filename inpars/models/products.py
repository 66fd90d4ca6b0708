"""Products over weights laid out once: projections of one input joined, bfloat16 in the order oneDNN wants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

PACKED_ROWS = 2048  # rows of input the packed layout is made for; others work too

Product: TypeAlias = Callable[[Tensor], Tensor]


def product(modules: Sequence[Any]) -> Product:
    """One product with the weights of all modules, one below the other."""
    weight = (
        torch.cat([module.weight.detach() for module in modules]) if len(modules) > 1 else modules[0].weight.detach()
    )
    biases = [module.bias for module in modules]
    bias = None if biases[0] is None else torch.cat([part.detach() for part in biases])
    return _packed(weight, bias) or (lambda hidden: nn.functional.linear(hidden, weight, bias))


def _packed(weight: Tensor, bias: Tensor | None) -> Product | None:
    """The product over weights in oneDNN's own layout; None where this torch or processor has none."""
    if weight.dtype != torch.bfloat16 or weight.device.type != "cpu":
        return None
    try:
        layout = torch.ops.mkldnn._reorder_linear_weight(weight, PACKED_ROWS)
        multiply = torch.ops.mkldnn._linear_pointwise
        multiply(weight.new_zeros(1, weight.shape[1]), layout, bias, "none", [], "")
    except (RuntimeError, AttributeError, NotImplementedError):
        return None
    return lambda hidden: multiply(hidden, layout, bias, "none", [], "")
