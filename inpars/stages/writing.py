"""The loop of generation: documents in, queries out, appended chunk by chunk to a partial file.

The same for all documents of a command, for one of its shards, and for those that a worker of a cluster does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice, tee
from pathlib import Path

from inpars.cluster.shards import BLOCK_ITEMS, Shard, chunks_of, places_of
from inpars.formats import synthetic_query_record
from inpars.generation import GeneratedQuery, Metered, QueryGenerator, generate_each
from inpars.generation.canary import WINDOW, Canary, Tally
from inpars.progress import Progress
from inpars.records import Document, SyntheticQuery
from inpars.remote.names import lasting_name
from inpars.stages.partial import CHUNK_END, chunk_ends, open_partial
from inpars.stages.sharding import own_items
from inpars.storage import read_jsonl, to_json_line

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


def write_queries(
    task: WriteTask, partial: Path, header: str, prompt: str, progress: Progress, canary: Canary | None = None
) -> None:
    """Do what the partial file lacks. Raises BackendError where the canary says that it is of no use."""
    documents, generator, tally = task.documents, task.generator, Tally()
    ends = chunk_ends(STAGE, partial, header, task.total, progress)
    done, chunks = chunks_of(len(documents), task.plan, task.shard, ends=ends, block=task.block)
    if done and isinstance(generator, Metered):
        generator.skipped([documents[place] for place in islice(task.places(), done)])
    chunks, ahead = tee(chunks)
    generated = generate_each(generator, ([documents[place] for place in chunk.places] for chunk in ahead))
    with open_partial(partial, header, ends[done]) as lines, closing(generated):
        if canary is not None and done:
            for record in deque((record for _, record in read_jsonl(partial) if "query" in record), WINDOW):
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
