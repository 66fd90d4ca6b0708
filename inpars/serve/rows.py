"""Hits and answers as JSON, for HTTP and for agents (wire.py: shapes)."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any, TypeAlias

from inpars.qa.records import Answer, Hit

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
    row = asdict(replace(answer, sources=(), alternatives=()))
    del row["alternatives"]
    return row | {"sources": [hit_row(hit) for hit in answer.sources]}
