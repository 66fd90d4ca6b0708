"""Flags and output that several commands share."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from inpars.console import Console
from inpars.documents.datasets import Dataset, UnknownJudgements, load_dataset, load_topics
from inpars.engines import trial
from inpars.errors import ConfigError, InparsError
from inpars.filtering.checks import FilterContext
from inpars.io.formats import read_queries
from inpars.io.json_text import replace_surrogates, to_json
from inpars.io.topics import DEFAULT_SPLIT
from inpars.options import FlagGroup, add_flags, from_flags, option
from inpars.progress import Progress
from inpars.prompts.load import ExampleOptions, choose_prompt, load_prompt
from inpars.prompts.templates import Prompt
from inpars.tracking import TRACKERS, tracking

if TYPE_CHECKING:
    from inpars.stages.rerank import RerankOptions
    from inpars.training.options import RerankerOptions

UNTRACKED = {"given", "json", "quiet", "overwrite", "track"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetFlags:
    """Where corpus, queries and judgements come from."""

    FLAG_GROUP: ClassVar = FlagGroup("data")

    dataset: str | None = option(
        None, help="ir_datasets name, BEIR folder or zip, corpus file, or python-docs", metavar="NAME"
    )
    corpus: Path | None = option(
        None, help="corpus file (JSON lines or list, .tsv, .csv, .parquet, also compressed) instead of the dataset's"
    )
    queries: Path | None = option(None, help="query file (same formats) instead of the dataset's")
    qrels: Path | None = option(None, help="judgements (TREC or BEIR format) instead of the dataset's")
    unknown_judgements: UnknownJudgements = option(
        "error",
        help="what to do with judgements of documents missing from the corpus (default: error; filter, score "
        "and triples: keep)",
        advanced=True,
    )


def add_path(
    parser: argparse._ActionsContainer,
    flag: str,
    text: str,
    *,
    several: bool = False,
    **settings: Any,  # noqa: ANN401 - argparse's
) -> None:
    """Add a flag that takes a path, with its help; `several` lets it be repeated."""
    if several:
        settings |= {"action": "append", "default": None if settings.get("required") else []}
    parser.add_argument(flag, type=Path, help=text, **{"metavar": "PATH", **settings})


def open_dataset(flags: argparse.Namespace, progress: Progress) -> Dataset:
    chosen = from_flags(DatasetFlags, flags)
    if chosen.dataset is None and chosen.corpus is None:
        also = " (or --documents FOLDER)" if hasattr(flags, "documents") else ""
        raise ConfigError(f"no documents named: give --dataset NAME or --corpus FILE{also}")
    return load_dataset(
        chosen.dataset,
        corpus=chosen.corpus,
        queries=chosen.queries,
        qrels=chosen.qrels,
        unknown_judgements=chosen.unknown_judgements,
        progress=progress,
    )


def query_texts(chosen: DatasetFlags, split: str, progress: Progress) -> dict[str, str]:
    """The query texts, if available; results do not depend on them."""
    if chosen.queries is not None:
        return {query.query_id: query.text for query in read_queries(chosen.queries, progress.note)}
    if chosen.dataset is None:
        return {}
    try:
        return load_topics(chosen.dataset, split).queries
    except InparsError as error:
        if chosen.qrels is None:
            raise
        progress.note(f"the query texts are not available: {error}")
        return {}


def dataset_source(flags: argparse.Namespace) -> dict[str, str]:
    """The given flags that name the dataset, and the split, to open it again."""
    values = {field.name: getattr(flags, field.name) for field in fields(DatasetFlags)} | {"split": flags.split}
    return {name: str(value) for name, value in values.items() if value is not None}


def add_prompt_flags(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--prompt", metavar="NAME|PATH", help=text)
    add_flags(parser, ExampleOptions)


def shown_prompt(flags: argparse.Namespace, options: RerankOptions | RerankerOptions) -> Prompt | None:
    """The prompt of the flags of `add_prompt_flags`, None without --prompt. Raises ConfigError if it is not read."""
    examples = from_flags(ExampleOptions, flags)
    if flags.prompt is None:
        if examples != ExampleOptions():
            raise ConfigError("the example flags need --prompt; give it too, or leave them out")
        return None
    loaded = load_prompt(flags.prompt)
    prompt = loaded if examples == ExampleOptions() else choose_prompt(loaded, examples)
    if not isinstance(prompt, Prompt):
        raise ConfigError(
            f"--examples-choice {examples.examples_choice}: a reranker sees the same examples for every document"
        )
    from inpars.rerankers.load import check_prompt_is_read  # imports transformers

    check_prompt_is_read(options.model, options.kind, trust_remote_code=options.trust_remote_code)
    return prompt


def open_dataset_if_named(flags: argparse.Namespace, progress: Progress) -> Dataset | None:
    return open_dataset(flags, progress) if flags.dataset is not None or flags.corpus is not None else None


def add_output_flags(
    parser: argparse.ArgumentParser,
    help_text: str,
    *,
    required: bool = True,
    overwrite: str = "rebuild the output even if it is up to date",
) -> None:
    add_path(parser, "--output", help_text, required=required)
    parser.add_argument("--overwrite", action="store_true", help=overwrite)
    add_display_flags(parser)


def add_display_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the result as JSON on stdout")
    parser.add_argument("--quiet", action="store_true", help="print no progress and no notes")


def console(flags: argparse.Namespace) -> Console:
    """Progress on stderr, none with --quiet."""
    progress = Console(quiet=flags.quiet)
    trial.report_to(progress)
    return progress


def add_track_flag(parser: argparse.ArgumentParser) -> None:
    flag: Any = parser.add_argument(
        "--track",
        choices=TRACKERS,
        help="log settings, losses, dev values and measures with this tracker's own client (docs/integrations.md)",
    )
    flag.advanced = True


def tracked(flags: argparse.Namespace, progress: Progress) -> AbstractContextManager[None]:
    settings = {name: value for name, value in vars(flags).items() if name not in UNTRACKED}
    return tracking(flags.track, flags.output, settings, progress.note)


def typed_text(text: str) -> str:
    """An argument as UTF-8, also where the locale could not decode all of it."""
    return os.fsencode(text).decode(errors="replace")


def print_result(flags: argparse.Namespace, text: str, values: Mapping[str, Any]) -> None:
    """Print the result: JSON with --json, else the text."""
    print(_json(values) if flags.json else replace_surrogates(text), file=sys.stdout)


def _json(values: Mapping[str, Any]) -> str:
    """JSON, escaped if stdout's encoding lacks a character."""
    text = to_json(values, indent=1, default=str)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(json.loads(text), indent=1)
    return text


def say_no_result(problems: Sequence[str]) -> int:
    """The exit code: 1 if there are problems, which go to stderr, since the output is not a result."""
    if problems:
        print(f"inpars: {'; '.join(problems)}", file=sys.stderr)
    return 1 if problems else 0


def add_split_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--split", default=DEFAULT_SPLIT, metavar="NAME", help="queries of this split (default: test)")


def add_exclude_queries_flag(parser: argparse.ArgumentParser) -> None:
    add_path(
        parser,
        "--exclude-queries",
        "queries of a dev or test set (.jsonl or .tsv): their duplicates and near-duplicates are dropped; repeatable",
        several=True,
    )


def filter_context(
    flags: argparse.Namespace, dataset: Dataset | None, progress: Progress, examples: Sequence[str] = ()
) -> FilterContext:
    """The prompt's examples, the queries of --exclude-queries, and the dataset's queries of all splits."""
    excluded = [query.text for path in flags.exclude_queries for query in read_queries(path, progress.note)]
    splits = dataset.splits.values() if dataset else ()
    dataset_queries = {text for load in splits for text in load().queries.values()}
    return FilterContext(example_queries=examples, excluded_queries=excluded, own_queries=list(dataset_queries))
