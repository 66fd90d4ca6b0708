"""The description of a format, and the source of an export: streams from triples, synthetic queries, runs, datasets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from inpars.contrib.interchange.groups import SeenKeys, are_together, regrouped
from inpars.contrib.interchange.items import Example, Item, JudgedQuery
from inpars.contrib.interchange.triples_source import TripleFiles, read_examples, triple_files
from inpars.documents.datasets import Dataset
from inpars.errors import ConfigError, DataFormatError
from inpars.io.corpus import Corpus, cached_corpus
from inpars.io.formats import iterate_run, read_synthetic_records
from inpars.io.manifest import sha256_of
from inpars.io.runs import rank
from inpars.io.storage import read_lines
from inpars.io.topics import DEFAULT_SPLIT, Topics
from inpars.io.triples import read_triple_ids
from inpars.progress import SILENT, Progress
from inpars.records import Document, Qrel, Query, SyntheticQuery

TRAINING_SPLIT = "train"
Layout = Literal["triplet", "n-tuple", "pair", "labeled-pair", "labeled-list", "scored-pair", "margin"]


@dataclass(frozen=True)
class Source:
    """The files and the dataset to export. Methods raise ConfigError if the input that they need is missing."""

    triples: Path | None = None
    synthetic: Path | None = None
    run: Path | None = None
    dataset: Dataset | None = None
    split: str = DEFAULT_SPLIT
    retriever: str | None = None
    progress: Progress = SILENT

    @property
    def corpus(self) -> Corpus | None:
        """The dataset's documents, None without a dataset."""
        return self.dataset.corpus if self.dataset else None

    @property
    def is_collection(self) -> bool:
        """Whether queries and judgements come from the dataset, for lack of triples and synthetic queries."""
        return self.synthetic is None and self.triples is None

    @property
    def written_split(self) -> str:
        """The name of the split in the exported files."""
        return self.split if self.is_collection else TRAINING_SPLIT

    @property
    def has_queries(self) -> bool:
        return not self.is_collection or (self.dataset is not None and bool(self.dataset.splits))

    @cached_property
    def files(self) -> TripleFiles | None:
        return triple_files(self.triples) if self.triples else None

    @cached_property
    def topics(self) -> Topics:
        """Queries and judgements of the chosen split."""
        if self.dataset is None:
            raise ConfigError("no queries named: give --triples, --input, or a --dataset that has queries")
        return self.dataset.topics(self.split)

    def examples(self) -> Iterator[Example]:
        """The triples as examples, else the synthetic queries or the judgements, which have no negatives."""
        if self.files is not None:
            examples = read_examples(self.files, self.corpus, self._query_text())
        elif self.synthetic is not None:
            examples = self._synthetic_examples()
        else:
            examples = self._judged_examples()
        return self.progress.track(examples, total=None, description="converting", unit="queries")

    def together(self) -> Iterator[Example]:
        """The examples query by query."""
        if self._query_by_query:
            return self.examples()
        return regrouped(self.examples(), lambda example: example.query.query_id)

    @cached_property
    def _query_by_query(self) -> bool:
        """Whether the examples of each query are neighbours; only triples may have another order."""
        if self.files is None:
            return True
        if self.files.ids is not None:
            return are_together(triple.query_id for triple in read_triple_ids(self.files.ids))
        return self.files.texts is None or are_together(
            line.partition("\t")[0] for _, line in read_lines(self.files.texts)
        )

    def records(self) -> Iterator[tuple[SyntheticQuery, Document, dict[str, Any]]]:
        """The synthetic queries, each with its document and its JSON object."""
        if self.synthetic is None:
            raise ConfigError("this format needs synthetic queries: give them with --input FILE.jsonl")
        for query, record in read_synthetic_records(self.synthetic):
            yield query, self._document(query.doc_id, record), record

    def documents(self) -> Iterator[Document]:
        """The corpus, else the distinct documents of the examples."""
        if self.corpus is not None:
            total = len(self.corpus)
            yield from self.progress.track(self.corpus, total=total, description="writing documents", unit="documents")
            return
        seen = SeenKeys()
        for example in self.examples():
            for document in (example.positive, *(negative.document for negative in example.negatives)):
                if seen.add(document.doc_id):
                    yield document

    def queries(self) -> Iterator[Query]:
        """The dataset's queries if it is the only source, else the distinct queries of the examples."""
        if self.is_collection:
            yield from self.topics.as_queries()
            return
        seen = SeenKeys()
        yield from (example.query for example in self.examples() if seen.add(example.query.query_id))

    def judged(self) -> Iterator[JudgedQuery]:
        """The dataset's judgements if it is the only source, else one per query and positive of the examples."""
        if self.is_collection:
            for query_id, grades in self.topics.qrels.items():
                yield from (JudgedQuery(Qrel(query_id, doc_id, grade), self.split) for doc_id, grade in grades.items())
            return
        seen = SeenKeys()
        for example in self.together():
            query_id, doc_id = example.query.query_id, example.positive.doc_id
            if seen.add(query_id, doc_id):
                yield JudgedQuery(Qrel(query_id, doc_id, example.grade), TRAINING_SPLIT)

    def rankings(self) -> Iterator[tuple[str, list[tuple[str, float]]]]:
        """Query id and ranked documents of the run, best first."""
        if self.run is None:
            raise ConfigError("this format needs rankings: give them with --run FILE")
        path = self.run
        lines = iterate_run(path)
        if not are_together(line.split(maxsplit=1)[0] for _, line in read_lines(path)):
            lines = regrouped(lines, lambda line: line[1].query_id)
        rankings = groupby(lines, key=lambda line: line[1].query_id)
        for query_id, ranked_lines in self.progress.track(
            rankings, total=None, description="converting", unit="queries"
        ):
            scores: dict[str, float] = {}
            for number, scored in ranked_lines:
                if scored.doc_id in scores:
                    raise DataFormatError(f"document {scored.doc_id!r} is ranked twice", path=path, line=number)
                scores[scored.doc_id] = scored.score
            yield query_id, rank(scores)

    def ungraded(self) -> Counter[str]:
        """Counts of grades and judgements that a format of relevant pairs loses."""
        counts: Counter[str] = Counter()
        if not self.is_collection:
            counts["grades above 1"] = sum(example.grade > 1 for example in self.examples())
            return +counts
        if self.dataset is None:
            return counts
        for query_id in self.topics.queries:
            grades = self.topics.qrels.get(query_id, {}).values()
            counts["grades above 1"] += sum(grade > 1 for grade in grades)
            counts["judgements of 0 and less"] += sum(grade <= 0 for grade in grades)
            counts["queries without a relevant document"] += not any(grade > 0 for grade in grades)
        return +counts

    def needed_corpus(self) -> Corpus:
        """The dataset's documents. Raises ConfigError without a dataset."""
        if self.corpus is None:
            raise ConfigError("this format needs the documents: give them with --dataset NAME or --corpus FILE")
        return self.corpus

    def needed_retriever(self) -> str:
        """The sparse retriever. Raises ConfigError without one."""
        if self.retriever is None:
            raise ConfigError("this format needs the word weights of a sparse retriever: name it with --retriever")
        return self.retriever

    def query_text(self) -> Callable[[str], str]:
        """A function from query id to text. Raises ConfigError without queries."""
        query_text = self._query_text()
        if query_text is None:
            raise ConfigError("this format needs the queries: give them with --input, --dataset or --queries")
        return query_text

    def _query_text(self) -> Callable[[str], str] | None:
        if self.synthetic is not None:
            path = self.synthetic
            as_documents = (Document(query.query_id, query.text) for query, _ in read_synthetic_records(path))
            lookup = cached_corpus(f"synthetic queries:{sha256_of(path)}", lambda: as_documents)
            return lambda query_id: lookup[query_id].text
        if self.dataset is None or not self.dataset.splits:
            return None
        return self._topic_text

    def _topic_text(self, query_id: str) -> str:
        for topics in self._all_topics:
            if query_id in topics.queries:
                return topics.queries[query_id]
        raise DataFormatError(f"no query {query_id!r} in this dataset; name the right one, or give --queries FILE")

    @cached_property
    def _all_topics(self) -> list[Topics]:
        """All splits, the chosen one first."""
        splits = sorted(self.dataset.splits, key=lambda split: split != self.split) if self.dataset else []
        return [self.dataset.topics(split) for split in splits] if self.dataset else []

    def _document(self, doc_id: str, record: dict[str, Any]) -> Document:
        if self.corpus is not None:
            return self.corpus[doc_id]
        text = record.get("text") or record.get("doc_text")
        if not isinstance(text, str):
            raise ConfigError(
                f"{self.synthetic}: document {doc_id!r} has no text; give the documents with --dataset NAME or "
                "--corpus FILE"
            )
        return Document(doc_id, text)

    def _judged_examples(self) -> Iterator[Example]:
        corpus = self.needed_corpus()
        for query in self.topics.as_queries():
            for doc_id, grade in self.topics.qrels.get(query.query_id, {}).items():
                if grade > 0:
                    yield Example(query, corpus[doc_id], grade=grade)

    def _synthetic_examples(self) -> Iterator[Example]:
        """One example per positive of a query; only the document it was written for may come from the file itself."""
        for query, document, _ in self.records():
            written_query = Query(query.query_id, query.text)
            for doc_id, grade in query.positives.items():
                other = doc_id != query.doc_id
                yield Example(written_query, self.needed_corpus()[doc_id] if other else document, grade=grade)


@dataclass(slots=True)
class Written:
    """Counts of an export: records per file, dropped records by reason, parts of records not kept."""

    counts: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    not_kept: Counter[str] = field(default_factory=Counter)


Reader = Callable[[Path], Iterator[Item]]
Writer = Callable[[Source, Path, Layout, Written], None]


@dataclass(frozen=True, slots=True)
class Format:
    """One toolkit's files."""

    holds: str
    read: Reader | None  # None: export only
    write: Writer
    made_ids: str = ""  # ids that the format lacks and an import makes
    folder: bool = False  # whether an export is a folder
    positives_only: bool = False  # whether it holds relevant pairs without grades
