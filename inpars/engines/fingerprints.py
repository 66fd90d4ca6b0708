"""A short fingerprint of a network's weights, for files derived from them."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def weights_fingerprint(network: nn.Module) -> str:
    """What changes with any weight: a hash of all names, shapes and values."""
    digest = hashlib.sha256()
    for name, weight in network.state_dict().items():
        digest.update(f"{name}\0{tuple(weight.shape)}\0{weight.dtype}\0".encode())
        digest.update(weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
