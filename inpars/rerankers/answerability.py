"""Scores whether a document answers a query with an extractive question-answering model (SQuAD 2.0).

The score is the best span's logits minus those of "no answer", which such models assign to the CLS token. Long
documents are split into overlapping windows. Rajpurkar, Jia and Liang, "Know What You Don't Know", 2018.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import torch
from torch import Tensor

from inpars.errors import ConfigError
from inpars.models import loading as models
from inpars.models.compute_options import Placement
from inpars.models.networks import check_length, evaluating, pad_id
from inpars.rerankers.pair_model import Pair, default_batch_tokens, token_budget_batches

ARCHITECTURE_ENDING = "ForQuestionAnswering"
MAX_LENGTH = 384  # tokens per window, as in training
STRIDE = 128  # tokens shared by neighbouring windows
MIN_WINDOW = 16  # tokens
MAX_ANSWER_TOKENS = 30


@dataclass(frozen=True, slots=True)
class Window:
    """A query followed by a part of its document, as tokens."""

    pair: int  # index of its pair
    inputs: dict[str, list[int]]
    in_document: list[bool]  # (tokens,)
    no_answer: int  # index of the token that stands for "no answer"
    offsets: list[tuple[int, int]]  # each token's characters in the document

    def __len__(self) -> int:
        return len(self.in_document)


@dataclass(frozen=True, slots=True)
class MarkedSpan:
    """Characters `start` to `end` of a document, and the model's margin for them over "no answer"."""

    start: int
    end: int
    margin: float


class AnswerabilityScorer:
    """A `PairScorer`: above 0 the model prefers a span of the document to "no answer".

    `threshold` is the margin, tuned in training, above which an answer is better than none; 0 if unknown.
    """

    def __init__(
        self, model: str, *, max_length: int | None = None, batch_tokens: int | None = None, **where: Unpack[Placement]
    ) -> None:
        """Load the model. Raises ConfigError if it is no extractive question-answering model."""
        config = models.load_config(model, trust_remote_code=where.get("trust_remote_code", False))
        if not any(name.endswith(ARCHITECTURE_ENDING) for name in config.architectures or []):
            architectures = ", ".join(config.architectures or []) or "no architecture"
            raise ConfigError(
                f"{model} is not a model that marks answers (its config.json names {architectures}); use one trained "
                "on SQuAD 2.0"
            )
        self.threshold = float((getattr(config, "inpars", None) or {}).get("threshold", 0.0))
        self._network, self._tokenizer = models.load_extractive_reader(model, **where)
        self.name, self._batch_tokens = model, batch_tokens or default_batch_tokens(self._network.device)
        if not self._tokenizer.is_fast:
            raise ConfigError(f"{model} has a slow tokenizer, which cannot tell query and document apart")
        check_length(self._network, model, max_length, MIN_WINDOW)
        self._max_length = max_length or min(MAX_LENGTH, int(self._tokenizer.model_max_length))

    def score(self, pairs: Sequence[Pair]) -> list[float]:
        return [span.margin for span in self.spans(pairs)]

    def spans(self, pairs: Sequence[Pair]) -> list[MarkedSpan]:
        """The best span of each document; `score` returns their margins."""
        windows = self._windows(pairs)
        best: list[tuple[float, int, int]] = [(-torch.inf, 0, 0)] * len(pairs)
        no_answers = [torch.inf] * len(pairs)
        with evaluating(self._network), torch.inference_mode():
            for rows in token_budget_batches([len(window) for window in windows], self._batch_tokens):
                batch = [windows[row] for row in rows]
                start, end, allowed, no_answer_logits = self._logits(batch)
                spans = zip(batch, *best_spans(start, end, allowed), no_answer_logits.tolist(), strict=True)
                for window, value, first, last, no_answer in spans:
                    span = (value, window.offsets[first][0], window.offsets[last][1])
                    best[window.pair] = max(best[window.pair], span)
                    no_answers[window.pair] = min(no_answers[window.pair], no_answer)
        return [
            MarkedSpan(start, end, value - no_answer)
            for (value, start, end), no_answer in zip(best, no_answers, strict=True)
        ]

    def _windows(self, pairs: Sequence[Pair]) -> list[Window]:
        queries = [self._cut(query) for query, _ in pairs]
        documents = [document if document.strip() else "." for _, document in pairs]  # an empty text has no window
        return list(split_into_windows(self._tokenizer, queries, documents, self._max_length))

    def _cut(self, query: str) -> str:
        """The query, cut to half the window if longer."""
        limit = self._max_length // 2
        ids: list[int] = self._tokenizer(query, add_special_tokens=False, verbose=False)["input_ids"]
        return query if len(ids) <= limit else str(self._tokenizer.decode(ids[:limit]))

    def _logits(self, windows: Sequence[Window]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Start logits, end logits and document mask, (windows, tokens); logits of "no answer", (windows,)."""
        width, device = max(map(len, windows)), next(self._network.parameters()).device
        padding = {"input_ids": pad_id(self._tokenizer)}
        batch = {
            name: torch.tensor([_padded(window.inputs[name], width, padding.get(name, 0)) for window in windows])
            for name in windows[0].inputs
        }
        outputs: Any = self._network(**{name: tensor.to(device) for name, tensor in batch.items()})
        start, end = outputs.start_logits.float().cpu(), outputs.end_logits.float().cpu()
        allowed = torch.tensor([_padded(window.in_document, width, False) for window in windows])
        cls_positions = torch.tensor([window.no_answer for window in windows])[:, None]
        no_answer = (start.gather(1, cls_positions) + end.gather(1, cls_positions))[:, 0]
        return start, end, allowed, no_answer


def split_into_windows(
    tokenizer: Any, queries: Sequence[str], documents: Sequence[str], max_length: int
) -> Iterator[Window]:
    """Overlapping windows of each document, each after its query."""
    encoded = tokenizer(
        list(queries),
        list(documents),
        truncation="only_second",
        max_length=max_length,
        stride=min(STRIDE, max_length // 4),
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    offsets, pairs = encoded.pop("offset_mapping"), encoded.pop("overflow_to_sample_mapping")
    for row, pair in enumerate(pairs):
        inputs = {name: list(values[row]) for name, values in encoded.items()}
        in_document, ids = [part == 1 for part in encoded.sequence_ids(row)], inputs["input_ids"]
        no_answer = ids.index(tokenizer.cls_token_id) if tokenizer.cls_token_id in ids else 0
        yield Window(pair, inputs, in_document, no_answer, offsets[row])


def best_spans(
    start: Tensor, end: Tensor, allowed: Tensor, max_tokens: int = MAX_ANSWER_TOKENS
) -> tuple[list[float], list[int], list[int]]:
    """The highest start + end over spans of at most `max_tokens` allowed tokens, and the spans' first and last tokens.

    Arguments are (texts, tokens), results (texts,).
    """
    tokens = start.shape[1]
    totals = start[:, :, None] + end[:, None, :]  # (texts, tokens, tokens)
    in_order = torch.ones(tokens, tokens, dtype=torch.bool).triu().tril(max_tokens - 1)
    valid = in_order & allowed[:, :, None] & allowed[:, None, :]
    values, positions = totals.masked_fill(~valid, -torch.inf).flatten(1).max(dim=1)
    return values.tolist(), (positions // tokens).tolist(), (positions % tokens).tolist()


def _padded(values: Sequence[Any], width: int, padding: object) -> list[Any]:
    return [*values, *[padding] * (width - len(values))]
