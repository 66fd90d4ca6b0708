"""Hits and answers as lines for a terminal, and as JSON. Control characters of documents never reach the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from inpars.qa.records import Answer, Hit, Span

EXCERPT = 240  # characters of a hit
AROUND = 80  # characters shown beside an answer
MARKS = ("»", "«")
LINE_BREAKS = "\n\t\r\v\f\u2028\u2029"


def hit_lines(number: int, hit: Hit) -> list[str]:
    """A hit: its number, score, title and place, then what it says around the query's words."""
    part_scores = ", ".join(f"{name} {score:.3f}" for name, score in hit.scores.items())
    lines = [f"{number:>2}. {hit.score:.3f}  {heading(hit)}" + (f"  ({part_scores})" if part_scores else "")]
    return [*lines, f"    {excerpt(hit.document.text, hit.spans)}"]


def answer_lines(answer: Answer) -> Iterator[str]:
    """An answer, its score and who gave it, and the sources it cites; or that there is none, and the nearest hits."""
    if not answer.answered:
        yield f"No answer: {answer.reason}. ({answer.method})"
        if answer.sources:
            yield "Nearest sources:"
    else:
        score = "" if answer.score is None else f"score {answer.score:.3f}, "
        yield plain(answer.text) if answer.kind == "generated" else around(answer)
        yield f"({score}{answer.method})"
        yield "Sources:"
    numbers = answer.cited if answer.answered else range(1, min(3, len(answer.sources)) + 1)
    for number in numbers:
        hit = answer.sources[number - 1]
        yield f"[{number}] {heading(hit)}"
        yield f"    {excerpt(hit.document.text, hit.spans)}"


def heading(hit: Hit) -> str:
    """Title and id of a hit, and where it comes from as far as that is known."""
    document, origin = hit.document, where(hit)
    name = f"{plain(document.title)} [{plain(document.doc_id)}]" if document.title else plain(document.doc_id)
    return f"{name}, {origin}" if origin else name


def where(hit: Hit) -> str:
    """Source, page and headings that ingestion wrote down."""
    metadata = hit.metadata
    parts = [str(metadata[name]) for name in ("source",) if metadata.get(name)]
    parts += [f"page {metadata['page']}"] if metadata.get("page") is not None else []
    headings = metadata.get("headings") or metadata.get("heading")
    if headings:
        parts.append(" > ".join(map(str, headings)) if isinstance(headings, list) else str(headings))
    return plain(", ".join(parts))


def around(answer: Answer) -> str:
    """The answer between marks, in what stands beside it in its source."""
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
    """The part of a text with most of the query's words, which are marked."""
    begin = _densest(spans)
    begin = 0 if begin < EXCERPT // 4 else text.rfind(" ", 0, begin - EXCERPT // 8) + 1
    end = min(len(text), begin + EXCERPT)
    parts, position = [], begin
    for span in spans:
        if span.start >= begin and span.end <= end:
            parts += [text[position : span.start], MARKS[0], span.of(text), MARKS[1]]
            position = span.end
    marked = "".join([*parts, text[position:end]])
    return plain(("…" if begin else "") + marked + ("…" if end < len(text) else ""))


def plain(text: str) -> str:
    """One line without control characters."""
    signs = (" " if sign in LINE_BREAKS else sign for sign in text)
    return " ".join("".join(sign for sign in signs if sign.isprintable()).split())


def hit_values(hit: Hit, number: int) -> dict[str, Any]:
    """A hit as JSON has it."""
    return {
        "rank": number,
        "doc_id": hit.document.doc_id,
        "score": hit.score,
        "scores": dict(hit.scores),
        "title": hit.document.title,
        "text": hit.document.text,
        "spans": [[span.start, span.end] for span in hit.spans],
        "metadata": dict(hit.metadata),
    }


def answer_values(answer: Answer) -> dict[str, Any]:
    """An answer as JSON has it."""
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
        "sources": [hit_values(hit, number) for number, hit in enumerate(answer.sources, start=1)],
    }


def _densest(spans: Iterable[Span]) -> int:
    """Where the stretch of an excerpt's length begins that has most spans."""
    starts = [span.start for span in spans]
    counts = [sum(first <= start < first + EXCERPT for start in starts) for first in starts]
    return starts[counts.index(max(counts))] if starts else 0
