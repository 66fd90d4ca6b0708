"""A comparison of two runs as lines for a terminal and as one HTML file. Values in, text out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from inpars.evaluation.significance import Difference
from inpars.evaluation.verdicts import adjustment_in_words, in_words, power_in_words
from inpars.io.storage import atomic_writer
from inpars.reports.formatting import duration, shorten, verdict
from inpars.reports.render import render_page
from inpars.reports.schema import Compared, Comparison

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
    measures = comparison.measures
    judged = [one for one in measures if one.metric == measures[0].metric]
    pairs = [(one.system, one.difference) for one in judged]
    values = {"judged": judged, "pairs": pairs, "totals": _totals(comparison), "value": _value}
    return render_page("comparison.html", comparison=comparison, **values)


def _measure_lines(measures: Sequence[Compared]) -> Iterator[str]:
    if not measures:
        return
    width = max(len(one.system) for one in measures)
    yield f"{'measures':{width + 2}}  {'measure':10} {'first':>8} {'second':>8} {'difference':>11}"
    for one in measures:
        yield (
            f"  {one.system:{width}}  {one.metric:10} {one.first:8.4f} {one.second:8.4f} {one.difference.mean:+11.4f}"
            f"  {_test(one.difference)}{verdict(one.difference)[0]}"
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


def _moved_lines(system: str, comparison: Comparison) -> Iterator[str]:
    for title, shifts in zip(("gained most", "lost most"), comparison.moved[system], strict=True):
        if shifts:
            yield from ["", f"{system}, queries that {title}"]
            for shift in shifts:
                yield f"  {shift.first:.3f} -> {shift.second:.3f}  {shorten(shift.query or shift.query_id, 90)}"


def _time_lines(comparison: Comparison) -> Iterator[str]:
    width = max(map(len, comparison.seconds), default=0)
    for output, (one, other) in comparison.seconds.items():
        yield f"  {output:{width}}  {duration(one):>12}  {duration(other):>12}"
    one, other = _totals(comparison)
    yield f"  {'all':{width}}  {duration(one):>12}  {duration(other):>12}"


def _totals(comparison: Comparison) -> tuple[float, float]:
    pairs = comparison.seconds.values()
    return sum(one or 0.0 for one, _ in pairs), sum(other or 0.0 for _, other in pairs)


def _value(value: object) -> str:
    return "-" if value is None else shorten(str(value), SETTING_CHARACTERS)
