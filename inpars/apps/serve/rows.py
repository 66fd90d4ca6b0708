"""Hits and answers as JSON, for HTTP and for agents (wire.py: shapes)."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any, TypeAlias

from inpars.apps.qa.records import Answer, Hit, Span
from inpars.apps.qa.sentences import snippet

SNIPPET = 420  # characters

Row: TypeAlias = dict[str, Any]
"""A response as JSON has it."""


def hit_row(hit: Hit, quoted: Span | None = None) -> Row:
    """A hit, as `wire.HitOut`; the snippet is around what an answer quotes of it, if anything."""
    spans = hit.spans if quoted is None else (quoted,)
    return {
        "doc_id": hit.document.doc_id,
        "title": hit.document.title,
        "text": hit.document.text,
        "score": hit.score,
        "scores": dict(hit.scores),
        "ranks": dict(hit.ranks),
        "spans": [asdict(span) for span in hit.spans],
        "snippet": asdict(snippet(hit.document.text, spans, SNIPPET)),
        "metadata": dict(hit.metadata),
    }


def answer_row(answer: Answer) -> Row:
    """An answer, as `wire.AnswerOut` without its time."""
    row = asdict(replace(answer, sources=(), alternatives=()))
    del row["alternatives"]
    quoted = dict.fromkeys(answer.cited, answer.span)
    return row | {"sources": [hit_row(hit, quoted.get(number)) for number, hit in enumerate(answer.sources, start=1)]}
