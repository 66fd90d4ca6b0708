"""How many rows are decoded together: as many as are quick on the device and fit into its memory.

Total memory decides, not what happens to be free: the same machine always gets the same batches, and so the same bytes.
"""

from __future__ import annotations

from typing import Any

import torch

from inpars.models.processor import memory_bytes

MOST_ROWS = {"cpu": 128, "cuda": 1024}  # more are not quicker
MEMORY_SHARE = {"cpu": 0.25, "cuda": 0.5}  # of the total, for what grows with the rows
COPIES = 2  # keys and values are copied when finished rows leave


def batch_rows(network: Any, tokens: int, batches: int = 1) -> int:  # noqa: ANN401 - a transformers network
    """Rows for prompts and queries of so many tokens together, at least 1, where so many batches exist at once."""
    device = network.device
    kind = "cuda" if device.type == "cuda" else "cpu"
    weights = sum(weight.numel() * weight.element_size() for weight in network.parameters())
    total = torch.cuda.get_device_properties(device).total_memory if kind == "cuda" else memory_bytes()
    if total is None:
        return MOST_ROWS[kind]
    room = max(0, total - 2 * weights) * MEMORY_SHARE[kind]
    return max(1, min(MOST_ROWS[kind], int(room // (batches * row_bytes(network, tokens)))))


def row_bytes(network: Any, tokens: int) -> int:  # noqa: ANN401
    """Memory of one row: keys and values of its tokens in every layer, and the scores of one step."""
    config = network.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    size = next(network.parameters()).element_size()
    caches = tokens * config.num_hidden_layers * 2 * heads * width * size * COPIES
    scores = config.vocab_size * (size + 2 * max(4, size))  # as computed, and twice in full precision
    return int(caches + scores)
