"""The loop of generation: documents in, queries out, appended chunk by chunk to a partial file.

The same for all documents of a command, for one of its shards, and for the shards of a cluster's workers. Blocks, plans
and chunks of these are those of one process, and so are the bytes; what travels for a shard are the places of its
block's documents in the corpus' file.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice, tee
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from inpars.cache import lasting_name
from inpars.corpus import Corpus, Picked, open_corpus
from inpars.documents.selection import Selection
from inpars.formats import synthetic_query_record
from inpars.generation import GeneratedQuery, Metered, QueryGenerator, generate_each
from inpars.generation.canary import WINDOW, Canary, Tally
from inpars.progress import SILENT, Progress
from inpars.prompting.prompts import PromptSource
from inpars.records import Document, SyntheticQuery
from inpars.stages.partial import CHUNK_END, Partial, write_in_order
from inpars.stages.shard_folder import ShardFolder
from inpars.stages.sharding import own_items
from inpars.stages.shards import BLOCK_ITEMS, Shard, chunks_of, pack_places, places_of
from inpars.stages.stage import Outcome
from inpars.stages.workers import WORKERS_RESULT, Workers, do_shards, shard_size, worker_reports
from inpars.storage import to_json_line, write_lines

STAGE = "generate"


@dataclass(frozen=True, slots=True)
class WriteTask:
    """Documents to write for, and the shard of them that is done here."""

    documents: Sequence[Document]
    generator: QueryGenerator
    shard: Shard | None
    block: int  # documents that are planned together
    first: int  # the place of the first one among those chosen

    @classmethod
    def of(cls, documents: Sequence[Document], generator: QueryGenerator, shard: Shard | None) -> WriteTask:
        """A server's answers do not depend on each other: its shard is a slice, asked for as a whole and once."""
        if not isinstance(generator, Metered):
            return cls(documents, generator, shard, BLOCK_ITEMS, 0)
        own = own_items(len(documents), shard)
        return cls(documents[own.start : own.stop], generator, None, max(len(own), 1), own.start)

    def plan(self, block: range) -> list[list[int]]:
        """A block's chunks."""
        return self.generator.plan(self.documents[block.start : block.stop])

    def places(self) -> Iterator[int]:
        """Its documents, ascending."""
        return places_of(len(self.documents), self.plan, self.shard, block=self.block)

    @property
    def total(self) -> int:
        """How many they are."""
        return len(own_items(len(self.documents), self.shard))


def write_part(
    task: WriteTask, partial: Partial, output: Path, prompt: str, canary: Canary | None
) -> list[tuple[int, int]]:
    """Write the task's queries in the order of the corpus; (place, queries there) of its documents."""
    write_queries(task, partial, prompt, canary)
    places = list(task.places())
    counts = write_in_order(partial.path, output, (task.documents[place].doc_id for place in places))
    return list(zip(places, counts, strict=True))


def write_queries(task: WriteTask, partial: Partial, prompt: str, canary: Canary | None = None) -> None:
    """Do what the partial file lacks. Raises BackendError where the canary says that it is of no use."""
    documents, generator, tally, progress = task.documents, task.generator, Tally(), partial.progress
    ends = partial.chunk_ends(task.total)
    done, chunks = chunks_of(len(documents), task.plan, task.shard, ends=ends, block=task.block)
    if done and isinstance(generator, Metered):
        generator.skipped([documents[place] for place in islice(task.places(), done)])
    chunks, ahead = tee(chunks)
    generated = generate_each(generator, ([documents[place] for place in chunk.places] for chunk in ahead))
    with partial.append(ends[done]) as lines, closing(generated):
        if canary is not None and done:
            for record in deque((record for _, record in partial.records() if "query" in record), WINDOW):
                canary.watch(record)  # what an interrupted run wrote need not be written again to be judged
        track = progress.track(
            chunks, total=task.total, description=f"generate with {generator.name}", unit="documents", done=done
        )
        for chunk, of_chunk in zip(track, generated, strict=True):
            answers = of_chunk[chunk.first : chunk.stop]
            written = [
                (query, documents[place])
                for place, queries in zip(chunk.own, answers, strict=True)
                for query in _synthetic(documents[place], queries, prompt, generator)
            ]
            records = [synthetic_query_record(query, document) for query, document in written]
            lines.append(map(to_json_line, [*records, {CHUNK_END: len(chunk.own)}]))
            tally.add([query for query, _ in written])
            status = f"{generator.status()}, " if isinstance(generator, Metered) else ""
            progress.advance(len(chunk.own), f"{status}{tally}")
            if canary is not None:
                for record in records:
                    canary.watch(record)
                canary.check()


