"""Render reports as self-contained HTML with this package's templates, which escape all values.

Pages have no scripts and load nothing; their content security policy forbids both in case an escape is missing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inpars.evaluation.significance import FEWEST_QUERIES, Difference
from inpars.evaluation.verdicts import adjustment_in_words, counted, in_words
from inpars.io.storage import atomic_writer, to_json_line
from inpars.report import charts
from inpars.report.formatting import MINUS, comparisons, duration, number, p_value, shorten, size, span, verdict
from inpars.report.schema import DEPTHS, Report, StageFacts

if TYPE_CHECKING:
    from jinja2 import Environment

CHARTS = ("histogram", "line_chart", "legend", "filled_legend", "differences_chart", "bar", "diagram")  # for templates
MEASURES = {  # measure without its cutoff -> what it means
    "nDCG": "how near the first N results are to the best order, later ranks counting less",
    "RR": "1 over the rank of the first relevant of the first N results",
    "R": "share of the relevant documents among the first N results",
    "P": "share of the first N results that are relevant",
    "AP": "mean of the precisions at each relevant document",
    "Judged": "share of the first N results that somebody judged",
}


def render(report: Report) -> str:
    """The page of a run or of an evaluation."""
    constants = {"depths": DEPTHS, "fewest": FEWEST_QUERIES, "measures": MEASURES}
    return render_page("report.html", report=report, stage_rows=stage_rows, **constants)


def write_report(report: Report, path: Path) -> None:
    """Write the page and, next to it, its values as JSON."""
    with atomic_writer(json_path(path)) as stream:
        stream.write(to_json_line(report.values()) + "\n")
    with atomic_writer(path) as stream:
        stream.write(render(report))


def json_path(path: Path) -> Path:
    """The file of a page's values: `report.json` for `report.html`."""
    return path.with_suffix(".json")


def render_page(template: str, **values: Any) -> str:  # noqa: ANN401 - template variables
    """Fill in a template."""
    style = resources.files("inpars.data").joinpath("report.css").read_text(encoding="utf-8")
    return _environment().get_template(template).render(style=style, **values) + "\n"


def stage_rows(report: Report) -> list[tuple[str, list[StageFacts], float]]:
    """Each kind of stage with its outputs and their total seconds, the longest first."""
    stages_by_kind: dict[str, list[StageFacts]] = {}
    for stage in report.stages:
        stages_by_kind.setdefault(stage.stage, []).append(stage)
    rows = [(name, stages, sum(stage.seconds for stage in stages)) for name, stages in stages_by_kind.items()]
    return sorted(rows, key=lambda row: -row[2])


def intervals(pairs: Sequence[tuple[str, Difference]], label: str) -> str:
    """The chart of the tested differences."""
    ranges = [
        charts.Range(name, gain.mean, *gain.interval, gain.is_believed())
        for name, gain in pairs
        if gain.interval is not None
    ]
    return charts.intervals_chart(ranges, label)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # only where a page is written

    environment = Environment(
        loader=PackageLoader("inpars.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "duration": duration,
        "size": size,
        "shorten": shorten,
        "plain": lambda name: name.replace("_", " "),
        "as_json": lambda values: json.dumps(values, indent=1, ensure_ascii=False, default=str),
    }
    chart_functions: dict[str, Callable[..., str]] = {name: _markup(getattr(charts, name)) for name in CHARTS}
    environment.globals |= chart_functions | {
        "intervals": _markup(intervals),
        "comparisons": lambda gains: comparisons((gain.against, gain.difference) for gain in gains),
        "Series": charts.Series,
        "verdict": verdict,
        "p_value": p_value,
        "span": span,
        "counted": counted,
        "in_words": in_words,
        "adjustment_in_words": adjustment_in_words,
        "minus": MINUS,
    }
    return environment


def _markup(chart: Callable[..., str]) -> Callable[..., str]:
    """Mark a chart's SVG as safe: charts escape their own texts."""
    from markupsafe import Markup

    return lambda *values, **settings: Markup(chart(*values, **settings))
