# PYTHON_ARGCOMPLETE_OK
"""The `inpars` command: parse, call one command module, exit.

Exit codes: 0 done, 1 an error explained in one line on stderr, 2 wrong usage, 130 interrupted. Only the module of the
given command is imported, so that `--help` and `--version` load neither torch nor a JVM. INPARS_TRACEBACK=1 prints the
traceback of an error.
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
    "the whole pipeline": {
        "run": "run everything: from documents to a measured search system and a report",
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
        "pairs": "make training pairs from what people wrote: headings, FAQs, search logs, votes",
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
RAISING = ("strict", "surrogateescape")  # error handlers that raise; the C locale sets the second
INTERRUPTED = "interrupted; run the same command again to resume"
TRACEBACK_VARIABLE = "INPARS_TRACEBACK"
HELP = "help"
COMPLETING = "_ARGCOMPLETE"  # set in the environment during shell completion


def main(arguments: Sequence[str] | None = None) -> int:
    if COMPLETING in os.environ and arguments is None:
        _complete()
    parsed = list(sys.argv[1:] if arguments is None else arguments)
    return guarded(lambda: _dispatch(parsed))


def guarded(work: Callable[[], int]) -> int:
    """Run `work` and return its exit code; expected errors become one line on stderr, bugs are raised."""
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
    except (*EXPLAINED, RuntimeError) as error:
        if not isinstance(error, EXPLAINED) and not _lacks_memory(error):
            raise
        explanation = _explanation(error)
        if os.environ.get(TRACEBACK_VARIABLE, "0") not in ("", "0"):
            traceback.print_exception(error, file=sys.stderr)
        print(f"inpars: {explanation}", file=sys.stderr)
        return 1


def _complete() -> None:
    """Complete the shell's current line (docs/tasks.md), and exit."""
    import argcomplete  # installed by everyone who registers the completion

    _, *words = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])].split(" ")
    if len(words) > 1 and words[0] in COMMANDS:  # else the command itself is being typed
        os.environ[COMPLETING] = "2"  # the word at which the parser's arguments begin
        parser = _parser_of(words[0], importlib.import_module(module_of(words[0])))
    else:
        parser = _parser()
    argcomplete.autocomplete(parser)


def _parser_of(name: str, command: ModuleType) -> Parser:
    parser = Parser(prog=f"inpars {name}", description=command.__doc__)
    command.add_arguments(parser)
    add_config_flags(parser, like=name == "run")
    return parser


def _explanation(error: Exception) -> str:
    """An error in one line; a missing module of this package is a bug and raised."""
    if isinstance(error, InparsError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return str(_missing(error))
    reason = " ".join(str(error).split())
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename is not None else ""
        reason = error.strerror or reason or type(error).__name__
        return f"{where}{reason}; check the path, your rights to it and the disk"
    if isinstance(error, MemoryError) or _lacks_memory(error):
        return "out of memory; close other programs, or give smaller batches or fewer documents"
    return (
        f"{type(error).__name__}: {reason or 'no reason given'}; this is a fault of inpars: please report it with the "
        f"command and what {TRACEBACK_VARIABLE}=1 shows before it"
    )


def _lacks_memory(error: Exception) -> bool:
    """Whether it is torch's error for a full GPU, or for full memory, which is no MemoryError."""
    return type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator: can't allocate memory" in str(error)


def accept_all_letters() -> None:
    """Make stdout and stderr escape characters that their encoding lacks, and stdin replace undecodable bytes."""
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
        from inpars.console import Console  # only needed for paths in an object store
        from inpars.contrib.remote.arguments import local_paths

        parser.parse_args(rest)  # report wrong usage before anything is fetched
        with local_paths(name, rest, Console(quiet="--quiet" in rest).note) as local:
            return _run(command, parser.parse_args(local))


def _run(command: ModuleType, flags: argparse.Namespace) -> int:
    use_engine(getattr(flags, "engine_backend", "auto"))
    result: int | None = command.run(flags)
    return result or 0


def _refuse(name: str, arguments: Sequence[str]) -> None:
    """Exit with the output of --help or --version, or with a usage error."""
    parser = _parser()
    if not name.startswith("-"):
        parser.error(f"unknown command {name!r}{guess(name, COMMANDS)}")
    flag = name.partition("=")[0]
    if flag not in ("-h", "--help", "--version"):
        parser.error(f"{flag} comes after the command: inpars COMMAND {flag} ...")
    parser.parse_args(arguments)


def module_of(name: str) -> str:
    """The module of a command; `import`, a keyword of Python, gets an underscore."""
    return f"inpars.cli.{name}_" if keyword.iskeyword(name) else f"inpars.cli.{name.replace('-', '_')}"


def _missing(error: ModuleNotFoundError) -> InparsError:
    """An error with the packages to install; raises the original for a missing module of this package."""
    from inpars.extras import missing_module  # only needed here

    if not error.name or error.name.partition(".")[0] == "inpars":
        raise error
    return missing_module(error.name)


def _parser() -> Parser:
    width = max(len(name) for group in COMMAND_GROUPS.values() for name in group)
    listing = "\n\n".join(
        "\n".join([f"{title}:", *(f"  {name:{width}} {text}" for name, text in group.items())])
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
