"""Generates queries in planned chunks; a canary stops once they are unusable."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from itertools import tee
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from inpars.cache import canonical_name
from inpars.generation import GeneratedQuery, PaidGenerator, QueryGenerator, ReportingGenerator, generate_each
from inpars.generation.degeneration_monitor import WINDOW, Canary, Tally
from inpars.io.corpus import SelectedDocuments, open_corpus
from inpars.io.formats import read_synthetic_queries, synthetic_query_record
from inpars.io.manifest import FileStamp, read_manifest, why_stale
from inpars.options import result_settings
from inpars.prompts.mixture import PromptSource
from inpars.records import Document, LogProbKind, SyntheticQuery
from inpars.stages.chunk_loop import Computed
from inpars.stages.partial import Partial, write_in_order
from inpars.stages.shards import BLOCK_ITEMS, Chunk, Plan, Shard, own_items, positions_of

SIZE = "max_documents"  # the only setting that may differ from reused queries


class QueryWriting:
    """Documents to generate queries for; a server's responses are independent, so its whole shard is one block."""

    unit, counted = "documents", 0
    sums: Mapping[str, float] = MappingProxyType({})

    def __init__(
        self,
        documents: Sequence[Document],
        generator: QueryGenerator,
        prompt: PromptSource,
        canary: Canary | None,
        part: Shard | None = None,
    ) -> None:
        self._documents, self._generator, self._prompt, self._canary = documents, generator, prompt, canary
        self.total, self.description = len(documents), f"generate with {generator.name}"
        self.device, self.block = generator.device, BLOCK_ITEMS
        self._paid = generator if isinstance(generator, PaidGenerator) else None
        if self._paid is not None:
            self.block = max(self.total, 1)
        self._items = own_items(self.total, part)

    def plan(self, block: range) -> list[list[int]]:
        """The generator's chunks; for a server, one plan of the shard's documents alone."""
        if self._paid is None:
            return self._generator.plan(self._documents[block.start : block.stop])
        items = self._items
        chunks = self._generator.plan(self._documents[items.start : items.stop])
        within = [[items.start + position for position in chunk] for chunk in chunks]
        return [list(range(items.start)), *within, list(range(items.stop, self.total))]

    def compute(self, chunks: Iterator[Chunk], saved: Partial, done: int) -> Computed:
        """Queries of each chunk. Raises BackendError if the canary finds them unusable."""
        canary, tally = self._canary, Tally()
        if done and self._paid is not None:
            self._paid.skipped(self._documents[self._items.start : self._items.start + done])
        if canary is not None and done:
            for record in deque((record for _, record in saved.records() if "query" in record), WINDOW):
                canary.watch(record)  # queries of the interrupted run
        if isinstance(self._generator, ReportingGenerator) and len(self._items) == self.total:  # chunks are whole

            def count(documents: int) -> None:
                self.counted += documents
                saved.progress.advance(documents, str(tally))

            self._generator.on_finished = count
        chunks, ahead = tee(chunks)
        texts = ([self._documents[position] for position in chunk.positions] for chunk in ahead)
        with closing(generate_each(self._generator, texts)) as generated:
            for chunk, generated_queries in zip(chunks, generated, strict=True):
                answers = zip(chunk.shard_positions, generated_queries[chunk.first : chunk.stop], strict=True)
                written = [
                    (query, position) for position, queries in answers for query in self._synthetic(position, queries)
                ]
                records = [synthetic_query_record(query, self._documents[position]) for query, position in written]
                tally.add([query for query, _ in written])
                yield records, f"{self._paid.status()}, {tally}" if self._paid else str(tally)
                self.counted = 0
                if canary is not None:
                    for record in records:
                        canary.watch(record)
                    canary.check()

    def write(self, part: Shard | None, plan: Plan, saved: Partial, output: Path) -> list[tuple[int, int]]:
        positions = list(positions_of(self.total, plan, part, block=self.block))
        counts = write_in_order(saved.path, output, (self._documents[position].doc_id for position in positions))
        return list(zip(positions, counts, strict=True))

    def _synthetic(self, position: int, queries: Sequence[GeneratedQuery]) -> Iterator[SyntheticQuery]:
        doc_id, generator = self._documents[position].doc_id, self._generator
        for number, query in enumerate(queries):
            yield SyntheticQuery(
                query_id=f"{doc_id}-q{number}",
                doc_id=doc_id,
                text=query.text,
                token_log_probs=query.token_log_probs,
                stop_log_prob=query.stop_log_prob,
                finish_reason=query.finish_reason,
                log_prob_kind=query.log_prob_kind or generator.log_prob_kind,
                prompt=self._prompt.name_for(doc_id),
                model=canonical_name(generator.name),
                token_ids=query.token_ids,
            )


