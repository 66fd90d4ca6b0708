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


def train_t5_with_short_ways(network: nn.Module, dtype: torch.dtype) -> None:
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
    found: Tensor = _Norm.apply(hidden, weight, epsilon)  # type: ignore[no-untyped-call]
    return found


def _norm(module: Any, hidden: Tensor) -> Tensor:  # noqa: ANN401
    if hidden.dtype != torch.float32 or hidden.dim() != 3 or not torch.is_autocast_enabled("cpu"):
        found: Tensor = type(module).forward(module, hidden)
        return found
    return norm_in_bfloat16(hidden, module.weight, module.variance_epsilon)


def _biases(module: Any, *places: Any, **how: Any) -> Tensor:  # noqa: ANN401
    """Heads outermost in memory as well, once for all layers."""
    found: Tensor = type(module).compute_bias(module, *places, **how).contiguous()
    return found


def _feed_forward(module: Any, hidden: Tensor) -> Tensor:  # noqa: ANN401
    if not torch.is_autocast_enabled("cpu"):
        found: Tensor = type(module).forward(module, hidden)
        return found
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
        found = torch.empty_like(hidden, dtype=torch.bfloat16)
        inverse = hidden.new_empty(*hidden.shape[:2], 1)
        for text, own in enumerate(hidden):
            length = torch.linalg.vector_norm(own, dim=-1, keepdim=True)
            inverse[text] = length.square_().div_(width).add_(epsilon).rsqrt_()
            torch.mul(own * inverse[text], weight, out=found[text])
        ctx.save_for_backward(hidden, weight, inverse)
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:  # noqa: ANN401
        hidden, weight, inverse = ctx.saved_tensors
        width = hidden.shape[-1]
        result, of_weight = torch.empty_like(hidden), torch.zeros_like(weight)
        for text, (own, scale) in enumerate(zip(hidden, inverse, strict=True)):
            wanted = gradient[text].float()
            shares = wanted * own
            of_weight.addmv_(shares.T, scale[:, 0])
            of_length = (shares @ weight)[:, None] * scale.pow(3).div_(-width)
            torch.addcmul(wanted.mul_(weight).mul_(scale), own, of_length, out=result[text])
        return result, of_weight, None
