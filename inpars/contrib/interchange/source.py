"""What a format is, and what an export can draw on: triples, synthetic queries, a run, a dataset, each as a stream."""

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
    """The files and the collection that were named; what is missing is said when a format asks for it."""

    triples: Path | None = None
    synthetic: Path | None = None
    run: Path | None = None
    dataset: Dataset | None = None
    split: str = DEFAULT_SPLIT
    retriever: str | None = None
    progress: Progress = SILENT

    @property
    def corpus(self) -> Corpus | None:
        """The documents, None where none were named."""
        return self.dataset.corpus if self.dataset else None

    @property
    def is_collection(self) -> bool:
        """Whether queries and judgements are the dataset's, since neither triples nor synthetic queries were named."""
        return self.synthetic is None and self.triples is None

    @property
    def written_split(self) -> str:
        """The split that queries and judgements are written as."""
        return self.split if self.is_collection else TRAINING_SPLIT

    @property
    def has_queries(self) -> bool:
        """Whether anything that was named has queries."""
        return not self.is_collection or (self.dataset is not None and bool(self.dataset.splits))

    @cached_property
    def files(self) -> TripleFiles | None:
        return triple_files(self.triples) if self.triples else None

    @cached_property
    def topics(self) -> Topics:
        """Queries and judgements of the chosen split. Raises ConfigError where there is none."""
        if self.dataset is None:
            raise ConfigError("no queries named: give --triples, --input, or a --dataset that has queries")
        return self.dataset.topics(self.split)

    def examples(self) -> Iterator[Example]:
        """Queries with positives and negatives of the triples; of the synthetic queries or judgements without them."""
        if self.files is not None:
            examples = read_examples(self.files, self.corpus, self._query_text())
        elif self.synthetic is not None:
            examples = self._synthetic_examples()
        else:
            examples = self._judged_examples()
        return self.progress.track(examples, total=None, description="converting", unit="queries")

    def together(self) -> Iterator[Example]:
        """As `examples`, those of one query one after the other."""
        if self._query_by_query:
            return self.examples()
        return regrouped(self.examples(), lambda example: example.query.query_id)

    @cached_property
    def _query_by_query(self) -> bool:
        """Whether the examples of a query are neighbours; only triples may have another order."""
        if self.files is None:
            return True
        if self.files.ids is not None:
            return are_together(triple.query_id for triple in read_triple_ids(self.files.ids))
        return self.files.texts is None or are_together(
            line.partition("\t")[0] for _, line in read_lines(self.files.texts)
        )

    def records(self) -> Iterator[tuple[SyntheticQuery, Document, dict[str, Any]]]:
        """The synthetic queries, each with its document and the JSON object it was read from."""
        if self.synthetic is None:
            raise ConfigError("this format is made of synthetic queries: give them with --input FILE.jsonl")
        for query, record in read_synthetic_records(self.synthetic):
            yield query, self._document(query.doc_id, record), record

    def documents(self) -> Iterator[Document]:
        """The corpus; without one the documents of the examples, each once."""
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
        """The queries of the examples, each once; of the dataset where nothing else was named."""
        if self.is_collection:
            yield from self.topics.as_queries()
            return
        seen = SeenKeys()
        yield from (example.query for example in self.examples() if seen.add(example.query.query_id))

    def judged(self) -> Iterator[JudgedQuery]:
        """That a document answers the query it was written for; the dataset's judgements where nothing was named."""
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
            raise ConfigError("this format is made of rankings: give them with --run FILE")
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
        """What of a dataset's judgements is lost where only relevant pairs are written."""
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
        """The documents. Raises ConfigError where none were named."""
        if self.corpus is None:
            raise ConfigError("this format holds the documents: give them with --dataset NAME or --corpus FILE")
        return self.corpus

    def needed_retriever(self) -> str:
        """The model that weighs words. Raises ConfigError where none was named."""
        if self.retriever is None:
            raise ConfigError("this format holds the word weights of a sparse retriever: name it with --retriever")
        return self.retriever

    def query_text(self) -> Callable[[str], str]:
        """Query id to text. Raises ConfigError where no queries were named."""
        query_text = self._query_text()
        if query_text is None:
            raise ConfigError("this format holds the queries: give them with --input, --dataset or --queries")
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
        """Every split, the chosen one first."""
        splits = sorted(self.dataset.splits, key=lambda split: split != self.split) if self.dataset else []
        return [self.dataset.topics(split) for split in splits] if self.dataset else []

    def _document(self, doc_id: str, record: dict[str, Any]) -> Document:
        if self.corpus is not None:
            return self.corpus[doc_id]
        text = record.get("text") or record.get("doc_text")
        if not isinstance(text, str):
            raise ConfigError(
                f"{self.synthetic}: document {doc_id!r} comes without its text; give the documents with --dataset NAME "
                f"or --corpus FILE"
            )
        return Document(doc_id, text)

    def _judged_examples(self) -> Iterator[Example]:
        corpus = self.needed_corpus()
        for query in self.topics.as_queries():
            for doc_id, grade in self.topics.qrels.get(query.query_id, {}).items():
                if grade > 0:
                    yield Example(query, corpus[doc_id], grade=grade)

    def _synthetic_examples(self) -> Iterator[Example]:
        """One for each document that answers a query; those besides its own come from the corpus."""
        for query, document, _ in self.records():
            written_query = Query(query.query_id, query.text)
            for doc_id, grade in query.positives.items():
                other = doc_id != query.doc_id
                yield Example(written_query, self.needed_corpus()[doc_id] if other else document, grade=grade)


@dataclass(slots=True)
class Written:
    """How many records went into each file, what could not go, by reason, and what of the others could not."""

    counts: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    not_kept: Counter[str] = field(default_factory=Counter)


Reader = Callable[[Path], Iterator[Item]]
Writer = Callable[[Source, Path, Layout, Written], None]


@dataclass(frozen=True, slots=True)
class Format:
    """One toolkit's files.

    `read` is absent where a format is only written. `made_ids` names the ids that the format lacks and an import makes;
    `folder` says that an export is a folder, and `positives_only` that it has pairs that belong together, without
    grades.
    """

    holds: str
    read: Reader | None
    write: Writer
    made_ids: str = ""
    folder: bool = False
    positives_only: bool = False
