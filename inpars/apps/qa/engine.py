"""One thread-safe object that searches and answers, with models loaded once.

    with open_engine(EngineOptions(retriever="models/retriever"), corpus=corpus) as engine:
        engine.search(["what is duck typing"], 10)
        engine.ask("what is duck typing")

An engine has several systems, which can be compared on the same query: `hybrid` (everything available), `dense` (the
retriever), `base` (a second retriever, such as the untuned one) and `bm25`; or `measured`, the system that a run
measured, and each of its first stages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Literal, Protocol, TypeAlias

from inpars.apps.qa.records import NOTHING, Answer, AnswerKind, Hit
from inpars.apps.qa.sentences import query_spans
from inpars.errors import ConfigError, UnknownNameError
from inpars.fusion.gate import Coverage
from inpars.fusion.system import BM25, Reranking, SearchSystem
from inpars.io.corpus import Documents
from inpars.io.formats import as_stored
from inpars.io.runs import completed, cut, fuse_z_scores, rank
from inpars.protocols import PairScorer, TextEncoder
from inpars.records import FullText, Query, Run
from inpars.rerankers.rerank import fuse_with_first_stage

SystemName: TypeAlias = Literal["hybrid", "dense", "base", "bm25"]
Filters: TypeAlias = Mapping[str, str]
"""Metadata fields and their required values, where `*` matches any text: `source` -> `*.pdf`."""

RERANKER, LATE_INTERACTION = "reranker", "maxsim"  # keys of `Hit.scores`
DEFAULT_K = 10
DEFAULT_SOURCES = 5
MAX_DOCUMENTS = 20_000  # examined to list the metadata fields


class Part(Protocol):
    """One first stage; thread-safe."""

    name: str

    def search(self, queries: Sequence[Query], k: int, filters: Filters) -> Run:
        """The k best documents of each query."""


class Reader(Protocol):
    """Finds an extractive answer in hits; thread-safe."""

    name: str
    closest: bool  # only finds the sentence closest to the question: `Answer.closest`

    def read(self, question: str, hits: Sequence[Hit]) -> Answer:
        """The best span of all hits as an extractive answer; unanswered below the reader's threshold."""


class Writer(Protocol):
    """Generates an answer from hits; thread-safe."""

    name: str

    def write(self, question: str, hits: Sequence[Hit]) -> Answer:
        """A generated answer that cites hits by number; unanswered if the model says that it does not know."""

    def close(self) -> None:
        """Release connections."""


@dataclass(frozen=True, slots=True)
class System:
    """First stages, fused by z-scores if there are several, and optional rerankers."""

    parts: tuple[Part, ...]
    description: str  # names the models
    rerankers: tuple[PairScorer, ...] = ()  # at most one, unless `measured` has several
    measured: SearchSystem | None = None  # gives weights and depths; default: equal weights, the engine's depth
    coverage: Coverage | None = None  # for a measured system with a gate


