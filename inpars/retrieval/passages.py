"""Split long documents into overlapping windows for a bi-encoder.

A document's score is that of its best window (MaxP: Dai and Callan, arXiv 1905.09217). Each window starts with the
document's title.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from inpars.errors import ConfigError
from inpars.records import Document

STRIDE = 2 / 3  # distance between window starts, as a share of the window


def require_offsets(tokenizer: Any, name: str) -> None:
    """Raise ConfigError for a tokenizer without token offsets."""
    if not getattr(tokenizer, "is_fast", False):
        raise ConfigError(f"{name} comes with a slow tokenizer, which gives no token offsets")


def token_offsets(tokenizer: Any, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
    """Start and end of every token of the texts, in characters."""
    if not texts:
        return []
    encoding = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return list(encoding["offset_mapping"])


def window_spans(offsets: Sequence[tuple[int, int]], tokens: int, stride: int) -> Iterator[tuple[int, int]]:
    """Start and end of each window in characters; no windows for a text without tokens."""
    start = 0
    while offsets and (start == 0 or start + tokens - stride < len(offsets)):
        window = offsets[start : start + tokens]
        yield (window[0][0] if start else 0), window[-1][1]
        start += stride


def document_windows(documents: Sequence[Document], tokenizer: Any, tokens: int) -> list[list[str]]:
    """The texts to embed for each document: its title and text, or windows of `tokens` tokens with the title.

    Documents of up to one and a half windows stay whole.
    """
    stride = max(1, int(tokens * STRIDE))
    windows = []
    for document, offsets in zip(
        documents, token_offsets(tokenizer, [document.text for document in documents]), strict=True
    ):
        if len(offsets) <= tokens + tokens // 2:
            windows.append([document.full_text])
            continue
        spans = window_spans(offsets, tokens, stride)
        windows.append([f"{document.title} {document.text[start:end]}".strip() for start, end in spans])
    return windows
