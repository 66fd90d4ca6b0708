"""The queries a training is validated with: from files with BM25's candidates, or held out of the triples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from inpars.datasets import Dataset
from inpars.errors import ConfigError
from inpars.formats import read_queries
from inpars.judgements import read_qrels
from inpars.manifest import FileStamp, stamp
from inpars.progress import Progress
from inpars.records import Query
from inpars.training.examples import TripleTexts

if TYPE_CHECKING:
    from inpars.training.options import ValidatedOptions
    from inpars.training.validation import DevSet


def development_inputs(options: ValidatedOptions, dataset: Dataset | None) -> dict[str, FileStamp]:
    """What a manifest compares. Raises ConfigError where files are given that do not go together."""
    paths = (options.dev_queries, options.dev_qrels)
    if paths == (None, None):
        return {}
    if None in paths:
        raise ConfigError("--dev-queries and --dev-qrels belong together; give both or neither")
    if options.validate_every is None:
        raise ConfigError("--dev-queries are for a validation; say how often with --validate-every N")
    if dataset is None:
        raise ConfigError("--dev-queries are searched in a corpus; give --dataset NAME or --corpus FILE")
    return {
        "dev queries": stamp(_given(options.dev_queries)),
        "dev qrels": stamp(_given(options.dev_qrels)),
        "dev corpus": dataset.corpus_stamp,
    }


def separate_development(
    rows: Sequence[TripleTexts], options: ValidatedOptions, dataset: Dataset | None, progress: Progress
) -> tuple[Sequence[TripleTexts], DevSet | None]:
    """Triples to train on and what they are validated with, None where no validation is wanted."""
    from inpars.training.validation import hold_out

    if options.validate_every is None:
        return rows, None
    if options.dev_queries is not None and dataset is not None:
        dev = given_development(options, dataset, progress)
    else:
        rows, dev = hold_out(rows, depth=options.dev_depth, seed=options.seed)
    progress.note(f"validation by {dev.describe()}, {len(rows)} triples to train on")
    return rows, dev


def given_development(options: ValidatedOptions, dataset: Dataset, progress: Progress) -> DevSet:
    """The judged ones of the given queries with BM25's best documents."""
    from inpars.retrieval.bm25 import bm25_index
    from inpars.training.validation import DevSet

    queries_path, qrels_path = _given(options.dev_queries), _given(options.dev_qrels)
    qrels = read_qrels(qrels_path)
    found = read_queries(queries_path, progress.note)
    queries = {query.query_id: query.text for query in found if query.query_id in qrels}
    if not queries:
        raise ConfigError(
            f"{qrels_path}: none of its queries is in {queries_path}; give the judgements of these queries"
        )
    if not any(doc_id in dataset.corpus for query_id in queries for doc_id in qrels[query_id]):
        raise ConfigError(f"{qrels_path}: none of its documents is in {dataset.name}; give the judgements of these")
    index = bm25_index(dataset.corpus, threads=options.threads, progress=progress)
    asked = [Query(query_id, text) for query_id, text in queries.items()]
    run = index.search(asked, options.dev_depth, threads=options.threads)
    candidates = {query_id: list(run.get(query_id, {})) for query_id in queries}
    doc_ids = list(dict.fromkeys(doc_id for found in candidates.values() for doc_id in found))
    texts = dict(zip(doc_ids, dataset.corpus.texts(doc_ids), strict=True))
    return DevSet(queries, candidates, texts, {query_id: qrels[query_id] for query_id in queries})


def _given(path: Path | None) -> Path:
    assert path is not None
    return path
