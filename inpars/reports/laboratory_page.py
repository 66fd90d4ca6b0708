"""The filter laboratory as one HTML file and as a table of plain text. Values in, text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from inpars.filtering.laboratory import SPREAD
from inpars.reports.charts import Series, line_chart
from inpars.reports.page import Cell, Section, figure, page, paragraph, shorten, table

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
    sections = [
        Section("What each filter keeps", _measures(results)),
        Section("How far they agree", _overlap(results)),
        *(
            Section(name, _filter(name, measures), f"filter-{number}")
            for number, (name, measures) in enumerate(results["filters"].items(), start=1)
        ),
    ]
    return page(title, _lead(results), sections)


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


def _measures(results: Values) -> str:
    head = [Cell("filter"), *(Cell(heading, "n") for heading, _ in COLUMNS.values())]
    rows = [[Cell(name), *(Cell(cell, "n") for cell in _cells(measures))] for name, measures in _all_rows(results)]
    return table("What each filter keeps", head, rows) + paragraph(
        "Openings: different first two words. BM25 finds: share of the queries whose own document is among BM25's "
        "first; known where bm25_rank is given.",
        "soft",
    )


def _overlap(results: Values) -> str:
    names = list(results["filters"])
    head = [Cell("shared of both (Jaccard)"), *(Cell(str(number), "n") for number in range(1, len(names) + 1))]
    rows = [
        [Cell(f"{number} {name}"), *(Cell(f"{results['overlap'][name][other]:.2f}", "n") for other in names)]
        for number, name in enumerate(names, start=1)
    ]
    return table("How far the filters agree", head, rows)


def _filter(name: str, measures: Values) -> str:
    curve, spread = measures["curve"], name.startswith(SPREAD)  # which does not keep the first
    kept = measures["queries"]
    chart = line_chart(
        [Series(name, curve["ranks"], curve["scores"])],
        "queries, best first",
        "score",
        cut=None if spread else float(kept),
        cut_label=f"{kept} kept",
        whole=True,
    )
    caption = "Scores of the queries from the best down"
    caption += ", of which each group's best are kept." if spread else f"; the line is where {kept} are kept."
    parts = [figure(chart, caption)]
    for title, key in (("The last that stay", "above"), ("The first that go", "below")):
        head = [Cell(title), Cell("score", "n"), Cell("document")]
        parts.append(table(f"{name}: {title}", head, map(_sample, measures[key])))
    return "".join(parts)


def _sample(sample: Values) -> list[Cell]:
    document = shorten(sample["document"], DOCUMENT_CHARACTERS)
    return [Cell(sample["query"]), Cell(_score(sample["score"]), "n"), Cell(document, "soft")]


def _score(score: float | None) -> str:
    return "-" if score is None else f"{score:.4g}"


def slugs(names: Sequence[str]) -> dict[str, str]:
    """A file name for each filter, made of letters, digits and `._=-`; equal ones get a number."""
    found: dict[str, str] = {}
    for name in names:
        plain = "".join(letter if letter.isalnum() or letter in "._=-" else "-" for letter in name).strip("-.")
        taken = set(found.values())
        choices = [plain, *(f"{plain}-{number}" for number in range(2, len(names) + 2))]
        found[name] = next(choice for choice in choices if choice not in taken)
    return found
