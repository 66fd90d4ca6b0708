"""Queries that an earlier output of the same settings holds for some of the documents are not written again."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from itertools import tee
from pathlib import Path

from inpars.generation import GeneratedQuery, QueryGenerator, generate_each
from inpars.io.formats import read_synthetic_queries
from inpars.io.manifest import FileStamp, read_manifest, why_stale
from inpars.options import result_settings
from inpars.records import Document, LogProbKind

SIZE = "max_documents"  # the only setting that may differ


@dataclass(frozen=True, slots=True)
class KnownQueries:
    """Who wrote them, and what was written for each document."""

    name: str
    device: str
    log_prob_kind: LogProbKind
    by_document: Mapping[str, list[GeneratedQuery]]
    stamp: FileStamp


def known_queries(path: Path | None, options: object, inputs: Mapping[str, FileStamp]) -> KnownQueries | None:
    """The queries of an output; None where it has none, or its settings or inputs are others."""
    manifest = None if path is None else read_manifest(path)
    if path is None or manifest is None:
        return None
    settings = {**result_settings(options), SIZE: manifest.arguments.get(SIZE)}
    if why_stale(path, manifest.stage, settings, inputs) is not None:
        return None
    per_document: dict[str, list[GeneratedQuery]] = {}
    queries = list(read_synthetic_queries(path))
    for query in queries:
        per_document.setdefault(query.doc_id, []).append(
            GeneratedQuery(
                *(query.text, query.token_ids, query.token_log_probs, query.stop_log_prob, query.finish_reason),
                query.log_prob_kind,
            )
        )
    if not queries:
        return None
    return KnownQueries(queries[0].model, manifest.device, queries[0].log_prob_kind, per_document, manifest.output)


class Continued:
    """A generator that gives what is known first; the model is loaded once something else is wanted."""

    def __init__(self, known: KnownQueries, make_generator: Callable[[], QueryGenerator]) -> None:
        self._known, self._make_generator = known.by_document, make_generator
        self.name, self.device, self.log_prob_kind = known.name, known.device, known.log_prob_kind

    def plan(self, documents: Sequence[Document]) -> list[list[int]]:
        """One chunk of all that is known, then those of the others as their generator plans them."""
        known: list[int] = []
        others: list[int] = []
        for position, document in enumerate(documents):
            (known if document.doc_id in self._known else others).append(position)
        chunks = self._generator.plan([documents[position] for position in others]) if others else []
        return [*([known] if known else []), *([others[index] for index in chunk] for chunk in chunks)]

    def generate(self, documents: Sequence[Document]) -> list[list[GeneratedQuery]]:
        return self._remembered(documents) or self._generator.generate(documents)

    def generate_each(self, chunks: Iterable[Sequence[Document]]) -> Iterator[list[list[GeneratedQuery]]]:
        """The queries of each chunk, in order."""
        ahead, behind = tee(chunks)
        with closing(self._written(chunk for chunk in ahead if not self._remembered(chunk))) as written:
            for chunk in behind:
                yield self._remembered(chunk) or next(written)

    def _written(self, chunks: Iterable[Sequence[Document]]) -> Generator[list[list[GeneratedQuery]]]:
        yield from generate_each(self._generator, chunks)

    def _remembered(self, documents: Sequence[Document]) -> list[list[GeneratedQuery]]:
        """The queries of a chunk that is known; empty for another."""
        return [self._known[document.doc_id] for document in documents if document.doc_id in self._known]

    @cached_property
    def _generator(self) -> QueryGenerator:
        return self._make_generator()