def canary_of(prompt: PromptSource) -> Canary:
    """A canary that also watches for copies of the prompt's examples."""
    return Canary(example.query for example in prompt.examples)


class QueryBlocks:
    """A generator in a worker's process, for documents by their positions in the corpus file."""

    def __init__(
        self, corpus: tuple[Path, str], prompt: PromptSource, make: Callable[[], QueryGenerator], canary: bool
    ) -> None:
        self._documents = open_corpus(*corpus).in_file_order()
        self._generator, self._prompt = make(), prompt
        self._canary = canary_of(prompt) if canary else None
        self.device = self._generator.device

    def __call__(self, items: npt.NDArray[np.integer[Any]]) -> QueryWriting:
        documents = SelectedDocuments(self._documents.__getitem__, items)
        return QueryWriting(documents, self._generator, self._prompt, self._canary)


def positions_in(documents: Sequence[Document]) -> npt.NDArray[np.integer[Any]]:
    """The positions of chosen documents in the corpus file."""
    if not isinstance(documents, SelectedDocuments):
        raise TypeError("the documents are not those of a corpus on disk")
    return documents.positions


@dataclass(frozen=True, slots=True)
class KnownQueries:
    """Queries of an earlier output by document, and the generator that wrote them."""

    name: str
    device: str
    log_prob_kind: LogProbKind
    by_document: Mapping[str, list[GeneratedQuery]]
    stamp: FileStamp


def known_queries(path: Path | None, options: object, inputs: Mapping[str, FileStamp]) -> KnownQueries | None:
    """The queries of an output; None if there are none or if settings or inputs differ."""
    if path is None or (manifest := read_manifest(path)) is None:
        return None
    settings = {**result_settings(options), SIZE: manifest.arguments.get(SIZE)}
    if why_stale(path, manifest.stage, settings, inputs) is not None:
        return None
    by_document: dict[str, list[GeneratedQuery]] = {}
    queries = list(read_synthetic_queries(path))
    for query in queries:
        by_document.setdefault(query.doc_id, []).append(
            GeneratedQuery(
                *(query.text, query.token_ids, query.token_log_probs, query.stop_log_prob, query.finish_reason),
                query.log_prob_kind,
            )
        )
    if not queries:
        return None
    return KnownQueries(queries[0].model, manifest.device, queries[0].log_prob_kind, by_document, manifest.output)


class Continued:
    """A generator that reuses known queries first; it loads the model only for other documents."""

    def __init__(self, known: KnownQueries, make_generator: Callable[[], QueryGenerator]) -> None:
        self._known, self._make_generator = known.by_document, make_generator
        self.name, self.device, self.log_prob_kind = known.name, known.device, known.log_prob_kind
        self.on_finished: Callable[[int], None] | None = None

    def plan(self, documents: Sequence[Document]) -> list[list[int]]:
        """One chunk of all known documents, then the generator's chunks of the others."""
        known: list[int] = []
        others: list[int] = []
        for position, document in enumerate(documents):
            (known if document.doc_id in self._known else others).append(position)
        chunks = self._generator.plan([documents[position] for position in others]) if others else []
        return [*([known] if known else []), *([others[index] for index in chunk] for chunk in chunks)]

    def generate(self, documents: Sequence[Document]) -> list[list[GeneratedQuery]]:
        return self._known_queries(documents) or self._generator.generate(documents)

    def generate_each(self, chunks: Iterable[Sequence[Document]]) -> Iterator[list[list[GeneratedQuery]]]:
        ahead, behind = tee(chunks)
        with closing(self._written(chunk for chunk in ahead if not self._known_queries(chunk))) as written:
            for chunk in behind:
                yield self._known_queries(chunk) or next(written)

    def _written(self, chunks: Iterable[Sequence[Document]]) -> Generator[list[list[GeneratedQuery]]]:
        yield from generate_each(self._generator, chunks)

    def _known_queries(self, documents: Sequence[Document]) -> list[list[GeneratedQuery]]:
        """The queries of a known chunk; empty for others."""
        return [self._known[document.doc_id] for document in documents if document.doc_id in self._known]

    @cached_property
    def _generator(self) -> QueryGenerator:
        generator = self._make_generator()
        if isinstance(generator, ReportingGenerator):
            generator.on_finished = self._report
        return generator

    def _report(self, documents: int) -> None:
        if self.on_finished is not None:  # set once the model is loaded
            self.on_finished(documents)
