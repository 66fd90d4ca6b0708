"""The layers of BERT-like encoders in few, large matrix products, for reading only.

On a processor in bfloat16: projections of one input are joined, weights are laid out once for the matrix unit, and
activations and residuals are computed while a product's result is still at hand. Embeddings, pooling and heads stay
the network's own. BERT: Devlin et al. (arXiv 1810.04805).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions as States

from inpars.models.networks import evaluating
from inpars.models.processor import has_matrix_unit
from inpars.models.products import Product, ProductAndSum, can_pack, packed_product, packed_product_and_sum

JOINED_MULTIPLE = 32  # of tokens, at which torch's joined attention is at its best
SUM_COLUMNS = 16  # one would do; the matrix unit computes so many anyway
PROBE_TOKENS = 12
PROBE_TOLERANCE = 0.1  # of the states' deviation; bfloat16 rounding stays far below, another architecture far above
HIDDEN = -1e4  # added to the scores of what is masked; exact in bfloat16


@dataclass(frozen=True, slots=True)
class _Norm:
    weight: Tensor
    bias: Tensor
    epsilon: float

    def __call__(self, hidden: Tensor) -> Tensor:
        return nn.functional.layer_norm(hidden, self.weight.shape, self.weight, self.bias, self.epsilon)


@dataclass(frozen=True, slots=True)
class _Layer:
    query_key_value: Product
    output: ProductAndSum
    after_attention: _Norm
    into: Product
    out: ProductAndSum
    after_network: _Norm


class FusedEncoder(nn.Module):
    """Stands where a BERT-like model has its `encoder`; not differentiable, later training does not reach it."""

    def __init__(self, encoder: Any, config: Any) -> None:  # noqa: ANN401
        """Lay the weights out. Raises AttributeError where the layers are not built as expected."""
        super().__init__()
        self._heads = config.num_attention_heads
        self._joined = has_matrix_unit()  # torch's joined attention is the faster one there, and there alone
        self._layers = [_layer(layer) for layer in encoder.layer]

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, **_: Any) -> States:  # noqa: ANN401
        """States (texts, tokens, width) from embeddings; the mask (texts, 1, 1 or tokens, tokens) hides or is added."""
        hidden, mask = hidden_states.to(torch.bfloat16), _added(attention_mask)
        shown = _shown(hidden, mask) if self._joined and hidden.shape[1] % JOINED_MULTIPLE else None
        found = self._through(hidden, mask, shown)
        if shown is not None and not found.isfinite().all():
            found = self._through(hidden, mask, None)  # a score had no exponential
        return States(last_hidden_state=found.to(hidden_states.dtype))

    def _through(self, hidden: Tensor, mask: Tensor | None, shown: Tensor | None) -> Tensor:
        for layer in self._layers:
            hidden = layer.after_attention(layer.output(self._attend(layer, hidden, mask, shown), hidden))
            hidden = layer.after_network(layer.out(layer.into(hidden), hidden))
        return hidden

    def _attend(self, layer: _Layer, hidden: Tensor, mask: Tensor | None, shown: Tensor | None) -> Tensor:
        texts, tokens, width = hidden.shape
        joined = layer.query_key_value(hidden).view(texts, tokens, 3, self._heads, -1)
        query, key, value = joined.permute(2, 0, 3, 1, 4)  # each (texts, heads, tokens, head width)
        if shown is not None:
            found = _attend_unshifted(query, key, value, shown)
        elif self._joined:
            found = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        else:
            scores = torch.matmul(query * query.shape[-1] ** -0.5, key.transpose(2, 3))
            if mask is not None:
                scores += mask
            found = torch.matmul(scores.softmax(-1), value)
        return found.transpose(1, 2).reshape(texts, tokens, width)


def _shown(hidden: Tensor, mask: Tensor | None) -> Tensor | None:
    """1 for every token that is seen and 0 for others, (texts, 1, tokens, 1); None where some tokens see more."""
    if mask is None:
        return hidden.new_ones(len(hidden), 1, hidden.shape[1], 1)
    first = mask[:, :, :1]
    return (first == 0).to(hidden.dtype).transpose(2, 3) if torch.equal(mask, first.expand_as(mask)) else None


def _attend_unshifted(query: Tensor, key: Tensor, value: Tensor, shown: Tensor) -> Tensor:
    """Attention whose scores are not brought below 0 before their exponentials: fewer passes over them.

    A column of ones beside the values gives the sums; both are 0 at what is hidden. Not a number where a score is
    beyond 88, or all of a token's below -88.
    """
    texts, heads, tokens, width = value.shape
    weights = torch.matmul(query * width**-0.5, key.transpose(2, 3)).exp_()
    columns = torch.cat([value * shown, shown.expand(texts, heads, tokens, SUM_COLUMNS)], dim=-1)
    found = torch.matmul(weights, columns)
    shares = found.new_empty(texts, tokens, heads, width).transpose(1, 2)  # lies in memory as it is read next
    return torch.div(found[..., :width], found[..., width : width + 1], out=shares)


def fuse_bert(model: Any) -> bool:  # noqa: ANN401
    """Exchange a model's `encoder` for a fused one where it is BERT-like and its states, tried, stay the same.

    The model is in evaluation mode on a processor. False where it was left as it is.
    """
    encoder, config = getattr(model, "encoder", None), model.config
    if model.device.type != "cpu" or not _plain(encoder, config) or not can_pack():
        return False
    ids = torch.arange(PROBE_TOKENS)[None].repeat(2, 1) * (config.vocab_size - 1) // PROBE_TOKENS
    inputs = {"input_ids": ids, "attention_mask": (torch.arange(PROBE_TOKENS) < torch.tensor([[99], [7]])).long()}
    try:
        with torch.inference_mode(), evaluating(model):
            expected = model(**inputs).last_hidden_state[inputs["attention_mask"] > 0].float()
            model.encoder = FusedEncoder(encoder, config)
            found = model(**inputs).last_hidden_state[inputs["attention_mask"] > 0].float()
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError):
        model.encoder = encoder
        return False
    if (found - expected).std() > PROBE_TOLERANCE * expected.std():
        model.encoder = encoder
        return False
    return True


def _plain(encoder: Any, config: Any) -> bool:  # noqa: ANN401
    """Whether the projections are plain matrices with the activation that is fused."""
    layers: Sequence[Any] = getattr(encoder, "layer", ())
    return (
        bool(layers)
        and getattr(config, "hidden_act", None) == "gelu"
        and all(
            type(module) is nn.Linear
            for layer in layers
            for name, module in layer.named_modules()
            if name.rpartition(".")[2] in ("query", "key", "value", "dense")
        )
    )


def _layer(layer: Any) -> _Layer:  # noqa: ANN401
    own, output = layer.attention.self, layer.attention.output
    return _Layer(
        packed_product([own.query, own.key, own.value]),
        packed_product_and_sum([output.dense]),
        _norm(output.LayerNorm),
        packed_product([layer.intermediate.dense], "gelu"),
        packed_product_and_sum([layer.output.dense]),
        _norm(layer.output.LayerNorm),
    )


def _norm(module: Any) -> _Norm:  # noqa: ANN401
    weight, bias = (part.detach().to(torch.bfloat16) for part in (module.weight, module.bias))
    return _Norm(weight, bias, module.eps)


def _added(mask: Tensor | None) -> Tensor | None:
    """What is added to scores: transformers gives a mask of what is seen, one that is added, or none."""
    if mask is None:
        return None
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, dtype=torch.bfloat16).masked_fill_(~mask, HIDDEN)
    return mask.clamp(min=HIDDEN).to(torch.bfloat16)
