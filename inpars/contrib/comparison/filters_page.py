"""The filter laboratory as one HTML file and as a table of plain text. Values in, text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from inpars.filtering.filter_comparison import SPREAD
from inpars.reports.render import render_page

DOCUMENT_CHARACTERS = 160
Values = Mapping[str, Any]
COLUMNS = {  # of a filter's measures: the heading, and how a value is written
    "queries": ("queries", "{:d}"),
    "mean_words": ("mean words", "{:.1f}"),
    "openings": ("openings", "{:d}"),
    "bm25_finds": ("BM25 finds", "{:.1%}"),
    "threshold": ("lowest score", "{:.4g}"),
}


def table_lines(results: Values) -> list[str]:
    """The table of filters and their overlaps, for people at a terminal."""
    rows = [["filter", *(heading for heading, _ in COLUMNS.values())]]
    rows += [[name, *_cells(measures)] for name, measures in _all_rows(results)]
    names = list(results["filters"])
    rows += [[""], ["shared (Jaccard)", *(str(number) for number in range(1, len(names) + 1))]]
    rows += [
        [f"{number} {name}", *(f"{results['overlap'][name][other]:.2f}" for other in names)]
        for number, name in enumerate(names, start=1)
    ]
    first = max(len(row[0]) for row in rows)
    return ["  ".join([row[0].ljust(first), *(cell.rjust(10) for cell in row[1:])]).rstrip() for row in rows]


def render_laboratory(title: str, results: Values) -> str:
    """The whole page."""
    rows = [(name, _cells(measures)) for name, measures in _all_rows(results)]
    headings = [heading for heading, _ in COLUMNS.values()]
    return render_page(
        "laboratory.html",
        title=title,
        lead=_lead(results),
        results=results,
        rows=rows,
        headings=headings,
        keeps_best=lambda name: not name.startswith(SPREAD),
        characters=DOCUMENT_CHARACTERS,
    )


def _lead(results: Values) -> str:
    dropped = ", ".join(f"{reason.replace('_', ' ')} {count}" for reason, count in results["dropped"].items())
    return (
        f"{results['read']} queries; {results['pool']['queries']} pass the guards"
        + (f" (left out: {dropped})" if dropped else "")
        + f". Each filter alone keeps at most {results['k']} of them."
    )


def _all_rows(results: Values) -> list[tuple[str, Values]]:
    return [("all that pass the guards", results["pool"]), *results["filters"].items()]


def _cells(measures: Values) -> list[str]:
    return ["-" if measures[key] is None else form.format(measures[key]) for key, (_, form) in COLUMNS.items()]


def slugs(names: Sequence[str]) -> dict[str, str]:
    """A file name for each filter, made of letters, digits and `._=-`; equal ones get a number."""
    found: dict[str, str] = {}
    for name in names:
        plain = "".join(letter if letter.isalnum() or letter in "._=-" else "-" for letter in name).strip("-.")
        taken = set(found.values())
        choices = [plain, *(f"{plain}-{number}" for number in range(2, len(names) + 2))]
        found[name] = next(choice for choice in choices if choice not in taken)
    return found
