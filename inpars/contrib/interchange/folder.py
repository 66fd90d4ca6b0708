"""The output of an import: a folder in BEIR's form, with the training data next to it.

    corpus.jsonl queries.jsonl qrels/SPLIT.tsv   `--dataset FOLDER` of every command
    queries.synthetic.jsonl                      `inpars filter --input`
    triples.tsv triples.ids.tsv                  `inpars train --triples`, as texts and as ids
    triples.negatives.jsonl                      where each negative comes from and what it scored, line for line
    margins.tsv                                  GPL's pseudo labels: query, positive, negative, margin
    run.trec                                     rankings

Files without content are not written. Each document and query is written once; if an id comes with a second text, the
first is kept and the second counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from inpars.contrib.interchange.groups import NotTogetherError, SeenKeys
from inpars.contrib.interchange.items import (
    Example,
    Item,
    JudgedQuery,
    Labelled,
    Margin,
    Negative,
    Skipped,
    Synthetic,
    Unkept,
    of_labels,
)
from inpars.errors import DataFormatError
from inpars.io.fields import one_line
from inpars.io.formats import document_record, run_lines, synthetic_query_record
from inpars.io.judgements import QRELS_HEADER, qrel_row
from inpars.io.storage import atomic_writer, to_json_line
from inpars.io.triples import MARGINS, triple_id_lines
from inpars.records import Document, Qrel, Query, ScoredDocument, Triple

CORPUS, QUERIES, SYNTHETIC, RUN = "corpus.jsonl", "queries.jsonl", "queries.synthetic.jsonl", "run.trec"
TRIPLES, TRIPLE_IDS, NEGATIVES = "triples.tsv", "triples.ids.tsv", "triples.negatives.jsonl"


class Folder:
    """A context manager that sorts items into files, complete when the block ends."""

    def __init__(self, folder: Path, origin: str, source: Path) -> None:
        """Write into `folder`; `origin` is the format's name, `source` the input file for messages."""
        self.counts: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.not_kept: Counter[str] = Counter()  # fields, columns and files that were ignored
        self._folder, self._origin, self._source = folder, origin, source
        self._files: dict[str, IO[str]] = {}
        self._open = ExitStack()
        self._ids, self._texts, self._judged, self._ranked = SeenKeys(), SeenKeys(), SeenKeys(), SeenKeys()
        self._grades, self._irrelevant, self._bare, self._labelled = SeenKeys(), SeenKeys(), SeenKeys(), SeenKeys()
        self._ranking: tuple[str, dict[str, float]] = ("", {})
        self._labels: list[Labelled] = []
        self._writers: dict[type, Callable[[Any], None]] = {
            Document: self._document,
            Query: self._query,
            JudgedQuery: self._judgement,
            ScoredDocument: self._scored,
            Triple: self._triple,
            Example: self._example,
            Margin: self._margin,
            Synthetic: self._synthetic,
            Labelled: self._label,
            Skipped: self._skipped,
            Unkept: self._unkept,
        }

    def __enter__(self) -> Folder:
        self._open.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._write_ranking()
            self._write_labels()
        self._open.__exit__(kind, error, trace)

    def add(self, items: Iterable[Item]) -> None:
        for item in items:
            self._writers[type(item)](item)

    def _write(self, name: str, line: str, header: str = "") -> None:
        if name not in self._files:
            self._files[name] = self._open.enter_context(atomic_writer(self._folder / name))
            if header:
                self._files[name].write(header + "\n")
        self._files[name].write(line + "\n")
        self.counts[name] += 1

    def _new(self, kind: str, key: str, text: str) -> bool:
        """Whether an id is new; another text for a known id is counted."""
        fresh, first = self._texts.add(kind, key, text), self._ids.add(kind, key)
        if fresh and not first:
            self.dropped[f"other_text_for_known_{kind}_id"] += 1
        return first

    def _document(self, document: Document) -> None:
        if self._new("document", document.doc_id, f"{document.title}\0{document.text}"):
            self._write(CORPUS, to_json_line(document_record(document)))

    def _query(self, query: Query) -> None:
        if self._new("query", query.query_id, query.text):
            self._write(QUERIES, to_json_line({"_id": query.query_id, "text": query.text}))

    def _judgement(self, judged: JudgedQuery) -> None:
        """Write a judgement of the input. Raises DataFormatError if it contradicts an earlier one."""
        qrel, split = judged.qrel, judged.split
        new_grade = self._grades.add(split, qrel.query_id, qrel.doc_id, str(qrel.relevance))
        if self._new_pair(judged):
            return
        if new_grade:
            problem = f"two judgements of query {qrel.query_id!r} and document {qrel.doc_id!r} disagree"
            raise DataFormatError(f"{problem} in split {split!r}; keep one of them", path=self._source)
        self.dropped["repeated_judgement"] += 1

    def _positive(self, query_id: str, doc_id: str, grade: int = 1) -> None:
        """Judge the positive of an example relevant unless the input already has a judgement of the pair."""
        judged = JudgedQuery(Qrel(query_id, doc_id, grade))
        if not self._new_pair(judged) and (judged.split, query_id, doc_id) in self._irrelevant:
            self.dropped["positive_judged_otherwise"] += 1

    def _new_pair(self, judged: JudgedQuery) -> bool:
        """Write a pair's first judgement; whether this was the first."""
        qrel, split = judged.qrel, judged.split
        new = self._judged.add(split, qrel.query_id, qrel.doc_id)
        if new:
            self._write(f"qrels/{split}.tsv", qrel_row(qrel), QRELS_HEADER)
        if new and qrel.relevance <= 0:
            self._irrelevant.add(split, qrel.query_id, qrel.doc_id)
        return new

    def _scored(self, scored: ScoredDocument) -> None:
        query_id, scores = self._ranking
        if scored.query_id != query_id or not scores:
            self._write_ranking()
            if not self._ranked.add(scored.query_id):
                raise NotTogetherError(scored.query_id, path=self._source)
            self._ranking = (scored.query_id, scores := {})
        if scored.doc_id in scores:
            problem = f"document {scored.doc_id!r} is ranked twice for query {scored.query_id!r}"
            raise DataFormatError(problem, path=self._source)
        scores[scored.doc_id] = scored.score

    def _write_ranking(self) -> None:
        query_id, scores = self._ranking
        for line in run_lines({query_id: scores}, self._origin) if scores else ():
            self._write(RUN, line)

    def _label(self, label: Labelled) -> None:
        if self._labels and self._labels[-1].query != label.query:
            self._write_labels()
        if not self._labels and not self._labelled.add(label.query.query_id):
            raise NotTogetherError(label.query.query_id, path=self._source)
        self._labels.append(label)

    def _write_labels(self) -> None:
        labels, self._labels = self._labels, []
        if labels:
            self.add(of_labels(labels[0].query, ((label.document, label.grade) for label in labels)))

    def _skipped(self, item: Skipped) -> None:
        self.dropped[item.reason] += 1

    def _unkept(self, item: Unkept) -> None:
        self.not_kept[item.what] += 1

    def _triple(self, triple: Triple) -> None:
        for line in triple_id_lines([triple]):
            self._write(TRIPLE_IDS, line)

    def _margin(self, margin: Margin) -> None:
        for line in triple_id_lines([margin.triple]):
            self._write(MARGINS, f"{line}\t{margin.value!r}")

    def _synthetic(self, item: Synthetic) -> None:
        query = item.query
        record = synthetic_query_record(query, item.document)
        self._write(SYNTHETIC, to_json_line({**item.others, **record}))
        if item.document is not None:
            self._document(item.document)
        self._query(Query(query.query_id, query.text))
        for doc_id, grade in query.positives.items():
            self._positive(query.query_id, doc_id, grade)

    def _example(self, example: Example) -> None:
        positive = example.positive
        query = one_line(example.query.text)
        if not query or not positive.full_text.strip():
            self.dropped["empty_text"] += 1
            return
        self._query(example.query)
        self._document(positive)
        self._positive(example.query.query_id, positive.doc_id, example.grade)
        by_document = self._finds(example)
        self._count_bare(example, scored=any(finds[0].reranker_score is not None for finds in by_document.values()))
        for doc_id, finds in by_document.items():
            document = finds[0].document
            self._document(document)
            self._write(NEGATIVES, to_json_line(self._negative_record(example, finds)))
            self._triple(Triple(example.query.query_id, positive.doc_id, doc_id))
            texts = (query, one_line(positive.full_text), one_line(document.full_text))
            self._write(TRIPLES, "\t".join(texts))

    def _count_bare(self, example: Example, *, scored: bool) -> None:
        """Count repeated pairs and positive scores, which our files hold only next to negatives."""
        if not example.negatives and not self._bare.add(example.query.query_id, example.positive.doc_id):
            self.dropped["repeated_pair"] += 1
        if example.positive_reranker_score is not None and not scored:
            self.not_kept["scores of positives without a scored negative"] += 1

    def _finds(self, example: Example) -> dict[str, list[Negative]]:
        """The usable negatives by document, one per source."""
        by_document: dict[str, list[Negative]] = {}
        for negative in self._usable(example):
            finds = by_document.setdefault(negative.document.doc_id, [])
            if any(other.source == negative.source for other in finds):
                self.dropped["repeated_negative"] += 1
            else:
                finds.append(negative)
        return by_document

    def _usable(self, example: Example) -> Iterator[Negative]:
        """The negatives that have text and differ from the positive; the others are counted."""
        same = one_line(example.positive.full_text)
        for negative in example.negatives:
            text = one_line(negative.document.full_text)
            if negative.document.doc_id == example.positive.doc_id or text == same:
                self.dropped["positive_as_negative"] += 1
            elif not text:
                self.dropped["empty_text"] += 1
            else:
                yield negative

    def _negative_record(self, example: Example, finds: list[Negative]) -> dict[str, Any]:
        """The row of a negative; `also` has its ranks in sources after the first."""
        negative, *others = finds
        record: dict[str, Any] = {
            "query_id": example.query.query_id,
            "positive_doc_id": example.positive.doc_id,
            "negative_doc_id": negative.document.doc_id,
            "source": negative.source or self._origin,
            "rank": negative.rank,
            "score": negative.score,
            "positive_score": example.positive_score,
        }
        if negative.reranker_score is not None:
            record["reranker_score"] = negative.reranker_score
            record["positive_reranker_score"] = example.positive_reranker_score
        if example.grade != 1:
            record["positive_grade"] = example.grade
        if others:
            record["also"] = {other.source or self._origin: other.rank for other in others}
        return record
