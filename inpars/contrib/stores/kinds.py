"""The stores by name. Importing this loads none of their clients."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from inpars.contrib.stores.push import Store
from inpars.errors import BackendError, UnknownNameError

STORES = {
    "qdrant": "http(s) address, or a folder for its local mode",
    "lancedb": "folder, or an address of LanceDB or an object store",
    "milvus": "address, or a file that ends in .db for Milvus Lite",
    "pgvector": "PostgreSQL address: postgresql://USER@HOST/DATABASE",
    "elasticsearch": "address, http://localhost:9200 for instance",
    "opensearch": "address, as Elasticsearch's",
}


def open_store(kind: str, target: str, collection: str) -> Store:
    """The collection of a store. Raises UnknownNameError for a kind that is none, MissingDependencyError by import."""
    if kind not in STORES:
        raise UnknownNameError("store", kind, STORES)
    module = importlib.import_module(f"inpars.contrib.stores.{kind}")
    return cast(Store, module.open_collection(target, collection))


@contextmanager
def store_errors(kind: str) -> Iterator[None]:
    """Raise the errors of a store's client as BackendError, in one line."""
    errors: tuple[type[Exception], ...] = importlib.import_module(f"inpars.contrib.stores.{kind}").ERRORS
    try:
        yield
    except errors as error:
        raise BackendError(f"{kind}: {type(error).__name__}: {' '.join(str(error).split())[:300]}") from error
