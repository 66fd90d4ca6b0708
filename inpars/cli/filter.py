"""Keep the queries worth training on, and count what was dropped by reason.

By default: the 10,000 queries with the highest mean log-prob, without copies, duplicates and cut-off queries. Other
scores come from `inpars score --kind ...` and are given with --scores; filtering again takes seconds.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from inpars.cli.common import (
    DatasetFlags,
    add_exclude_queries_flag,
    add_output_flags,
    add_path,
    console,
    filter_context,
    open_dataset_if_named,
    print_result,
)
from inpars.contrib.comparison.filters import CompareOptions, compare_file, table_lines
from inpars.errors import ConfigError
from inpars.filtering.checks import FilterOptions
from inpars.io.manifest import Manifest
from inpars.options import COUNT, add_flags, add_number, from_flags
from inpars.prompts.load import ExampleOptions, named_prompt, read_examples
from inpars.prompts.templates import Example
from inpars.stages.filter import BY_PROMPT, RESEMBLING, filter_file
from inpars.stages.stage import dropped_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_path(parser, "--input", "synthetic queries, JSON lines", required=True)
    add_path(parser, "--scores", "scores from `inpars score --kind ...`, JSON lines; repeatable", several=True)
    add_exclude_queries_flag(parser)
    add_flags(parser, DatasetFlags)
    parser.set_defaults(unknown_judgements="keep")  # nothing is evaluated here
    parser.add_argument(
        "--prompt",
        metavar="NAME|PATH",
        help="prompt that the queries were generated with: its example queries are dropped",
    )
    add_path(parser, "--examples", "examples that the queries were generated with; their queries are dropped")
    add_number(parser, "--num-examples", bounds=COUNT, help="number of these examples that were used (default: all)")
    add_flags(parser, FilterOptions)
    parser.add_argument(
        "--compare",
        action="store_true",
        help="compare filters instead: write an HTML page to --output, with JSON next to it, on what each "
        "--select would keep (default: every score, random, and a spread over openings)",
    )
    add_flags(parser, CompareOptions)
    add_path(
        parser, "--write-kept", "with --compare: write the queries each filter keeps to DIR/NAME.jsonl", metavar="DIR"
    )
    add_output_flags(parser, "kept queries, JSON lines, best first; an HTML page with --compare")


def run(flags: argparse.Namespace) -> None:
    progress = console(flags)
    examples: Sequence[Example] = ()
    if flags.prompt:
        shown = ExampleOptions(examples=flags.examples, num_examples=flags.num_examples)
        examples = named_prompt(flags.prompt, shown).examples
    elif flags.examples:
        examples = read_examples(flags.examples)[: flags.num_examples]
    dataset = open_dataset_if_named(flags, progress)
    common: dict[str, Any] = {
        "output": flags.output,
        "scores": flags.scores,
        "corpus": dataset.corpus if dataset else None,
        "progress": progress,
        "overwrite": flags.overwrite,
    }
    common["context"] = filter_context(flags, dataset, progress, [example.query for example in examples])
    options = from_flags(FilterOptions, flags)
    if flags.compare:
        compared = from_flags(CompareOptions, flags)
        manifest = compare_file(flags.input, options, compared, write_kept=flags.write_kept, **common)
        lines = [*table_lines(manifest.results), "", f"{flags.output}: the page"]
        print_result(flags, "\n".join(lines), {"output": str(flags.output), **manifest.results})
        return
    if flags.write_kept is not None:
        raise ConfigError("--write-kept needs --compare; without it the kept queries go to --output")
    _print_kept(flags, filter_file(flags.input, options, **common))


def _print_kept(flags: argparse.Namespace, manifest: Manifest) -> None:
    text = f"{flags.output}: {manifest.output.records} of {manifest.results['read']} queries kept"
    resembling = manifest.results.get(RESEMBLING)
    remark = (
        f"; {resembling} are equal or similar to the dataset's queries (--exclude-queries drops them)"
        if resembling
        else ""
    )
    values = {
        "output": str(flags.output),
        "kept": manifest.output.records,
        "dropped": manifest.dropped,
        **manifest.results,
    }
    kinds = "".join(f"\n  {line}" for line in _kind_lines(manifest.results.get(BY_PROMPT, {})))
    print_result(flags, f"{text} ({dropped_line(manifest.dropped)}){remark}{kinds}", values)


def _kind_lines(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """`claim: 40 of 50 kept (10 dropped: copied 10)` for each prompt or kind of pair."""
    lines = []
    for kind, kind_counts in counts.items():
        dropped = {reason: count for reason, count in kind_counts.items() if reason != "kept"}
        lines.append(f"{kind}: {kind_counts['kept']} of {sum(kind_counts.values())} kept ({dropped_line(dropped)})")
    return lines