def write_by_workers(
    workers: Workers,
    chosen: Selection,
    corpus: Corpus,
    prompt: PromptSource,
    make_generator: Callable[[], QueryGenerator],
    output: Path,
    header: str,
    *,
    model: str,
    canary: bool,
    progress: Progress,
) -> Outcome:
    """Write `output` from shards; they stay until its manifest is there."""
    total, places = len(chosen.documents), places_in(chosen.documents)
    folder = ShardFolder.open(output.absolute(), header, shard_size(total, workers), total, progress)
    place = corpus.path.absolute(), corpus.sha256
    make = functools.partial(GenerateWorker, place, prompt, make_generator, header, canary)

    def payload(shard: int) -> GenerateShard:
        block = folder.block(shard)
        return GenerateShard(block.start, places[block.start : block.stop].copy(), folder.part(shard))

    description = f"generate with {model}"
    do_shards(make, folder, payload, workers, description=description, unit="documents", progress=progress)
    records, reports = write_lines(output, folder.merged()), worker_reports(folder.marks())
    results = {"documents": total, WORKERS_RESULT: reports}
    return Outcome(records, dict(chosen.dropped), results, reports[0]["device"])


def places_in(documents: Sequence[Document]) -> npt.NDArray[np.integer[Any]]:
    """The places in the corpus' file of documents that were chosen from it."""
    if not isinstance(documents, Picked):
        raise TypeError("the documents are not those of a corpus on disk")
    return documents.places


@dataclass(frozen=True, slots=True)
class GenerateShard:
    """What travels for one shard."""

    block: int  # the first of its documents among those chosen, which tells it from others
    places: npt.NDArray[np.integer[Any]]
    part: Shard


class GenerateWorker:
    """A generator in a worker's process."""

    def __init__(
        self,
        corpus: tuple[Path, str],
        prompt: PromptSource,
        make_generator: Callable[[], QueryGenerator],
        header: str,
        canary: bool,
    ) -> None:
        self._placed = open_corpus(*corpus).in_file_order()
        self._generator, self._header, self._prompt = PlannedOnce(make_generator()), header, prompt.name
        self._canary = Canary(example.query for example in prompt.examples) if canary else None
        self.device = self._generator.device

    def write(self, shard: GenerateShard, partial: Path, output: Path) -> Mapping[str, Any]:
        """The queries of one shard, in the order of the corpus."""
        self._generator.block = shard.block
        documents = Picked(self._placed.__getitem__, shard.places)
        task = WriteTask(documents, self._generator, shard.part, BLOCK_ITEMS, 0)
        saved = Partial(STAGE, partial, self._header, SILENT)
        return {"places": pack_places(write_part(task, saved, output, self._prompt, self._canary))}


class PlannedOnce:
    """A generator that remembers the plan of the latest block, since a worker has several shards of one."""

    def __init__(self, generator: QueryGenerator) -> None:
        self._generator, self._planned, self.block = generator, -1, 0
        self._plan: list[list[int]] = []
        self.name, self.log_prob_kind, self.device = generator.name, generator.log_prob_kind, generator.device

    def plan(self, documents: Sequence[Document]) -> list[list[int]]:
        """The plan of `block`, whose documents these are."""
        if self._planned != self.block:
            self._plan, self._planned = self._generator.plan(documents), self.block
        return self._plan

    def generate(self, documents: Sequence[Document]) -> list[list[GeneratedQuery]]:
        """The generator's own."""
        return self._generator.generate(documents)

    def generate_each(self, chunks: Iterable[Sequence[Document]]) -> Iterator[list[list[GeneratedQuery]]]:
        """The generator's own."""
        return generate_each(self._generator, chunks)


def _synthetic(
    document: Document, queries: Sequence[GeneratedQuery], prompt: str, generator: QueryGenerator
) -> list[SyntheticQuery]:
    return [
        SyntheticQuery(
            query_id=f"{document.doc_id}-q{number}",
            doc_id=document.doc_id,
            text=query.text,
            token_log_probs=query.token_log_probs,
            stop_log_prob=query.stop_log_prob,
            finish_reason=query.finish_reason,
            log_prob_kind=query.log_prob_kind or generator.log_prob_kind,
            prompt=prompt,
            model=lasting_name(generator.name),
            token_ids=query.token_ids,
        )
        for number, query in enumerate(queries)
    ]
