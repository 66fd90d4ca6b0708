# PYTHON_ARGCOMPLETE_OK
"""The `inpars` command: parse, call one command module, exit.

Exit codes: 0 done, 1 an error explained in one line on stderr, 2 wrong usage, 130 interrupted. Command modules are
imported when they are named, so that `--help` and `--version` load no torch and no JVM. INPARS_TRACEBACK=1 shows where
an error came from.
"""

from __future__ import annotations

import argparse
import importlib
import keyword
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from types import ModuleType

from inpars import __version__
from inpars.cli.config_files import PRINT, add_config_flags, config_text, expanded
from inpars.cli.usage import Parser, guess
from inpars.errors import InparsError
from inpars.models.compute_options import use_engine
from inpars.models.processor import keep_freed_memory
from inpars.provenance import running

COMMAND_GROUPS = {
    "the whole": {
        "run": "the whole pipeline: from documents to a measured search system and a report",
        "doctor": "report what this machine has and lacks",
    },
    "stages": {
        "ingest": "convert files, web pages or a dataset to corpus.jsonl",
        "generate": "generate queries for documents with a language model",
        "filter": "keep the queries worth training on",
        "triples": "mine negatives and write training triples",
        "train": "train a retriever, a reranker or an extractive reader",
        "search": "search with BM25, a bi-encoder or a fusion: to a TREC run, or for one query",
        "rerank": "rerank a TREC run",
        "evaluate": "measure TREC runs, with paired tests",
    },
    "between the stages": {
        "pairs": "make training pairs of what people wrote: headings, FAQs, search logs, votes",
        "score": "score queries for the filter: log-probs, reranker, round trip",
        "split": "hold out a development set of queries",
        "audit": "find false negatives among triples with a reranker",
        "judge": "have a language model judge what runs retrieved, and measure its agreement with people",
        "search-prompts": "compare wordings and examples of a prompt by small runs",
        "merge": "join the shards of an output (--shard I/N)",
        "estimate": "estimate time and cost of N documents on M workers",
    },
    "using the result": {
        "ask": "answer a question from the documents, with sources",
        "index": "an index on disk: build, add, delete, info, push into a vector store",
        "serve": "search, answers, embeddings and reranking over HTTP, with a search page",
        "deploy": "package a tuned model or a run's system: a folder, an archive, SageMaker",
        "export-model": "export a tuned model to ONNX, with int8 weights, or to OpenVINO",
    },
    "files and runs": {
        "compare": "compare two runs: settings, measures with tests, queries",
        "verify": "check a run's folder and recompute a sample of its scores",
        "import": "convert files of other toolkits to ours",
        "export": "convert our files to those of other toolkits",
    },
}
COMMANDS = {name: text for group in COMMAND_GROUPS.values() for name, text in group.items()}
ENVIRONMENT_DEFAULTS = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_TELEMETRY": "1"}


EXPLAINED = (InparsError, ModuleNotFoundError, OSError, MemoryError, RecursionError, UnicodeError, OverflowError)
RAISING = ("strict", "surrogateescape")  # at letters that an encoding lacks; the second is what the C locale sets
INTERRUPTED = "interrupted; run the same command again to resume"
TRACEBACK_VARIABLE = "INPARS_TRACEBACK"
HELP = "help"
COMPLETING = "_ARGCOMPLETE"  # in the environment while a shell completes


def main(arguments: Sequence[str] | None = None) -> int:
    if COMPLETING in os.environ and arguments is None:
        _complete()
    parsed = list(sys.argv[1:] if arguments is None else arguments)
    return guarded(lambda: _dispatch(parsed))


def guarded(work: Callable[[], int]) -> int:
    """The exit code of the work; an error is one line on stderr. What only a fault of ours explains is raised on."""
    for name, value in ENVIRONMENT_DEFAULTS.items():
        os.environ.setdefault(name, value)
    keep_freed_memory()
    accept_all_letters()
    try:
        return work()
    except KeyboardInterrupt:
        print(f"inpars: {INTERRUPTED}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except EXPLAINED as error:
        line = _explanation(error)
        if os.environ.get(TRACEBACK_VARIABLE, "0") not in ("", "0"):
            traceback.print_exception(error, file=sys.stderr)
        print(f"inpars: {line}", file=sys.stderr)
        return 1


def _complete() -> None:
    """Answer a shell that completes the line it is at (docs/tasks.md), and exit."""
    import argcomplete  # of whoever registered the completion

    _, *words = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])].split(" ")
    if len(words) > 1 and words[0] in COMMANDS:  # else the command itself is being typed
        os.environ[COMPLETING] = "2"  # where the words of the parser begin
        parser = _parser_of(words[0], importlib.import_module(module_of(words[0])))
    else:
        parser = _parser()
    argcomplete.autocomplete(parser)


