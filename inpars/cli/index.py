"""Build and update an index on disk: documents with their embeddings, for `search`, `ask` and `serve` with --index.

Small indexes are searched exactly, large ones approximately by faiss. Adding and deleting take time in proportion to
the change. Every change is atomic: after a crash the index holds all of it or none, and the same command resumes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING

from inpars.apps.qa.build_engine import DEFAULT_RETRIEVER, EngineOptions, load_encoder, parse_filters
from inpars.apps.qa.measured import load_views
from inpars.apps.qa.retrievers import matches
from inpars.cli.common import DatasetFlags, add_display_flags, add_path, console, open_dataset, print_result
from inpars.cli.measured import is_measured, open_run, read_measured
from inpars.contrib.stores.push import STORES, Pushed, open_store, push, store_errors
from inpars.distributed import workers_of
from inpars.errors import BackendError, ConfigError
from inpars.fusion.system import SYSTEM_FILE, SearchSystem, write_system
from inpars.io.corpus import Documents
from inpars.io.storage import read_lines
from inpars.models.compute_options import use_threads
from inpars.options import COUNT, add_flags, add_number, from_flags
from inpars.progress import Progress
from inpars.retrieval.blocks import FillBlocks
from inpars.retrieval.index_state import size_on_disk, stale_files
from inpars.retrieval.index_writer import Change, add_documents, build_index, delete_documents
from inpars.retrieval.vector_index import VectorIndex
from inpars.stages.search import SearchOptions, encode_by
from inpars.stages.workers import ClusterOptions

if TYPE_CHECKING:
    from inpars.retrieval.dense import Encoder

ACTIONS = {
    "build": "build an index of documents",
    "add": "add documents; replace those whose text changed",
    "delete": "delete documents by id or by metadata",
    "info": "describe an index",
    "push": "push passages, embeddings and metadata into a vector store, and compare",
}
DEFAULT_COLLECTION = "passages"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="|".join(ACTIONS))
    parsers = {
        name: actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False)
        for name, text in ACTIONS.items()
    }
    for subparser in parsers.values():
        add_path(subparser, "--index", "folder of the index", required=True, metavar="DIR")
    for name in ("build", "add"):
        _add_encoding_flags(parsers[name], name)
    parsers["build"].add_argument(
        "--structure",
        choices=("auto", "exact", "hnsw", "ivf", "int8", "binary"),
        default="auto",
        help="how to search; auto: exactly up to 100,000 documents, then by a graph, above 2 million by inverted "
        "lists; int8, binary: with 8 or 1 bits per number in memory, then exactly among the best (default: auto)",
    )
    parsers["build"].add_argument("--overwrite", action="store_true", help="replace an existing index")
    parsers["add"].add_argument("--sync", action="store_true", help="also delete documents that are not in this corpus")
    parsers["delete"].add_argument("--ids", nargs="+", default=[], metavar="ID", help="documents to delete")
    add_path(parsers["delete"], "--ids-file", "file with ids of documents to delete, one per line")
    parsers["delete"].add_argument(
        "--filter", action="append", default=[], metavar="FIELD=VALUE", help="delete documents with this metadata"
    )
    add_path(
        parsers["build"],
        "--run",
        "build for the measured system of this `inpars run`, over its documents unless others are given; the "
        "index then returns exactly the measured ranking",
        metavar="FOLDER",
    )
    _add_push_flags(parsers["push"])
    for subparser in parsers.values():
        add_display_flags(subparser)


def _add_encoding_flags(parser: argparse.ArgumentParser, action: str) -> None:
    add_flags(parser, DatasetFlags)
    default = DEFAULT_RETRIEVER if action == "build" else "the index's own"
    parser.add_argument(
        "--retriever", metavar="TEXT", help=f"bi-encoder: a folder, an embedded name or a hub id (default: {default})"
    )
    add_number(parser, "--max-length", bounds=COUNT, help="maximum input length in tokens (default: the model's limit)")
    add_number(parser, "--batch-size", bounds=COUNT, default=64, help="texts per batch (default: 64)")
    add_flags(parser, ClusterOptions)


def run(flags: argparse.Namespace) -> None:
    if flags.action == "info":
        _print_info(flags)
        return
    if flags.action == "push":
        _push(flags)
        return
    change = _delete(flags) if flags.action == "delete" else _write(flags)
    index = VectorIndex(flags.index)
    counts = ", ".join(f"{count} {name}" for name, count in asdict(change).items() if count) or "nothing to do"
    values = {"index": str(flags.index), "documents": len(index), **asdict(change)}
    print_result(flags, f"{flags.index}: {counts}; {len(index)} documents", values)


def _write(flags: argparse.Namespace) -> Change:
    progress = console(flags)
    use_threads(flags.threads)
    if flags.action == "build" and flags.run is not None:
        system, dataset = open_run(flags, flags.run, progress, named="--index")
        return _build(flags, dataset.corpus, system, progress)
    documents = open_dataset(flags, progress).corpus
    if flags.action == "build":
        return _build(flags, documents, None, progress)
    measured = read_measured(flags, flags.index, named="--index") if is_measured(flags.index) else None
    encoder, views = _encoders(flags, measured)
    return add_documents(
        *(flags.index, documents, encoder), sync=flags.sync, views=views, fill=_fill(flags, encoder), progress=progress
    )


def _build(flags: argparse.Namespace, documents: Documents, system: SearchSystem | None, progress: Progress) -> Change:
    encoder, views = _encoders(flags, system)
    change = build_index(
        *(flags.index, documents, encoder),
        structure=flags.structure,
        overwrite=flags.overwrite,
        views=views,
        fill=_fill(flags, encoder),
        progress=progress,
    )
    if system is None:
        (flags.index / SYSTEM_FILE).unlink(missing_ok=True)
    else:
        write_system(system, flags.index)
    return change


def _encoders(flags: argparse.Namespace, system: SearchSystem | None) -> tuple[Encoder, Mapping[str, Encoder]]:
    """The encoder of the documents, and the encoders of further views for the system of a run."""
    options = from_flags(EngineOptions, flags, retriever=None)
    if system is not None:
        return load_views(system, options)
    name = flags.retriever or (VectorIndex(flags.index).state.model if flags.action == "add" else DEFAULT_RETRIEVER)
    return load_encoder(name, options), {}


def _fill(flags: argparse.Namespace, encoder: Encoder) -> FillBlocks | None:
    search = from_flags(SearchOptions, flags, retriever=(encoder.name,))
    return encode_by(workers_of(search), encoder.name, search)


def _delete(flags: argparse.Namespace) -> Change:
    doc_ids = list(flags.ids)
    if flags.ids_file:
        doc_ids += [line.strip() for _, line in read_lines(flags.ids_file)]
    filters = parse_filters(flags.filter)
    if not doc_ids and not filters:
        raise ConfigError("nothing to delete; give --ids, --ids-file or --filter")
    if filters:
        doc_ids += [document.doc_id for document in VectorIndex(flags.index) if matches(document, filters)]
    return delete_documents(flags.index, doc_ids, progress=console(flags))


def _print_info(flags: argparse.Namespace) -> None:
    index = VectorIndex(flags.index)
    unfinished = len(stale_files(flags.index, index.state))
    values = {"index": str(flags.index), **index.info(), "bytes": size_on_disk(flags.index), "unfinished": unfinished}
    lines = []
    for name, value in values.items():
        text = ", ".join(value) if isinstance(value, list) else f"{value:,}" if isinstance(value, int) else value
        lines.append(f"{name:12} {text}")
    print_result(flags, "\n".join(lines), values)


def _add_push_flags(parser: argparse.ArgumentParser) -> None:
    kinds = "; ".join(f"{name}: {text}" for name, text in STORES.items())
    parser.add_argument("target", metavar="URL_OR_PATH", help=f"where the store is. {kinds}")
    parser.add_argument("--to", choices=tuple(STORES), required=True, help="kind of store")
    parser.add_argument(
        "--collection",
        default=DEFAULT_COLLECTION,
        metavar="NAME",
        help=f"collection or table, created if missing (default: {DEFAULT_COLLECTION})",
    )
    parser.add_argument("--sync", action="store_true", help="also delete passages that the index does not have")


def _push(flags: argparse.Namespace) -> None:
    """Push and compare. Raises BackendError if the store still lacks passages or has different ones."""
    index, progress = VectorIndex(flags.index), console(flags)
    if index.state.views:
        progress.note(f"embeddings of windows are not pushed: {', '.join(sorted(index.state.views))}")
    with store_errors(flags.to), closing(open_store(flags.to, flags.target, flags.collection)) as store:
        pushed = push(index, store, sync=flags.sync, progress=progress)
    target = f"{flags.to} collection {flags.collection!r}"
    print_result(flags, "\n".join(_push_lines(target, pushed)), {"collection": flags.collection, **asdict(pushed)})
    if pushed.missing or pushed.changed:
        raise BackendError(
            f"{target} differs from the index ({'; '.join(pushed.differences)}); run the same command again"
        )


def _push_lines(target: str, pushed: Pushed) -> Iterator[str]:
    stored = pushed.documents - len(pushed.missing) + len(pushed.extra)
    counts = f"{pushed.sent} sent, {pushed.unchanged} unchanged, {pushed.deleted} deleted"
    yield f"{target}: {counts}; {stored} passages there, {pushed.documents} in the index"
    if pushed.extra:
        yield f"{pushed.differences[-1]}; --sync deletes them"
