"""monoT5's margin in few, large matrix products: the encoder, and a decoder step that keeps no cache.

Projections that read the same input are one product, bfloat16 weights are laid out once, and activations and residuals
are computed while a product's result is still at hand. The decoder has a single token: its attention to itself is that
token's value, and its attention to the document moves the query and the result through the key and value weights in
place of all the document's tokens, which is the same sum in another order.
T5: Raffel et al. (arXiv 1910.10683).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from inpars.models.networks import evaluating, float32_rows, head_replaced
from inpars.models.norms import rms_norm
from inpars.models.products import Product, ProductAndSum, product, product_and_sum
from inpars.scoring.kinds import ScorerKind
from inpars.scoring.monot5 import MonoT5
from inpars.scoring.pair_model import Batch, EncodedPair, Pair

MODEL_TYPES = ("t5", "mt5")
OF_T5 = ("relu", "gelu_new")  # activations


@dataclass(frozen=True, slots=True)
class _Norm:
    weight: Tensor
    epsilon: float

    def __call__(self, hidden: Tensor) -> Tensor:
        return rms_norm(hidden, self.weight, self.epsilon)


@dataclass(frozen=True, slots=True)
class _FeedForward:
    """The network between attentions, its residual included."""

    norm: _Norm
    into: Product
    gate: Product | None
    out: ProductAndSum

    def __call__(self, hidden: Tensor) -> Tensor:
        normed = self.norm(hidden)
        inner = self.into(normed)
        return self.out(inner if self.gate is None else inner.mul_(self.gate(normed)), hidden)


@dataclass(frozen=True, slots=True)
class _EncoderLayer:
    norm: _Norm
    query_key_value: Product
    output: ProductAndSum
    network: _FeedForward


@dataclass(frozen=True, slots=True)
class _DecoderLayer:
    own_norm: _Norm
    own_value: Product
    own_output: ProductAndSum
    norm: _Norm
    query: Product
    key: Tensor  # (heads, head width, model width)
    value: Tensor  # (heads, head width, model width)
    output: ProductAndSum
    network: _FeedForward


class FusedMonoT5:
    """A trained `MonoT5` that only scores; the weights are copied, so that later training does not reach it."""

    kind: ScorerKind = "monot5"
    thread_safe = True

    def __init__(self, model: MonoT5) -> None:
        """Lay the weights out. Raises AttributeError where the network is not built as expected."""
        self._model, self.network, self.tokenizer = model, model.network, model.tokenizer
        self.max_length = model.max_length
        config = model.network.config
        self._heads, self._width = config.num_heads, config.d_kv
        encoder, decoder = model.network.encoder, model.network.decoder
        self._bias = encoder.block[0].layer[0].SelfAttention.compute_bias
        self._layers = [_encoder_layer(block.layer, config) for block in encoder.block]
        self._steps = [_decoder_layer(block.layer, config) for block in decoder.block]
        self._encoded, self._decoded = _norm(encoder.final_layer_norm), _norm(decoder.final_layer_norm)
        self._scale = self._find_scale()

    @staticmethod
    def fits(network: Any) -> bool:  # noqa: ANN401
        """Whether the network is of this kind, its projections plain matrices."""
        config = network.config
        return (
            config.model_type in MODEL_TYPES
            and config.dense_act_fn in OF_T5
            and all(
                type(module) is nn.Linear and module.bias is None
                for block in (*network.encoder.block, *network.decoder.block)
                for name, module in block.named_modules()
                if name.rpartition(".")[2] in ("q", "k", "v", "o", "wi", "wi_0", "wi_1", "wo")
            )
        )

    def encode(self, pairs: Sequence[Pair]) -> list[EncodedPair]:
        """As the model does."""
        return self._model.encode(pairs)

    def settings(self) -> dict[str, Any]:
        """As the model's."""
        return self._model.settings()

    def margins(self, batch: Batch, network: nn.Module | None = None) -> Tensor:
        """Logit of true less logit of false at the first decoder step, (pairs,); not differentiable."""
        mask = batch["attention_mask"]
        document = self._encode(batch["input_ids"], mask)
        hidden = self._step(document, mask, self.network.config.decoder_start_token_id)
        answers = self._model.answers
        rows = (answers.false_id, answers.true_id)
        logits = float32_rows(self.network.get_output_embeddings(), hidden * self._scale, rows)  # (pairs, 2)
        return logits[:, 1] - logits[:, 0]

    def _find_scale(self) -> float:
        """What the network multiplies its last state by: which checkpoints do has depended on transformers' version."""
        ids = torch.zeros((1, 1), dtype=torch.long, device=self.network.device)
        with torch.inference_mode(), evaluating(self.network), head_replaced(self.network, lambda head, hidden: hidden):
            theirs = self.network(input_ids=ids, decoder_input_ids=ids, use_cache=False).logits[0, 0].float()
            own = self._step(self._encode(ids, ids + 1), ids + 1, start=0)[0].float()
        found = float(theirs @ own / (own @ own))
        known = (1.0, 1 / math.sqrt(self.network.config.d_model))
        return known[0] if abs(found - known[0]) < abs(found - known[1]) else known[1]

    def _encode(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The encoder's states, (pairs, tokens, width)."""
        pairs, tokens = ids.shape
        hidden: Tensor = self.network.shared(ids)
        bias = self._bias(tokens, tokens, device=ids.device)  # (1, heads, tokens, tokens)
        if not mask.all():
            bias = bias.masked_fill(mask[:, None, None] == 0, torch.finfo(hidden.dtype).min)
        bias = bias.expand(pairs, -1, -1, -1)
        for layer in self._layers:
            joined = layer.query_key_value(layer.norm(hidden))
            query, key, value = joined.view(pairs, tokens, 3, self._heads, self._width).permute(2, 0, 3, 1, 4)
            found = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=1.0)
            hidden = layer.output(found.transpose(1, 2).reshape(pairs, tokens, -1), hidden)
            hidden = layer.network(hidden)
        return self._encoded(hidden)

    def _step(self, document: Tensor, mask: Tensor, start: int) -> Tensor:
        """The decoder's state at its start token, (pairs, width)."""
        pairs = len(document)
        hidden: Tensor = self.network.shared(
            torch.tensor([start], device=document.device)
        )  # (1, width), the same for all until the document is read
        masked = torch.zeros(mask.shape, device=mask.device).masked_fill_(mask == 0, -torch.inf)[:, None]
        for layer in self._steps:
            hidden = layer.own_output(layer.own_value(layer.own_norm(hidden)), hidden)
            query = layer.query(layer.norm(hidden)).view(-1, self._heads, self._width)
            through = torch.einsum("phw,hwm->phm", query, layer.key).expand(pairs, -1, -1)
            shares = ((through @ document.transpose(1, 2)).float() + masked).softmax(-1)  # (pairs, heads, tokens)
            read = shares.to(document.dtype) @ document  # (pairs, heads, model width)
            found = torch.einsum("phm,hwm->phw", read, layer.value)
            hidden = layer.network(layer.output(found.reshape(pairs, -1), hidden.expand(pairs, -1).contiguous()))
        return self._decoded(hidden)


