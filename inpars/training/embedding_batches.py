"""Tokenizes a batch of triples as mini-batches and embeds them. Independent of the loss.

Queries and documents are sorted by length before they are cut into mini-batches, so that little is padded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from sentence_transformers.base.model import BaseModel
from torch import Tensor

from inpars.batches import slices
from inpars.models.loading import DOCUMENT_PROMPTS
from inpars.training.embedding_losses import Embedded
from inpars.training.examples import TripleTexts
from inpars.training.gradient_cache import Features

Autocast: TypeAlias = Callable[..., AbstractContextManager[None]]
"""Creates the autocast context of a network."""
WIDTH = "tokens_of_batch"  # feature: tokens of the longest text in all mini-batches


@dataclass(frozen=True, slots=True)
class Prompts:
    """Prefixes of queries and documents."""

    query: str
    document: str


def set_prompts(model: BaseModel, query: str | None, document: str | None) -> Prompts:
    """Set the model's prompts; None keeps its own. Returns the resulting prompts."""
    if query is not None:
        model.prompts["query"] = query
    if document is not None:
        for name in DOCUMENT_PROMPTS[1:]:
            model.prompts.pop(name, None)
        model.prompts[DOCUMENT_PROMPTS[0]] = document
    return Prompts(model.prompts.get("query") or "", model.prompts.get(DOCUMENT_PROMPTS[0]) or "")


@dataclass(frozen=True, slots=True)
class Collator:
    """Turns the triples of one batch into the trainer's inputs."""

    model: BaseModel
    prompts: Prompts
    negatives: bool
    mini_batch_size: int
    tasks: bool = False  # whether the model distinguishes queries from documents, as all but bi-encoders do

    def __call__(self, rows: Sequence[TripleTexts], margins: Sequence[float] | None = None) -> dict[str, Any]:
        """`batches` of features, `places` of their rows among queries, positives and negatives, and `margins`."""
        queries = [row.query for row in rows]
        documents = [row.positive for row in rows]
        if self.negatives:
            documents += [row.negative for row in rows]
        batches, positions = list[Features](), list[int]()
        for task, texts, prompt, start in (
            ("query", queries, self.prompts.query, 0),
            ("document", documents, self.prompts.document, len(rows)),
        ):
            task_kwargs = {"task": task} if self.tasks else {}
            for chosen, features in mini_batches(self.model, texts, prompt, self.mini_batch_size, **task_kwargs):
                batches.append({**features, **task_kwargs})
                positions += [start + position for position in chosen]
        if self.tasks:
            longest = max(features["attention_mask"].shape[1] for features in batches if "attention_mask" in features)
            batches = [{**features, WIDTH: longest} for features in batches]
        return {
            "batches": batches,
            "places": torch.tensor(positions),
            "queries": len(rows),
            "margins": None if margins is None else torch.tensor(margins, dtype=torch.float32),
        }


def mini_batches(
    model: BaseModel, texts: Sequence[str], prompt: str, size: int, **task_kwargs: str
) -> Iterator[tuple[list[int], Features]]:
    """Positions and features of the texts, longest first; each mini-batch is as wide as its longest text."""
    features = model.preprocess(list(texts), prompt=prompt or None, **task_kwargs)
    mask = features.get("attention_mask")
    if mask is None:  # not a transformer: one stream of tokens for all texts
        yield list(range(len(texts))), dict(features)
        return
    order = mask.sum(dim=1).argsort(descending=True, stable=True)
    for part in slices(order.tolist(), size):
        chosen = list(part)
        used = mask[chosen].any(dim=0)
        yield chosen, {name: _part(value, mask, chosen, used) for name, value in features.items()}


def _part(value: Any, mask: Tensor, chosen: list[int], used: Tensor) -> Any:
    """The chosen rows of a per-text tensor, without columns that are all padding; other values as they are."""
    if not isinstance(value, Tensor) or value.ndim == 0 or len(value) != len(mask):
        return value
    rows = value[chosen]
    return rows[:, used] if rows.ndim == 2 and rows.shape[1] == mask.shape[1] else rows


def on_device(features: Features, device: torch.device) -> Features:
    """Move every tensor to the device."""
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in features.items()}


def embed(model: Any, features: Features) -> Tensor:
    """Embeddings of a mini-batch in float32, (texts, width)."""
    task_kwargs = {"task": features["task"]} if "task" in features else {}
    embeddings: Tensor = model(dict(features), **task_kwargs)["sentence_embedding"]  # the model modifies its input
    return embeddings.float()


def reordered(embeddings: Tensor, positions: Tensor, queries: int) -> Embedded:
    """Sort the concatenated embeddings of the mini-batches into queries and documents."""
    ordered = embeddings[positions.argsort()]
    return Embedded(ordered[:queries], ordered[queries:])
