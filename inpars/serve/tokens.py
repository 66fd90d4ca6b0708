"""How many tokens a model reads of texts, for the `usage` of responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from inpars.models.loading import load_tokenizer


class TokenCounter:
    """Counts with each model's own tokenizer, loaded when it is first asked for. One thread at a time."""

    def __init__(self) -> None:
        self._tokenizers: dict[str, Any] = {}

    def __call__(self, model: str, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, special ones too, up to the tokenizer's limit."""
        if model not in self._tokenizers:
            self._tokenizers[model] = load_tokenizer(model)
        ids = self._tokenizers[model](list(texts), truncation=True)["input_ids"]
        return [len(row) for row in ids]
