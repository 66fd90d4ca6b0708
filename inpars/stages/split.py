"""The split stage: synthetic queries in, training and development queries out.

Also writes the development queries in BEIR's format, with qrels in which each query's positives are relevant, for
`inpars search`, `rerank` and `evaluate`. Reads its input several times; memory holds only numbers.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from inpars.errors import ConfigError, StaleInputError
from inpars.io.corpus import Corpus
from inpars.io.formats import read_synthetic_records
from inpars.io.judgements import QRELS_HEADER, qrel_row
from inpars.io.manifest import Manifest, stamp
from inpars.io.storage import atomic_writer, to_json_line
from inpars.negatives.split import HeldOutBy, Keys, Numbers, SourceGroups, dev_clusters, linked
from inpars.options import SEED, SHARE, Bounds, option
from inpars.pairs.headings import name_in
from inpars.progress import Progress
from inpars.records import Qrel, SyntheticQuery
from inpars.stages.stage import Outcome, Running, Stage
from inpars.text.hashing import key64
from inpars.text.minhash import THRESHOLD, NearDuplicateClusters
from inpars.text.words import query_key

STAGE = "split"
REASONS = ("words_of_a_dev_query", "heading_of_a_dev_document", "pair_of_a_dev_document")


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
    dev_pairs: bool = option(
        True,
        help="hold out queries of people too; if not, those about a held-out document are dropped",
        changes_result="unless default",
        advanced=True,
    )


@dataclass(frozen=True, slots=True)
class SplitFiles:
    """The files that the stage writes; `train` is the stage's output."""

    train: Path
    dev: Path
    queries_dev: Path
    qrels_dev: Path

    @classmethod
    def named(
        cls, train: Path, dev: Path, queries_dev: Path | None = None, qrels_dev: Path | None = None
    ) -> SplitFiles:
        """Names the BEIR files unless given: `dev.queries.jsonl` and `dev.qrels.tsv` for `dev.jsonl`."""
        stem = dev.name.removesuffix(".gz").removesuffix(".jsonl")
        return cls(
            train,
            dev,
            queries_dev or dev.with_name(f"{stem}.queries.jsonl"),
            qrels_dev or dev.with_name(f"{stem}.qrels.tsv"),
        )

    @property
    def sides(self) -> list[Path]:
        return [self.dev, self.queries_dev, self.qrels_dev]


def split_file(
    source: Path, corpus: Corpus, options: SplitOptions, *, files: SplitFiles, **running: Unpack[Running]
) -> Manifest:
    """Write both sides. Drops and counts training queries with the same words as a development query."""
    paths = [path.resolve() for path in (files.train, *files.sides)]
    if len(set(paths)) < len(paths):
        raise ConfigError("the outputs of a split must be different files")
    inputs = {"queries": stamp(source), "corpus": corpus.stamp}
    stage = Stage(STAGE, options, files.train, inputs, files.sides, [corpus.path], **running)

    def work() -> Outcome:
        documents = _documents(source, corpus, options, stage.progress)
        chosen = dev_clusters(
            documents.clusters, documents.keys, documents.queries, dev_share=options.dev_share, seed=options.seed
        )
        of_dev = np.isin(documents.clusters, chosen)[documents.of_query]
        counts = _write(source, files, of_dev, None if not options.dev_pairs else corpus)
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
        return Outcome(counts["train"], {reason: counts[reason] for reason in REASONS if reason in counts}, results)

    return stage.run(work)


@dataclass(frozen=True, slots=True)
class _Documents:
    """Cluster, id hash and number of queries per source document, and the document index per query."""

    clusters: Numbers
    keys: Keys
    queries: Numbers
    of_query: npt.NDArray[np.intp]
    held_out_by: HeldOutBy


