"""Score queries, for `inpars filter`.

--kind log-probs recomputes the token log-probs of queries from any source under one local model, so that queries of
different generators can be compared. The other kinds write a file with one score per query_id for
`inpars filter --scores`. Run the same command again to resume after an interruption.
"""

from __future__ import annotations

import argparse
from typing import Any

from inpars.cli.common import DatasetFlags, add_output_flags, add_path, console, open_dataset_if_named, print_result
from inpars.distributed import workers_of
from inpars.errors import ConfigError
from inpars.io.manifest import Manifest
from inpars.options import add_flags, from_flags
from inpars.prompts.load import ExampleOptions, named_prompt
from inpars.stages.query_scores import cluster_file, score_column_file
from inpars.stages.score import ScoreOptions, score_file, scorer_maker
from inpars.stages.workers import own_output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_path(parser, "--input", "queries with doc_id, JSON lines", required=True)
    add_flags(parser, DatasetFlags)
    parser.set_defaults(unknown_judgements="keep")  # nothing is evaluated here
    parser.add_argument(
        "--prompt",
        default="inpars",
        metavar="NAME|PATH",
        help="shipped prompt or prompt file; of a mixture (claim:0.5,inpars:0.5) each query gets the prompt that its "
        "record names (default: inpars)",
    )
    add_flags(parser, ExampleOptions)
    add_flags(parser, ScoreOptions)
    add_output_flags(parser, "the same queries with new log-probabilities, or the score file, JSON lines")


def run(flags: argparse.Namespace) -> None:
    progress, options = console(flags), from_flags(ScoreOptions, flags)
    if options.on_ray and options.kind != "log-probs":
        raise ConfigError(f"--kind {options.kind} does not run on workers; leave --engine ray out, or use --shard")
    output = own_output(flags.output, options)
    dataset = open_dataset_if_named(flags, progress)
    common: dict[str, Any] = {"output": output, "progress": progress, "overwrite": flags.overwrite}
    corpus = dataset.corpus if dataset else None
    if options.kind == "log-probs":
        prompt = named_prompt(flags.prompt, from_flags(ExampleOptions, flags), options.seed)
        manifest = score_file(
            flags.input,
            prompt,
            options,
            make_scorer=scorer_maker(options, prompt),
            workers=workers_of(options),
            corpus=corpus,
            **common,
        )
    elif options.kind == "cluster":
        manifest = cluster_file(flags.input, options, **common)
    else:
        manifest = score_column_file(flags.input, options, corpus=corpus, **common)
    values = {"output": str(output), "queries": manifest.output.records, **manifest.results}
    print_result(flags, f"{output}: {manifest.output.records} queries scored {_summary(options, manifest)}", values)


def _summary(options: ScoreOptions, manifest: Manifest) -> str:
    results = manifest.results
    if options.kind == "cluster":
        return f"by {options.model_name}: {results['clusters']} clusters, {results['largest']} queries in the largest"
    if options.kind == "log-probs":
        mean = results["mean_log_prob"]
        mean_text = "no tokens" if mean is None else f"mean log-probability per token {mean:.4f}"
        return f"with {options.model_name}, {mean_text}"
    mean = "none has a score" if results["mean"] is None else f"mean {results['mean']:.4f}"
    missing = f", {results['missing']} of them not among the first {options.depth}"
    return f"by {options.kind}{missing if options.kind.endswith('-rank') else ''}, {mean}"
