"""Answer a question from a collection: words of a document, or a text with numbered sources.

Documents are found by BM25 and a bi-encoder, put together by their z-scores and reordered by a reranker where one is
named. Without a model that marks answers (--reader; `inpars train reader` makes one) the sentence nearest to the
question is shown. Its score is nearness: over SQuAD's paragraphs it keeps out questions about something else, but of
questions that are close and have no answer there it still answers two in three. Below --threshold, and where the
sources say nothing, there is no answer, and the exit code is still 0.

--run FOLDER answers from what the measured system of an `inpars run` finds.

A small language model in this process (smollm2-135m) copies from a few sentences and is often wrong about more than a
definition or a number: look at the source that it names, or give --base-url with a larger model.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from inpars.answering.build_engine import AnswerOptions, EngineOptions, parse_filters
from inpars.answering.engine import DEFAULT_SOURCES
from inpars.answering.formatting import answer_lines, answer_values
from inpars.answering.records import AnswerKind
from inpars.commands.common import (
    add_dataset_flags,
    add_display_flags,
    console,
    print_result,
    typed_text,
)
from inpars.commands.measured import add_run_flag, open_named_engine
from inpars.errors import ConfigError
from inpars.options import COUNT, add_flags, add_number, from_flags


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's flags."""
    parser.add_argument("question", help="what you want to know, in quotes")
    add_index_flag(parser)
    add_dataset_flags(parser)
    add_run_flag(parser)
    parser.add_argument(
        "--answer",
        choices=("extractive", "generated"),
        help="extractive: words of a document; generated: text from a language model (default: extractive, or"
        " generated with --model or --base-url)",
    )
    add_number(parser, "--k", bounds=COUNT, default=DEFAULT_SOURCES, help="sources to read (default: %(default)s)")
    add_search_flags(parser)
    add_flags(parser, AnswerOptions)
    add_flags(parser, EngineOptions)
    add_display_flags(parser)


def run(flags: argparse.Namespace) -> None:
    """Answer."""
    question = typed_text(flags.question)
    if not question.strip():
        raise ConfigError("the question is empty; ask something")
    progress = console(flags)
    answers = from_flags(AnswerOptions, flags)
    kind: AnswerKind = flags.answer or ("generated" if answers.model or answers.base_url else "extractive")
    filters = parse_filters(flags.filter)
    with open_named_engine(flags, flags.run, progress, answers=answers, writes=kind == "generated") as engine:
        answer = engine.ask(question, kind=kind, k=flags.k, system=flags.system, filters=filters)
        values = answer_values(answer) | {"system": flags.system or engine.default_system, "notes": list(engine.notes)}
    print_result(flags, "\n".join(answer_lines(answer)), values)


def add_index_flag(parser: argparse.ArgumentParser) -> None:
    """Add --index."""
    parser.add_argument("--index", type=Path, metavar="DIR", help="index built by `inpars index`, instead of a dataset")


def add_search_flags(parser: argparse.ArgumentParser) -> None:
    """Add --system and --filter."""
    parser.add_argument(
        "--system",
        metavar="NAME",
        help="hybrid: everything available; dense: the bi-encoder; base: --base-retriever; bm25; with --run: "
        "measured, or one of its stages (default: the first available)",
    )
    parser.add_argument(
        "--filter",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="only documents with this metadata, source=*.pdf for instance; all must match if repeated",
    )
