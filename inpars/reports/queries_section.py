"""The parts of a report about what training was made from: written queries and hard negatives. Values in, HTML out."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from inpars.evaluation.wording import counted
from inpars.reports.charts import bar, filled_legend, histogram, line_chart
from inpars.reports.content import NegativeExample, Negatives, QueryExample, Written
from inpars.reports.page import Cell, cards, figure, figures, heading, number, paragraph, table
from inpars.reports.results_section import passage

SHOWN_CHARACTERS = 180


def written_html(written: Written | None) -> str:
    """Scores with the cut, what was dropped and why, examples of both."""
    if written is None or not written.count:
        return ""
    score, cut = written.score_name.replace("_", " "), written.lowest_kept
    dropped = written.count - written.kept
    return "".join(
        [
            figures(
                figure(
                    histogram(written.bins, score, cut=cut),
                    f"Scores of {counted(written.count, 'written query', 'written queries')}; the line is the lowest "
                    "score that was kept.",
                    filled_legend([(f"kept ({written.kept:,})", "kept"), (f"dropped ({dropped:,})", "dropped")]),
                ),
                figure(
                    line_chart(
                        [written.keep_curve],
                        "queries, best first",
                        score,
                        cut=float(written.kept),
                        cut_label=f"{written.kept:,} kept",
                        whole=True,
                    ),
                    "Keep-curve: the score of the last of so many queries, among those that pass the checks.",
                ),
            ),
            _dropped(written),
            _examples("Kept, from the best down", written.kept_examples, score),
            _examples("Dropped", written.dropped_examples, score),
        ]
    )


def negatives_html(negatives: Negatives | None) -> str:
    """Ranks and scores of the negatives, examples, and those that may answer the query after all."""
    if negatives is None or not negatives.count:
        return ""
    charts = figures(
        figure(histogram(negatives.ranks, "rank", unit="negatives"), "Ranks that the negatives were drawn at."),
        figure(
            histogram(negatives.shares, "score of the negative / score of the positive", cut=1.0, unit="negatives"),
            f"How near the negatives come to their positives; {negatives.at_least_positive:,} of {negatives.count:,} "
            "score at least as high.",
        ),
    )
    suspects = cards(map(_negative, negatives.suspects))
    return (
        charts
        + _titled("Examples", cards(map(_negative, negatives.examples)))
        + _titled("Suspected false negatives", suspects, negatives.suspects_from)
    )


def _dropped(written: Written) -> str:
    if not written.dropped:
        return ""
    most = max(written.dropped.values())
    rows = [
        [
            Cell(reason.replace("_", " ")),
            Cell(f"{count:,}", "n"),
            Cell(f"{count / written.count:.1%}", "n"),
            Cell("", "bar", raw=bar(count / most, "dropped")),
        ]
        for reason, count in sorted(written.dropped.items(), key=lambda item: -item[1])
    ]
    head = [Cell("reason"), Cell("queries", "n"), Cell("share", "n"), Cell("beside the most frequent", "bar")]
    return heading("Why queries were dropped") + table("Dropped queries by reason", head, rows)


def _examples(title: str, examples: Sequence[QueryExample], score: str) -> str:
    return _titled(title, cards(_example(one, score) for one in examples))


def _example(one: QueryExample, score: str) -> str:
    reason = f" · {one.reason.replace('_', ' ')}" if one.reason else ""
    return (
        f"<p class=query>{escape(one.query) or '(empty)'}</p>"
        f"<p class=facts>{escape(score)} {number(one.score, '.3f')}{escape(reason)}</p>"
        + passage("document", one.document, SHOWN_CHARACTERS)
    )


def _negative(one: NegativeExample) -> str:
    rank = f" · rank {one.rank}" if one.rank is not None else ""
    scores = f" · {one.scored_by} {number(one.score, '.2f')}, positive {number(one.positive_score, '.2f')}"
    return (
        f"<p class=query>{escape(one.query)}</p><p class=facts>{escape(one.source + rank + scores)}</p>"
        + passage("positive", one.positive, SHOWN_CHARACTERS)
        + passage("negative", one.negative, SHOWN_CHARACTERS)
    )


def _titled(title: str, content: str, words: str = "") -> str:
    return heading(title) + paragraph(words, "soft") + content if content else ""
