"""Attention whose gradients are fast on a processor with a matrix unit (AMX).

torch's joined attention computes bfloat16's gradients there three times as slowly as its result. Here they are plain
products, text by text, so that one text's weights stay in the cache. What is taken from every score (its row's
log-sum-exp) or from every gradient, and what hides padding, are further columns of the products: they are summed in
float32 with the rest, and no pass over all scores is needed for them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from inpars.models.processor import has_matrix_unit

ATTENTION_NAME = "inpars_training"
HIDDEN = -30000.0  # added to the scores of padding; its exponential is 0


def train_with_fast_attention(network: Any, dtype: torch.dtype) -> None:  # noqa: ANN401
    """Exchange torch's joined attention where this one is faster; networks with another one stay as they are."""
    if not isinstance(network, PreTrainedModel):
        return
    weight = next(network.parameters())
    suits = dtype == torch.bfloat16 and weight.device.type == "cpu" and has_matrix_unit()
    if suits and network.config._attn_implementation == "sdpa":
        network.set_attn_implementation(ATTENTION_NAME)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: Any,  # noqa: ANN401
) -> tuple[Tensor, None]:
    """What transformers calls: from query (texts, heads, tokens, width) to (texts, tokens, heads, width)."""
    if not (dropout == 0 and _suits(module, query, key, value) and _hides_keys_alone(attention_mask)):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    shown = None if attention_mask is None else attention_mask[:, 0, 0]  # (texts, tokens)
    return attend_with_gradients(query, key, value, shown, scale).transpose(1, 2).contiguous(), None


def attend_with_gradients(query: Tensor, key: Tensor, value: Tensor, shown: Tensor | None, scale: float) -> Tensor:
    """Attention of bfloat16 (texts, heads, tokens, width) to the keys of the tokens shown, (texts, tokens)."""
    found: Tensor = _Attention.apply(query, key, value, shown, scale)  # type: ignore[no-untyped-call]
    return found


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, shown: Tensor | None, scale: float) -> Tensor:  # noqa: ANN401
        mask = None if shown is None else _bias(shown)[:, None, None].expand(-1, 1, query.shape[2], -1)
        found, log_sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, attn_mask=mask, scale=scale
        )
        ctx.save_for_backward(query, key, value, found, log_sums, shown)
        ctx.scale = scale
        return found  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        query, key, value, found, log_sums, shown = ctx.saved_tensors
        texts, heads, tokens, width = query.shape
        # one block a text: three parts of (heads, tokens, width); `transpose` gives them the network's own layout
        results = query.new_empty(3, texts, tokens, heads, width).transpose(2, 3)
        ones = query.new_ones(heads, tokens, 1)
        zeros = torch.zeros_like(ones)
        hidden = None if shown is None else _bias(shown)[:, None, :, None].expand(-1, heads, -1, -1)
        for text in range(texts):
            own = query[text].contiguous(), key[text].contiguous(), value[text], gradient[text].contiguous()
            mask = zeros if hidden is None else hidden[text]
            part = _gradients(*own, found[text], log_sums[text].view(heads, tokens, 1), ctx.scale, ones, mask)
            torch.stack(part, out=results[:, text])
        results[:2].mul_(ctx.scale)
        return results[0], results[1], results[2], None, None


def _gradients(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    gradient: Tensor,
    found: Tensor,
    log_sums: Tensor,
    scale: float,
    ones: Tensor,
    mask: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of one text's queries, keys and values, each (heads, tokens, width)."""
    asking = torch.cat([query, *_in_two(-log_sums / scale), ones], dim=-1)
    asked = torch.cat([key, ones, ones, mask], dim=-1)
    # scaled within the product: a query times the scale, rounded, would change the larger scores
    weights = torch.baddbmm(ones, asking, asked.transpose(1, 2), beta=0, alpha=scale).exp_()  # (heads, tokens, tokens)
    of_values = weights.transpose(1, 2) @ gradient
    means = (gradient.float() * found.float()).sum(-1, keepdim=True)
    changes = torch.cat([gradient, *_in_two(-means)], dim=-1)
    weights.mul_(changes @ torch.cat([value, ones, ones], dim=-1).transpose(1, 2))
    return weights @ key, weights.transpose(1, 2) @ query, of_values


def _in_two(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Float32 numbers as the sum of two in bfloat16."""
    large = numbers.bfloat16()
    return large, (numbers - large.float()).bfloat16()


def _bias(shown: Tensor) -> Tensor:
    return torch.zeros(shown.shape, dtype=torch.bfloat16, device=shown.device).masked_fill_(~shown, HIDDEN)


def _suits(module: nn.Module, query: Tensor, key: Tensor, value: Tensor) -> bool:
    return (
        torch.is_grad_enabled()
        and query.requires_grad
        and query.dtype == torch.bfloat16
        and query.shape == key.shape == value.shape
        and not getattr(module, "is_causal", True)
    )


def _hides_keys_alone(mask: Tensor | None) -> bool:
    """Whether all tokens of a text see the same ones of it."""
    return mask is None or (mask.dtype == torch.bool and mask.shape[1] == 1 and bool((mask[:, :, :1] == mask).all()))


AttentionInterface.register(ATTENTION_NAME, _attention)
AttentionMaskInterface.register(ATTENTION_NAME, sdpa_mask)
