"""What all generators are told. Importing it loads no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DecodingSettings:
    """Limits in tokens, how tokens are picked, and rows decoded together (None: chosen for the device)."""

    max_doc_tokens: int = 256
    max_new_tokens: int = 64
    num_queries: int = 1
    temperature: float = 0.0  # 0 takes the likeliest token
    top_p: float = 1.0
    seed: int = 0
    batch_size: int | None = None
