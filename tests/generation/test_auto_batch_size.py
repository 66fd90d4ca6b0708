"""Rows by memory."""

from types import SimpleNamespace

import pytest
import torch

from inpars.generation import causal_lm as module
from inpars.generation.causal_lm import batch_rows, row_bytes


class Network:
    """Three layers, two key heads of width 8, a vocabulary of 100, and 1,000 weights in bfloat16."""

    device = torch.device("cpu")
    config = SimpleNamespace(
        num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, hidden_size=32, vocab_size=100
    )
    config.get_text_config = lambda: Network.config

    def parameters(self):
        return iter([torch.zeros(1000, dtype=torch.bfloat16)])


def test_a_row_takes_its_keys_and_values_twice_and_one_steps_scores():
    # 50 tokens * 3 layers * 2 * 2 heads * 8 * 2 bytes * 2 copies = 19,200; 100 * (2 + 2 * 4) = 1,000
    assert row_bytes(Network(), 50) == 20_200


@pytest.mark.parametrize(
    ("memory", "rows"),
    [
        # (memory - 2 * 2,000 bytes of weights) / 4 / 20,200
        (4_000 + 4 * 20_200 * 7, 7),
        (4_000 + 4 * 20_200 * 7 - 4, 6),
        (10, 1),
        (1 << 40, 128),
        (None, 128),
    ],
)
def test_rows_fill_a_share_of_the_total_memory(monkeypatch, memory, rows):
    monkeypatch.setattr(module, "memory_bytes", lambda: memory)
    assert batch_rows(Network(), 50) == rows