def _norm(module: Any) -> _Norm:  # noqa: ANN401
    return _Norm(module.weight.detach(), module.variance_epsilon)


def _encoder_layer(parts: Any, config: Any) -> _EncoderLayer:  # noqa: ANN401
    own = parts[0].SelfAttention
    return _EncoderLayer(
        _norm(parts[0].layer_norm),
        product([own.q, own.k, own.v]),
        product_and_sum([own.o]),
        _feed_forward(parts[1], config),
    )


def _decoder_layer(parts: Any, config: Any) -> _DecoderLayer:  # noqa: ANN401
    own, other = parts[0].SelfAttention, parts[1].EncDecAttention
    shape = config.num_heads, config.d_kv, config.d_model
    return _DecoderLayer(
        _norm(parts[0].layer_norm),
        product([own.v]),
        product_and_sum([own.o]),
        _norm(parts[1].layer_norm),
        product([other.q]),
        other.k.weight.detach().view(shape),
        other.v.weight.detach().view(shape),
        product_and_sum([other.o]),
        _feed_forward(parts[2], config),
    )


def _feed_forward(part: Any, config: Any) -> _FeedForward:  # noqa: ANN401
    network = part.DenseReluDense
    gated = hasattr(network, "wi_0")
    return _FeedForward(
        _norm(part.layer_norm),
        product([network.wi_0 if gated else network.wi], config.dense_act_fn),
        product([network.wi_1]) if gated else None,
        product_and_sum([network.wo]),
    )
