"""The filter laboratory as one HTML file and as a table of plain text. Values in, text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from inpars.filtering.laboratory import SPREAD
from inpars.reports.charts import line_chart
from inpars.reports.report import STYLE

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
    parts = [
        f"<h1>{escape(title)}</h1><p class=lead>{escape(_lead(results))}</p>",
        _measures(results),
        _overlap(results),
        *(_filter(name, measures, results) for name, measures in results["filters"].items()),
    ]
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{escape(title)}</title><style>{STYLE}</style><body>{''.join(parts)}</body></html>\n"
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


def _measures(results: Values) -> str:
    head = "".join(f"<th class=n>{escape(heading)}</th>" for heading, _ in COLUMNS.values())
    rows = "".join(
        f"<tr><td>{escape(name)}</td>{''.join(f'<td class=n>{escape(cell)}</td>' for cell in _cells(measures))}</tr>"
        for name, measures in _all_rows(results)
    )
    return (
        f"<h2>What each filter keeps</h2><div class=wide><table><tr><th>filter</th>{head}</tr>{rows}</table></div>"
        "<p class=lead>Openings: different first two words. BM25 finds: share of the queries whose own document is "
        "among BM25's first; known where bm25_rank is given.</p>"
    )


def _overlap(results: Values) -> str:
    names = list(results["filters"])
    head = "".join(f"<th class=n>{number}</th>" for number in range(1, len(names) + 1))
    rows = "".join(
        f"<tr><td>{number} {escape(name)}</td>"
        + "".join(f"<td class=n>{results['overlap'][name][other]:.2f}</td>" for other in names)
        + "</tr>"
        for number, name in enumerate(names, start=1)
    )
    return (
        "<h2>How far they agree</h2><div class=wide><table>"
        f"<tr><th>shared of both (Jaccard)</th>{head}</tr>{rows}</table></div>"
    )


def _filter(name: str, measures: Values, results: Values) -> str:
    curve = measures["curve"]
    spread = name.startswith(SPREAD)  # which does not keep the first
    cut = None if spread else float(measures["queries"])
    chart = line_chart(curve["ranks"], curve["scores"], "rank", "score", cut=cut)
    caption = "Scores of the queries from the best down"
    caption += ", of which each group's best are kept." if spread else f"; the line is where {cut:.0f} are kept."
    parts = [f"<h2>{escape(name)}</h2><figure>{chart}<figcaption>{caption}</figcaption></figure>"]
    for title, key in (("The last that stay", "above"), ("The first that go", "below")):
        if measures[key]:
            rows = "".join(map(_sample, measures[key]))
            parts.append(
                f"<div class=wide><table><tr><th>{title}</th><th class=n>score</th><th>document</th></tr>{rows}"
                "</table></div>"
            )
    return "".join(parts)


def _sample(sample: Values) -> str:
    return (
        f"<tr><td>{escape(sample['query'])}</td><td class=n>{_score(sample['score'])}</td>"
        f"<td class=soft>{escape(shorten(sample['document']))}</td></tr>"
    )


def _score(score: float | None) -> str:
    return "-" if score is None else f"{score:.4g}"


def shorten(text: str, characters: int = DOCUMENT_CHARACTERS) -> str:
    """The beginning of a text."""
    return text if len(text) <= characters else text[: characters - 1] + "…"


def slugs(names: Sequence[str]) -> dict[str, str]:
    """A file name for each filter, made of letters, digits and `._=-`; equal ones get a number."""
    found: dict[str, str] = {}
    for name in names:
        plain = "".join(letter if letter.isalnum() or letter in "._=-" else "-" for letter in name).strip("-.")
        taken = set(found.values())
        choices = [plain, *(f"{plain}-{number}" for number in range(2, len(names) + 2))]
        found[name] = next(choice for choice in choices if choice not in taken)
    return found
