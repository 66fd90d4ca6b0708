"""Attention and T5 layers with fast gradients on a CPU; the attention needs a matrix unit (AMX).

With bfloat16 on AMX, torch's fused attention takes three times as long for its gradients as for its output. Here they
are plain matrix products, text by text, so that one text's attention weights stay in the CPU cache. Terms subtracted
from every score (its row's log-sum-exp) or from every gradient, and the padding mask, are extra columns of the
products: they are summed in float32 without another pass over all scores.

transformers' T5 norms and feed-forward layers return float32 if the weights are float32, so every product rounds its
input again. On a CPU these passes cost half as much as the products.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from inpars.models.processor import has_matrix_unit

ATTENTION_NAME = "inpars_training"
FEW_QUERIES = 4  # up to this many query tokens (an answer), plain products are used
HIDDEN = -30000.0  # added to scores of padding, so that their exponential is 0


def train_with_fast_attention(network: Any, dtype: torch.dtype) -> bool:
    """Replace torch's fused attention if this one is faster; returns whether it did."""
    if not isinstance(network, PreTrainedModel):
        return False
    weight = next(network.parameters())
    suits = dtype == torch.bfloat16 and weight.device.type == "cpu" and has_matrix_unit()
    suits = suits and network.config._attn_implementation == "sdpa"
    if suits:
        network.set_attn_implementation(ATTENTION_NAME)
    return suits


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    position_bias: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """The attention interface of transformers: query (texts, heads, tokens, width) to (texts, tokens, heads, width)."""
    suits = dropout == 0 and _suits(module, query) and query.shape[1] == key.shape[1] and key.shape == value.shape
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if suits and query.shape[2] <= FEW_QUERIES < key.shape[2]:
        output = attend_from_few(query, key, value, attention_mask, position_bias, scale)
        return output.transpose(1, 2).contiguous(), None
    if not (suits and 1 < query.shape[2] == key.shape[2] and _hides_keys_alone(attention_mask)):
        others |= {} if position_bias is None else {"position_bias": position_bias}
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
        )
    visible = None if attention_mask is None else attention_mask[:, 0, 0]  # (texts, tokens)
    if position_bias is None:
        output = attend_with_gradients(query, key, value, visible, scale)
    else:
        output = attend_with_biases(query, key, value, position_bias, visible, scale)
    return output.transpose(1, 2).contiguous(), None


def attend_with_gradients(query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None, scale: float) -> Tensor:
    """Attention in bfloat16, (texts, heads, tokens, width); `visible` (texts, tokens) masks the keys."""
    output: Tensor = _Attention.apply(query, key, value, visible, scale)  # type: ignore[no-untyped-call]
    return output


def attend_with_biases(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor, visible: Tensor | None, scale: float
) -> Tensor:
    """As `attend_with_gradients` with T5's trainable position bias, (1, heads, tokens, tokens)."""
    texts, _, tokens, _ = query.shape
    positions = torch.arange(1, tokens + 1)
    ends = [tokens] * texts if visible is None else (visible * positions).amax(1).clamp(min=1).tolist()
    output: Tensor = _BiasedAttention.apply(query, key, value, bias, visible, ends, scale)  # type: ignore[no-untyped-call]
    return output


def attend_from_few(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, bias: Tensor | None, scale: float
) -> Tensor:
    """Attention of a few query tokens to many keys, by plain products; `mask` is boolean or additive."""
    scores = (key @ query.transpose(2, 3)).transpose(2, 3).float() * scale
    scores = scores if bias is None else scores + bias
    if mask is not None:
        scores = scores.masked_fill(~mask, HIDDEN) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(-1).to(value.dtype) @ value


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None, scale: float) -> Tensor:
        mask = None if visible is None else _bias(visible)[:, None, None].expand(-1, 1, query.shape[2], -1)
        output, log_sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, attn_mask=mask, scale=scale
        )
        ctx.save_for_backward(query, key, value, output, log_sums, visible)
        ctx.scale = scale
        return output  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, output, log_sums, visible = ctx.saved_tensors
        texts, heads, tokens, _ = query.shape
        results = _empty(query, 3)
        ones = query.new_ones(heads, tokens, 1)
        zeros = torch.zeros_like(ones)
        hidden = None if visible is None else _bias(visible)[:, None, :, None].expand(-1, heads, -1, -1)
        for text in range(texts):
            tensors = query[text].contiguous(), key[text].contiguous(), value[text], gradient[text].contiguous()
            mask = zeros if hidden is None else hidden[text]
            part = _gradients(*tensors, output[text], log_sums[text].view(heads, tokens, 1), ctx.scale, ones, mask)
            torch.stack(part[:3], out=results[:, text])
        results[:2].mul_(ctx.scale)
        return results[0], results[1], results[2], None, None


