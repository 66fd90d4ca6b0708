"""The forward pass of Llama-like decoders in few, large matrix products.

Queries, keys and values are one product, normalisation takes few passes, and on a processor the bfloat16 weights are
laid out for its matrix unit once, activations and residuals being computed while a product's result is still at hand.
Llama: Touvron et al. (arXiv 2302.13971).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from inpars.generation.prefix_attention import RowState, attend
from inpars.models.norms import rms_norm
from inpars.models.products import Product, ProductAndSum, product, product_and_sum

MODEL_TYPES = ("llama", "mistral", "qwen2")


@dataclass(frozen=True, slots=True)
class _Layer:
    before_attention: Tensor  # weight of the normalisation
    query_key_value: Product
    output: ProductAndSum
    before_network: Tensor
    gate: Product
    up: Product
    down: ProductAndSum


class FusedLlama:
    """A `Forward` over the weights of a transformers network, which it leaves as it is."""

    def __init__(self, network: Any) -> None:  # noqa: ANN401
        """Lay the weights out. Raises AttributeError where the network is not built as expected."""
        config, model = network.config, network.model
        self._heads, self._kinds = config.num_attention_heads, config.num_key_value_heads
        self._width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._scale, self._epsilon = self._width**-0.5, config.rms_norm_eps
        self._embed, self._rotary = model.embed_tokens, model.rotary_emb
        self._layers = [_layer(layer) for layer in model.layers]
        self._last, self._head = model.norm.weight, product([network.get_output_embeddings()])

    @staticmethod
    def fits(network: Any) -> bool:  # noqa: ANN401
        """Whether the network is of this kind, its projections plain matrices."""
        config = network.config
        layers = getattr(getattr(network, "model", None), "layers", ())
        return (
            config.model_type in MODEL_TYPES
            and config.hidden_act == "silu"
            and all(
                type(module) is nn.Linear
                for layer in layers
                for name, module in layer.named_modules()
                if name.endswith("_proj")
            )
        )

    def __call__(self, ids: Tensor, positions: Tensor, state: RowState, last: Tensor) -> Tensor:
        """See `Forward`."""
        return self.logits_after(ids, positions, state, torch.arange(len(ids), device=ids.device), last)

    def logits_after(self, ids: Tensor, positions: Tensor, state: RowState, rows: Tensor, columns: Tensor) -> Tensor:
        """Logits after some tokens, (tokens, vocabulary): those of ids (rows, tokens) at these rows and columns."""
        hidden = self._embed(ids)  # (rows, tokens, width)
        cosine, sine = self._rotary(hidden, positions)  # (1 or rows, tokens, head width)
        turn = cosine[:, None], sine[:, None]
        for number, layer in enumerate(self._layers):
            hidden = layer.output(self._attention(layer, hidden, turn, state, number), hidden)
            normed = self._norm(hidden, layer.before_network)
            hidden = layer.down(layer.gate(normed).mul_(layer.up(normed)), hidden)
        return self._head(self._norm(hidden[rows, columns], self._last))

    def _attention(
        self, layer: _Layer, hidden: Tensor, turn: tuple[Tensor, Tensor], state: RowState, number: int
    ) -> Tensor:
        rows, tokens, _ = hidden.shape
        joined = layer.query_key_value(self._norm(hidden, layer.before_attention))
        heads = joined.view(rows, tokens, self._heads + 2 * self._kinds, self._width).transpose(1, 2)
        turned = _rotated(heads[:, : self._heads + self._kinds], *turn)
        key, value = state.update(turned[:, self._heads :], heads[:, self._heads + self._kinds :], number)
        found = attend(turned[:, : self._heads], key, value, state, number, self._scale)
        return found.transpose(1, 2).reshape(rows, tokens, -1)

    def _norm(self, hidden: Tensor, weight: Tensor) -> Tensor:
        return rms_norm(hidden, weight, self._epsilon)


def _layer(layer: Any) -> _Layer:  # noqa: ANN401
    attention, network = layer.self_attn, layer.mlp
    return _Layer(
        layer.input_layernorm.weight,
        product([attention.q_proj, attention.k_proj, attention.v_proj]),
        product_and_sum([attention.o_proj]),
        layer.post_attention_layernorm.weight,
        product([network.gate_proj], "silu"),
        product([network.up_proj]),
        product_and_sum([network.down_proj]),
    )


def _rotated(heads: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary positions: heads (rows, heads, tokens, width), the second half of the width being the partners."""
    first, second = heads.chunk(2, dim=-1)
    return heads * cosine + torch.cat([-second, first], dim=-1) * sine