def _documents(source: Path, corpus: Corpus, options: SplitOptions, progress: Progress) -> _Documents:
    hashes, starts = array("Q"), array("q")  # of all positives, and the index of each query's first
    for query, _ in read_synthetic_records(source):
        starts.append(len(hashes))
        hashes.extend(map(key64, query.positives))
    if not hashes:
        raise ConfigError(f"{source}: there are no queries to split; write some with `inpars generate`")
    keys, first, of_positive = np.unique(np.frombuffer(hashes, dtype=np.uint64), return_index=True, return_inverse=True)
    of_query = of_positive[np.frombuffer(starts, dtype=np.int64)]
    counts = np.bincount(of_query, minlength=len(keys))
    is_first = np.zeros(len(hashes), dtype=np.bool_)
    is_first[first] = True
    clusterer, sources = NearDuplicateClusters(options.threshold), SourceGroups()
    positives = (doc_id for query, _ in read_synthetic_records(source) for doc_id in query.positives)
    doc_ids = compress(positives, is_first)
    for doc_id in progress.track(doc_ids, total=len(keys), description="compare documents", unit="documents"):
        if doc_id not in corpus:
            raise StaleInputError(
                f"{source}: document {doc_id!r} is not in this corpus; give the corpus of the queries"
            )
        document = corpus[doc_id]
        clusterer.add(document.full_text)
        if options.by_source:
            sources.add(document)
    clusters = sources.joined(clusterer.labels()) if options.by_source else clusterer.labels()
    labels = np.empty(len(keys), dtype=np.int64)
    labels[np.argsort(first)] = clusters  # clusters are in the order of first appearance
    if len(hashes) > len(starts):
        ends = np.array([*starts, len(hashes)], dtype=np.int64)
        labels = linked(labels, np.repeat(of_query, ends[1:] - ends[:-1]), of_positive)
    return _Documents(labels, keys, counts, of_query, sources.held_out_by if options.by_source else "document")


def _write(source: Path, files: SplitFiles, of_dev: npt.NDArray[np.bool_], corpus: Corpus | None) -> dict[str, int]:
    """Write all files, the development side first for its words. Without a corpus it holds no queries of people."""
    of_dev, unfit = _without_unfit(source, of_dev, corpus)
    dev_keys = np.sort([np.uint64(query_key(query.text)) for query, _ in _side(source, of_dev)])
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
        for query, record in _side(source, ~(of_dev | unfit)):
            key = np.uint64(query_key(query.text))
            position = int(np.searchsorted(dev_keys, key))
            if position < len(dev_keys) and dev_keys[position] == key:
                counts["words_of_a_dev_query"] += 1
                continue
            train.write(to_json_line(_with_id(query, record)) + "\n")
            counts["train"] += 1
        if unfit.any():
            counts[REASONS[1 if corpus is not None else 2]] = int(unfit.sum())
        if not counts["dev"]:
            raise ConfigError(
                f"{source}: the {unfit.sum()} queries of the held-out documents are by people and no test for a search "
                "(headings of their own documents, for instance); train on all of them, or hold out other queries"
            )
        if not counts["train"]:
            raise ConfigError(
                f"{source}: every query has the words of one in the development set, so that none is left to train on; "
                "give more queries, or hold out fewer with --dev-share"
            )
    return counts


def _without_unfit(
    source: Path, of_dev: npt.NDArray[np.bool_], corpus: Corpus | None
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """The mask of dev queries, and of the queries of people that are unfit for either side.

    A heading of its own document is unfit, since any system finds it; without a corpus all are.
    """
    unfit = np.zeros_like(of_dev)
    for index, (query, _) in enumerate(read_synthetic_records(source)):
        if of_dev[index] and query.by_people:
            is_heading = query.may_stand_above and corpus is not None and name_in(query.text, corpus[query.doc_id])
            unfit[index] = corpus is None or bool(is_heading)
    return of_dev & ~unfit, unfit


def _side(source: Path, selected: npt.NDArray[np.bool_]) -> Iterator[tuple[SyntheticQuery, dict[str, Any]]]:
    for row, is_selected in zip(read_synthetic_records(source), selected, strict=True):
        if is_selected:
            yield row


def _with_id(query: SyntheticQuery, record: dict[str, Any]) -> dict[str, Any]:
    """The record with its query_id, which may be derived from the position in the file."""
    return {"query_id": query.query_id, **record} | {"query_id": query.query_id}
