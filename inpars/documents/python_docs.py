"""The demo collection `python-docs`: docstrings of the running Python's standard library, with queries and judgements.

The documents are read from the interpreter at run time and differ slightly between Python versions; `cache_key`
identifies them. This package contains no text of Python's documentation.

The queries and judgements in `data/python_docs` were written by hand, from names and docstrings found with plain text
search, before any retrieval result was seen; they must never be adjusted to results. Judgements are graded: 2 answers
the query, 1 also helps.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Container, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Literal, TypeAlias

from inpars.errors import BackendError
from inpars.io.formats import read_queries
from inpars.io.judgements import read_qrels
from inpars.records import Document, Qrels, Query

NAME = "python-docs"
COLLECTION_FORMAT = 1  # increase when the same Python yields different documents

DATA = ("inpars.data", "python_docs")

Split: TypeAlias = Literal["dev", "test"]


def cache_key() -> str:
    """A key of everything the documents depend on: the collection format, the Python version and the platform."""
    python = f"{platform.python_implementation()}-{platform.python_version()}-{sys.platform}"
    return f"{NAME}-{COLLECTION_FORMAT}-{python}"


def documents() -> Iterator[Document]:
    """The documents sorted by id, read in about a second by an isolated interpreter.

    Raises BackendError if it cannot be started.
    """
    with _package_file("inpars.documents", "docstrings.py") as program:
        lines = _output_of([sys.executable, "-I", "-S", str(program)]).splitlines()
    return (Document(doc_id, text, title) for doc_id, title, text in map(json.loads, lines))


def _output_of(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL).stdout
    except (OSError, ValueError) as error:
        reason = str(error)
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or [f"exit status {error.returncode}"])[-1]
    raise BackendError(f"{NAME}: Python could not read its own documentation ({reason}); run `{' '.join(command)}`")


def queries(split: Split | None = None) -> list[Query]:
    """The hand-written queries of one split, or of both."""
    judged = {query_id for name in (("dev", "test") if split is None else (split,)) for query_id in _judgements(name)}
    with _package_file(*DATA, "queries.tsv") as path:
        return [query for query in read_queries(path) if query.query_id in judged]


def qrels(split: Split, doc_ids: Container[str]) -> tuple[Qrels, list[str]]:
    """Judgements (2: answers, 1: helps) of existing documents, and the sorted ids of missing documents."""
    judged = _judgements(split)
    present = {
        query_id: {doc_id: relevance for doc_id, relevance in grades.items() if doc_id in doc_ids}
        for query_id, grades in judged.items()
    }
    missing = {doc_id for grades in judged.values() for doc_id in grades if doc_id not in doc_ids}
    return {query_id: grades for query_id, grades in present.items() if grades}, sorted(missing)


def _judgements(split: Split) -> Qrels:
    with _package_file(*DATA, f"qrels.{split}.tsv") as path:
        return read_qrels(path)


@contextmanager
def _package_file(package: str, *parts: str) -> Iterator[Path]:
    with resources.as_file(resources.files(package).joinpath(*parts)) as path:
        yield path
