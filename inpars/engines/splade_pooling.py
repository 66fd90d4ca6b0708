"""SPLADE pooling with the activation after the maximum over tokens instead of before.

log(1 + relu(x)) is monotonic, so both orders give the same values and gradients, but this one computes one row of
logarithms per text instead of one per token.
"""

from __future__ import annotations

import functools
from typing import Any

from sentence_transformers.sparse_encoder.modules import SpladePooling
from torch import Tensor, nn


def pool_before_activation(model: nn.Module) -> None:
    """Patch the max pooling of a sparse encoder."""
    for module in model.children():
        if isinstance(module, SpladePooling) and module.pooling_strategy == "max":
            module.forward = functools.partial(_pooled, module)  # type: ignore[method-assign]


def _pooled(pooling: SpladePooling, features: dict[str, Any]) -> dict[str, Any]:
    """Replaces the module's `forward`; token logits are (texts, tokens, vocabulary)."""
    if "cu_seq_lens_q" in features:  # concatenated texts without padding
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
