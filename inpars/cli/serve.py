"""Serve search, answers, embeddings and reranking over HTTP, with a search page, until SIGTERM or Ctrl-C.

POST /search, /ask, /v1/embeddings (OpenAI's format), /v1/rerank (Jina's and Cohere's format), /feedback; GET /, /docs,
/v1/collection, /healthz, /metrics. Requests from different clients are batched. Listens on localhost unless --host is
given; if INPARS_API_KEY is set, every client must send that key. With --mcp an agent that starts this command has
search, ask and rerank as tools.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

from inpars.apps.qa.build_engine import AnswerOptions, EngineOptions
from inpars.apps.qa.engine import Engine
from inpars.apps.serve.options import ServeOptions
from inpars.cli.common import DatasetFlags, add_path, console
from inpars.cli.measured import add_run_flag, open_named_engine, read_measured
from inpars.errors import ConfigError
from inpars.filtering.looks import is_code
from inpars.io.formats import read_synthetic_queries
from inpars.io.manifest import read_manifest
from inpars.options import add_flags, check, from_flags
from inpars.pipeline.system_runs import FILTERED
from inpars.progress import Progress
from inpars.provenance import current_argv

EXAMPLES, EXAMPLE_CHARACTERS = 6, 80  # example queries on the search page
HTTP_FLAGS = {"--host", "--port", "--allow-host", "--api-key-variable", "--feedback", "--files"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_flags(parser, DatasetFlags)
    add_path(parser, "--index", "index on disk instead of --dataset or --corpus", metavar="FOLDER")
    add_run_flag(parser)
    add_flags(parser, ServeOptions)
    add_flags(parser, EngineOptions)
    add_flags(parser, AnswerOptions)
    parser.add_argument("--quiet", action="store_true", help="print no progress and no notes")


def run(flags: argparse.Namespace) -> None:
    options = from_flags(ServeOptions, flags)
    check(options)
    if options.files is not None and not options.files.is_dir():
        raise ConfigError(f"--files: {options.files} is not a folder")
    progress = console(flags)
    _check_documents(flags)
    if options.mcp:
        _serve_agent(flags, options, progress)
        return
    key = os.environ.get(options.api_key_variable, "")
    from inpars.apps.serve import server  # loads FastAPI and uvicorn

    bound = server.listen(options.host, options.port)  # before models load, to fail early
    address = server.url_of(bound, options.host)
    try:
        with open_named_engine(
            flags, flags.run, progress, answers=from_flags(AnswerOptions, flags), writes=options.written_answers
        ) as engine:
            options = replace(options, files=options.files or _ingested_folder(engine, progress))
            app = server.application(engine, options, key, _examples(flags.run))
            if not key and not server.is_local(options.host):
                variable = options.api_key_variable
                progress.note(f"anyone who reaches this address may search: set {variable} to require a key")
            systems = ", ".join(f"{name} ({system.description})" for name, system in engine.systems.items())
            count = len(engine.documents)
            greeting = f"{address} serves {count} documents with {systems}; Ctrl-C stops it"
            grace = options.grace_seconds
            server.run(app, bound, grace_seconds=grace, started=lambda: progress.note(greeting))
    finally:
        bound.close()
    progress.note("stopped")


def _ingested_folder(engine: Engine, progress: Progress) -> Path | None:
    """The folder that the documents were read from, if it still exists."""
    corpus = getattr(engine.documents, "path", None)
    manifest = read_manifest(corpus) if corpus is not None else None
    files = manifest.inputs.get("files") if manifest is not None else None
    if files is None or not Path(files.path).is_dir():
        return None
    progress.note(f"results link to the files in {files.path}")
    return Path(files.path)


def _examples(run: Path | None) -> list[str]:
    """A few of a run's filtered queries, spread over its documents; none without a run."""
    if run is None or not (run / FILTERED).is_file():
        return []
    texts = dict.fromkeys(query.text for query in read_synthetic_queries(run / FILTERED))
    short = [text for text in texts if len(text) <= EXAMPLE_CHARACTERS and not is_code(text)]
    return short[:: max(1, len(short) // EXAMPLES)][:EXAMPLES]


def _serve_agent(flags: argparse.Namespace, options: ServeOptions, progress: Progress) -> None:
    typed_flags = {word.partition("=")[0] for word in current_argv()}
    if fixed := sorted(typed_flags & HTTP_FLAGS):
        raise ConfigError(f"{', '.join(fixed)}: only for HTTP, not for --mcp; leave it out")
    from inpars.apps.serve.mcp import create_mcp  # loads the MCP SDK

    answers = from_flags(AnswerOptions, flags)
    with open_named_engine(flags, flags.run, progress, answers=answers, writes=options.written_answers) as engine:
        server = create_mcp(engine, options.max_texts)
        progress.note(f"serving {len(engine.documents)} documents to an agent on stdin; the end of stdin stops it")
        server.run("stdio")


def _check_documents(flags: argparse.Namespace) -> None:
    if flags.run is not None:
        read_measured(flags, flags.run)  # before an address is bound
        return
    named = flags.dataset is not None or flags.corpus is not None
    if flags.index is not None and named:
        raise ConfigError("give either documents (--dataset, --corpus) or --index")
    if flags.index is None and not named:
        raise ConfigError("no documents named: give --dataset NAME, --corpus FILE, --index FOLDER or --run FOLDER")
