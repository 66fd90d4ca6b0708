"""A comparison of two runs as lines for a terminal and as one HTML file. Values in, text out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from inpars.evaluation.significance import Difference
from inpars.evaluation.wording import adjustment_in_words, in_words, power_in_words
from inpars.reports.charts import Range, intervals_chart
from inpars.reports.page import (
    Cell,
    Section,
    cards,
    duration,
    figure,
    figures,
    heading,
    number,
    page,
    paragraph,
    shorten,
    table,
)
from inpars.reports.results_section import gain_cells
from inpars.storage import atomic_writer

if TYPE_CHECKING:
    from inpars.pipeline.comparing import Compared, Comparison, Shift

SETTING_CHARACTERS = 60


def comparison_lines(comparison: Comparison) -> list[str]:
    """Settings, measures, queries and time, for people at a terminal."""
    first, second = comparison.runs
    lines = [f"not a result: {problem}" for problem in comparison.problems]
    lines += [f"first:  {first}", f"second: {second}", "", "settings that differ"]
    lines += [
        f"  {setting.output}: {setting.name}: {_value(setting.first)} -> {_value(setting.second)}"
        for setting in comparison.settings
    ] or ["  none"]
    lines += ["", *_measure_lines(comparison.measures)]
    lines += [line for system in comparison.moved for line in _moved_lines(system, comparison)]
    lines += ["", "time", *_time_lines(comparison)]
    return lines + ([""] if comparison.notes else []) + [f"note: {note}" for note in comparison.notes]


def write_comparison(comparison: Comparison, path: Path) -> None:
    """Write the page."""
    with atomic_writer(path) as stream:
        stream.write(render_comparison(comparison))


def render_comparison(comparison: Comparison) -> str:
    """The whole page."""
    first, second = comparison.runs
    sections = [
        Section("What they were told", _settings(comparison)),
        Section("What they are worth", _measures(comparison)),
        Section("Queries that moved", "".join(_moved(system, comparison) for system in comparison.moved)),
        Section("Time and records", _time(comparison)),
    ]
    lead = f"Differences are {second} less {first}: positive where {second} has more."
    return page(f"{first} and {second} compared", lead, sections)


def _measure_lines(measures: Sequence[Compared]) -> Iterator[str]:
    if not measures:
        return
    width = max(len(one.system) for one in measures)
    yield f"{'measures':{width + 2}}  {'measure':10} {'first':>8} {'second':>8} {'difference':>11}"
    for one in measures:
        yield (
            f"  {one.system:{width}}  {one.metric:10} {one.first:8.4f} {one.second:8.4f} {one.difference.mean:+11.4f}"
            f"  {_test(one.difference)}{_verdict(one)}"
        )
    judged = [one for one in measures if one.metric == measures[0].metric]
    yield from ["", *(in_words(one.system, "the first run's", one.metric, one.difference) for one in judged)]
    power = power_in_words(judged[0].metric, max(judged, key=_detectable).difference)
    yield from filter(None, [power, adjustment_in_words([one.difference for one in judged])])


def _detectable(one: Compared) -> float:
    return one.difference.detectable or 0.0


def _test(difference: Difference) -> str:
    """Interval and p-value, where there was a test."""
    if difference.interval is None or difference.adjusted_p_value is None:
        return ""
    return "[{:+.4f}, {:+.4f}] p={:.3f} ".format(*difference.interval, difference.adjusted_p_value)


def _verdict(one: Compared) -> str:
    if one.difference.better == one.difference.worse == 0:
        return "the same"
    if not one.difference.is_tested:
        return "not tested"
    if not one.difference.is_believed():
        return "may be chance"
    return "better" if one.difference.mean > 0 else "worse"


def _moved_lines(system: str, comparison: Comparison) -> Iterator[str]:
    for title, shifts in zip(("gained most", "lost most"), comparison.moved[system], strict=True):
        if shifts:
            yield from ["", f"{system}, queries that {title}"]
            for shift in shifts:
                yield f"  {shift.first:.3f} -> {shift.second:.3f}  {shorten(shift.query or shift.query_id, 90)}"


def _time_lines(comparison: Comparison) -> Iterator[str]:
    width = max(map(len, comparison.seconds), default=0)
    for output, (one, other) in comparison.seconds.items():
        yield f"  {output:{width}}  {_duration(one):>12}  {_duration(other):>12}"
    one, other = _totals(comparison)
    yield f"  {'all':{width}}  {duration(one):>12}  {duration(other):>12}"


def _totals(comparison: Comparison) -> tuple[float, float]:
    pairs = comparison.seconds.values()
    return sum(one or 0.0 for one, _ in pairs), sum(other or 0.0 for _, other in pairs)


def _settings(comparison: Comparison) -> str:
    if not comparison.settings:
        return paragraph("Nothing was set differently.")
    head = [Cell("output"), Cell("setting"), *(Cell(name) for name in comparison.runs)]
    rows = [
        [Cell(one.output), Cell(one.name), Cell(_value(one.first), "mono"), Cell(_value(one.second), "mono")]
        for one in comparison.settings
    ]
    return table("Settings that differ", head, rows)


def _measures(comparison: Comparison) -> str:
    measures = comparison.measures
    if not measures:
        return "".join(map(paragraph, comparison.notes)) or paragraph("Nothing was measured in both.")
    names = comparison.runs
    head = [Cell("system"), Cell("measure"), *(Cell(name, "n") for name in names), Cell("difference", "n")]
    head += [Cell("95% interval"), Cell("effect size", "n"), Cell("verdict")]
    rows = [
        [
            Cell(one.system),
            Cell(one.metric),
            Cell(number(one.first), "n"),
            Cell(number(one.second), "n"),
            *gain_cells(one.difference, effect=True),
        ]
        for one in measures
    ]
    judged = [one for one in measures if one.metric == measures[0].metric]
    ranges = [
        Range(one.system, one.difference.mean, *one.difference.interval, one.difference.is_believed())
        for one in judged
        if one.difference.interval is not None
    ]
    caption = f"{names[1]} less {names[0]} with 95% intervals; grey where it may be chance."
    return (
        table("Measures of both runs", head, rows)
        + "".join(paragraph(f"{in_words(one.system, names[0], one.metric, one.difference)}.") for one in judged)
        + "".join(map(paragraph, filter(None, [adjustment_in_words([one.difference for one in judged])])))
        + "".join(map(paragraph, comparison.notes))
        + figures(figure(intervals_chart(ranges, f"difference in {measures[0].metric}"), caption))
    )


def _moved(system: str, comparison: Comparison) -> str:
    sides = []
    for title, shifts in zip(("Gained most", "Lost most"), comparison.moved[system], strict=True):
        shown = cards(map(_shift, shifts)) or paragraph("None.")
        sides.append(f"<div><h4>{escape(title)}</h4>{shown}</div>")
    return heading(system) + f"<div class=sides>{''.join(sides)}</div>"


def _shift(shift: Shift) -> str:
    facts = f"{shift.query_id}: {shift.first:.2f} → {shift.second:.2f}"
    return f"<p class=query>{escape(shift.query or shift.query_id)}</p><p class=facts>{escape(facts)}</p>"


def _time(comparison: Comparison) -> str:
    first, second = comparison.runs
    head = [Cell("output"), *(Cell(f"{name}: {what}", "n") for name in (first, second) for what in ("records", "time"))]
    rows = []
    for output, seconds in comparison.seconds.items():
        records = comparison.records[output]
        pairs = zip(records, seconds, strict=True)
        rows.append(
            [Cell(output), *(Cell(text, "n") for one, time in pairs for text in (_count(one), _duration(time)))]
        )
    one, other = _totals(comparison)
    rows.append([Cell("all"), Cell(""), Cell(duration(one), "n"), Cell(""), Cell(duration(other), "n")])
    return table("Time and records of both runs", head, rows)


def _count(records: int | None) -> str:
    return "" if records is None else f"{records:,}"


def _duration(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)


def _value(value: object) -> str:
    return "-" if value is None else shorten(str(value), SETTING_CHARACTERS)
