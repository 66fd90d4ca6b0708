"""The layers of BERT-like encoders in few, large matrix products, for reading only.

On a processor in bfloat16: projections of one input are joined, weights are laid out once for the matrix unit, and
activations and residuals are computed while a product's result is still at hand. Embeddings, pooling and heads stay
the network's own. BERT: Devlin et al. (arXiv 1810.04805).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions as States

from inpars.models.networks import UNFIT, evaluating
from inpars.models.processor import has_matrix_unit
from inpars.models.products import Product, ProductAndSum, can_pack, packed_product, packed_product_and_sum

PROBE_TOKENS = 12
PROBE_TOLERANCE = 0.1  # of the states' deviation; bfloat16 rounding stays far below, another architecture far above
BLOCKED_TOKENS = 256  # from here on torch's attention in blocks is faster, with a matrix unit
SAFE_SUMS = (1e-30, 1e30)  # of exponentials: far from both ends of bfloat16
HIDDEN = -1e4  # added to the scores of what is masked; exact in bfloat16

Inputs: TypeAlias = Mapping[str, Tensor]
"""What a network takes: input_ids and attention_mask, (texts, tokens)."""


@dataclass(frozen=True, slots=True)
class _Norm:
    weight: Tensor
    bias: Tensor
    epsilon: float

    def __call__(self, hidden: Tensor) -> Tensor:
        return nn.functional.layer_norm(hidden, self.weight.shape, self.weight, self.bias, self.epsilon)


@dataclass(frozen=True, slots=True)
class _Layer:
    projections: Sequence[Product]  # all three joined, or the query apart
    output: ProductAndSum
    after_attention: _Norm
    into: Product
    out: ProductAndSum
    after_network: _Norm


class FusedEncoder(nn.Module):
    """Stands where a BERT-like model has its `encoder`; not differentiable, later training does not reach it."""

    def __init__(self, encoder: Any, config: Any, *, first_only: bool = False) -> None:  # noqa: ANN401
        """Lay the weights out; `first_only` computes no more of the last layer than each text's first state.

        Raises AttributeError where the layers are not built as expected.
        """
        super().__init__()
        self._heads = config.num_attention_heads
        last = len(encoder.layer) - 1
        self._layers = [_layer(layer, apart=first_only and at == last) for at, layer in enumerate(encoder.layer)]

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, **_: Any) -> States:  # noqa: ANN401
        """States (texts, tokens or 1, width) from embeddings.

        The mask (texts, 1, 1 or tokens, tokens) hides or is added.
        """
        hidden, mask = hidden_states.to(torch.bfloat16), _added(attention_mask)
        for layer in self._layers:
            if len(layer.projections) > 1:
                found, hidden = self._attend_from_first(layer, hidden, mask), hidden[:, :1].contiguous()
            else:
                found = self._attend(layer, hidden, mask)
            hidden = layer.after_attention(layer.output(found, hidden))
            hidden = layer.after_network(layer.out(layer.into(hidden), hidden))
        return States(last_hidden_state=hidden.to(hidden_states.dtype))

    def _attend_from_first(self, layer: _Layer, hidden: Tensor, mask: Tensor | None) -> Tensor:
        texts, tokens, width = hidden.shape
        from_first, others = layer.projections
        query = from_first(hidden[:, 0].contiguous()).view(texts, self._heads, 1, -1)  # scaled
        key, value = others(hidden).view(texts, tokens, 2, self._heads, -1).permute(2, 0, 3, 1, 4)
        scores = torch.matmul(query, key.transpose(2, 3))  # (texts, heads, 1, tokens)
        scores = scores if mask is None else scores.add_(mask[:, :, :1])
        return torch.matmul(scores.softmax(-1), value).view(texts, 1, width)

    def _attend(self, layer: _Layer, hidden: Tensor, mask: Tensor | None) -> Tensor:
        texts, tokens, width = hidden.shape
        joined = layer.projections[0](hidden).view(texts, tokens, 3, self._heads, -1)
        query, key, value = joined.permute(2, 0, 3, 1, 4)  # each (texts, heads, tokens, head width), the query scaled
        if tokens >= BLOCKED_TOKENS and has_matrix_unit():
            whole = None if mask is None else mask.expand(-1, -1, tokens, -1)
            found = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=whole, scale=1.0)
            return found.transpose(1, 2).reshape(texts, tokens, width)
        by_exponentials = _by_exponentials(query, key, value, mask)
        if by_exponentials is not None:
            return by_exponentials.view(texts, tokens, width)
        scores = torch.matmul(query, key.transpose(2, 3))
        scores = scores if mask is None else scores.add_(mask)
        return torch.matmul(scores.softmax(-1), value).transpose(1, 2).reshape(texts, tokens, width)


def fuse_bert(model: Any, read: Callable[[Inputs], Tensor] | None = None) -> bool:  # noqa: ANN401
    """Exchange a model's `encoder` for a fused one where it is BERT-like and its states, tried, stay the same.

    `read` gives what the model around it makes of its states, from its inputs; where that is made of each text's first
    state alone, which is tried too, the last layer computes no others. The model is in evaluation mode on a processor.
    False where it was left as it is.
    """
    encoder, config = getattr(model, "encoder", None), model.config
    if model.device.type != "cpu" or not _plain(encoder, config) or not can_pack():
        return False
    ids = torch.arange(PROBE_TOKENS)[None].repeat(2, 1) * (config.vocab_size - 1) // PROBE_TOKENS
    inputs = {"input_ids": ids, "attention_mask": (torch.arange(PROBE_TOKENS) < torch.tensor([[99], [7]])).long()}
    with torch.inference_mode(), evaluating(model):
        try:
            expected = model(**inputs).last_hidden_state[inputs["attention_mask"] > 0].float()
            model.encoder = FusedEncoder(encoder, config)
            found = model(**inputs).last_hidden_state[inputs["attention_mask"] > 0].float()
        except UNFIT:
            model.encoder = encoder
            return False
        if (found - expected).std() > PROBE_TOLERANCE * expected.std():
            model.encoder = encoder
            return False
        if read is not None:
            whole = model.encoder
            try:
                if _reads_first_alone(read, whole, inputs):
                    model.encoder = FusedEncoder(encoder, config, first_only=True)
                    read(inputs)
            except UNFIT:
                model.encoder = whole
    return True


def _reads_first_alone(read: Callable[[Inputs], Tensor], encoder: nn.Module, inputs: Inputs) -> bool:
    """Whether what is read stays the very same without the other states."""

    def only_first(_module: nn.Module, _inputs: Any, states: Any) -> States:  # noqa: ANN401
        hidden = torch.zeros_like(states.last_hidden_state)
        hidden[:, 0] = states.last_hidden_state[:, 0]
        return States(last_hidden_state=hidden)

    expected = read(inputs)
    handle = encoder.register_forward_hook(only_first)
    try:
        return torch.equal(read(inputs), expected)
    finally:
        handle.remove()


def _by_exponentials(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor | None:
    """Attention, (texts, tokens, heads, head width), with no maximum taken off the scores before the exponential.

    A further column of the values, all ones, gives the sums by which the results are divided: two passes over the
    scores, which are most of what there is to read, instead of five. None where a sum comes near the ends of the
    format, as it does with scores beyond 69 or with none above -69.
    """
    texts, heads, tokens, width = query.shape
    flat = (texts * heads, tokens, width)
    turned = key.reshape(flat).transpose(1, 2)
    if mask is None:
        weights = torch.bmm(query.reshape(flat), turned).exp_()
    else:
        added = mask.expand(texts, heads, -1, -1).reshape(texts * heads, -1, tokens)
        weights = torch.baddbmm(added, query.reshape(flat), turned).exp_()
    ones = value.new_ones(1).expand(texts, heads, tokens, 1)
    summed = torch.bmm(weights, torch.cat([value, ones], -1).view(*flat[:2], width + 1))
    summed = summed.view(texts, heads, tokens, width + 1)
    sums = summed[..., width:]
    smallest, largest = torch.aminmax(sums)
    if not (smallest > SAFE_SUMS[0] and largest < SAFE_SUMS[1]):  # nor where it is no number
        return None
    found = query.new_empty(texts, tokens, heads, width)
    torch.div(summed[..., :width], sums, out=found.transpose(1, 2))
    return found


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


def _layer(layer: Any, *, apart: bool = False) -> _Layer:  # noqa: ANN401
    own, output = layer.attention.self, layer.attention.output
    query, others = [_scaled(own.query, own.attention_head_size**-0.5)], [own.key, own.value]
    return _Layer(
        [packed_product(modules) for modules in ((query, others) if apart else (query + others,))],
        packed_product_and_sum([output.dense]),
        _norm(output.LayerNorm),
        packed_product([layer.intermediate.dense], "gelu"),
        packed_product_and_sum([layer.output.dense]),
        _norm(layer.output.LayerNorm),
    )


def _scaled(module: nn.Linear, factor: float) -> nn.Linear:
    """The same with its output multiplied."""
    scaled = copy.deepcopy(module).requires_grad_(requires_grad=False)
    for part in scaled.parameters():
        part.mul_(factor)
    return scaled


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
