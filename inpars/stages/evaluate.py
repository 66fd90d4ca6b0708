"""Evaluates run files: measures, comparisons, caveats, and reports of these."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from inpars.errors import ConfigError
from inpars.evaluation.measures import Evaluation, judged_part, parse_metrics
from inpars.evaluation.presets import PRESETS, Preset, PresetName, preset_of
from inpars.evaluation.run_diff import ShownChange, most_changed, show
from inpars.evaluation.run_files import Order, read_checked_run
from inpars.evaluation.significance import Difference, Interval, bootstrap_interval
from inpars.evaluation.verdicts import adjustment_in_words, file_remarks, in_words, judged_remarks, power_in_words
from inpars.io.manifest import read_manifest
from inpars.io.model_judgements import Origin
from inpars.io.topics import Topics
from inpars.options import check, option
from inpars.progress import SILENT, Progress
from inpars.report.collect import Texts, glance, results_of, stage_facts
from inpars.report.schema import Report
from inpars.stages.caveats import Caveats, find_caveats
from inpars.stages.evaluate_files import JudgedFile, as_values, compare_evaluations, judge_files, table
from inpars.stages.examples import left_out_line

FIRST_DOCUMENTS = 3  # of each run for a query that gained or lost
DocumentText = Callable[[str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateOptions:
    """How runs are evaluated."""

    preset: PresetName | None = option(None, help="measures and ranking order (default: by the dataset's name)")
    metrics: str | None = option(None, metavar="NAMES", help="measures in ir_measures notation (default: the preset's)")
    order: Order | None = option(
        None,
        help="ranking: by score, ties by descending document id as in trec_eval, or by file order (default: "
        "the preset's)",
    )
    judged_only: bool = option(
        False, help="remove unjudged documents, and those graded below 0, from the runs first, like trec_eval -J"
    )
    baseline: str | None = option(None, metavar="NAME", help="baseline run of the comparisons (default: the first)")
    bm25: str | None = option(None, help="BM25 variant of runs that have no manifest")
    wins: int = option(0, help="show the N queries with the largest gain and loss of each run", minimum=0)


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The results of an evaluation, for tables, reports and files."""

    preset: Preset
    baseline: str
    files: dict[str, JudgedFile]
    intervals: dict[str, dict[str, Interval]]  # system -> measure
    differences: dict[str, dict[str, Difference]]  # measure -> system
    caveats: Caveats
    remarks: list[str]
    changes: dict[str, tuple[list[ShownChange], list[ShownChange]]] = field(default_factory=dict)  # gains, losses
    left_out: int = 0
    origin: Origin | None = None  # the model that judged

    @property
    def results(self) -> dict[str, Evaluation]:
        return {name: file.evaluation for name, file in self.files.items()}

    @property
    def problems(self) -> list[str]:
        return [file.no_result for file in self.files.values() if file.no_result]


def preset_for(options: EvaluateOptions, dataset: str | None) -> Preset:
    """The named preset, or the dataset's, with the overrides of the options."""
    preset = PRESETS[options.preset] if options.preset is not None else preset_of(dataset)
    metrics = preset.metrics if options.metrics is None else tuple(parse_metrics(options.metrics))
    return replace(preset, metrics=metrics, order=options.order or preset.order)


def evaluate_files(
    paths: Mapping[str, Path],
    topics: Topics,
    preset: Preset,
    options: EvaluateOptions,
    *,
    training: Sequence[Path] = (),
    examples: Mapping[str, Collection[str]] = MappingProxyType({}),
    document_text: DocumentText | None = None,
    left_out: int = 0,
    progress: Progress = SILENT,
) -> Evaluated:
    """Measure and compare run files; `topics.queries` may lack texts. Raises ConfigError for an unknown baseline."""
    check(options)
    if options.baseline is not None and options.baseline not in paths:
        raise ConfigError(f"the baseline {options.baseline!r} is none of the runs ({', '.join(paths)})")
    baseline = options.baseline or next(iter(paths))
    files = judge_files(
        paths,
        topics.qrels,
        preset.metrics,
        order=preset.order,
        judged_only=options.judged_only,
        firsts=FIRST_DOCUMENTS if options.wins else 0,
        progress=progress,
    )
    results = {name: file.evaluation for name, file in files.items()}
    tags = {name: file.notes.tag for name, file in files.items()}
    seen: dict[str, Any] = {"training": training, "examples": examples}
    caveats = find_caveats(paths, tags, topics.qrels, topics.queries, **seen, bm25=options.bm25)
    remarks = [
        *(
            line
            for name, file in files.items()
            for line in file_remarks(name, file.notes, len(topics.qrels), preset.order)
        ),
        *judged_remarks(results, baseline, topics.qrels),
        *caveats.remarks,
        *filter(None, [left_out_line(left_out)]),
    ]
    intervals = {
        name: {metric: bootstrap_interval(list(values.values())) for metric, values in result.per_query.items()}
        for name, result in results.items()
    }
    return Evaluated(
        preset,
        baseline,
        files,
        intervals,
        compare_evaluations(results, preset.metrics, baseline),
        caveats,
        remarks,
        _changes(files, baseline, preset.metrics[0], topics, options.wins, document_text),
        left_out,
        topics.origin,
    )


