"""Search logs and votes: which documents people chose for a query.

A click says that a title looked right at its rank, not that the document answers; `--min-clicks` and
`--min-click-rate` filter out chance clicks. `inpars serve` writes the votes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inpars.errors import DataFormatError
from inpars.io.fields import checked_id, finite_number, first_present, text_of
from inpars.io.record_files import read_records, records_form
from inpars.io.storage import read_jsonl
from inpars.io.tables import DOC_ID_FIELDS, RecordSchema
from inpars.pairs.records import Pair, is_blank, text_key

QUERY_FIELDS = ("query", "query_text", "search_term", "q", "text")
DOCUMENT_FIELDS = ("doc_id", "docid", "document_id", "clicked_doc_id", *DOC_ID_FIELDS)
CLICKS, IMPRESSIONS = ("clicks", "clicked", "click"), ("impressions", "impression", "shown")
COLUMNS = RecordSchema(
    "a search log",
    QUERY_FIELDS,
    DOCUMENT_FIELDS,
    (*CLICKS, *IMPRESSIONS),
    ("query", "doc_id", "clicked", "impressions"),
)
TRUTHS = {"true": 1.0, "t": 1.0, "yes": 1.0, "y": 1.0, "false": 0.0, "f": 0.0, "no": 0.0, "n": 0.0}


@dataclass(slots=True)
class _LogEntry:
    """Counts for one query."""

    spellings: Counter[str] = field(default_factory=Counter)
    clicks: Counter[str] = field(default_factory=Counter)  # by document
    impressions: Counter[str] = field(default_factory=Counter)


def click_pairs(paths: list[Path], *, min_clicks: int, min_click_rate: float, dropped: Counter[str]) -> Iterator[Pair]:
    """A pair per query with enough clicks; its documents by clicks, descending.

    Without a clicks column each line is one click; without impressions each line is one impression. A blank cell is 0.
    """
    entries: dict[tuple[str, ...], _LogEntry] = {}
    for path in paths:
        for number, record in read_records(path, records_form(path, COLUMNS), COLUMNS):
            _count(record, path, number, entries, dropped)
    for entry in entries.values():
        clicked = {}
        for doc_id, clicks in sorted(entry.clicks.items(), key=lambda item: (-item[1], item[0])):
            if clicks < min_clicks:
                dropped["too_few_clicks" if clicks else "not_clicked"] += 1
            elif clicks < min_click_rate * entry.impressions[doc_id]:
                dropped["low_click_rate"] += 1
            else:
                clicked[doc_id] = clicks
        if clicked:
            text = min(entry.spellings, key=lambda spelling: (-entry.spellings[spelling], spelling))
            impressions = {doc_id: entry.impressions[doc_id] for doc_id in clicked}
            yield Pair(text, "click", dict.fromkeys(clicked, 1), {"clicks": clicked, "impressions": impressions})


def _count(
    record: Mapping[str, Any], path: Path, number: int, entries: dict[tuple[str, ...], _LogEntry], dropped: Counter[str]
) -> None:
    for reason, names in (("empty", QUERY_FIELDS), ("no_document", DOCUMENT_FIELDS)):
        if (name := _column(record, names)) is not None and is_blank(record[name]):  # a search without a click
            dropped[reason] += 1
            return
    text = " ".join(text_of(record, QUERY_FIELDS, path, number).split())
    doc_id = checked_id(first_present(record, DOCUMENT_FIELDS, path, number), path, number)
    clicks, impressions = _number(record, CLICKS, path, number), _number(record, IMPRESSIONS, path, number)
    entry = entries.setdefault(text_key(text), _LogEntry())
    entry.spellings[text] += 1
    entry.clicks[doc_id] += clicks
    entry.impressions[doc_id] += max(impressions, clicks)


def _column(record: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in record), None)


def _number(record: Mapping[str, Any], names: tuple[str, ...], path: Path, number: int) -> int:
    """A count: a whole number of at least 0, or true or false; 0 if it is blank, 1 if there is none."""
    name = _column(record, names)
    value = 1 if name is None else 0 if is_blank(record[name]) else record[name]
    text = str(value).strip().lower()
    count = TRUTHS[text] if text in TRUTHS else finite_number(text, path, number, field=names[0])
    if count < 0 or not math.isclose(count, round(count)):
        raise DataFormatError(
            "must be a whole number of at least 0", path=path, line=number, field=names[0], excerpt=text
        )
    return round(count)


def vote_pairs(paths: list[Path], dropped: Counter[str]) -> Iterator[Pair]:
    """A pair per query with a thumbs-up; the last vote per query and document counts."""
    votes: dict[tuple[str, ...], dict[str, int | None]] = {}
    texts: dict[tuple[str, ...], str] = {}
    for path in paths:
        for number, record in read_jsonl(path):
            text = " ".join(text_of(record, ("query",), path, number).split())
            doc_id = checked_id(first_present(record, ("doc_id",), path, number), path, number)
            relevance = record.get("relevance")
            if relevance is not None and type(relevance) is not int:
                problem = "must be a whole number, or null for a vote that was taken back"
                raise DataFormatError(problem, path=path, line=number, field="relevance", excerpt=repr(relevance))
            key = text_key(text)
            texts.setdefault(key, text)
            votes.setdefault(key, {})[doc_id] = relevance
    for key, query_votes in votes.items():
        dropped["taken_back"] += sum(relevance is None for relevance in query_votes.values())
        dropped["voted_down"] += sum(relevance is not None and relevance <= 0 for relevance in query_votes.values())
        grades = {
            doc_id: relevance for doc_id, relevance in query_votes.items() if relevance is not None and relevance > 0
        }
        if grades and key:
            yield Pair(texts[key], "vote", grades)
