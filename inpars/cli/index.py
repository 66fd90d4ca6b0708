"""Build and update an index on disk: documents with their embeddings, for `search`, `ask` and `serve` with --index.

Small indexes are searched exactly, large ones approximately by faiss. Adding and deleting take time in proportion to
the change. Every change is atomic: after a crash the index holds all of it or none, and the same command resumes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inpars.apps.qa.build_engine import DEFAULT_RETRIEVER, EngineOptions, load_encoder, parse_filters
from inpars.apps.qa.measured import load_views
from inpars.apps.qa.retrievers import matches
from inpars.cli.common import add_dataset_flags, add_display_flags, console, open_dataset, print_result
from inpars.cli.measured import is_measured, open_run, read_measured
from inpars.cli.push import add_push_arguments, run_push
from inpars.distributed import workers_of
from inpars.errors import ConfigError
from inpars.fusion.system import SYSTEM_FILE, SearchSystem, write_system
from inpars.io.corpus import Documents
from inpars.io.storage import read_lines
from inpars.models.compute_options import use_threads
from inpars.options import COUNT, add_flags, add_number, from_flags
from inpars.progress import Progress
from inpars.retrieval.blocks import FillBlocks
from inpars.retrieval.index_state import is_index, size_on_disk, stale_files
from inpars.retrieval.index_writer import Change, add_documents, build_index, delete_documents
from inpars.retrieval.vector_index import VectorIndex
from inpars.stages.engine_options import ClusterOptions
from inpars.stages.search import SearchOptions, encode_by

if TYPE_CHECKING:
    from inpars.retrieval.dense import Encoder

ACTIONS = {
    "build": "build an index of documents",
    "add": "add documents; replace those whose text changed",
    "delete": "delete documents by id or by metadata",
    "info": "describe an index",
    "push": "push passages, embeddings and metadata into a vector store, and compare",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a parser for each action."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="|".join(ACTIONS))
    parsers = {
        name: actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False)
        for name, text in ACTIONS.items()
    }
    for subparser in parsers.values():
        subparser.add_argument("--index", type=Path, required=True, metavar="DIR", help="folder of the index")
    for name in ("build", "add"):
        _add_encoding_flags(parsers[name], name)
    parsers["build"].add_argument(
        "--structure",
        choices=("auto", "exact", "hnsw", "ivf"),
        default="auto",
        help="how it is searched; auto: exactly up to 100,000 documents, then by a graph, above 2 million by inverted "
        "lists (default: auto)",
    )
    parsers["build"].add_argument("--overwrite", action="store_true", help="replace an existing index")
    parsers["add"].add_argument("--sync", action="store_true", help="also delete documents that are not among these")
    parsers["delete"].add_argument("--ids", nargs="+", default=[], metavar="ID", help="documents to delete")
    parsers["delete"].add_argument("--ids-file", type=Path, metavar="PATH", help="the same, one a line")
    parsers["delete"].add_argument(
        "--filter", action="append", default=[], metavar="FIELD=VALUE", help="delete documents with this metadata"
    )
    parsers["build"].add_argument(
        "--run",
        type=Path,
        metavar="FOLDER",
        help="build for the measured system of this `inpars run`, over its documents unless others are named; the "
        "index then searches in the very order that was measured",
    )
    add_push_arguments(parsers["push"])
    for subparser in parsers.values():
        add_display_flags(subparser)


def _add_encoding_flags(parser: argparse.ArgumentParser, action: str) -> None:
    add_dataset_flags(parser)
    default = DEFAULT_RETRIEVER if action == "build" else "the index's own"
    parser.add_argument(
        "--retriever",
        metavar="TEXT",
        help=f"bi-encoder: a folder, an embedded name or a hub id (default: {default})",
    )
    add_number(parser, "--max-length", bounds=COUNT, help="tokens of a text that it reads (default: the model's limit)")
    add_number(parser, "--batch-size", bounds=COUNT, default=64, help="texts encoded together (default: 64)")
    add_flags(parser, ClusterOptions)


def run(flags: argparse.Namespace) -> None:
    if flags.action == "info":
        print_result(flags, "\n".join(_info_lines(values := _info(flags.index))), values)
        return
    if flags.action == "push":
        run_push(flags)
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
        measured = open_run(flags, flags.run, progress, named="--index")
        return _build(flags, measured.dataset.corpus, measured.system, progress)
    documents = open_dataset(flags, progress).corpus
    if flags.action == "build":
        return _build(flags, documents, None, progress)
    system = read_measured(flags, flags.index, named="--index") if is_measured(flags.index) else None
    encoder, views = _encoders(flags, system)
    return add_documents(
        *(flags.index, documents, encoder),
        sync=flags.sync,
        views=views,
        fill=_fill(flags, encoder),
        progress=progress,
    )


def _build(flags: argparse.Namespace, documents: Documents, system: SearchSystem | None, progress: Progress) -> Change:
    encoder, views = _encoders(flags, system)
    if is_index(flags.index) and not flags.overwrite:
        system = None  # build_index says that there is one
    elif system is None:
        (flags.index / SYSTEM_FILE).unlink(missing_ok=True)
    else:
        flags.index.mkdir(parents=True, exist_ok=True)
        write_system(system, flags.index)
    return build_index(
        *(flags.index, documents, encoder),
        structure=flags.structure,
        overwrite=flags.overwrite,
        views=views,
        fill=_fill(flags, encoder),
        progress=progress,
    )


def _encoders(flags: argparse.Namespace, system: SearchSystem | None) -> tuple[Encoder, Mapping[str, Encoder]]:
    """What embeds the documents, and what embeds them once more for the system of a run."""
    options = from_flags(EngineOptions, flags, retriever=None)
    if system is not None:
        return load_views(system, options)
    name = flags.retriever or (VectorIndex(flags.index).state.model if flags.action == "add" else DEFAULT_RETRIEVER)
    return load_encoder(name, options), {}


def _fill(flags: argparse.Namespace, encoder: Encoder) -> FillBlocks | None:
    search = from_flags(SearchOptions, flags, retriever=(encoder.name,))
    return encode_by(workers_of(search), encoder.name, search)


def _delete(flags: argparse.Namespace) -> Change:
    doc_ids = [*flags.ids, *(_ids(flags.ids_file) if flags.ids_file else ())]
    filters = parse_filters(flags.filter)
    if not doc_ids and not filters:
        raise ConfigError("nothing named to delete; give --ids, --ids-file or --filter")
    if filters:
        doc_ids += [document.doc_id for document in VectorIndex(flags.index) if matches(document, filters)]
    return delete_documents(flags.index, doc_ids, progress=console(flags))


def _ids(path: Path) -> Iterator[str]:
    return (line.strip() for _, line in read_lines(path))


def _info(folder: Path) -> dict[str, Any]:
    index = VectorIndex(folder)
    unfinished = len(stale_files(folder, index.state))
    return {"index": str(folder), **index.info(), "bytes": size_on_disk(folder), "unfinished": unfinished}


def _info_lines(values: Mapping[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        text = ", ".join(value) if isinstance(value, list) else f"{value:,}" if isinstance(value, int) else value
        yield f"{name:12} {text}"