def evaluation_text(evaluated: Evaluated) -> str:
    """The evaluation as text: problems, the table, the differences in words, remarks, and queries that changed most."""
    judged = evaluated.preset.metrics[0]
    differences = evaluated.differences[judged]
    lines = [f"not a result: {problem}" for problem in evaluated.problems]
    lines += [] if evaluated.origin is None else [str(evaluated.origin)]
    lines += [table(evaluated.results, evaluated.differences, evaluated.preset.metrics)]
    lines += [in_words(name, evaluated.baseline, judged, difference) for name, difference in differences.items()]
    lines += list(dict.fromkeys(filter(None, (power_in_words(judged, one) for one in list(differences.values())[:1]))))
    lines += filter(None, [adjustment_in_words(differences.values())])
    lines += [f"note: {remark}" for remark in evaluated.remarks]
    for name, (gains, losses) in evaluated.changes.items():
        for title, changes in (("gains", gains), ("losses", losses)):
            if changes:
                lines += ["", f"{name} against {evaluated.baseline}, largest {title} in {judged}"]
                lines += [line for change in changes for line in _change_lines(change, name, evaluated.baseline)]
    return "\n".join(lines)


def evaluation_values(evaluated: Evaluated) -> dict[str, Any]:
    """The evaluation as JSON values; `systems` and `differences` are as in `as_values`."""
    values = as_values(evaluated.results, evaluated.differences, evaluated.origin)
    for name, file in evaluated.files.items():
        values["systems"][name] |= {
            "intervals": {metric: asdict(one) for metric, one in evaluated.intervals[name].items()},
            "file": asdict(file.notes),
        }
    values |= {
        "preset": evaluated.preset.name,
        "order": evaluated.preset.order,
        "baseline": evaluated.baseline,
        "bm25": evaluated.caveats.bm25,
        "overlaps": {name: [asdict(one) for one in overlaps] for name, overlaps in evaluated.caveats.overlaps.items()},
        "problems": evaluated.problems,
        "notes": evaluated.remarks,
    }
    if evaluated.changes:
        values["changes"] = {
            name: {"gains": [asdict(one) for one in gains], "losses": [asdict(one) for one in losses]}
            for name, (gains, losses) in evaluated.changes.items()
        }
    return values | ({"left_out": evaluated.left_out} if evaluated.left_out else {})


def _changes(
    files: Mapping[str, JudgedFile],
    baseline: str,
    metric: str,
    topics: Topics,
    count: int,
    document_text: DocumentText | None,
) -> dict[str, tuple[list[ShownChange], list[ShownChange]]]:
    if not count:
        return {}
    before = files[baseline]
    texts = (lambda query_id: topics.queries.get(query_id, "")), document_text or (lambda _: "")
    changes = {}
    for name, file in files.items():
        if name != baseline:
            gains, losses = most_changed(before.evaluation.per_query[metric], file.evaluation.per_query[metric], count)
            firsts = before.firsts, file.firsts
            changes[name] = (show(gains, firsts, topics.qrels, *texts), show(losses, firsts, topics.qrels, *texts))
    return changes


def _change_lines(changed: ShownChange, name: str, baseline: str) -> list[str]:
    change = changed.change
    lines = [f"{change.query_id}  {change.baseline:.4f} -> {change.system:.4f}  {changed.query}".rstrip()]
    for system, documents in ((baseline, changed.baseline_first), (name, changed.system_first)):
        for document in documents[:1]:
            grade = "unjudged" if document.relevance is None else f"relevance {document.relevance}"
            lines.append(f"    {system}: {document.doc_id} ({grade}) {' '.join(document.text.split())}".rstrip())
    return lines


def report_evaluation(
    evaluated: Evaluated,
    paths: Mapping[str, Path],
    topics: Topics,
    options: EvaluateOptions,
    *,
    name: str,
    texts: Texts,
    command: str = "",
) -> Report:
    """The report of an evaluation; reads each run once more. `name` is the collection's."""
    results = evaluated.results
    metrics = evaluated.preset.metrics
    judgements = sum(map(len, topics.qrels.values()))
    manifests = [(path, read_manifest(path)) for path in paths.values()]
    glances = {}
    for system, path in paths.items():
        run = read_checked_run(path, topics.qrels, evaluated.preset.order).run
        measured = judged_part(run, topics.qrels) if options.judged_only else run
        glances[system] = glance(system, measured, topics.qrels)
    judge_remarks = [] if topics.origin is None else [str(topics.origin)]
    judged_by = "" if topics.origin is None else f" All of it is {topics.origin}."
    remarks = [*evaluated.problems, *judge_remarks, *evaluated.remarks]
    return Report(
        title=f"{name}: {len(results)} runs compared" if len(results) > 1 else f"{name}: {next(iter(results))}",
        lead=f"Measured as {', '.join(metrics)}, ranked by {evaluated.preset.order}; the baseline is "
        f"{evaluated.baseline}.{judged_by}",
        facts={
            "runs": str(len(results)),
            "judged queries": f"{len(topics.qrels):,}",
            "judgements": f"{judgements:,}",
            **({} if topics.origin is None else {"judged by": topics.origin.model}),
        },
        results=results_of(
            results,
            evaluated.differences,
            metrics,
            glances,
            topics,
            texts=texts,
            notes=[f"{remark[:1].upper()}{remark[1:]}." for remark in remarks],
        ),
        stages=[stage_facts(str(path), manifest) for path, manifest in manifests if manifest is not None],
        settings=asdict(options) | {"order": evaluated.preset.order, "metrics": list(metrics)},
        commands=[command] if command else [],
    )