class Engine:
    """Searches a collection with several systems, and answers questions from the results."""

    def __init__(
        self,
        documents: Documents,
        systems: Mapping[str, System],
        *,
        encoders: Mapping[str, TextEncoder] | None = None,
        reranker: PairScorer | None = None,
        reader: Reader | None = None,
        writer: Writer | None = None,
        notes: Sequence[str] = (),
        depth: int = 50,
    ) -> None:
        """`systems` are ordered, best first; the first is the default. `notes` say what is missing, such as Java.

        `encoders` are bi-encoders by the name of their system; `depth` hits of each part are fused and reranked.
        """
        if not systems:
            raise ConfigError("there is nothing to search with; name a retriever, or install BM25")
        self.documents, self.systems, self.notes = documents, dict(systems), tuple(notes)
        self.encoders, self.reranker = dict(encoders or {}), reranker
        self.reader, self.writer = reader, writer
        self._depth = depth

    @property
    def default_system(self) -> str:
        """The best system."""
        return next(iter(self.systems))

    def search(
        self, queries: Sequence[str], k: int = DEFAULT_K, *, system: str | None = None, filters: Filters = NOTHING
    ) -> list[list[Hit]]:
        """The k best hits per query, in the order of the queries; one batch through every model.

        Raises UnknownNameError for an unknown system or a filter on a field that no document has, ConfigError for k
        below 1.
        """
        if k < 1:
            raise ConfigError(f"k is {k}; it must be at least 1")
        chosen = self._system(system)
        numbered = [Query(str(number), text) for number, text in enumerate(queries)]
        depth = max(k, self._depth) if chosen.measured is None else chosen.measured.retrieved(k)
        runs = {part.name: part.search(numbered, depth, filters) for part in chosen.parts}
        order, margins = self._ordered(chosen, numbered, runs, k)
        runs |= margins
        if not any(order.values()):
            self._check_fields(filters)
        return [self._hits(query, order.get(query.query_id, {}), runs, k) for query in numbered]

    def ask(
        self,
        question: str,
        *,
        kind: AnswerKind = "extractive",
        k: int = DEFAULT_SOURCES,
        system: str | None = None,
        filters: Filters = NOTHING,
    ) -> Answer:
        """An answer from the k best hits alone. Raises ConfigError without a reader or writer for that kind."""
        if not question.strip():
            raise ConfigError("the question is empty; ask something")
        return self.answer_from(question, self.search([question], k, system=system, filters=filters)[0], kind=kind)

    def answer_from(self, question: str, hits: Sequence[Hit], *, kind: AnswerKind = "extractive") -> Answer:
        """As `ask`, from given hits."""
        if kind == "extractive":
            if self.reader is None:
                raise ConfigError("this engine reads no answers; open it with a reader")
            return self.reader.read(question, hits)
        if self.writer is None:
            raise ConfigError("this engine writes no answers; name a language model with --model or a --base-url")
        return self.writer.write(question, hits)

    def close(self) -> None:
        """Close the writer's connections and release models and indexes; the engine cannot be used afterwards."""
        if self.writer is not None:
            self.writer.close()
        self.systems, self.encoders, self.reranker, self.reader, self.writer = {}, {}, None, None, None

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    def _fields(self) -> frozenset[str]:
        """The metadata fields of the first documents."""
        return frozenset(name for document in islice(self.documents, MAX_DOCUMENTS) for name in document.metadata)

    def _check_fields(self, filters: Filters) -> None:
        """Raise UnknownNameError for a field that no document has; collections too large to examine are not checked."""
        if filters and len(self.documents) <= MAX_DOCUMENTS:
            for name in filters:
                if name not in self._fields:
                    raise UnknownNameError("field to filter by", name, self._fields, "no document has it")

    def _system(self, name: str | None) -> System:
        if not self.systems:
            raise ConfigError("this engine is closed; open it again to search")
        if name is None:
            name = self.default_system
        if name not in self.systems:
            raise UnknownNameError("system", name, self.systems)
        return self.systems[name]

    def _ordered(
        self, system: System, queries: Sequence[Query], runs: Mapping[str, Run], k: int
    ) -> tuple[Run, dict[str, Run]]:
        """The final run, and each reranker's scores of the top documents."""
        measured, shares = system.measured, None
        if measured is None:
            first, depth = list(runs.values()), max(k, self._depth)
            lexical = [name == BM25 for name in runs]
            run = first[0] if len(first) == 1 else fuse_z_scores(completed(first, lexical, depth), depth)
        else:  # round as in run files, which were measured: it decides the order of ties
            runs = {name: as_stored(run) for name, run in runs.items()}
            texts = {query.query_id: query.text for query in queries}
            shares = measured.shares(texts, runs, system.coverage, lambda doc_id: self.documents[doc_id].full_text)
            run = measured.fuse(runs, measured.fused(k), shares)
        margins: dict[str, Run] = {}
        if measured is None:
            if system.rerankers:
                margins[RERANKER] = self._margins(system.rerankers[0], queries, cut(run, self._depth))
                run = fuse_with_first_stage(run, margins[RERANKER], depth=self._depth)
            return run, margins
        scorers = iter(system.rerankers)  # in the order of `measured.rerankings`

        def score(reranking: Reranking, run: Run) -> Run:
            name = LATE_INTERACTION if reranking is measured.late_interaction else RERANKER
            margins[name] = self._margins(next(scorers), queries, cut(run, reranking.depth))
            return margins[name]

        return measured.rerank(run, score, shares), margins

    def _margins(self, reranker: PairScorer, queries: Sequence[Query], top: Run) -> Run:
        texts = {query.query_id: query.text for query in queries}
        pairs = [(query_id, doc_id) for query_id, scores in top.items() for doc_id in scores]
        scores = reranker.score([(texts[q], FullText.of(self.documents[d])) for q, d in pairs])
        margins: Run = {query_id: {} for query_id in top}
        for (query_id, doc_id), score in zip(pairs, scores, strict=True):
            margins[query_id][doc_id] = score
        return margins

    def _hits(self, query: Query, scores: Mapping[str, float], runs: Mapping[str, Run], k: int) -> list[Hit]:
        scores_of = {name: run.get(query.query_id, {}) for name, run in runs.items()}
        orders = {
            name: {doc_id: number for number, (doc_id, _) in enumerate(rank(scored), start=1)}
            for name, scored in scores_of.items()
        }
        hits = []
        for doc_id, score in rank(scores, k):
            document = self.documents[doc_id]
            part_scores = {name: scored[doc_id] for name, scored in scores_of.items() if doc_id in scored}
            ranks = {name: order[doc_id] for name, order in orders.items() if doc_id in order}
            hits.append(Hit(document, score, part_scores, query_spans(query.text, document.text), ranks))
        return hits
