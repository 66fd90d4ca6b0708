"""What a T5 computes between its products, without float32's way there and back while it trains in bfloat16.

transformers' T5 norms return float32 where the weights are float32, and its feed-forward layers give their widest
tensor that format too; every product then rounds its input again. On a processor those passes cost half as much as the
products.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

NORM, ATTENTION = "T5LayerNorm", "T5Attention"  # MT5's and UMT5's end so too
FEED_FORWARD = ("T5DenseActDense", "T5DenseGatedActDense")


def patch_t5_for_bfloat16_training(network: nn.Module, dtype: torch.dtype) -> None:
    """Exchange the norms and feed-forward layers of a T5 that computes in bfloat16 on a processor."""
    weight = next(network.parameters())
    if dtype != torch.bfloat16 or weight.device.type != "cpu":
        return
    modules: Iterable[Any] = network.modules()
    for module in modules:
        name = type(module).__name__
        if name.endswith(NORM):
            module.forward = partial(_norm, module)
        elif name.endswith(FEED_FORWARD):
            module.forward = partial(_feed_forward, module)
        elif name.endswith(ATTENTION):
            module.compute_bias = partial(_biases, module)


def norm_in_bfloat16(hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Root mean square norm of float32 (texts, tokens, width), computed in float32 and rounded once."""
    normed: Tensor = _Norm.apply(hidden, weight, epsilon)  # type: ignore[no-untyped-call]
    return normed


def _norm(module: Any, hidden: Tensor) -> Tensor:  # noqa: ANN401
    if hidden.dtype != torch.float32 or hidden.dim() != 3 or not torch.is_autocast_enabled("cpu"):
        normed: Tensor = type(module).forward(module, hidden)
        return normed
    return norm_in_bfloat16(hidden, module.weight, module.variance_epsilon)


def _biases(module: Any, *lengths: Any, **how: Any) -> Tensor:  # noqa: ANN401
    """Heads outermost in memory as well, once for all layers."""
    biases: Tensor = type(module).compute_bias(module, *lengths, **how).contiguous()
    return biases


def _feed_forward(module: Any, hidden: Tensor) -> Tensor:  # noqa: ANN401
    if not torch.is_autocast_enabled("cpu"):
        output: Tensor = type(module).forward(module, hidden)
        return output
    if hasattr(module, "wi"):
        inner = module.wi(hidden)
        inner = inner.relu_() if isinstance(module.act, nn.ReLU) else module.act(inner)
    else:
        inner = module.act(module.wi_0(hidden)) * module.wi_1(hidden)
    result: Tensor = module.wo(module.dropout(inner))
    return result


class _Norm(torch.autograd.Function):
    """Text by text, so that what is taken from a text is still in the cache."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:  # noqa: ANN401
        width = hidden.shape[-1]
        normed = torch.empty_like(hidden, dtype=torch.bfloat16)
        inverse = hidden.new_empty(*hidden.shape[:2], 1)
        for text, row in enumerate(hidden):
            length = torch.linalg.vector_norm(row, dim=-1, keepdim=True)
            inverse[text] = length.square_().div_(width).add_(epsilon).rsqrt_()
            torch.mul(row * inverse[text], weight, out=normed[text])
        ctx.save_for_backward(hidden, weight, inverse)
        return normed

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:  # noqa: ANN401
        hidden, weight, inverse = ctx.saved_tensors
        width = hidden.shape[-1]
        result, of_weight = torch.empty_like(hidden), torch.zeros_like(weight)
        for text, (row, scale) in enumerate(zip(hidden, inverse, strict=True)):
            row_gradient = gradient[text].float()
            shares = row_gradient * row
            of_weight.addmv_(shares.T, scale[:, 0])
            of_length = (shares @ weight)[:, None] * scale.pow(3).div_(-width)
            torch.addcmul(row_gradient.mul_(weight).mul_(scale), row, of_length, out=result[text])
        return result, of_weight, None
