"""The report of `inpars evaluate`: what runs are worth, as the page that a whole run has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from inpars.evaluation.run_files import read_checked_run
from inpars.io.manifest import read_manifest
from inpars.io.model_judgements import Origin
from inpars.io.topics import Topics
from inpars.reports.collect import RunSummary, Texts, glance, results_of, stage_facts
from inpars.reports.schema import Report, StageFacts
from inpars.stages.evaluate import Evaluated, EvaluateOptions


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
    """The report of runs that were evaluated; each is read once more, one after the other. `name` is the collection's.

    Texts of queries and documents are shown where they are known.
    """
    results = evaluated.results
    metrics = evaluated.preset.metrics
    judgements = sum(map(len, topics.qrels.values()))
    by_model = [] if topics.origin is None else [str(topics.origin)]
    remarks = [*evaluated.problems, *by_model, *evaluated.remarks]
    return Report(
        title=f"{name}: {len(results)} runs compared" if len(results) > 1 else f"{name}: {next(iter(results))}",
        lead=f"Measured as {', '.join(metrics)}, ranked by {evaluated.preset.order}; {evaluated.baseline} is what the "
        f"others are compared with.{said_of(topics.origin)}",
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
            {name: _glance(name, path, topics, evaluated) for name, path in paths.items()},
            topics,
            texts=texts,
            notes=[f"{remark[:1].upper()}{remark[1:]}." for remark in remarks],
        ),
        stages=[facts for path in paths.values() if (facts := _facts(path)) is not None],
        settings=asdict(options) | {"order": evaluated.preset.order, "metrics": list(metrics)},
        commands=[command] if command else [],
    )


def said_of(origin: Origin | None) -> str:
    """The sentence that follows a report's lead where a model judged; empty where none did."""
    return "" if origin is None else f" All of it is {origin}."


def _glance(name: str, path: Path, topics: Topics, evaluated: Evaluated) -> RunSummary:
    return glance(name, read_checked_run(path, topics.qrels, evaluated.preset.order).run, topics.qrels)


def _facts(path: Path) -> StageFacts | None:
    manifest = read_manifest(path)
    return None if manifest is None else stage_facts(str(path), manifest)
