"""Measure a run's systems, and keep queries and qrels next to the runs.

So the folder can be measured again without the dataset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from inpars.evaluation.measures import Evaluation, evaluate
from inpars.evaluation.run_files import no_result
from inpars.evaluation.significance import Difference, compare
from inpars.evaluation.verdicts import in_words
from inpars.io.formats import read_run, write_queries
from inpars.io.judgements import write_qrels
from inpars.io.manifest import sha256_of, stamp
from inpars.io.model_judgements import write_origin
from inpars.io.storage import write_json
from inpars.io.topics import Topics
from inpars.progress import Progress
from inpars.report.collect import RunSummary, glance
from inpars.stages.evaluate_files import as_values, compare_evaluations
from inpars.stages.stage import Outcome, Stage

TOPICS, METRICS = "topics", "metrics.json"
CHOICE_TOPICS = "choice/topics"  # queries that choose the system
JUDGED = "judged"  # folder of the measurement by a model's grades, with its own topics and measures
QUERIES, QRELS = "queries.jsonl", "qrels.tsv"


@dataclass(frozen=True, slots=True)
class MeasuredSystems:
    """The measures of a run's systems; empty without qrels."""

    evaluations: Mapping[str, Evaluation] = field(default_factory=dict)
    differences: Mapping[str, Mapping[str, Difference]] = field(default_factory=dict)
    glances: Mapping[str, RunSummary] = field(default_factory=dict)
    topics: Topics | None = None
    problems: Sequence[str] = ()  # why the measures of some systems are meaningless


def judge(
    folder: Path,
    topics: Topics,
    paths: Mapping[str, Path],
    metrics: Sequence[str],
    *,
    progress: Progress,
    overwrite: bool = False,
) -> MeasuredSystems:
    """Measure these runs, and write `topics/` and `metrics.json` into the folder."""
    keep_topics(folder / TOPICS, topics, progress=progress, overwrite=overwrite)
    if not topics.qrels:
        return MeasuredSystems(topics=topics)
    topics.say_remarks(progress)
    evaluations, glances = {}, {}
    problems: list[str] = []
    for name, path in paths.items():
        run = read_run(path)
        problems += filter(None, [no_result(name, run, topics.qrels)])
        evaluations[name], glances[name] = evaluate(run, topics.qrels, metrics), glance(name, run, topics.qrels)
    differences = compare_evaluations(evaluations, metrics)
    output = folder / METRICS

    def work() -> Outcome:
        write_json(output, as_values(evaluations, differences, topics.origin), ensure_ascii=False)
        return Outcome(len(topics.qrels))

    inputs = {"topics": stamp(folder / TOPICS), **{name: stamp(path) for name, path in paths.items()}}
    settings = {"metrics": " ".join(metrics)}
    Stage("evaluate", settings, output, inputs, progress=progress, overwrite=overwrite).run(work)
    return MeasuredSystems(evaluations, differences, glances, topics, problems)


def verdict_on(judged: MeasuredSystems, bar: str, system: str, metric: str) -> str:
    """Compare a system with the one to beat (`bar`), in words; empty if they were not measured."""
    values = {
        name: evaluation.per_query[metric] for name, evaluation in judged.evaluations.items() if name in (bar, system)
    }
    if len(values) == 1:  # the system is the bar
        return ""
    return in_words(system, bar, metric, compare(values[bar], {system: values[system]})[system]) if values else ""


def keep_topics(folder: Path, topics: Topics, *, progress: Progress, overwrite: bool = False) -> None:
    """Write the queries and their qrels into a folder, as a stage."""

    def work() -> Outcome:
        write_queries(folder / QUERIES, topics.as_queries())
        write_qrels(folder / QRELS, topics.qrels)
        if topics.origin is not None:  # the copy keeps the note that a model judged
            write_origin(folder / QRELS, replace(topics.origin, qrels_sha256=sha256_of(folder / QRELS)))
        return Outcome(len(topics.queries))

    inputs = {"topics": topics.stamp}
    Stage("topics", {"split": topics.split}, folder, inputs, progress=progress, overwrite=overwrite).run(work)
