"""Compare two runs: settings that differ, measures, queries that changed most, time; as text lines or an HTML page.

Measures are compared per query over the queries that both runs judged, with the tests of `inpars.evaluation`, Holm-
adjusted for the number of systems that differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from inpars.errors import ConfigError
from inpars.evaluation.run_diff import Change, most_changed
from inpars.evaluation.significance import Difference, compare_pairs
from inpars.evaluation.verdicts import adjustment_in_words, in_words, p_in_table, power_in_words
from inpars.io.formats import read_synthetic_queries
from inpars.io.storage import atomic_writer
from inpars.pipeline.folder import PerQuery, RunFolder
from inpars.report.formatting import duration, shorten, verdict
from inpars.report.render import render_page
from inpars.report.schema import Compared, Comparison, Setting, Shift

SHOWN = 5
KEPT = "queries.filtered.jsonl"
SETTING_CHARACTERS = 60


def compare_runs(first: RunFolder, second: RunFolder, count: int = SHOWN) -> Comparison:
    """Compare two runs. Raises ConfigError if their corpora differ."""
    corpora = [run.mark.get("corpus_sha256") for run in (first, second)]
    if None not in corpora and corpora[0] != corpora[1]:
        raise ConfigError(
            f"{first.path} is a run on {first.mark.get('dataset')}, {second.path} on other documents "
            f"({second.mark.get('dataset')}); compare runs of the same corpus"
        )
    measures, notes = _measures(first, second)
    notes = [*(f"{run.name}: {run.origin}" for run in (first, second) if run.origin is not None), *notes]
    outputs = list(dict.fromkeys([*first.manifests, *second.manifests]))
    return Comparison(
        runs=(first.name, second.name) if first.name != second.name else (str(first.path), str(second.path)),
        settings=[setting for output in outputs for setting in _settings(output, first, second)],
        measures=measures,
        moved=_moved(first, second, measures, count),
        records={output: (_records(first, output), _records(second, output)) for output in outputs},
        seconds={output: (_seconds(first, output), _seconds(second, output)) for output in outputs},
        notes=[*notes, *_common_queries(first, second)],
        problems=notes[-1:] if not measures and first.measures() and second.measures() else [],
    )


def _settings(output: str, first: RunFolder, second: RunFolder) -> list[Setting]:
    one, other = first.manifests.get(output), second.manifests.get(output)
    if one is None or other is None:
        return []
    names = dict.fromkeys([*one.arguments, *other.arguments])
    pairs = {
        name: (_setting(first, one.arguments.get(name)), _setting(second, other.arguments.get(name))) for name in names
    }
    changes = [Setting(output, name, *pair) for name, pair in pairs.items() if pair[0] != pair[1]]
    for name in dict.fromkeys([*one.inputs, *other.inputs]):
        stamps = one.inputs.get(name), other.inputs.get(name)
        if any(stamp is not None and run.inside(stamp) for run, stamp in zip((first, second), stamps, strict=True)):
            continue  # an output of the run itself differs because something before it does
        stamp_texts = [None if stamp is None else f"{Path(stamp.path).name} ({stamp.sha256[:12]})" for stamp in stamps]
        if stamp_texts[0] != stamp_texts[1] and not (stamps[0] and stamps[1] and stamps[0].sha256 == stamps[1].sha256):
            changes.append(Setting(output, f"input {name}", *stamp_texts))
    return changes


def _setting(run: RunFolder, value: object) -> object:
    """The value; a model that the run trained is `models/NAME`, wherever the run's folder is."""
    if isinstance(value, list):
        return [_setting(run, item) for item in value]
    name = Path(*Path(value).parts[-2:]).as_posix() if isinstance(value, str) else ""
    return name if name.startswith("models/") and name in run.manifests else value


