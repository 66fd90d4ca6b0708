"""Hold out synthetic queries by source file to measure by, if there are no judged ones.

A statement next to the measures says what they show and what they do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from inpars.errors import ConfigError
from inpars.io.formats import read_queries
from inpars.io.judgements import read_qrels
from inpars.io.topics import Topics
from inpars.options import flags_of
from inpars.pipeline.options import PipelineOptions
from inpars.pipeline.system_runs import RunContext
from inpars.report.schema import Report
from inpars.stages.split import SplitFiles, SplitOptions, split_file

DEV_SPLIT = "held-out"


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The queries to train on, those to measure by (None if there are too few), and a statement about them."""

    train: Path
    topics: Topics | None
    statement: str


def hold_out_queries(run: RunContext, queries: Path) -> HeldOut:
    """Measure by judged queries if there are any, else hold out the queries of whole source files.

    With too few files or queries for that, nothing is measured and all queries are trained on.
    """
    options, with_pairs = run.options, run.evidence.pairs is not None
    if run.topics is not None or not options.dev_share:
        return HeldOut(queries, run.topics, judge_statement(run.topics, run.evidence.judged))
    settings = SplitOptions(dev_share=options.dev_share, by_source=True, seed=options.seed, dev_pairs=not with_pairs)
    files, train, topics = split_files(run.folder), queries, None
    try:
        manifest = split_file(queries, run.dataset.corpus, settings, files=files, **run.stage_kwargs)
    except ConfigError as error:
        run.progress.withdraw(files.train)
        statement = f"Nothing was measured: {error}."
    else:
        statement, train = _statement(manifest.results, options), files.train
        texts = {query.query_id: query.text for query in read_queries(files.queries_dev)}
        topics = Topics(DEV_SPLIT, texts, read_qrels(files.qrels_dev))
        sides = ["--output-train", train, "--output-dev", files.dev]
        run.commands.add("split", ["--input", queries, *run.commands.documents, *sides, *flags_of(settings)])
        run.commands.hold_out(files.queries_dev, files.qrels_dev)
    statements = filter(None, [statement, judge_statement(None, run.evidence.judged)])
    return HeldOut(train, topics, " ".join(statements))


def split_files(folder: Path) -> SplitFiles:
    """The files of the split between training and test queries."""
    return SplitFiles.named(folder / "queries.train.jsonl", folder / "queries.dev.jsonl")


def choice_files(folder: Path) -> SplitFiles:
    """The files of the split between training queries and those that choose the system."""
    return SplitFiles.named(folder / "queries.to_train_on.jsonl", folder / "queries.to_choose_by.jsonl")


def judge_statement(measured: Topics | None, chosen_by: Topics | None) -> str:
    """The caveat if a model judged the test queries, or those that choose the system."""
    roles = (("What is measured is", measured), ("The queries that chose the system are", chosen_by))
    return " ".join(f"{beginning} {topics.origin}." for beginning, topics in roles if topics and topics.origin)


def with_statements(report: Report, held_out: HeldOut) -> Report:
    """Add the statement to the report's results and to its conclusion, or its lead if there is no conclusion."""
    if not held_out.statement:
        return report
    synthetic = held_out.topics is not None and held_out.topics.split == DEV_SPLIT
    facts = {name.replace("judged", "held-out") if synthetic else name: fact for name, fact in report.facts.items()}
    results = report.results
    if results is not None:
        results = replace(results, notes=[*results.notes, held_out.statement])
    report = replace(report, facts=facts, results=results)
    if report.conclusion is None:
        return replace(report, lead=f"{report.lead} {held_out.statement}")
    return replace(report, conclusion=replace(report.conclusion, caveat=held_out.statement))


def _statement(results: Mapping[str, Any], options: PipelineOptions) -> str:
    unit = results["held_out_by"]
    favours = (
        " The reranker starts from the model that wrote them, which favours it."
        if options.reranker == options.model
        else ""
    )
    return (
        f"Measured by {results['dev']} synthetic queries, held out by {unit}: nothing cut from the same {unit}, and "
        "nothing nearly the same, was trained on. This shows how well each system finds this collection's documents "
        f"for queries as {options.model} writes them. It does not show how people's own queries fare: they are "
        "worded otherwise, several documents may answer one while only the one it was written for counts here, and "
        f"unlikely, harder ones were filtered out.{favours} Judge a few dozen real queries before relying on it "
        "(--queries, --qrels)."
    )
