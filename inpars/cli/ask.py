"""Answer a question from a collection: with words of a document, or with generated text and numbered sources.

Documents are retrieved by BM25 and a bi-encoder, or by --run's measured system, and reranked if --reranker names one.
Without a --reader (`inpars train reader` makes one) the answer is the sentence closest to the question: on SQuAD this
rejects questions about other topics, but still answers two in three of the close questions that have no answer. If
nothing reaches --threshold there is no answer, and the exit code is still 0.

The embedded smollm2-135m copies from a few sentences and is often wrong beyond a definition or a number: check the
source it cites, or use a larger model with --base-url.
"""

from __future__ import annotations

import argparse

from inpars.apps.qa.build_engine import AnswerOptions, EngineOptions, parse_filters
from inpars.apps.qa.engine import DEFAULT_SOURCES
from inpars.apps.qa.formatting import answer_lines, answer_values
from inpars.apps.qa.records import AnswerKind
from inpars.cli.common import DatasetFlags, add_display_flags, add_path, console, print_result, typed_text
from inpars.cli.measured import add_run_flag, open_named_engine
from inpars.errors import ConfigError
from inpars.options import COUNT, add_flags, add_number, from_flags


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("question", help="what you want to know, in quotes")
    add_index_flag(parser)
    add_flags(parser, DatasetFlags)
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
    add_path(parser, "--index", "index built by `inpars index`, instead of a dataset", metavar="DIR")


def add_search_flags(parser: argparse.ArgumentParser) -> None:
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
