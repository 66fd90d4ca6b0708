"""Keep the queries worth training on, and say what was left out and why.

Without further flags: the 10,000 queries that the model itself finds likeliest, once copies, duplicates and torn ones
are gone. Scores of other kinds come from `inpars score --kind ...` as files, given with --scores; choosing again with
other numbers takes seconds.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from inpars.commands.common import add_dataset_flags, add_output_flags, console, open_dataset_if_named, print_result
from inpars.datasets import Dataset
from inpars.formats import read_queries
from inpars.guards import FilterOptions
from inpars.options import add_flags, from_flags
from inpars.prompts import load_prompt, read_examples
from inpars.stages.filtering import filter_file
from inpars.stages.stage import dropped_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's flags."""
    parser.add_argument("--input", type=Path, required=True, metavar="PATH", help="synthetic queries, JSON lines")
    parser.add_argument(
        "--scores",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="scores made with inpars score --kind ...: JSON lines of query_id and numbers by name; may be repeated",
    )
    parser.add_argument(
        "--exclude-queries",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="queries (.jsonl or .tsv) of a dev or test set: what equals them, or nearly, is left out; may be repeated",
    )
    add_dataset_flags(parser)
    parser.add_argument(
        "--prompt", metavar="NAME|PATH", help="the prompt they were written with: its examples' queries are left out"
    )
    parser.add_argument("--examples", type=Path, metavar="PATH", help="the examples they were written with, likewise")
    add_flags(parser, FilterOptions)
    add_output_flags(parser, "kept queries, JSON lines, best first")


def run(flags: argparse.Namespace) -> None:
    """Filter."""
    progress = console(flags)
    examples = [
        *(load_prompt(flags.prompt).examples if flags.prompt else ()),
        *(read_examples(flags.examples) if flags.examples else ()),
    ]
    flags.unknown_judgements = "keep"  # nobody judges here
    dataset = open_dataset_if_named(flags, progress)
    manifest = filter_file(
        flags.input,
        from_flags(FilterOptions, flags),
        output=flags.output,
        scores=flags.scores,
        example_queries=[example.query for example in examples],
        excluded_queries=_texts(flags.exclude_queries),
        own_queries=_own_queries(dataset),
        corpus=dataset.corpus if dataset else None,
        corpus_stamp=dataset.corpus_stamp if dataset else None,
        progress=progress,
        overwrite=flags.overwrite,
    )
    text = f"{flags.output}: {manifest.output.records} of {manifest.results['read']} queries kept"
    own = manifest.results.get("resembling_the_datasets_queries")
    told = (
        f"; {own} of all equal the dataset's own queries or nearly (--exclude-queries leaves them out)" if own else ""
    )
    values = {
        "output": str(flags.output),
        "kept": manifest.output.records,
        "dropped": manifest.dropped,
        **manifest.results,
    }
    print_result(flags, f"{text} ({dropped_line(manifest.dropped)}){told}", values)


def _texts(paths: Iterable[Path]) -> list[str]:
    return [query.text for path in paths for query in read_queries(path)]


def _own_queries(dataset: Dataset | None) -> list[str]:
    """The dataset's queries of all splits."""
    splits = dataset.splits if dataset else {}
    return list({text for load in splits.values() for text in load().queries.values()})