def _measures(first: RunFolder, second: RunFolder) -> tuple[list[Compared], list[str]]:
    one, other = first.measures(), second.measures()
    systems = [name for name in one if one[name] and other.get(name)]
    notes = [
        f"only {run.name} has {', '.join(alone)}"
        for run, alone in ((first, [s for s in one if s not in other]), (second, [s for s in other if s not in one]))
        if alone
    ]
    if not systems:
        return [], [*notes, "no system was measured in both"]
    per_query = [values for run in (one, other) for system in systems for values in run[system].values()]
    common = [query_id for query_id in _ids(one[systems[0]]) if all(query_id in values for values in per_query)]
    texts, others = first.queries(), second.queries()
    shared = [query_id for query_id in common if texts.get(query_id) == others.get(query_id)]
    if len(shared) < len(common):
        notes.append(f"{len(common) - len(shared)} queries have the same id but different texts; they are left out")
    if not shared:
        return [], [*notes, "no query is judged in both"]
    left_out = len(_ids(one[systems[0]])) + len(_ids(other[systems[0]])) - 2 * len(shared)
    if left_out:
        notes.append(f"{left_out} queries are judged in only one run and left out; {len(shared)} are judged in both")
    if first.qrels() != second.qrels() and not left_out:
        notes.append("the judgements of the two runs differ: differences may come from them")
    compared: list[Compared] = []
    for metric in dict.fromkeys(metric for name in systems for metric in one[name]):
        measured = [name for name in systems if metric in one[name] and metric in other[name]]
        pairs = {name: (_on(one[name], metric, shared), _on(other[name], metric, shared)) for name in measured}
        moved = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
        same = {name: pair for name, pair in pairs.items() if name not in moved}
        differences = compare_pairs(moved) | compare_pairs(same)  # equal systems do not count for Holm's adjustment
        compared += [Compared(name, metric, _mean(a), _mean(b), differences[name]) for name, (a, b) in pairs.items()]
    return compared, notes


def _moved(
    first: RunFolder, second: RunFolder, measures: Sequence[Compared], count: int
) -> dict[str, tuple[list[Shift], list[Shift]]]:
    if not measures:
        return {}
    metric, one, other = measures[0].metric, first.measures(), second.measures()
    words, others = first.queries(), second.queries()

    def shift(change: Change) -> Shift:
        return Shift(change.query_id, words.get(change.query_id, ""), change.baseline, change.system)

    moved = {}
    for system in (compared.system for compared in measures if compared.metric == metric):
        before, after = one[system][metric], other[system][metric]
        shared = {
            query_id: value
            for query_id, value in before.items()
            if query_id in after and words.get(query_id) == others.get(query_id)
        }
        gains, losses = most_changed(shared, after, count)
        if gains or losses:
            moved[system] = (list(map(shift, gains)), list(map(shift, losses)))
    return moved


def _common_queries(first: RunFolder, second: RunFolder) -> list[str]:
    """The number of synthetic queries that both runs kept."""
    paths = [run.path / KEPT for run in (first, second)]
    if not all(path.exists() for path in paths):
        return []
    one, other = ({(q.doc_id, q.text) for q in read_synthetic_queries(path)} for path in paths)
    return [f"{len(one & other)} queries are kept by both, of {len(one)} and of {len(other)}"]


def _ids(system: PerQuery) -> Mapping[str, float]:
    return next(iter(system.values()), {})


def _on(system: PerQuery, metric: str, query_ids: Sequence[str]) -> dict[str, float]:
    return {query_id: system[metric][query_id] for query_id in query_ids}


def _mean(values: Mapping[str, float]) -> float:
    return sum(values.values()) / len(values)


def _records(run: RunFolder, output: str) -> int | None:
    return run.manifests[output].output.records if output in run.manifests else None


def _seconds(run: RunFolder, output: str) -> float | None:
    return run.manifests[output].seconds if output in run.manifests else None


def comparison_lines(comparison: Comparison) -> list[str]:
    """The comparison as text lines."""
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
    """Write the HTML page."""
    with atomic_writer(path) as stream:
        stream.write(render_comparison(comparison))


def render_comparison(comparison: Comparison) -> str:
    """The comparison as an HTML page."""
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
    power = power_in_words(judged[0].metric, max(judged, key=lambda one: one.difference.detectable or 0.0).difference)
    yield from filter(None, [power, adjustment_in_words([one.difference for one in judged])])


def _test(difference: Difference) -> str:
    """Interval and p-value; empty without a test."""
    if difference.interval is None or difference.adjusted_p_value is None:
        return ""
    interval = "[{:+.4f}, {:+.4f}]".format(*difference.interval)
    return f"{interval} {p_in_table(difference.adjusted_p_value)} "


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
