"""The stage that sets a development set aside: synthetic queries in, those to train on and those to judge by out.

Beside the development queries, as they were read, lie the same in BEIR's form and judgements that call each query's own
document relevant, for `inpars search`, `rerank` and `evaluate`. Reads its input three times; in memory are numbers.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from inpars.corpus import Corpus
from inpars.errors import ConfigError, StaleInputError
from inpars.formats import read_synthetic_records
from inpars.judgements import QRELS_HEADER, qrel_row
from inpars.manifest import FileStamp, Manifest, stamp
from inpars.mining.split import HeldOutBy, Keys, Numbers, SourceGroups, dev_clusters
from inpars.options import SEED, SHARE, Bounds, option
from inpars.progress import Progress
from inpars.records import Qrel, SyntheticQuery
from inpars.stages.stage import Outcome, Running, Stage
from inpars.storage import atomic_writer, to_json_line
from inpars.text.hashing import key64
from inpars.text.minhash import THRESHOLD, NearDuplicateClusters
from inpars.text.words import words, words_key

STAGE = "split"


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitOptions:
    """How queries are split."""

    dev_share: float = option(
        0.1, help="maximum share of the queries in the development set", bounds=Bounds(above=0, below=1)
    )
    threshold: float = option(
        THRESHOLD, help="MinHash similarity from which documents stay on the same side", bounds=SHARE
    )
    by_source: bool = option(
        False,
        help="also keep passages of the same file together (of the same page or section when there are fewer "
        "than ten files)",
    )
    seed: int = option(0, help="random seed", bounds=SEED)


@dataclass(frozen=True, slots=True)
class SplitFiles:
    """What the stage writes; the first is its output proper."""

    train: Path
    dev: Path
    queries_dev: Path
    qrels_dev: Path

    @classmethod
    def named(
        cls, train: Path, dev: Path, queries_dev: Path | None = None, qrels_dev: Path | None = None
    ) -> SplitFiles:
        """Names of the BEIR files where they are not given: `dev.jsonl` has `dev.queries.jsonl`, `dev.qrels.tsv`."""
        stem = dev.name.removesuffix(".gz").removesuffix(".jsonl")
        return cls(
            train,
            dev,
            queries_dev or dev.with_name(f"{stem}.queries.jsonl"),
            qrels_dev or dev.with_name(f"{stem}.qrels.tsv"),
        )

    @property
    def sides(self) -> list[Path]:
        """All but the first."""
        return [self.dev, self.queries_dev, self.qrels_dev]


def split_file(
    source: Path,
    corpus: Corpus,
    corpus_stamp: FileStamp,
    options: SplitOptions,
    *,
    files: SplitFiles,
    **running: Unpack[Running],
) -> Manifest:
    """Write both sides. Training queries with the words of a development query are left out and counted."""
    paths = [path.resolve() for path in (files.train, *files.sides)]
    if len(set(paths)) < len(paths):
        raise ConfigError("the outputs of a split must be different files")
    inputs = {"queries": stamp(source), "corpus": corpus_stamp}
    stage = Stage(STAGE, options, files.train, inputs, files.sides, [corpus.path], **running)

    def work() -> Outcome:
        documents = _documents(source, corpus, options, stage.progress)
        chosen = dev_clusters(
            documents.clusters, documents.keys, documents.queries, dev_share=options.dev_share, seed=options.seed
        )
        of_dev = np.isin(documents.clusters, chosen)[documents.of_query]
        counts = _write(source, files, of_dev)
        sizes = np.unique(documents.clusters, return_counts=True)[1]
        results = {
            "queries": len(of_dev),
            **counts,
            "documents": len(documents.keys),
            "clusters": len(sizes),
            "held_out_by": documents.held_out_by,
            "dev_clusters": len(chosen),
            "largest_cluster": int(sizes.max()),
        }
        return Outcome(counts["train"], {"words_of_a_dev_query": counts["words_of_a_dev_query"]}, results)

    return stage.run(work)


@dataclass(frozen=True, slots=True)
class _Documents:
    """The source documents: cluster, hash of the id and number of queries of each, and each query's document."""

    clusters: Numbers
    keys: Keys
    queries: Numbers
    of_query: npt.NDArray[np.intp]
    held_out_by: HeldOutBy


