"""What the endpoints send, as JSON has it: pure functions of hits, answers, vectors and scores (wire.py: shapes)."""

from __future__ import annotations

import base64
import math
import time
from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from inpars.answering.records import Answer, Hit
from inpars.errors import ConfigError

Row: TypeAlias = dict[str, Any]
"""A response as JSON has it."""


def hit_row(hit: Hit) -> Row:
    """A hit, as `wire.HitOut`."""
    return {
        "doc_id": hit.document.doc_id,
        "title": hit.document.title,
        "text": hit.document.text,
        "score": hit.score,
        "scores": dict(hit.scores),
        "spans": [{"start": span.start, "end": span.end} for span in hit.spans],
        "metadata": dict(hit.metadata),
    }


def answer_row(answer: Answer) -> Row:
    """An answer, as `wire.AnswerOut` without its time."""
    span = answer.span
    return {
        "question": answer.question,
        "kind": answer.kind,
        "answered": answer.answered,
        "text": answer.text,
        "reason": answer.reason,
        "method": answer.method,
        "score": answer.score,
        "span": None if span is None else {"start": span.start, "end": span.end},
        "cited": list(answer.cited),
        "sources": [hit_row(hit) for hit in answer.sources],
    }


def ranked_row(place: int, score: float, *, raw: bool = False) -> Row:
    """One document of `wire.RerankResponse`."""
    return {"index": place, "relevance_score": score if raw else _logistic(score), "score": score}


def _logistic(margin: float) -> float:
    """Between 0 and 1; of monoT5's margin it is the probability of `true`."""
    return 1 / (1 + math.exp(-margin)) if margin > -700 else 0.0


def shortened(vector: npt.NDArray[np.float32], dimensions: int | None) -> npt.NDArray[np.float32]:
    """The first numbers, of unit length again, as Matryoshka models are cut."""
    if dimensions is None or dimensions == len(vector):
        return vector
    if dimensions > len(vector):
        raise ConfigError(f"dimensions: {dimensions} asked for, the model has {len(vector)}")
    part = vector[:dimensions]
    norm = float(np.linalg.norm(part))
    return part / np.float32(norm) if norm else part


def packed(vector: npt.NDArray[np.float32]) -> str:
    """A vector as OpenAI's base64: little-endian float32."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def usage(tokens: Iterable[int]) -> Row:
    """What a request cost, in tokens."""
    total = sum(tokens)
    return {"prompt_tokens": total, "total_tokens": total}


def since(started: float) -> float:
    """Milliseconds since a value of `time.perf_counter`."""
    return round((time.perf_counter() - started) * 1000, 2)
