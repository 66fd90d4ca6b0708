"""SPLADE's pooling with its activation after the maximum over tokens instead of before.

log(1 + relu(x)) never falls, so that the maximum of its values is its value of the maximum: the same numbers and
gradients, while logarithms are taken of one row a text instead of one a token.
"""

from __future__ import annotations

import functools
from typing import Any

from sentence_transformers.sparse_encoder.modules import SpladePooling
from torch import Tensor, nn


def pool_before_activation(model: nn.Module) -> None:
    """Have a sparse encoder's pooling work so, where it takes the maximum."""
    for module in model.children():
        if isinstance(module, SpladePooling) and module.pooling_strategy == "max":
            module.forward = functools.partial(_pooled, module)  # type: ignore[method-assign]


def _pooled(pooling: SpladePooling, features: dict[str, Any]) -> dict[str, Any]:
    """What the module calls: features with token logits, (texts, tokens, vocabulary)."""
    if "cu_seq_lens_q" in features:  # texts one after the other, without padding
        return pooling._forward_flattened(features)
    logits, mask = features["token_embeddings"], features["attention_mask"]
    if not mask.all():
        logits = logits * mask[..., None].to(logits.dtype)
    pooled: Tensor = logits.max(dim=1).values.relu().log1p()  # (texts, vocabulary)
    if pooling.activation_function == "log1p_relu":
        pooled = pooled.log1p()
    if pooling.embedding_dimension is None:
        pooling.embedding_dimension = pooled.shape[1]
    return {**features, "sentence_embedding": pooled}
