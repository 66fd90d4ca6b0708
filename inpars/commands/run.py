"""Run the whole pipeline into one folder: generate queries, filter, mine, train, search, rerank, evaluate.

Starts from --dataset, or from --documents: PDF files, web pages, Markdown, plain text. Without judged queries, part of
the generated ones is held out by source file to evaluate on, and the report says what that shows.

Run the same command again to resume after an interruption. With other settings it redoes only what they affect, and
replaces finished results only with --overwrite.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from inpars.commands.common import (
    add_dataset_flags,
    add_output_flags,
    add_split_flag,
    console,
    dataset_source,
    open_dataset,
    print_result,
    say_no_result,
)
from inpars.commands.ingest import add_documents_flags, lines_about, names_documents
from inpars.datasets import Dataset, load_dataset
from inpars.documents.collection import ChunkOptions
from inpars.documents.readers import ReadOptions
from inpars.documents.web_pages import FetchOptions
from inpars.evaluation.measures import DEFAULT_METRICS, parse_metrics
from inpars.options import add_flags, flags_of, from_flags
from inpars.pipeline.commands import Invocation
from inpars.pipeline.evidence import EvidenceOptions, read_evidence
from inpars.pipeline.finished_results import refuse_to_replace, settings_of
from inpars.pipeline.options import PipelineOptions, budget_seconds
from inpars.pipeline.plan import budget_values, closing_lines, free_settings
from inpars.pipeline.prompt_choice import DEFAULT, TRIAL_DOCUMENTS, PromptTrials, trial_options
from inpars.pipeline.run import generate_options, judged_topics, known_mark, run_pipeline
from inpars.pipeline.steps import Steps
from inpars.progress import SILENT, Progress
from inpars.prompting.example_choice import ExampleOptions, named_prompt
from inpars.prompting.mixture import PromptSource
from inpars.prompting.prompts import load_prompt
from inpars.provenance import current_argv, shown_command
from inpars.stages.evaluate_files import as_values, table
from inpars.stages.ingest import IngestOptions, ingest_files

DOCUMENTS = "documents"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's flags."""
    add_documents_flags(parser)
    add_dataset_flags(parser)
    add_split_flag(parser)
    parser.add_argument(
        "--prompt",
        action="append",
        metavar="NAME|PATH",
        help="shipped prompt or prompt file; given two or three times each is tried on "
        f"{TRIAL_DOCUMENTS} documents (default: {DEFAULT}, unless most of what it writes in such a trial does not look "
        "like queries and another shipped prompt does better); prompts/choice.json says why which is taken",
    )
    add_flags(parser, ExampleOptions)
    add_flags(parser, PipelineOptions)
    add_flags(parser, EvidenceOptions)
    for part in (ChunkOptions, ReadOptions, FetchOptions):
        add_flags(parser, part, advanced=True)
    parser.add_argument(
        "--metrics",
        default=" ".join(DEFAULT_METRICS),
        metavar="NAMES",
        help="measures in ir_measures notation (default: %(default)s)",
    )
    add_output_flags(
        parser,
        "folder of the run",
        overwrite="replace finished results: redo what changed settings affect, or everything if none changed",
    )


def run(flags: argparse.Namespace) -> int:
    """Run everything."""
    shown = console(flags)
    with shown.watched():
        return _run(flags, shown)