def _parser_of(name: str, command: ModuleType) -> Parser:
    own = Parser(prog=f"inpars {name}", description=command.__doc__)
    command.add_arguments(own)
    add_config_flags(own, like=name == "run")
    return own


def _explanation(error: Exception) -> str:
    """An error in one line. A module of ours that is missing is raised on: it is a fault."""
    if isinstance(error, InparsError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return str(_missing(error))
    reason = " ".join(str(error).split())
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename is not None else ""
        reason = error.strerror or reason or type(error).__name__
        return f"{where}{reason}; check the path, your rights to it and the disk"
    if isinstance(error, MemoryError):
        return "out of memory; close other programs, or give smaller batches or fewer documents"
    return (
        f"{type(error).__name__}: {reason or 'no reason given'}; this is a fault of inpars: please report it with the "
        f"command and what {TRACEBACK_VARIABLE}=1 shows before it"
    )


def accept_all_letters() -> None:
    """Have stdout and stderr write what their encoding lacks as an escape, and stdin replace what it cannot read."""
    for stream, errors in ((sys.stdout, "backslashreplace"), (sys.stderr, "backslashreplace"), (sys.stdin, "replace")):
        if getattr(stream, "errors", "") in RAISING and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=errors)


def _dispatch(arguments: list[str]) -> int:
    if not arguments:
        _parser().print_help()
        return 2
    if arguments[0] == HELP:
        arguments = [*arguments[1:], "--help"]
    name, *rest = arguments
    if name not in COMMANDS:
        _refuse(name, arguments)
    command = importlib.import_module(module_of(name))
    parser = _parser_of(name, command)
    typed, rest = rest, expanded(parser, rest)
    with running(["inpars", name, *(word for word in rest if word != PRINT)]):
        if PRINT in rest:
            rest.remove(PRINT)
            print(config_text(parser, parser.parse_args(rest), typed, rest))
            return 0
        if not any("://" in argument for argument in rest):
            return _run(command, parser.parse_args(rest))
        from inpars.console import Console  # only for paths that may be in an object store
        from inpars.contrib.remote.arguments import local_paths

        parser.parse_args(rest)  # report wrong usage before anything is fetched
        with local_paths(name, rest, Console(quiet="--quiet" in rest).note) as local:
            return _run(command, parser.parse_args(local))


def _run(command: ModuleType, flags: argparse.Namespace) -> int:
    use_engine(getattr(flags, "engine_backend", "auto"))
    result: int | None = command.run(flags)
    return result or 0


def _refuse(name: str, arguments: Sequence[str]) -> None:
    """Exit: with --help or --version as they are asked for, else with what is wrong."""
    parser = _parser()
    if not name.startswith("-"):
        parser.error(f"unknown command {name!r}{guess(name, COMMANDS)}")
    flag = name.partition("=")[0]
    if flag not in ("-h", "--help", "--version"):
        parser.error(f"{flag} comes after the command: inpars COMMAND {flag} ...")
    parser.parse_args(arguments)


def module_of(name: str) -> str:
    """The module of a command; `import`, which Python keeps for itself, has an underscore."""
    return f"inpars.cli.{name}_" if keyword.iskeyword(name) else f"inpars.cli.{name.replace('-', '_')}"


def _missing(error: ModuleNotFoundError) -> InparsError:
    """What to install for a command whose packages are absent; a module of ours that is missing is a fault."""
    from inpars.extras import missing_module  # only on the way out

    if not error.name or error.name.partition(".")[0] == "inpars":
        raise error
    return missing_module(error.name)


def _parser() -> Parser:
    listing = "\n\n".join(
        "\n".join([f"{title}:", *(f"  {name:12} {text}" for name, text in group.items())])
        for title, group in COMMAND_GROUPS.items()
    )
    parser = Parser(
        prog="inpars",
        description="Search that works, from documents without labelled queries.",
        epilog=f"{listing}\n\n`inpars COMMAND --help` lists a command's common flags, --help-all the rest.",
    )
    parser.add_argument("--version", action="version", version=f"inpars {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="see below")
    return parser
