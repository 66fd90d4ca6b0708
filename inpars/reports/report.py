"""One HTML file that shows what a run did and what it was worth. Knows nothing of how; values in, text out."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from inpars.evaluation.measures import Evaluation
from inpars.evaluation.significance import Difference
from inpars.filtering.filters import Verdict
from inpars.reports.charts import histogram, line_chart

EXAMPLES = 10
STYLE = """
:root { color-scheme: light dark; --ink: #1d2733; --soft: #66717d; --line: #d6dce2; --kept: #2f7d6b; --drop: #c9b8a3;
  --cut: #b3422f; --paper: #fff }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9ee; --soft: #98a4b0; --line: #37424d; --kept: #5bb39d;
  --drop: #6d6152; --cut: #e0705c; --paper: #14191f } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin-bottom: 0 } h2 { font-size: 1.15rem; margin-top: 2.2rem }
p.lead, td.soft, figcaption, footer { color: var(--soft) }
div.wide { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top }
th.n, td.n { text-align: right } td.s { white-space: nowrap } tr.best td { font-weight: 600 }
svg { width: 100%; height: auto } svg text { font-size: 11px; fill: var(--soft) }
.kept { fill: var(--kept) } .dropped { fill: var(--drop) } .axis { fill: none; stroke: var(--line) }
.cut { stroke: var(--cut); stroke-width: 1.5 } .curve { fill: none; stroke: var(--kept); stroke-width: 1.5 }
.better { color: var(--kept) } .worse { color: var(--cut) } pre { overflow-x: auto; font-size: .85rem }
"""


@dataclass(frozen=True, slots=True)
class Report:
    """What a report shows; parts that a run does not have are left empty."""

    title: str
    lead: str
    metrics: Sequence[str]
    results: Mapping[str, Evaluation]
    differences: Mapping[str, Mapping[str, Difference]]
    verdicts: Sequence[Verdict]
    document_texts: Mapping[str, str]  # of the documents of the queries shown
    score_name: str
    curves: Mapping[str, Mapping[str, Sequence[float]]]  # name -> {"steps": ..., "losses": ...}
    settings: Mapping[str, Any]


def render(report: Report) -> str:
    """The whole page."""
    parts = [
        f"<h1>{escape(report.title)}</h1><p class=lead>{escape(report.lead)}</p>",
        _results(report),
        _scores(report),
        _examples(report),
        *(_curve(name, curve) for name, curve in report.curves.items()),
        _settings(report.settings),
    ]
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{escape(report.title)}</title><style>{STYLE}</style><body>{''.join(parts)}</body></html>\n"
    )


def shown_queries(verdicts: Sequence[Verdict], count: int = EXAMPLES) -> tuple[list[Verdict], list[Verdict]]:
    """Kept and dropped queries to show: spread evenly over the scores, dropped ones over the reasons."""
    kept = sorted((v for v in verdicts if v.reason is None), key=lambda v: -v.score)
    by_reason: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        if verdict.reason is not None:
            by_reason.setdefault(verdict.reason, []).append(verdict)
    dropped: list[Verdict] = []
    while len(dropped) < count and any(by_reason.values()):
        for found in by_reason.values():
            if found and len(dropped) < count:
                dropped.append(found.pop(0))
    step = max(1, len(kept) // count)
    return kept[::step][:count], dropped


def _results(report: Report) -> str:
    if not report.results:
        return "<h2>Results</h2><p>No judged queries, so nothing was measured.</p>"
    judged = report.metrics[0]
    baseline = next(name for name in report.results if name not in report.differences[judged])
    best = max(report.results, key=lambda name: report.results[name].means[judged])
    head = "".join(f"<th class=n>{escape(metric)}</th>" for metric in report.metrics)
    rows = "".join(
        f"<tr{' class=best' if name == best else ''}><td>{escape(name)}</td>"
        + "".join(f"<td class=n>{result.means[metric]:.4f}</td>" for metric in report.metrics)
        + _difference(report.differences[judged].get(name))
        + "</tr>"
        for name, result in report.results.items()
    )
    queries = next(iter(report.results.values())).queries
    return (
        f"<h2>Results</h2><div class=wide><table><tr><th>system</th>{head}<th class=n>{escape(judged)} against "
        f"{escape(baseline)}</th><th>95% interval</th><th>paired test</th></tr>{rows}</table></div>"
        f"<p class=lead>{queries} judged queries. Randomisation test over queries, Holm-adjusted for the number of "
        "systems; interval by bootstrap.</p>"
    )


def _difference(difference: Difference | None) -> str:
    if difference is None:
        return "<td></td><td></td><td class=soft>baseline</td>"
    word = ("better" if difference.mean > 0 else "worse") if difference.is_believed() else "not significant"
    return (
        f"<td class=n>{difference.mean:+.4f}</td><td class=s>{difference.low:+.4f} to {difference.high:+.4f}</td>"
        f"<td class='{word.split(maxsplit=1)[0]}'>{word} (p = {difference.adjusted_p_value:.3f})</td>"
    )


def _scores(report: Report) -> str:
    kept = [v.score for v in report.verdicts if v.reason is None and math.isfinite(v.score)]
    dropped = [v.score for v in report.verdicts if v.reason is not None and math.isfinite(v.score)]
    if not kept:
        return ""
    chart = histogram(kept, dropped, report.score_name.replace("_", " "), cut=min(kept))
    caption = f"{len(kept)} queries kept, {len(dropped)} dropped; the line is the lowest score that was kept."
    return f"<h2>Scores of the written queries</h2><figure>{chart}<figcaption>{caption}</figcaption></figure>"


def _examples(report: Report) -> str:
    kept, dropped = shown_queries(report.verdicts)
    parts = []
    for title, shown, reasons in (("Kept, from the best down", kept, ""), ("Dropped", dropped, "<th>reason</th>")):
        rows = "".join(_example(verdict, report.document_texts) for verdict in shown)
        if rows:
            head = f"<tr><th>query</th><th class=n>score</th>{reasons}<th>document</th></tr>"
            parts.append(f"<h2>{title}</h2><div class=wide><table>{head}{rows}</table></div>")
    return "".join(parts)


def _example(verdict: Verdict, document_texts: Mapping[str, str]) -> str:
    query = verdict.query
    document = _short(document_texts.get(query.doc_id, query.doc_id))
    reason = "" if verdict.reason is None else f"<td class=soft>{escape(verdict.reason.replace('_', ' '))}</td>"
    return (
        f"<tr><td>{escape(query.text) or '(empty)'}</td><td class=n>{verdict.score:.3f}</td>{reason}"
        f"<td class=soft>{escape(document)}</td></tr>"
    )


def _short(text: str, characters: int = 140) -> str:
    return text if len(text) <= characters else text[: characters - 1] + "…"


def _curve(name: str, curve: Mapping[str, Sequence[float]]) -> str:
    chart = line_chart(curve.get("steps", ()), curve.get("losses", ()), "step", "loss")
    return f"<h2>Training the {escape(name)}</h2><figure>{chart}</figure>"


def _settings(settings: Mapping[str, Any]) -> str:
    text = json.dumps(settings, indent=1, ensure_ascii=False, default=str)
    return f"<h2>Settings</h2><pre>{escape(text)}</pre>"
