"""Products over weights laid out once: projections of one input joined, bfloat16 in the order oneDNN wants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

PACKED_ROWS = 2048  # rows of input the packed layout is made for; others work too

Activation = Literal["none", "relu", "silu", "gelu", "gelu_new"]
ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "none": lambda hidden: hidden,
    "relu": nn.functional.relu,
    "silu": nn.functional.silu,
    "gelu": nn.functional.gelu,
    "gelu_new": lambda hidden: nn.functional.gelu(hidden, approximate="tanh"),
}
ONEDNN_ACTIVATIONS: dict[Activation, tuple[str, str]] = {
    "none": ("none", ""),
    "relu": ("relu", ""),
    "silu": ("swish", ""),
    "gelu": ("gelu", "none"),
    "gelu_new": ("gelu", "tanh"),
}  # names and gelu's form

Product: TypeAlias = Callable[[Tensor], Tensor]
ProductAndSum: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""From an input, and what is added to its product."""


def product(modules: Sequence[Any], activation: Activation = "none") -> Product:
    """One product with the weights of all modules, one below the other, and an activation of the result."""
    weight, bias = _joined(modules)
    if _packable(weight):
        return packed_product(modules, activation)
    activate = ACTIVATIONS[activation]
    return lambda hidden: activate(nn.functional.linear(hidden, weight, bias))


def product_and_sum(modules: Sequence[Any]) -> ProductAndSum:
    """The same, with something of the result's shape added to it."""
    weight, bias = _joined(modules)
    if _packable(weight):
        return packed_product_and_sum(modules)
    return lambda hidden, other: other + nn.functional.linear(hidden, weight, bias)


def packed_product(modules: Sequence[Any], activation: Activation = "none") -> Product:
    """`product` over bfloat16 weights in oneDNN's own layout, where `can_pack`."""
    weight, bias = _joined(modules, torch.bfloat16)
    layout, (name, form) = _layout(weight), ONEDNN_ACTIVATIONS[activation]
    return lambda hidden: torch.ops.mkldnn._linear_pointwise(hidden, layout, bias, name, [], form)


def packed_product_and_sum(modules: Sequence[Any]) -> ProductAndSum:
    """`product_and_sum` over bfloat16 weights in oneDNN's own layout."""
    weight, bias = _joined(modules, torch.bfloat16)
    layout = _layout(weight)
    return lambda hidden, other: torch.ops.mkldnn._linear_pointwise.binary(hidden, other, layout, bias, "add")


@cache
def can_pack() -> bool:
    """Whether this torch and processor have products over weights in oneDNN's layout."""
    small, row = nn.Linear(32, 32, dtype=torch.bfloat16), torch.zeros(1, 32, dtype=torch.bfloat16)
    try:
        packed_product([small], "gelu")(row)
        packed_product_and_sum([small])(row, row)
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
    return True


def _packable(weight: Tensor) -> bool:
    return weight.dtype == torch.bfloat16 and weight.device.type == "cpu" and can_pack()


def _layout(weight: Tensor) -> Any:  # noqa: ANN401 - a tensor that only oneDNN can read
    return torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), PACKED_ROWS)


def _joined(modules: Sequence[Any], dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor | None]:
    weights, biases = [module.weight.detach() for module in modules], [module.bias for module in modules]
    weight = torch.cat(weights) if len(weights) > 1 else weights[0]
    bias = None if biases[0] is None else torch.cat([part.detach() for part in biases])
    return (weight, bias) if dtype is None else (weight.to(dtype), None if bias is None else bias.to(dtype))
