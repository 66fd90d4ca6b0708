"""The part of a report that says how many documents, queries and triples each stage left. Values in, HTML out."""

from __future__ import annotations

from collections.abc import Sequence

from inpars.reports.content import FunnelRow
from inpars.reports.page import MINUS, Cell, paragraph, table


def funnel_html(rows: Sequence[FunnelRow]) -> str:
    """A row for what is left and for each reason why something is not."""
    if not rows:
        return ""
    words = "What each stage left out, and below it what it kept. The last column names what changes a count."
    head = [Cell("what"), Cell("count", "n"), Cell("changed by")]
    shown = [
        [
            Cell(row.what, "soft" if row.left_out else ""),
            Cell(f"{MINUS if row.left_out else ''}{row.count:,}", "n"),
            Cell(row.changed_by),
        ]
        for row in rows
    ]
    return paragraph(words, "soft") + table("From documents to training", head, shown)
