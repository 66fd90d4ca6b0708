"""Hits and answers as lines for a terminal, without the documents' control characters, and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from inpars.apps.qa.records import Answer, Hit, Span
from inpars.apps.qa.sentences import snippet

WIDTH = 80  # columns
INDENT = " " * 4
EXCERPT = 240  # characters per hit
AROUND = 80  # characters of context on each side of an answer
MARKS = ("»", "«")
LINE_BREAKS = "\n\t\r\v\f\u2028\u2029"


def hit_lines(number: int, hit: Hit) -> list[str]:
    """A hit: its number and title, the sentences with the query's words, its origin, score and ranks."""
    ranks = ", ".join(f"{name} {rank}" for name, rank in hit.ranks.items())
    score = f"score {hit.score:.3f}" + (f" (rank: {ranks})" if ranks else "")
    title = plain(hit.document.title) or plain(hit.document.doc_id)
    return [
        *_wrapped(title, f"{number:>2}. "),
        *_wrapped(excerpt(hit.document.text, hit.spans)),
        *_wrapped(" · ".join(filter(None, [where(hit), score]))),
    ]


def answer_lines(answer: Answer) -> Iterator[str]:
    """An answer with its score, method and cited sources; without an answer, the reason and the nearest sources."""
    if not answer.answered:
        yield f"No answer: {answer.reason}. ({answer.method})"
        if answer.sources:
            yield "Nearest sources:"
    else:
        score = "" if answer.score is None else f"score {answer.score:.3f}, "
        if answer.closest:
            yield "Closest passage; no reader has judged whether it answers:"
        yield from _wrapped(plain(answer.text) if answer.kind == "generated" else around(answer), "", "")
        yield f"({score}{answer.method})"
        yield "Sources:"
    numbers = answer.cited if answer.answered else range(1, min(3, len(answer.sources)) + 1)
    for number in numbers:
        hit = answer.sources[number - 1]
        yield from _wrapped(plain(hit.document.title) or plain(hit.document.doc_id), f"[{number}] ")
        yield from _wrapped(excerpt(hit.document.text, hit.spans))
        yield from _wrapped(where(hit))


def where(hit: Hit) -> str:
    """Id, source, headings and page, without what the title or the id contains already."""
    document, metadata = hit.document, hit.metadata
    parts = [f"[{document.doc_id}]"] if document.title else []
    headings = metadata.get("headings") or metadata.get("heading") or []
    for value in (metadata.get("source"), *(headings if isinstance(headings, list) else [headings])):
        if value and not any(str(value) in text for text in (document.title or document.doc_id, *parts)):
            parts.append(str(value))
    page = metadata.get("page")
    return plain(", ".join([*parts, *([] if page is None else [f"page {page}"])]))


def around(answer: Answer) -> str:
    """The answer between marks, with its context in the source."""
    source, span = answer.source, answer.span
    if source is None or span is None:
        return plain(answer.text)
    text = source.document.text
    start, end = max(0, span.start - AROUND), min(len(text), span.end + AROUND)
    before, after = text[start : span.start], text[span.end : end]
    before = before if start == 0 else "…" + before.partition(" ")[2]
    after = after if end == len(text) else after.rpartition(" ")[0] + "…"
    return plain(f"{before}{MARKS[0]}{span.of(text)}{MARKS[1]}{after}")


def excerpt(text: str, spans: Sequence[Span]) -> str:
    """The sentences of a text with most of the query's words, which are marked."""
    shown = snippet(text, spans, EXCERPT)
    parts, position = [], shown.start
    for span in spans:
        if span.start >= position and span.end <= shown.end:
            parts += [text[position : span.start], MARKS[0], span.of(text), MARKS[1]]
            position = span.end
    return plain("".join([*parts, text[position : shown.end]]))


def plain(text: str) -> str:
    """One line without control characters."""
    chars = (" " if char in LINE_BREAKS else char for char in text)
    return " ".join("".join(char for char in chars if char.isprintable()).split())


def hit_values(hit: Hit, number: int) -> dict[str, Any]:
    """A hit as a JSON object."""
    return {
        "rank": number,
        "doc_id": hit.document.doc_id,
        "score": hit.score,
        "scores": dict(hit.scores),
        "ranks": dict(hit.ranks),
        "title": hit.document.title,
        "text": hit.document.text,
        "spans": [[span.start, span.end] for span in hit.spans],
        "metadata": dict(hit.metadata),
    }


def answer_values(answer: Answer) -> dict[str, Any]:
    """An answer as a JSON object."""
    return {
        "question": answer.question,
        "answered": answer.answered,
        "kind": answer.kind,
        "text": answer.text,
        "score": answer.score,
        "span": [answer.span.start, answer.span.end] if answer.span else None,
        "cited": list(answer.cited),
        "method": answer.method,
        "reason": answer.reason,
        "closest": answer.closest,
        "sources": [hit_values(hit, number) for number, hit in enumerate(answer.sources, start=1)],
    }


def _wrapped(text: str, first: str = INDENT, rest: str = INDENT) -> list[str]:
    """Lines for a terminal; words longer than a line, such as ids, stay whole."""
    wrapper = textwrap.TextWrapper(WIDTH, first, rest, break_long_words=False, break_on_hyphens=False)
    return wrapper.wrap(text)
