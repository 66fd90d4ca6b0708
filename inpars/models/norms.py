"""Root mean square normalisation in two passes over its input on a processor."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def rms_norm(hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Zhang and Sennrich (arXiv 1910.07467) over the last dimension.

    torch's own takes five passes over bfloat16 on a processor; its layer normalisation takes one, and also tells mean
    and deviation, in float32, from which the root mean square follows.
    """
    shape = weight.shape
    if hidden.dtype != torch.bfloat16 or hidden.device.type != "cpu":
        return nn.functional.rms_norm(hidden, shape, weight, epsilon)
    _, mean, inverse = torch.native_layer_norm(hidden, shape, torch.ones(shape), torch.zeros(shape), epsilon)
    scale = (inverse.pow(-2) + mean.square()).rsqrt_()
    return (hidden * scale.to(hidden.dtype)).mul_(weight)
