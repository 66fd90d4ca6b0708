"""Read the real queries given to a whole run: judged dev queries choose the system in place of generated ones.

Unjudged real queries show how far the generated ones are from what people ask, and may weight them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from inpars.documents.datasets import Dataset
from inpars.errors import ConfigError, StaleInputError
from inpars.fusion.matching import MIN_QUERIES
from inpars.io.formats import read_queries, read_synthetic_queries
from inpars.io.judgements import read_qrels
from inpars.io.manifest import stamp
from inpars.io.model_judgements import origin_of
from inpars.io.topics import Topics, joined
from inpars.options import FlagGroup, option
from inpars.progress import Progress
from inpars.stages.search import squeezed

DEV, UNLABELLED = "dev", "unlabelled"
MAX_JUDGED = 300  # dev queries to choose the system by
HASH_CHARACTERS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceOptions:
    """Flags for queries to use in addition to or instead of generated ones; test queries are not among them."""

    FLAG_GROUP: ClassVar = FlagGroup("real queries and judges")

    unlabelled_queries: Path | None = option(
        None, help="real queries without judgements, to compare generated ones with", metavar="FILE"
    )
    match_queries: bool = option(
        False,
        help="weight the synthetic queries to resemble --unlabelled-queries (no gain in EXPERIMENTS.md)",
        advanced=True,
    )
    dev_split: str | None = option(None, help="choose the system on the judged queries of this split", metavar="NAME")
    dev_queries: Path | None = option(
        None, help="choose the system on these queries, not on generated ones", metavar="FILE"
    )
    dev_qrels: Path | None = option(None, help="judgements of --dev-queries", metavar="FILE")
    generated: Path | None = option(
        None, help="use these queries of `inpars generate` instead of writing any", metavar="FILE"
    )
    pairs: Path | None = option(
        None, help="also train on these queries of people (from `inpars pairs`)", metavar="FILE", advanced=True
    )

    def check(self, split: str) -> None:
        """Raise ConfigError for contradicting flags; `split` is that of the test queries."""
        if (self.dev_queries is None) != (self.dev_qrels is None):
            raise ConfigError("--dev-queries and --dev-qrels go together; give both")
        if self.dev_queries is not None and self.dev_split is not None:
            raise ConfigError("--dev-split and --dev-queries both name dev queries; give one")
        if self.dev_split == split:
            raise ConfigError(f"--dev-split {split} is also the test split; choose the system on another split")
        if self.match_queries and self.unlabelled_queries is None:
            raise ConfigError("--match-queries needs --unlabelled-queries FILE")

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that affect results, files by their hash."""
        files = {"unlabelled_queries": self.unlabelled_queries, "dev_queries": self.dev_queries}
        files |= {"dev_qrels": self.dev_qrels, "pairs": self.pairs, "generated": self.generated}
        hashes = {name: None if path is None else stamp(path).sha256[:HASH_CHARACTERS] for name, path in files.items()}
        return {**hashes, "match_queries": self.match_queries, "dev_split": self.dev_split}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The queries given to a run."""

    judged: Topics | None = None
    unlabelled: Topics | None = None
    match: bool = False
    pairs: Path | None = None  # queries by people, to train on
    pair_count: int = 0
    generated: Path | None = None  # synthetic queries made earlier

    @property
    def real(self) -> list[str]:
        """Texts of real queries: the unjudged ones, else the dev queries."""
        topics = self.unlabelled or self.judged
        return [] if topics is None else list(topics.queries.values())


def read_evidence(options: EvidenceOptions, dataset: Dataset, measured: Topics | None, progress: Progress) -> Evidence:
    """Read the files or the split; dev queries that are also test queries are left out and counted.

    Raises ConfigError if too few queries are left.
    """
    pairs = 0 if options.pairs is None else count_pairs(options.pairs, dataset)
    evidence = Evidence(match=options.match_queries, pairs=options.pairs, pair_count=pairs, generated=options.generated)
    if options.unlabelled_queries is not None:
        texts = _texts(options.unlabelled_queries, progress)
        if len(texts) < MIN_QUERIES:
            raise ConfigError(f"{options.unlabelled_queries}: {len(texts)} queries are too few, give {MIN_QUERIES}")
        evidence = replace(evidence, unlabelled=Topics(UNLABELLED, texts, {}))
    judged = _judged_queries(options, dataset, progress)
    if judged is None:
        return evidence
    return replace(evidence, judged=_without(judged, measured, progress))


def count_pairs(path: Path, dataset: Dataset) -> int:
    """Count the pairs. Raises ConfigError for synthetic queries, StaleInputError for those of another corpus."""
    count = 0
    for count, query in enumerate(read_synthetic_queries(path), start=1):  # noqa: B007
        if not query.by_people:
            raise ConfigError(
                f"{path}: {query.query_id} is a query of {query.model or 'a model'}; give it with --generated"
            )
        if absent := next((doc_id for doc_id in query.positives if doc_id not in dataset.corpus), None):
            raise StaleInputError(
                f"{path}: document {absent!r} is not in {dataset.name}; make the pairs of this corpus"
            )
    return count


def _judged_queries(options: EvidenceOptions, dataset: Dataset, progress: Progress) -> Topics | None:
    if options.dev_split is not None:
        return dataset.topics(options.dev_split)
    if options.dev_queries is None or options.dev_qrels is None:
        return None
    texts = _texts(options.dev_queries, progress)
    path = options.dev_qrels
    return joined(DEV, texts, read_qrels(path), str(path), origin_of(path))


def _texts(path: Path, progress: Progress) -> dict[str, str]:
    return {query.query_id: query.text for query in read_queries(path, progress.note) if query.text.strip()}


def _without(judged: Topics, measured: Topics | None, progress: Progress) -> Topics:
    """The first `MAX_JUDGED` dev queries that have a relevant document and are not test queries."""
    test = {squeezed(text) for text in measured.queries.values()} if measured is not None else set[str]()
    known = {query_id: text for query_id, text in judged.queries.items() if squeezed(text) not in test}
    if left_out := len(judged.queries) - len(known):
        progress.note(f"{left_out} dev queries are also test queries; leaving them out")
    answered = [name for name in known if any(grade > 0 for grade in judged.qrels.get(name, {}).values())]
    if not answered:
        raise ConfigError("every dev query lacks a relevant document or is also a test query; give other dev queries")
    if len(answered) > MAX_JUDGED:
        progress.note(f"choosing the system on the first {MAX_JUDGED} of {len(answered)} judged dev queries")
    chosen = answered[:MAX_JUDGED]
    queries, qrels = {name: known[name] for name in chosen}, {name: judged.qrels[name] for name in chosen}
    return Topics(judged.split, queries, qrels, origin=judged.origin)
