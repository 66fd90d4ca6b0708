"""Search with BM25, a bi-encoder or a fusion of several, and write a TREC run; or print the results of one query.

With a query on the command line, or with --interactive, results are printed with the query's words highlighted; without
--retriever, BM25 and a bi-encoder are fused. Without Java, BM25 is left out with a note. With --run FOLDER, search uses
the measured system of an `inpars run`, over that run's documents.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from inpars.apps.qa.build_engine import NO_RETRIEVER, AnswerOptions, EngineOptions, parse_filters
from inpars.apps.qa.engine import DEFAULT_K
from inpars.apps.qa.formatting import hit_values
from inpars.apps.qa.repl import Conversation, search_lines
from inpars.cli.ask import add_index_flag, add_search_flags
from inpars.cli.common import (
    DatasetFlags,
    add_output_flags,
    add_path,
    add_split_flag,
    console,
    open_dataset,
    print_result,
    typed_text,
)
from inpars.cli.measured import is_measured, open_named_engine, open_run, read_measured
from inpars.distributed import workers_of
from inpars.documents.datasets import load_topics
from inpars.errors import ConfigError
from inpars.fusion.system import BM25
from inpars.io.formats import read_queries
from inpars.io.manifest import Manifest
from inpars.io.topics import DEFAULT_SPLIT, Topics
from inpars.options import COUNT, add_flags, add_number, from_flags
from inpars.retrieval.vector_index import VectorIndex
from inpars.stages.examples import leave_out, none_left_out, read_ids
from inpars.stages.search import DEFAULT_RETRIEVERS, SearchOptions, search_dataset, search_index
from inpars.stages.system_search import SystemSearchOptions, search_system

DEFAULT_RUN_K = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("query", nargs="?", help="search for this query and print the results")
    parser.add_argument("--interactive", action="store_true", help="read queries from the terminal, one per line")
    add_index_flag(parser)
    add_flags(parser, DatasetFlags)
    add_split_flag(parser)
    add_path(
        parser,
        "--run",
        "folder of an `inpars run`: search as its measured system does; or several TREC runs: fuse them by the "
        "sum of their z-scores instead of searching; --fusion-depth and --k hold",
        several=True,
    )
    add_path(parser, "--leave-out", "ids of queries to skip, one per line; applied after --limit")
    add_flags(parser, SearchOptions)
    parser.set_defaults(k=None)
    parser.add_argument(
        "--base-retriever", metavar="TEXT", help="for a typed query: a second bi-encoder, for --system base"
    )
    parser.add_argument("--reranker", metavar="TEXT", help="for a typed query: reranker for the results")
    add_number(
        parser, "--depth", bounds=COUNT, default=50, help="for a typed query: results to fuse and rerank (default: 50)"
    )
    add_search_flags(parser)
    add_output_flags(parser, "TREC run", required=False)


def run(flags: argparse.Namespace) -> None:
    if (folder := _folder(flags)) is not None:
        read_measured(flags, folder)  # refuses flags that contradict it
    if flags.query is not None or flags.interactive:
        _search_typed(flags, folder)
        return
    only_typed = [name for name in ("system", "reranker", "base_retriever", "filter") if getattr(flags, name)]
    if only_typed:
        flag = only_typed[0].replace("_", "-")
        raise ConfigError(f"--{flag} is for a typed query; for a run see `inpars rerank`")
    if flags.output is None:
        raise ConfigError('give --output PATH for a run of all queries, a "query", or --interactive')
    if flags.run and folder is None:
        _fuse(flags)
        return
    manifest = _search_all(flags) if folder is None else _search_measured(flags, folder)
    queries, empty = manifest.results["queries"], manifest.results["without_results"]
    text = f"{flags.output}: {manifest.output.records} results of {queries} queries"
    print_result(
        flags,
        text + (f", {empty} found nothing" if empty else ""),
        {"output": str(flags.output), "results": manifest.output.records, **manifest.results},
    )


def _folder(flags: argparse.Namespace) -> Path | None:
    """The folder of a measured run; None if --run names runs to fuse, or nothing."""
    folders = [path for path in flags.run if path.is_dir()]
    if folders and len(flags.run) > 1:
        raise ConfigError(f"--run {folders[0]} is a folder; give it alone, or TREC runs to fuse")
    return folders[0] if folders else None


def _search_measured(flags: argparse.Namespace, folder: Path) -> Manifest:
    progress = console(flags)
    system, dataset = open_run(flags, folder, progress)
    return search_system(
        system,
        folder,
        dataset,
        _remaining_topics(flags, dataset.topics(flags.split)),
        from_flags(SystemSearchOptions, flags, k=DEFAULT_RUN_K if flags.k is None else flags.k),
        output=flags.output,
        progress=progress,
        overwrite=flags.overwrite,
    )


def _search_all(flags: argparse.Namespace) -> Manifest:
    progress = console(flags)
    common: dict[str, Any] = {"output": flags.output, "progress": progress, "overwrite": flags.overwrite}
    if flags.index is None:
        dataset = open_dataset(flags, progress)
        options = _run_options(flags, DEFAULT_RETRIEVERS)
        topics = _remaining_topics(flags, dataset.topics(flags.split))
        return search_dataset(dataset, topics, options, workers=workers_of(options), **common)
    if is_measured(flags.index):
        raise ConfigError(
            f"{flags.index} is the index of a run's system, which searches for a typed query; for many queries give "
            "--run FOLDER instead of --index"
        )
    options = _run_options(flags, (VectorIndex(flags.index).state.model,))
    return search_index(
        flags.index, _remaining_topics(flags, _topics(flags)), options, workers=workers_of(options), **common
    )


def _fuse(flags: argparse.Namespace) -> None:
    options = _run_options(flags, DEFAULT_RETRIEVERS)
    if len(flags.run) < 2:
        raise ConfigError(
            f"--run {flags.run[0]} is not the folder of an `inpars run`; to fuse TREC runs, give --run at least twice"
        )
    if flags.index is not None or flags.retriever is not DEFAULT_RETRIEVERS:
        raise ConfigError("--run fuses existing runs; leave --index and --retriever out")
    if flags.limit is not None or flags.leave_out is not None:
        raise ConfigError("--run fuses all queries of existing runs; leave --limit and --leave-out out")
    stage_kwargs = {"progress": console(flags), "overwrite": flags.overwrite}
    from inpars.pipeline.system_runs import fuse_runs  # not loaded for `--help`

    fuse_runs(flags.run, output=flags.output, k=options.k, depth=options.fusion_depth, stage_kwargs=stage_kwargs)
    text = f"{flags.output}: {len(flags.run)} runs fused, {options.fusion_depth} documents of each read"
    print_result(flags, text, {"output": str(flags.output), "runs": list(map(str, flags.run))})


def _remaining_topics(flags: argparse.Namespace, topics: Topics) -> Topics:
    """The queries without those of --leave-out, which applies after --limit."""
    if flags.leave_out is None:
        return topics
    left_out, first = set(read_ids(flags.leave_out)), topics.first(flags.limit)
    queries = {query_id: text for query_id, text in first.queries.items() if query_id not in left_out}
    if len(queries) == len(first.queries):
        console(flags).note(none_left_out(flags.leave_out))
    return Topics(topics.split, queries, leave_out(first.qrels, left_out))


def _run_options(flags: argparse.Namespace, retrievers: tuple[str, ...]) -> SearchOptions:
    chosen = retrievers if flags.retriever is DEFAULT_RETRIEVERS else flags.retriever
    k = DEFAULT_RUN_K if flags.k is None else flags.k
    return from_flags(SearchOptions, flags, retriever=tuple(chosen or retrievers), k=k)


def _topics(flags: argparse.Namespace) -> Topics:
    """The queries to search an index with."""
    if flags.queries is not None:
        queries = read_queries(flags.queries, console(flags).note)
        return Topics(DEFAULT_SPLIT, {query.query_id: query.text for query in queries}, {})
    if flags.dataset is None:
        raise ConfigError("an index has no queries; give --queries FILE or --dataset NAME")
    return load_topics(flags.dataset, flags.split)


def _search_typed(flags: argparse.Namespace, folder: Path | None) -> None:
    if flags.output is not None:
        raise ConfigError("--output takes a run of many queries; leave it out, or the query and --interactive")
    if flags.leave_out is not None:
        raise ConfigError("--leave-out is for a run of many queries; leave it out, or the query")
    if flags.run and folder is None:
        raise ConfigError(
            f"--run {flags.run[0]}: a typed query needs the folder of an `inpars run`; to fuse TREC runs, give "
            "--output and no query"
        )
    if flags.query is not None and not flags.query.strip():
        raise ConfigError("the query is empty; search for something")
    progress, filters = console(flags), parse_filters(flags.filter)
    answers, options = AnswerOptions() if flags.interactive else None, _engine_options(flags)
    with open_named_engine(flags, folder, progress, answers=answers, options=options) as engine:
        k, query = DEFAULT_K if flags.k is None else flags.k, typed_text(flags.query or "")
        if flags.interactive:
            Conversation(engine, k, flags.system, filters).run(sys.stdin, sys.stdout, sys.stderr)
            return
        if flags.json:
            hits = engine.search([query], k, system=flags.system, filters=filters)[0]
            rows = [hit_values(hit, number) for number, hit in enumerate(hits, start=1)]
            print_result(flags, "", {"query": query, "notes": list(engine.notes), "hits": rows})
            return
        print_result(flags, "\n".join(search_lines(engine, query, k, flags.system, filters)), {})


def _engine_options(flags: argparse.Namespace) -> EngineOptions:
    """The engine's options for --retriever: several are fused, one is used alone."""
    if flags.retriever is DEFAULT_RETRIEVERS or flags.retriever is None:
        return from_flags(EngineOptions, flags, retriever=None)
    encoders = [name for name in flags.retriever if name != BM25]
    if len(encoders) > 1:
        raise ConfigError("a typed query takes one bi-encoder; give another as --base-retriever")
    bm25 = len(encoders) < len(flags.retriever)
    return from_flags(EngineOptions, flags, retriever=encoders[0] if encoders else NO_RETRIEVER, bm25=bm25)
