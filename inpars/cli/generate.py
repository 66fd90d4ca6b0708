"""Generate queries for documents with a language model, and store the log-probability of every token.

Run the same command again to resume after an interruption.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from inpars.cli.common import DatasetFlags, add_output_flags, add_path, console, open_dataset, print_result
from inpars.contrib.interchange.genq_pairs import write_pairs
from inpars.distributed import workers_of
from inpars.errors import ConfigError
from inpars.generation.api.options import ApiOptions, check_api
from inpars.io.formats import read_synthetic_queries
from inpars.options import add_flags, from_flags
from inpars.prompts.load import ExampleOptions, choose_prompt, named_prompt
from inpars.prompts.mixture import PromptSource
from inpars.stages.generate import (
    BY_PROMPT,
    GenerateOptions,
    default_prompt,
    dry_run,
    generate_queries,
    generator_maker,
)
from inpars.stages.generate_by_api import SERVER_BACKENDS
from inpars.stages.stage import dropped_line
from inpars.stages.workers import own_output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_flags(parser, DatasetFlags)
    parser.add_argument(
        "--prompt",
        metavar="NAME|PATH",
        help="shipped prompt or prompt file (default: inpars; with --backend seq2seq the document alone); "
        "claim:0.5,keywords:0.5 gives each its share of the documents",
    )
    add_flags(parser, ExampleOptions)
    add_flags(parser, GenerateOptions)
    add_flags(parser, ApiOptions)
    add_path(parser, "--pairs", "write queries and documents also as GenQ's shards of 1,024 pairs", metavar="DIR")
    add_output_flags(parser, "synthetic queries, JSON lines")


def run(flags: argparse.Namespace) -> None:
    progress = console(flags)
    options, api = from_flags(GenerateOptions, flags), from_flags(ApiOptions, flags)
    check_api(api, asks_server=options.backend in SERVER_BACKENDS)
    output = own_output(flags.output, options)
    if flags.pairs is not None and options.part is not None:
        raise ConfigError(
            "--pairs needs all queries; merge the shards, then run the same command with --pairs and without --shard"
        )
    examples = from_flags(ExampleOptions, flags)
    prompt: PromptSource
    if flags.prompt:
        prompt = named_prompt(flags.prompt, examples, options.seed)
    else:
        prompt = choose_prompt(default_prompt(options.backend), examples, options.seed)
    dataset = open_dataset(flags, progress)
    if api.dry_run:
        estimate = dry_run(dataset.corpus, prompt, options, api, output)
        print_result(flags, str(estimate), asdict(estimate))
        return

    manifest = generate_queries(
        dataset.corpus,
        prompt,
        options,
        output=output,
        make_generator=generator_maker(options, prompt, api, output, progress),
        api=api,
        workers=workers_of(options),
        progress=progress,
        overwrite=flags.overwrite,
    )
    if flags.pairs is not None:
        count = write_pairs(flags.pairs, read_synthetic_queries(flags.output), lambda d: dataset.corpus[d].full_text)
        progress.note(f"{flags.pairs}: {count} pairs")
    text = f"{output}: {manifest.output.records} queries ({dropped_line(manifest.dropped)})"
    values = {"output": str(output), "queries": manifest.output.records}
    if kinds := manifest.results.get(BY_PROMPT):
        text += "".join(f"\n  {name}: {count}" for name, count in kinds.items())
        values[BY_PROMPT] = kinds
    print_result(flags, text, values)
