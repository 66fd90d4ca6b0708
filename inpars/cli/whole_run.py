"""One `inpars run`: ingest documents, try prompts, run the pipeline, print the results."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from inpars.cli.common import dataset_source, open_dataset, print_result, say_no_result
from inpars.cli.ingest import lines_about, names_documents
from inpars.documents.datasets import Dataset, load_dataset
from inpars.errors import ConfigError
from inpars.evaluation.measures import Evaluation, parse_metrics
from inpars.evaluation.significance import Difference
from inpars.extras import require
from inpars.options import flags_of, from_flags
from inpars.pipeline.commands import Invocation
from inpars.pipeline.evidence import EvidenceOptions, read_evidence
from inpars.pipeline.given_queries import with_generated
from inpars.pipeline.judging_options import JudgingOptions
from inpars.pipeline.leftovers import refuse_to_replace, settings_of
from inpars.pipeline.mark import run_folders
from inpars.pipeline.options import DEFAULT_PROMPT, EXTRAS, PipelineOptions, budget_seconds
from inpars.pipeline.plan import budget_values, closing_lines, free_settings
from inpars.pipeline.prompt_choice import PromptTrials, trial_options
from inpars.pipeline.run import (
    PipelineResult,
    generate_options,
    judged_topics,
    known_mark,
    refuse_other_documents,
    run_pipeline,
)
from inpars.pipeline.steps import Steps
from inpars.progress import SILENT, Progress
from inpars.prompts.load import ExampleOptions, load_prompt, named_prompt
from inpars.prompts.mixture import PromptSource
from inpars.provenance import current_argv, shown_command
from inpars.stages.evaluate_files import as_values, table
from inpars.stages.ingest import IngestOptions, ingest_files
from inpars.tracking import log_results

DOCUMENTS = "documents"


def run_whole(flags: argparse.Namespace, console_progress: Progress) -> int:
    """Run everything and return the exit code."""
    given, metrics = frozenset(getattr(flags, "given", ())), parse_metrics(flags.metrics)
    options, evidence = from_flags(PipelineOptions, flags), from_flags(EvidenceOptions, flags)
    if evidence.generated is not None:
        options = with_generated(options, evidence.generated, given)
    options = options.with_default_top_k(given)
    require(EXTRAS, options.models, "for a whole run")  # fail early
    judging = from_flags(JudgingOptions, flags)
    judging.check()
    progress = Steps(console_progress, options, judging.judge)
    examples = from_flags(ExampleOptions, flags)
    prompts = {name: named_prompt(name, examples, options.seed) for name in _prompt_names(flags, examples)}
    from_documents = names_documents(flags)
    ingest_options = (from_flags(IngestOptions, flags, limit=None),) if from_documents else ()
    evidence.check(flags.split)
    default: PromptSource = load_prompt(DEFAULT_PROMPT)
    prompt_name, prompt = next(iter(prompts.items()), (DEFAULT_PROMPT, default))
    settings = settings_of(
        *(options, prompt, *ingest_options),
        split=flags.split,
        metrics=metrics,
        evidence=evidence,
        judging=judging,
        free=free_settings(options, given),
    )
    if len(prompts) != 1:  # a trial will choose one
        del settings["--prompt"]
    again = refuse_to_replace(flags.output, settings, overwrite=flags.overwrite)  # before documents are read
    progress.begin("read", at_once=True)
    dataset = _ingested(flags, again, progress) if from_documents else open_dataset(flags, progress)
    invocation = Invocation(
        shown_command(current_argv()),
        {"dataset": dataset.name} if from_documents else dataset_source(flags),
        prompt_name,
        _documents(flags),
        _ingest_command(flags) if from_documents else "",
        examples,
        ingest_options,
        given,
    )
    tried = None
    if len(prompts) != 1:
        known_mark(flags.output, dataset, invocation)
        judged_topics(dataset, flags.split)  # report problems before a trial of minutes
        budget = None if options.budget is None else budget_seconds(options.budget)
        trials = PromptTrials(
            dataset,
            trial_options(generate_options(options), budget),
            flags.output,
            {"progress": progress, "overwrite": again},
            read_evidence(evidence, dataset, None, SILENT).real,
        )
        tried = trials.best(prompts) if prompts else trials.default_or_better()
        prompt, invocation = tried.prompt, replace(invocation, prompt=tried.name)
    finished = run_pipeline(
        dataset,
        prompt,
        options,
        output=flags.output,
        split=flags.split,
        metrics=metrics,
        evidence=evidence,
        judging=judging,
        invocation=invocation,
        tried=tried,
        progress=progress,
        overwrite=flags.overwrite,
    )
    return _end(flags, finished, metrics)


def _end(flags: argparse.Namespace, finished: PipelineResult, metrics: Sequence[str]) -> int:
    """Print the results; the exit code is 1 if no system has a result."""
    log_results({name: evaluation.means for name, evaluation in finished.results.items()})
    if finished.results:
        lines = _table_lines(finished.results, finished.differences, metrics, finished.problems)
        text = "\n".join([*lines, *filter(None, [finished.verdict]), f"report: {finished.report}"])
    else:
        text = f"no judged queries, nothing measured; the search system is in {flags.output}\nreport: {finished.report}"
    if finished.statement:
        text = f"{text}\n{finished.statement}"
    values = {**as_values(finished.results, finished.differences, finished.origin), "verdict": finished.verdict}
    values |= {"statement": finished.statement} if finished.statement else {}
    if (judged := finished.judged) is not None:
        measured = judged.measured
        lines = _table_lines(measured.evaluations, measured.differences, metrics, measured.problems)
        text = "\n".join([text, "", f"{judged.origin}:", *lines, *judged.trust])
        judged_values = as_values(measured.evaluations, measured.differences, judged.origin)
        values["judged"] = {**judged_values, "trust": list(judged.trust), "problems": list(measured.problems)}
    values |= {"problems": list(finished.problems)} if finished.problems else {}
    if finished.plan is not None:
        text = "\n".join([text, *closing_lines(finished.plan, finished.facts)])
        values["budget"] = budget_values(finished.plan, finished.facts)
    print_result(flags, text, values)
    return say_no_result(finished.problems if len(finished.problems) == len(finished.results) else ())


def _table_lines(
    results: Mapping[str, Evaluation],
    differences: Mapping[str, Mapping[str, Difference]],
    metrics: Sequence[str],
    problems: Sequence[str],
) -> list[str]:
    return [*(f"not a result: {problem}" for problem in problems), table(results, differences, metrics)]


def _prompt_names(flags: argparse.Namespace, examples: ExampleOptions) -> list[str]:
    """The prompts to choose from; none if a trial is to find one.

    No trial is needed with the user's examples or with queries generated before.
    """
    if flags.generated is not None and len(flags.prompt or ()) > 1:
        raise ConfigError("several --prompt are compared by generating queries; give only one with --generated")
    return flags.prompt or ([DEFAULT_PROMPT] if examples != ExampleOptions() or flags.generated is not None else [])


def _ingest_command(flags: argparse.Namespace) -> str:
    """The `inpars ingest` command that does the same as `_ingested`."""
    named = [(name, getattr(flags, name)) for name in ("documents", "urls")]
    sources = [str(word) for name, values in named if values for word in (f"--{name}", *values)]
    settings = flags_of(from_flags(IngestOptions, flags, limit=None))
    return shown_command(["inpars", "ingest", *sources, *settings, "--output", str(_corpus(flags))])


def _corpus(flags: argparse.Namespace) -> Path:
    return Path(flags.output) / DOCUMENTS / "corpus.jsonl"


def _documents(flags: argparse.Namespace) -> str:
    return " ".join([*map(str, flags.documents), *flags.urls])


def _ingested(flags: argparse.Namespace, overwrite: bool, progress: Progress) -> Dataset:
    """Ingest the files and pages into a dataset in the run's folder; the files of runs are left out."""
    output, folder = _corpus(flags), flags.output.resolve()
    if any(source.resolve() == folder for source in flags.documents):
        raise ConfigError(
            f"--output {flags.output} is the folder of the documents, where the run's own files would be read too; "
            "choose another --output"
        )
    others = [run for run in run_folders(flags.documents) if run.resolve() != folder]
    for run in others:
        progress.note(f"{run}: the folder of another run, not read as documents")
    options = from_flags(IngestOptions, flags, limit=None)
    manifest, files = ingest_files(
        flags.documents,
        options,
        output=output,
        urls=flags.urls,
        leave_out=[flags.output, *others],
        before=lambda: refuse_other_documents(flags.output, _documents(flags)),
        progress=progress,
        overwrite=overwrite,
    )
    for line in lines_about(manifest, files):
        progress.note(line)
    return load_dataset(str(output.parent))