class _BiasedAttention(torch.autograd.Function):
    """Text by text, without the padding after the last token."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor,
        visible: Tensor | None,
        ends: Sequence[int],
        scale: float,
    ) -> Tensor:
        output, log_sums = _empty(query, 1)[0], query.new_zeros(query.shape[:3], dtype=torch.float32)
        for text, end in enumerate(ends):
            tensors = (part[text : text + 1, :, :end] for part in (query, key, value))
            mask = bias[:, :, :end, :end]
            if visible is not None and not visible[text, :end].all():
                mask = mask + _bias(visible[text, :end])
            result, sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                *tensors, attn_mask=mask.float(), scale=scale
            )
            output[text, :, end:] = 0
            output[text, :, :end], log_sums[text, :, :end] = result[0], sums.view(-1, end)
        ctx.save_for_backward(query, key, value, bias, visible, output, log_sums)
        ctx.ends, ctx.scale = ends, scale
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, bias, visible, output, log_sums = ctx.saved_tensors
        results = _empty(query, 3)
        of_bias, rounded = torch.zeros_like(bias, dtype=torch.float32), bias[0].bfloat16()
        for text, end in enumerate(ctx.ends):
            queries, keys, values, gradients, outputs = (
                part[text, :, :end].contiguous() for part in (query, key, value, gradient, output)
            )
            ones = query.new_ones(query.shape[1], end, 1)
            mask = (
                torch.zeros_like(ones) if visible is None else _bias(visible[text, :end])[None, :, None].expand_as(ones)
            )
            sums, biases = log_sums[text, :, :end, None], rounded[:, :end, :end]
            *parts, of_scores = _gradients(
                queries, keys, values, gradients, outputs, sums, ctx.scale, ones, mask, biases
            )
            results[:, text, :, end:] = 0
            for result, part in zip(results, parts, strict=True):
                result[text, :, :end] = part
            for head, of_head in zip(of_bias[0], of_scores, strict=True):
                head[:end, :end] += of_head
        if ctx.scale != 1:
            results[:2].mul_(ctx.scale)
        return *results, of_bias.to(bias.dtype), None, None, None


def _gradients(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    gradient: Tensor,
    output: Tensor,
    log_sums: Tensor,
    scale: float,
    ones: Tensor,
    mask: Tensor,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of one text's queries and keys (not yet scaled), values, (heads, tokens, width), and scores."""
    extended_queries = torch.cat([query, *_in_two(-log_sums / scale), ones], dim=-1)
    extended_keys = torch.cat([key, ones, ones, mask], dim=-1)
    # scaled within the product: rounding the scaled queries would change large scores
    start, share = (ones, 0) if bias is None else (bias, 1)
    weights = torch.baddbmm(start, extended_queries, extended_keys.transpose(1, 2), beta=share, alpha=scale).exp_()
    of_values = weights.transpose(1, 2) @ gradient
    means = (gradient.float() * output.float()).sum(-1, keepdim=True)
    changes = torch.cat([gradient, *_in_two(-means)], dim=-1)
    weights.mul_(changes @ torch.cat([value, ones, ones], dim=-1).transpose(1, 2))
    return weights @ key, weights.transpose(1, 2) @ query, of_values, weights


def _empty(tensor: Tensor, count: int) -> Tensor:
    """`count` tensors of (texts, heads, tokens, width), stored in the network's order (texts, tokens, heads, width)."""
    texts, heads, tokens, width = tensor.shape
    return tensor.new_empty(count, texts, tokens, heads, width).transpose(2, 3)


def _in_two(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Split float32 numbers into the sum of two bfloat16 numbers."""
    large = numbers.bfloat16()
    return large, (numbers - large.float()).bfloat16()


def _bias(visible: Tensor) -> Tensor:
    return torch.zeros(visible.shape, dtype=torch.bfloat16, device=visible.device).masked_fill_(~visible, HIDDEN)


def _suits(module: nn.Module, query: Tensor) -> bool:
    return (
        torch.is_grad_enabled()
        and query.requires_grad
        and query.dtype == torch.bfloat16
        and not getattr(module, "is_causal", True)
    )


def _hides_keys_alone(mask: Tensor | None) -> bool:
    """Whether the mask is the same for all query tokens of a text."""
    return mask is None or (mask.dtype == torch.bool and mask.shape[1] == 1 and bool((mask[:, :, :1] == mask).all()))


AttentionInterface.register(ATTENTION_NAME, _attention)
AttentionMaskInterface.register(ATTENTION_NAME, sdpa_mask)


NORM, ATTENTION = "T5LayerNorm", "T5Attention"  # also the endings of MT5's and UMT5's classes
FEED_FORWARD = ("T5DenseActDense", "T5DenseGatedActDense")


def patch_t5_for_bfloat16_training(network: nn.Module, dtype: torch.dtype) -> None:
    """Replace the norms and feed-forward layers of a T5 trained in bfloat16 on a CPU."""
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
    """RMS norm of float32 (texts, tokens, width), computed in float32 and rounded once."""
    normed: Tensor = _Norm.apply(hidden, weight, epsilon)  # type: ignore[no-untyped-call]
    return normed


def _norm(module: Any, hidden: Tensor) -> Tensor:
    if hidden.dtype != torch.float32 or hidden.dim() != 3 or not torch.is_autocast_enabled("cpu"):
        normed: Tensor = type(module).forward(module, hidden)
        return normed
    return norm_in_bfloat16(hidden, module.weight, module.variance_epsilon)


def _biases(module: Any, *lengths: Any, **options: Any) -> Tensor:
    """Position biases, contiguous with heads outermost; computed once for all layers."""
    biases: Tensor = type(module).compute_bias(module, *lengths, **options).contiguous()
    return biases


def _feed_forward(module: Any, hidden: Tensor) -> Tensor:
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
    """Text by text, so that intermediate results stay in the CPU cache."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
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
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
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
