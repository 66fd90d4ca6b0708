"""`inpars index push`: an index on disk into a vector store of others."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict

from inpars.cli.common import console, print_result
from inpars.contrib.stores.push import STORES, Pushed, open_store, push, store_errors
from inpars.errors import BackendError
from inpars.retrieval.vector_index import VectorIndex

DEFAULT_COLLECTION = "passages"


def add_push_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `inpars index push`."""
    kinds = "; ".join(f"{name}: {text}" for name, text in STORES.items())
    parser.add_argument("target", metavar="URL_OR_PATH", help=f"where the store is. {kinds}")
    parser.add_argument("--to", choices=tuple(STORES), required=True, help="kind of store")
    parser.add_argument(
        "--collection",
        default=DEFAULT_COLLECTION,
        metavar="NAME",
        help=f"collection or table, made if it is not there (default: {DEFAULT_COLLECTION})",
    )
    parser.add_argument("--sync", action="store_true", help="also delete passages that the index does not have")


def run_push(flags: argparse.Namespace) -> None:
    """Push, and say what differs. Raises BackendError where the store then lacks passages or has others."""
    index, progress = VectorIndex(flags.index), console(flags)
    if index.state.views:
        progress.note(f"embeddings of windows are not pushed: {', '.join(sorted(index.state.views))}")
    with store_errors(flags.to), closing(open_store(flags.to, flags.target, flags.collection)) as store:
        pushed = push(index, store, sync=flags.sync, progress=progress)
    target = f"{flags.to} collection {flags.collection!r}"
    print_result(flags, "\n".join(_lines(target, pushed)), {"collection": flags.collection, **asdict(pushed)})
    if pushed.missing or pushed.changed:
        raise BackendError(f"{target} differs from the index ({'; '.join(pushed.differences)}); run the same again")


def _lines(target: str, pushed: Pushed) -> Iterator[str]:
    stored = pushed.documents - len(pushed.missing) + len(pushed.extra)
    counts = f"{pushed.sent} sent, {pushed.unchanged} unchanged, {pushed.deleted} deleted"
    yield f"{target}: {counts}; {stored} passages there, {pushed.documents} in the index"
    if pushed.extra:
        yield f"{pushed.differences[-1]}; --sync deletes them"
