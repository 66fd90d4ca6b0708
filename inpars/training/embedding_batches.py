"""Triples of one batch as mini-batches of tokens, and a retriever's embeddings of them. Knows no loss.

Texts of one kind are sorted by length before they are cut into mini-batches, so that little is padded.
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
from inpars.training.embedding_losses import Embedded
from inpars.training.examples import TripleTexts
from inpars.training.gradient_cache import Features

Autocast: TypeAlias = Callable[..., AbstractContextManager[None]]
"""Makes the context in which a network computes."""
WIDTH = "tokens_of_batch"  # a feature: of the longest text of all mini-batches
DOCUMENT_PROMPTS = ("document", "passage", "corpus")  # the names sentence-transformers knows


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompts before every query and before every document."""

    query: str
    document: str


def set_prompts(model: BaseModel, query: str | None, document: str | None) -> Prompts:
    """Give the model these prompts; None leaves its own. Returns those it has now."""
    if query is not None:
        model.prompts["query"] = query
    if document is not None:
        for name in DOCUMENT_PROMPTS[1:]:
            model.prompts.pop(name, None)
        model.prompts[DOCUMENT_PROMPTS[0]] = document
    of_documents = [text for name in DOCUMENT_PROMPTS if (text := model.prompts.get(name))]
    return Prompts(model.prompts.get("query") or "", next(iter(of_documents), ""))


@dataclass(frozen=True, slots=True)
class Collator:
    """Makes what the trainer hands to the loss from the triples of one batch."""

    model: BaseModel
    prompts: Prompts
    negatives: bool
    mini_batch_size: int
    tasks: bool = False  # whether the model is told what is a query, as all but bi-encoders are

    def __call__(self, rows: Sequence[TripleTexts], margins: Sequence[float] | None = None) -> dict[str, Any]:
        """`batches` of features, `positions` of their rows among queries, positives and negatives, and `margins`."""
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
    """Positions and features of the texts, the longest first; each mini-batch is as wide as its longest text."""
    features = model.preprocess(list(texts), prompt=prompt or None, **task_kwargs)
    mask = features.get("attention_mask")
    if mask is None:  # no transformer: one stream of tokens for all texts
        yield list(range(len(texts))), dict(features)
        return
    order = mask.sum(dim=1).argsort(descending=True, stable=True)
    for part in slices(order.tolist(), size):
        chosen = list(part)
        used = mask[chosen].any(dim=0)
        yield chosen, {name: _part(value, mask, chosen, used) for name, value in features.items()}


def _part(value: Any, mask: Tensor, chosen: list[int], used: Tensor) -> Any:
    """Rows of a tensor that has one for each text, without the columns that are padding in all of them."""
    if not isinstance(value, Tensor) or value.ndim == 0 or len(value) != len(mask):
        return value
    rows = value[chosen]
    return rows[:, used] if rows.ndim == 2 and rows.shape[1] == mask.shape[1] else rows


def on_device(features: Features, device: torch.device) -> Features:
    """The same with every tensor on the device."""
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in features.items()}


def embed(model: Any, features: Features) -> Tensor:
    """Embeddings of a mini-batch in float32, (texts, width)."""
    task_kwargs = {"task": features["task"]} if "task" in features else {}
    embeddings: Tensor = model(dict(features), **task_kwargs)["sentence_embedding"]  # a copy: the model adds to it
    return embeddings.float()


def reordered(embeddings: Tensor, positions: Tensor, queries: int) -> Embedded:
    """Embeddings of the mini-batches, one after the other, as those of queries and documents."""
    ordered = embeddings[positions.argsort()]
    return Embedded(ordered[:queries], ordered[queries:])
