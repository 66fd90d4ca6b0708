"""Compare wordings and examples of a prompt by small runs, and write the best as a prompt file.

Candidates: the first --prompt, which is the baseline; the others as they are and with its examples; its examples in
reverse order, and without each in turn. With judged queries (--split) each candidate gets its own run, measured on
them; report results on other queries. Without judged queries, candidates are compared only by how many of their queries
look like queries. Run the same command again to resume.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import asdict
from itertools import islice

from inpars.cli.common import (
    DatasetFlags,
    add_output_flags,
    add_split_flag,
    console,
    dataset_source,
    open_dataset,
    print_result,
)
from inpars.errors import ConfigError
from inpars.evaluation.measures import parse_metrics
from inpars.options import COUNT, add_flags, add_number, from_flags
from inpars.pipeline.options import PipelineOptions
from inpars.pipeline.prompt_search import WINNER, FoundPrompt, candidates_of, search_prompts
from inpars.prompts.load import load_prompt
from inpars.report.formatting import duration
from inpars.stages.evaluate_files import as_values, table

DOCUMENTS, CANDIDATES = 100, 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_flags(parser, DatasetFlags)
    add_split_flag(parser)
    parser.add_argument(
        "--prompt",
        action="append",
        metavar="NAME|PATH",
        help="prompt to start from, then others to take wording from; name or file, repeatable (default: inpars)",
    )
    add_number(
        parser, "--candidates", bounds=COUNT, default=CANDIDATES, help="maximum candidates (default: %(default)s)"
    )
    parser.add_argument("--metric", default="nDCG@10", metavar="NAME", help="measure (default: %(default)s)")
    add_flags(parser, PipelineOptions)
    parser.set_defaults(max_documents=DOCUMENTS, rerank_depth=0, late_interaction_depth=0)
    add_output_flags(parser, "folder of the search; the winner is its winner.yaml")


def run(flags: argparse.Namespace) -> None:
    progress, metrics = console(flags), parse_metrics(flags.metric)
    options = from_flags(PipelineOptions, flags).with_default_top_k(getattr(flags, "given", ()))
    if len(metrics) != 1:
        raise ConfigError(f"--metric is one measure, not {len(metrics)}")
    if options.budget is not None:
        raise ConfigError("--budget is for one run; give --max-documents and --candidates")
    base, *others = [load_prompt(name) for name in flags.prompt or ["inpars"]]
    candidates = list(islice(candidates_of(base, others), flags.candidates))
    counts = Counter(candidate.name for candidate in candidates)
    if repeated := [name for name, count in sorted(counts.items()) if count > 1]:
        raise ConfigError(f"--prompt: two prompts are called {repeated[0]!r}; rename one of them")
    result = search_prompts(
        open_dataset(flags, progress),
        candidates,
        options,
        output=flags.output,
        split=flags.split,
        metric=metrics[0],
        source=dataset_source(flags),
        progress=progress,
        overwrite=flags.overwrite,
    )
    values = as_values(result.evaluations, result.differences) | {
        "looks": result.looks,
        "seconds": dict(result.seconds),
    }
    values |= {"winner": result.winner, "evidence": result.evidence, "options": asdict(options)}
    print_result(flags, "\n".join([*_lines(result, metrics[0]), f"prompt file: {flags.output / WINNER}"]), values)


def _lines(result: FoundPrompt, metric: str) -> list[str]:
    times = ", ".join(f"{name} {duration(seconds)}" for name, seconds in result.seconds.items())
    comparison = table(result.evaluations, result.differences, [metric]) if result.evaluations else result.looks
    return [f"compared by {result.evidence}", comparison, f"time of all stages: {times}", f"winner: {result.winner}"]
