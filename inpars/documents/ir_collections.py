"""Load collections of `ir_datasets`; documents are copied to the cache once."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partialmethod
from typing import Any

from inpars.documents import python_docs
from inpars.errors import BackendError, ConfigError, DataFormatError, InparsError, UnknownNameError, reason_of
from inpars.io.corpus import Corpus, cached_corpus
from inpars.io.judgements import Judgements, checked_grade
from inpars.io.topics import DEFAULT_SPLIT, Topics, joined
from inpars.records import Document, Qrel, Qrels

IR_DATASETS_TEXT_FIELDS = ("text", "body", "abstract")
BAR_DELAY = 5.0  # seconds


def ir_dataset(name: str) -> Any:  # noqa: ANN401 - ir_datasets has no types
    """The collection of that name; reads nothing yet. Raises UnknownNameError with similar names."""
    ir_datasets = _quiet_ir_datasets()
    try:
        return ir_datasets.load(name)
    except KeyError:
        close = difflib.get_close_matches(name, list(ir_datasets.registry), n=4)
        hint = "a folder or file of that name does not exist here either; ir_datasets lists its names in its catalog"
        raise UnknownNameError("dataset", name, [python_docs.NAME, *like_named(name), *close], hint) from None


def _quiet_ir_datasets() -> Any:  # noqa: ANN401 - ir_datasets has no types
    """The module, limited to logging warnings and to progress bars of operations that take a few seconds."""
    import ir_datasets  # takes a third of a second
    from ir_datasets.log import Logger

    # a filter, since ir_datasets sets the level itself when it first logs
    logging.getLogger("ir_datasets").addFilter(lambda record: record.levelno >= logging.WARNING)
    if not isinstance(vars(Logger)["pbar"], partialmethod):
        Logger.pbar = partialmethod(Logger.pbar, delay=BAR_DELAY)
    return ir_datasets


def like_named(name: str) -> list[str]:
    """Collections of the same name in another group: `beir/nfcorpus/test` for `nfcorpus`; their test split, if any."""
    import ir_datasets

    names = []
    for other in getattr(ir_datasets, "registry", ()):
        parts = other.split("/")
        if other != name and parts[1 : 1 + len(name.split("/"))] == name.split("/"):
            names.append(other)
    tests = [other for other in names if other.endswith("/test")]
    return tests or names[:1]


def ir_corpus(dataset: Any, name: str) -> Corpus:  # noqa: ANN401 - ir_datasets has no types
    """The documents of a collection, cached once for all collections that share them.

    Raises ConfigError, BackendError.
    """
    import ir_datasets

    if not dataset.has_docs():
        raise ConfigError(f"{name}: this ir_datasets collection has no documents")
    return cached_corpus(f"ir_datasets:{ir_datasets.docs_parent_id(name)}", lambda: _documents(dataset, name))


def ir_splits(dataset: Any, name: str) -> dict[str, Callable[[], Topics]]:  # noqa: ANN401 - ir_datasets has no types
    """Functions that read queries and judgements per split, and raise BackendError; empty without queries.

    A collection without judgements gets the splits below its name: `beir/nfcorpus` gets `beir/nfcorpus/test` as `test`.
    """
    splits = {DEFAULT_SPLIT: _reader(dataset, name)} if dataset.has_queries() else {}
    return splits if dataset.has_qrels() else splits | _judged_parts(name)


def _judged_parts(name: str) -> dict[str, Callable[[], Topics]]:
    import ir_datasets

    names = [other for other in getattr(ir_datasets, "registry", ()) if other.startswith(f"{name}/")]
    parts = {other.removeprefix(f"{name}/"): ir_datasets.load(other) for other in names}
    return {
        split: _reader(part, f"{name}/{split}")
        for split, part in parts.items()
        if part.has_qrels() and part.has_queries()
    }


def _reader(dataset: Any, name: str) -> Callable[[], Topics]:  # noqa: ANN401 - ir_datasets has no types
    def load() -> Topics:
        try:
            texts = {query.query_id: str(query.default_text()) for query in dataset.queries_iter()}
            qrels = _qrels(dataset, name)
        except InparsError:
            raise
        except Exception as error:
            raise _not_fetched(name, error) from error
        judged = {query_id: grades for query_id, grades in qrels.items() if query_id in texts}
        topics = joined(DEFAULT_SPLIT, texts, judged, name)
        if len(judged) < len(qrels):
            left_out = next(query_id for query_id in qrels if query_id not in judged)
            remark = f"{len(qrels) - len(judged)} judged queries of {name} have no text, {left_out} first: left out"
            topics = replace(topics, remarks=(remark,))
        return topics

    return load


def _qrels(dataset: Any, name: str) -> Qrels:  # noqa: ANN401 - ir_datasets has no types
    """The judgements, checked like those of files. Raises DataFormatError."""
    judgements = Judgements(name, "judgement")
    for number, row in enumerate(dataset.qrels_iter() if dataset.has_qrels() else (), start=1):
        try:
            grade = checked_grade(row.relevance)
        except ValueError as error:
            raise DataFormatError(str(error), path=f"{name}, judgement {number}") from None
        judgements.add(Qrel(row.query_id, row.doc_id, grade), number, str(getattr(row, "subtopic_id", "")))
    judgements.check()
    return judgements.qrels


def _documents(dataset: Any, name: str) -> Iterator[Document]:  # noqa: ANN401 - ir_datasets has no types
    try:
        for document in dataset.docs_iter():
            text = next(
                (value for key in IR_DATASETS_TEXT_FIELDS if (value := getattr(document, key, None)) is not None), None
            )
            if isinstance(text, str):
                yield Document(document.doc_id, text, getattr(document, "title", "") or "")
            else:  # none of them, the bytes of a web page, or a list of sections
                yield Document(document.doc_id, document.default_text())
    except Exception as error:
        raise _not_fetched(name, error) from error


def _not_fetched(name: str, error: Exception) -> BackendError:
    problem = f"{name}: ir_datasets could not fetch it ({reason_of(error)})"
    return BackendError(f"{problem}; check the network, or put its files under IR_DATASETS_HOME")
