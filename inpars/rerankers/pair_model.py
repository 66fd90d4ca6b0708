"""Pair models, the interface of rerankers for scoring and training: a differentiable margin per encoded pair.

Each model decides how pairs become tokens and hidden states a margin. Training and scoring share the encoding, hence
also the length limit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from inpars.engines.batch_parallel import computes_in_bfloat16, map_batches
from inpars.models.networks import evaluating, pad_id
from inpars.models.processor import has_matrix_unit
from inpars.protocols import ScoredPart, score_all

if TYPE_CHECKING:
    from inpars.rerankers.kinds import ScorerKind

BATCH_TOKENS = {"cpu": 1024, "cuda": 8192}  # padded tokens per forward pass; more exceed a CPU's cache
TILED_BATCH_TOKENS = 2048  # for CPUs with a matrix unit, which are limited by memory
IDENTITY = "torch.nn.modules.linear.Identity"
SETTINGS_KEY = "inpars"  # key of the scoring settings in a checkpoint's config.json

Pair: TypeAlias = tuple[str, str]
"""(query text, document text)."""

Batch: TypeAlias = dict[str, Tensor]
"""`input_ids` and `attention_mask`, both (pairs, tokens), and `second_tokens`, (pairs,)."""


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """Token ids of one pair; the last `second_tokens` belong to the second text, if the model needs to know."""

    ids: list[int]
    second_tokens: int = 0

    def __len__(self) -> int:
        return len(self.ids)


class PairModel(Protocol):
    """A network with its tokenizer, input format and margin."""

    kind: ScorerKind
    network: Any  # a transformers model: nn.Module with config and save_pretrained
    tokenizer: Any
    max_length: int

    def encode(self, pairs: Sequence[Pair]) -> list[EncodedPair]:
        """Token ids of each pair, at most `max_length`; only the document is cut."""

    def margins(self, batch: Batch, network: nn.Module | None = None) -> Tensor:
        """Float32 relevance, (pairs,), differentiable; `network` replaces the model's if training wraps it."""

    def settings(self) -> dict[str, Any]:
        """Settings that `load_scorer` needs to score as in training; stored in the checkpoint."""


@dataclass(frozen=True, slots=True)
class CompiledMargins:
    """A pair model's margins computed by another engine, not differentiable."""

    margins: Callable[[Batch], Tensor]
    thread_safe: bool = True


class ModelScorer:
    """A `PairScorer` that sorts pairs by length and batches them by padded tokens."""

    def __init__(
        self, model: PairModel, name: str, batch_tokens: int | None = None, form: CompiledMargins | None = None
    ) -> None:
        self.name, self._model, self._batch_tokens = name, model, batch_tokens
        self._margins = form.margins if form else model.margins
        torch_parallel = getattr(model, "thread_safe", False) and computes_in_bfloat16(model.network)
        self._parallel, self._shareable = (form.thread_safe, False) if form else (torch_parallel, True)

    def score(self, pairs: Sequence[Pair]) -> list[float]:
        return score_all(self, pairs)

    def score_in_parts(self, pairs: Sequence[Pair], positions: Collection[int]) -> Iterator[ScoredPart]:
        """Yield positions and margins batch by batch; skip batches without any of `positions`."""
        encoded = self._model.encode(pairs)
        device = next(self._model.network.parameters()).device
        budget = self._batch_tokens or default_batch_tokens(device)
        planned = list(token_budget_batches([len(pair) for pair in encoded], budget))
        batches = [rows for rows in planned if any(row in positions for row in rows)]

        def margins(rows: Sequence[int]) -> list[float]:
            with torch.inference_mode():
                batch = collate([encoded[row] for row in rows], pad_id(self._model.tokenizer), device)
                batch_margins: list[float] = self._margins(batch).tolist()
            return batch_margins

        with evaluating(self._model.network):
            batch_margins = map_batches(
                margins, batches, wanted=self._parallel, planned=len(planned), shareable=self._shareable
            )
            for rows, values in zip(batches, batch_margins, strict=True):
                yield list(zip(rows, values, strict=True))


def default_batch_tokens(device: torch.device) -> int:
    """Default number of padded tokens per batch."""
    if device.type == "cpu" and has_matrix_unit():
        return TILED_BATCH_TOKENS
    return BATCH_TOKENS.get(device.type, BATCH_TOKENS["cuda"])


def token_budget_batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Batches of positions, longest texts first, of at most `batch_tokens` padded tokens (or a single text)."""
    batch: list[int] = []
    for position in sorted(range(len(lengths)), key=lambda position: (-lengths[position], position)):
        if batch and lengths[batch[0]] * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch


def collate(pairs: Sequence[EncodedPair], pad: int, device: torch.device | None = None) -> Batch:
    """Pad on the right to the length of the longest pair."""
    width = max(len(pair) for pair in pairs)
    ids = torch.full((len(pairs), width), pad)
    mask = torch.zeros((len(pairs), width), dtype=torch.long)
    for row, pair in enumerate(pairs):
        ids[row, : len(pair)] = torch.tensor(pair.ids)
        mask[row, : len(pair)] = 1
    second = torch.tensor([pair.second_tokens for pair in pairs])
    batch = {"input_ids": ids, "attention_mask": mask, "second_tokens": second}
    return {name: tensor.to(device) for name, tensor in batch.items()} if device else batch


def second_text_mask(batch: Batch) -> Tensor:
    """Which tokens belong to the second text, (pairs, tokens)."""
    mask = batch["attention_mask"]
    ends = mask.sum(1, keepdim=True)
    positions = torch.arange(mask.shape[1], device=mask.device)
    return (positions >= ends - batch["second_tokens"][:, None]) & (positions < ends)


def token_ids(tokenizer: Any, texts: Sequence[str], limit: int | None = None) -> list[list[int]]:
    """Ids of each text without special tokens, at most `limit`."""
    if not texts:
        return []
    cut = {"truncation": True, "max_length": limit} if limit else {}
    encoded: list[list[int]] = tokenizer(list(texts), add_special_tokens=False, verbose=False, **cut)["input_ids"]
    return encoded


def distinct_token_ids(tokenizer: Any, texts: Sequence[str], limit: int) -> list[list[int]]:
    """As `token_ids`, but tokenizes each distinct text once."""
    distinct = list(dict.fromkeys(texts))
    ids = dict(zip(distinct, token_ids(tokenizer, distinct, limit), strict=True))
    return [ids[text] for text in texts]


def fit(head: list[int], document: list[int], tail: list[int], max_length: int) -> list[int]:
    """Concatenate, cutting the document's end first, then the head's, never the tail."""
    head = head[: max(max_length - len(tail), 0)]
    room = max_length - len(head) - len(tail)
    return head + document[: max(room, 0)] + tail


def keep_settings(model: PairModel) -> None:
    """Store in the model's configuration the settings that `load_scorer` and sentence-transformers need."""
    config = model.network.config
    setattr(config, SETTINGS_KEY, {"kind": model.kind, "max_length": model.max_length} | model.settings())
    if model.kind == "cross-encoder":  # for `sentence_transformers.CrossEncoder`, whose default is a sigmoid
        saved = getattr(config, "sentence_transformers", None)
        config.sentence_transformers = {**(saved if isinstance(saved, dict) else {}), "activation_fn": IDENTITY}
        model.tokenizer.model_max_length = model.max_length


def save_pair_model(model: PairModel, folder: Path) -> None:
    """Save an ordinary Hugging Face folder with safetensors; config.json includes the scoring settings."""
    keep_settings(model)
    model.network.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
