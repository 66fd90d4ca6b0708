"""Measures run files and tests their differences for significance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from inpars.errors import ConfigError
from inpars.evaluation.measures import Evaluation, evaluate, judged_part
from inpars.evaluation.run_files import Order, RunNotes, no_result, read_checked_run
from inpars.evaluation.significance import Difference, compare
from inpars.evaluation.verdicts import counted, p_in_table
from inpars.io.model_judgements import Origin
from inpars.io.runs import rank
from inpars.progress import SILENT, Progress
from inpars.records import Qrels

JUDGED = "Judged@10"


@dataclass(frozen=True, slots=True)
class JudgedFile:
    """The evaluation of a run file, its problems, and the first doc_ids of each judged query."""

    evaluation: Evaluation
    notes: RunNotes
    firsts: dict[str, list[str]] = field(default_factory=dict)
    no_result: str = ""  # why the measures are meaningless, if they are


def judge_files(
    paths: Mapping[str, Path],
    qrels: Qrels,
    metrics: Sequence[str],
    *,
    order: Order = "score",
    judged_only: bool = False,
    firsts: int = 0,
    progress: Progress = SILENT,
) -> dict[str, JudgedFile]:
    """Evaluations by system, with one run in memory at a time.

    `judged_only` removes unjudged documents first; `firsts` is the number of doc_ids to keep per query.
    """
    judged = {}
    for name, path in progress.track(paths.items(), total=len(paths), description="evaluate", unit="runs"):
        checked = read_checked_run(path, qrels, order)
        run = judged_part(checked.run, qrels) if judged_only else checked.run
        tops = {q: [doc_id for doc_id, _ in rank(scores, firsts)] for q, scores in run.items()} if firsts else {}
        problem = no_result(name, checked.run, qrels, checked.notes)
        judged[name] = JudgedFile(evaluate(run, qrels, metrics), checked.notes, tops, problem)
        del checked, run  # before the next one is read
    return judged


def compare_evaluations(
    results: Mapping[str, Evaluation], metrics: Sequence[str], baseline: str | None = None
) -> dict[str, dict[str, Difference]]:
    """Per measure, the differences from the baseline, by default the first system."""
    if not results:
        raise ConfigError("there are no runs to evaluate; name some with --run FILE")
    chosen = baseline or next(iter(results))
    return {
        metric: compare(
            results[chosen].per_query[metric],
            {name: result.per_query[metric] for name, result in results.items() if name != chosen},
        )
        for metric in metrics
    }


def run_names(paths: Sequence[Path]) -> dict[str, Path]:
    """Paths by file name, or by path if two files share a name. Raises ConfigError for duplicates."""
    if twice := [str(path) for path in dict.fromkeys(paths) if paths.count(path) > 1]:
        raise ConfigError(f"--run {', '.join(twice)} is given twice")
    names = [path.name.removesuffix(".gz").removesuffix(".trec").removesuffix(".txt") for path in paths]
    return {name if names.count(name) == 1 else str(path): path for name, path in zip(names, paths, strict=True)}


def table(
    results: Mapping[str, Evaluation], differences: Mapping[str, Mapping[str, Difference]], metrics: Sequence[str]
) -> str:
    """A text table of the measures, with gain, interval and verdict of the first one against the baseline."""
    judged = metrics[0]
    against = next(name for name in results if name not in differences[judged])
    width = max(len(name) for name in [*results, "system"])
    column = max(10, *(len(metric) + 2 for metric in metrics))
    head = [f"{'system':{width}}", *(f"{metric:>{column}}" for metric in metrics), f"{JUDGED:>{column}}"]
    if len(results) > 1:
        head.append(f"  {judged} against {against}")
    lines = ["".join(head)]
    for name, result in results.items():
        values = "".join(f"{result.means[metric]:{column}.4f}" for metric in metrics)
        known = f"{'-':>{column}}" if result.judged_at_10 is None else f"{result.judged_at_10:{column}.4f}"
        lines.append(f"{name:{width}}{values}{known}  {verdict(differences[judged].get(name))}".rstrip())
    counts = next(iter(results.values()))
    lines.append(counted(counts.queries, "judged query", "judged queries"))
    lines += [
        f"{name}: {counted(result.missing, 'judged query has', 'judged queries have')} no result, which counts as 0"
        for name, result in results.items()
        if result.missing
    ]
    return "\n".join(lines)


def verdict(difference: Difference | None) -> str:
    """`+0.0312 [+0.0101, +0.0520] p=0.004 better`; empty for the baseline."""
    if difference is None:
        return ""
    if difference.interval is None:
        return f"{difference.mean:+.4f} not tested"
    word = ("better" if difference.mean > 0 else "worse") if difference.is_believed() else "not significant"
    interval = "[{:+.4f}, {:+.4f}]".format(*difference.interval)
    return f"{difference.mean:+.4f} {interval} {p_in_table(difference.adjusted_p_value)} {word}"


def as_values(
    results: Mapping[str, Evaluation], differences: Mapping[str, Mapping[str, Difference]], origin: Origin | None = None
) -> dict[str, Any]:
    """The results as JSON values; `judged_by` only if a model judged."""
    return ({} if origin is None else {"judged_by": origin.values()}) | {
        "systems": {name: asdict(result) for name, result in results.items()},
        "differences": {
            metric: {name: asdict(difference) for name, difference in per_system.items()}
            for metric, per_system in differences.items()
        },
    }
