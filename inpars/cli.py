"""The `inpars` command: parse, call one command module, exit.

Exit codes: 0 done, 1 an error explained in one line on stderr, 2 wrong usage, 130 interrupted. Command modules are
imported when they are named, so that `--help` and `--version` load no torch and no JVM.
"""

from __future__ import annotations

import argparse
import importlib
import keyword
import os
import sys
from collections.abc import Sequence

from inpars import __version__
from inpars.errors import InparsError
from inpars.models.processor import keep_freed_memory

COMMANDS = {
    "run": "the whole pipeline: from a corpus to tuned models, a table and a report",
    "ingest": "a folder of documents or a dataset, to corpus.jsonl",
    "generate": "a language model writes queries for documents",
    "score": "one local model says how likely it finds queries of any origin",
    "filter": "keep the queries the model itself finds likely",
    "split": "set queries aside as a development set, by document and near-duplicate",
    "triples": "mine negatives and write training triples",
    "audit": "have a reranker look for false negatives among triples",
    "train": "train a retriever (bi-encoder), a reranker or a reader of answers",
    "search": "retrieve with BM25, a bi-encoder or a fusion, to a TREC run or for a query typed in",
    "index": "documents with their embeddings on disk: build, add, delete, info",
    "ask": "answer a question from the documents, with sources",
    "rerank": "rerank a TREC run",
    "serve": "search, answers, embeddings and reranking over HTTP, with a page",
    "deploy": "a tuned model to a folder for other servers, an archive or a SageMaker endpoint",
    "evaluate": "measure TREC runs and test their differences",
    "compare": "two runs side by side: settings, measures with tests, queries that moved",
    "verify": "hold a run's folder against its manifests, and make a sample of its scores again",
    "import": "files of other toolkits, to ours",
    "export": "our files, to those of other toolkits",
    "export-model": "a tuned model, to ONNX with int8 weights",
    "merge": "shards of an output (--shard I/N), to one file",
    "estimate": "how long N documents take on M workers, and the cost, from a minute of it",
    "doctor": "what this machine has and lacks",
}
ENVIRONMENT_DEFAULTS = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_TELEMETRY": "1"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    for name, value in ENVIRONMENT_DEFAULTS.items():
        os.environ.setdefault(name, value)
    keep_freed_memory()
    parsed = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _dispatch(parsed)
    except InparsError as error:
        print(f"inpars: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(f"inpars: {_missing(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("inpars: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except OSError as error:
        print(f"inpars: {_system_error(error)}", file=sys.stderr)
        return 1


def _dispatch(arguments: list[str]) -> int:
    parser = _parser()
    if not arguments:
        parser.print_help()
        return 2
    if arguments[0] not in COMMANDS:
        parser.parse_args(arguments)  # --help, --version, or the message about a wrong command
        return 2
    name, *rest = arguments
    command = importlib.import_module(module_of(name))
    own = argparse.ArgumentParser(
        prog=f"inpars {name}",
        description=command.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_arguments(own)
    result: int | None
    if not any("://" in argument for argument in rest):
        result = command.run(own.parse_args(rest))
        return result or 0
    from inpars.console import Console  # only where something may lie in an object store
    from inpars.remote.arguments import local_paths

    own.parse_args(rest)  # wrong usage is told before anything is fetched
    with local_paths(name, rest, Console(quiet="--quiet" in rest).note) as local:
        result = command.run(own.parse_args(local))
    return result or 0


def module_of(name: str) -> str:
    """The module of a command; `import`, which Python keeps for itself, has an underscore."""
    return f"inpars.commands.{name}_" if keyword.iskeyword(name) else f"inpars.commands.{name.replace('-', '_')}"


def _system_error(error: OSError) -> str:
    """What the operating system refused, in one line."""
    reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
    where = f"{error.filename}: " if error.filename is not None else ""
    return f"{where}{reason}; check the path, your rights to it and the disk"


def _missing(error: ModuleNotFoundError) -> InparsError:
    """What to install for a command whose packages are absent; a module of ours that is missing is a fault."""
    from inpars.extras import missing_module  # only on the way out

    if not error.name or error.name.partition(".")[0] == "inpars":
        raise error
    return missing_module(error.name)


def _parser() -> argparse.ArgumentParser:
    listing = "\n".join(f"  {name:12} {text}" for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="inpars",
        description="Search for documents that have no labelled queries.",
        epilog=f"commands:\n{listing}\n\n`inpars COMMAND --help` shows a command's flags with defaults and units.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"inpars {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of those below")
    return parser