def _documents(source: Path, corpus: Corpus, options: SplitOptions, progress: Progress) -> _Documents:
    hashes = array("Q", (key64(query.doc_id) for query, _ in read_synthetic_records(source)))
    if not hashes:
        raise ConfigError(f"{source}: there are no queries to split")
    keys, first, of_query, counts = np.unique(
        np.frombuffer(hashes, dtype=np.uint64), return_index=True, return_inverse=True, return_counts=True
    )
    is_first = np.zeros(len(hashes), dtype=np.bool_)
    is_first[first] = True
    found, sources = NearDuplicateClusters(options.threshold), SourceGroups()
    tracked = progress.track(
        _first_ids(source, is_first), total=len(keys), description="compare documents", unit="documents"
    )
    for doc_id in tracked:
        if doc_id not in corpus:
            raise StaleInputError(
                f"{source}: document {doc_id!r} is not in this corpus; give the corpus of the queries"
            )
        document = corpus[doc_id]
        found.add(document.full_text)
        if options.by_source:
            sources.add(document)
    clusters = sources.joined(found.labels()) if options.by_source else found.labels()
    labels = np.empty(len(keys), dtype=np.int64)
    labels[np.argsort(first)] = clusters  # texts came in the order of their first queries
    return _Documents(labels, keys, counts, of_query, sources.held_out_by if options.by_source else "document")


def _first_ids(source: Path, is_first: npt.NDArray[np.bool_]) -> Iterator[str]:
    for (query, _), first in zip(read_synthetic_records(source), is_first, strict=True):
        if first:
            yield query.doc_id


def _write(source: Path, files: SplitFiles, of_dev: npt.NDArray[np.bool_]) -> dict[str, int]:
    """All files; the development side is read first, for its words."""
    seen = np.sort([_words_key(query.text) for query, _ in _side(source, of_dev)])
    counts = {"train": 0, "dev": 0, "words_of_a_dev_query": 0}
    with ExitStack() as stack:
        train, dev, queries, qrels = (stack.enter_context(atomic_writer(path)) for path in (files.train, *files.sides))
        qrels.write(f"{QRELS_HEADER}\n")
        for query, record in _side(source, of_dev):
            dev.write(to_json_line(_with_id(query, record)) + "\n")
            queries.write(to_json_line({"_id": query.query_id, "text": query.text}) + "\n")
            for doc_id, grade in query.positives.items():
                qrels.write(qrel_row(Qrel(query.query_id, doc_id, grade)) + "\n")
            counts["dev"] += 1
        for query, record in _side(source, ~of_dev):
            key = _words_key(query.text)
            place = int(np.searchsorted(seen, key))
            if place < len(seen) and seen[place] == key:
                counts["words_of_a_dev_query"] += 1
                continue
            train.write(to_json_line(_with_id(query, record)) + "\n")
            counts["train"] += 1
        if not counts["train"]:
            raise ConfigError(f"{source}: every query has the words of one in the development set; nothing to train on")
    return counts


def _side(source: Path, wanted: npt.NDArray[np.bool_]) -> Iterator[tuple[SyntheticQuery, dict[str, Any]]]:
    for row, chosen in zip(read_synthetic_records(source), wanted, strict=True):
        if chosen:
            yield row


def _with_id(query: SyntheticQuery, record: dict[str, Any]) -> dict[str, Any]:
    """The record as it was read; an id that was counted out of the whole file is written down."""
    return {"query_id": query.query_id, **record} | {"query_id": query.query_id}


def _words_key(text: str) -> np.uint64:
    return np.uint64(words_key(words(text) or text.split()))