def _run(flags: argparse.Namespace, shown: Progress) -> int:
    named, metrics = frozenset(getattr(flags, "given", ())), parse_metrics(flags.metrics)
    options = from_flags(PipelineOptions, flags).with_default_top_k(named)
    progress = Steps(shown, options)
    examples = from_flags(ExampleOptions, flags)
    prompts = {name: named_prompt(name, examples, options.seed) for name in _named(flags, examples)}
    from_documents = names_documents(flags)
    reading = (from_flags(IngestOptions, flags, limit=None),) if from_documents else ()
    evidence = from_flags(EvidenceOptions, flags)
    evidence.check(flags.split)
    default: PromptSource = load_prompt(DEFAULT)
    prompt_name, prompt = next(iter(prompts.items()), (DEFAULT, default))
    settings = settings_of(
        *(options, prompt, *reading),
        split=flags.split,
        metrics=metrics,
        evidence=evidence,
        free=free_settings(options, named),
    )
    if len(prompts) != 1:  # it is not known yet
        del settings["--prompt"]
    again = refuse_to_replace(flags.output, settings, overwrite=flags.overwrite)  # now, before documents are read
    progress.begin("read", at_once=True)
    dataset = _ingested(flags, again, progress) if from_documents else open_dataset(flags, progress)
    asked = Invocation(
        shown_command(current_argv()),
        {"dataset": dataset.name} if from_documents else dataset_source(flags),
        prompt_name,
        " ".join([*map(str, flags.documents), *flags.urls]),
        _ingest_command(flags) if from_documents else "",
        examples,
        reading,
        named,
    )
    tried = None
    if len(prompts) != 1:
        known_mark(flags.output, dataset, asked)
        judged_topics(dataset, flags.split)  # what is wrong with them is said before minutes of a trial
        budget = None if options.budget is None else budget_seconds(options.budget)
        trials = PromptTrials(
            dataset,
            trial_options(generate_options(options), budget),
            flags.output,
            {"progress": progress, "overwrite": again},
            read_evidence(evidence, dataset, None, SILENT).real,
        )
        tried = trials.best(prompts) if prompts else trials.default_or_better()
        prompt, asked = tried.prompt, replace(asked, prompt=tried.name)
    finished = run_pipeline(
        dataset,
        prompt,
        options,
        output=flags.output,
        split=flags.split,
        metrics=metrics,
        evidence=evidence,
        asked=asked,
        tried=tried,
        progress=progress,
        overwrite=flags.overwrite,
    )
    if finished.results:
        lines = table(finished.results, finished.differences, metrics)
        first = [f"not a result: {problem}" for problem in finished.problems]
        text = "\n".join([*first, lines, *filter(None, [finished.verdict]), f"report: {finished.report}"])
    else:
        text = f"no judged queries, nothing measured; the search system is in {flags.output}\nreport: {finished.report}"
    if finished.statement:
        text = f"{text}\n{finished.statement}"
    values = {**as_values(finished.results, finished.differences, finished.origin), "verdict": finished.verdict}
    values |= {"statement": finished.statement} if finished.statement else {}
    values |= {"problems": list(finished.problems)} if finished.problems else {}
    if finished.plan is not None:
        text = "\n".join([text, *closing_lines(finished.plan, finished.facts)])
        values["budget"] = budget_values(finished.plan, finished.facts)
    print_result(flags, text, values)
    return say_no_result(finished.problems if len(finished.problems) == len(finished.results) else ())


def _named(flags: argparse.Namespace, examples: ExampleOptions) -> list[str]:
    """The prompts to choose from; none where a trial finds one, which examples of one's own make needless."""
    return flags.prompt or ([DEFAULT] if examples != ExampleOptions() else [])


def _ingest_command(flags: argparse.Namespace) -> str:
    """What `_ingested` does, as a command of its own."""
    named = [(name, getattr(flags, name)) for name in ("documents", "urls")]
    sources = [str(word) for name, values in named if values for word in (f"--{name}", *values)]
    settings = flags_of(from_flags(IngestOptions, flags, limit=None))
    return shown_command(["inpars", "ingest", *sources, *settings, "--output", str(_corpus(flags))])


def _corpus(flags: argparse.Namespace) -> Path:
    return Path(flags.output) / DOCUMENTS / "corpus.jsonl"


def _ingested(flags: argparse.Namespace, overwrite: bool, progress: Progress) -> Dataset:
    """The files and pages as a dataset in the run's folder."""
    output = _corpus(flags)
    options = from_flags(IngestOptions, flags, limit=None)
    manifest, found = ingest_files(
        flags.documents, options, output=output, urls=flags.urls, progress=progress, overwrite=overwrite
    )
    for line in lines_about(manifest, found):
        progress.note(line)
    return load_dataset(str(output.parent))
