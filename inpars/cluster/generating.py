"""Generation by the workers of a cluster: each has its own generator and corpus, and writes shards of planned blocks.

Blocks, plans and chunks are those of one process, and so are the bytes. What travels for a shard are the places of its
block's documents in the corpus' file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from inpars.cluster.shard_folder import ShardFolder
from inpars.cluster.shards import BLOCK_ITEMS, Shard, pack_places
from inpars.cluster.work import WORKERS_RESULT, do_shards, shard_size, worker_reports
from inpars.corpus import Corpus, Picked
from inpars.documents.selection import Selection
from inpars.errors import StaleInputError
from inpars.generation import GeneratedQuery, QueryGenerator, generate_each
from inpars.generation.canary import Canary
from inpars.progress import SILENT, Progress
from inpars.prompting.prompts import PromptSource
from inpars.records import Document
from inpars.stages.generating import GenerateOptions
from inpars.stages.partial import write_in_order
from inpars.stages.stage import Outcome
from inpars.stages.writing import WriteTask, write_queries
from inpars.storage import write_lines


def generate_on_cluster(
    chosen: Selection,
    corpus: Corpus,
    prompt: PromptSource,
    options: GenerateOptions,
    make_generator: Callable[[], QueryGenerator],
    output: Path,
    header: str,
    progress: Progress,
) -> Outcome:
    """Write `output` from shards; they stay until its manifest is there."""
    total, places = len(chosen.documents), places_in(chosen.documents)
    folder = ShardFolder.open(output.absolute(), header, shard_size(total, options), total, progress)
    job = GenerateJob(corpus.path.absolute(), corpus.sha256, prompt, options, make_generator, header)

    def payload(shard: int) -> GenerateShard:
        block = folder.block(shard)
        return GenerateShard(block.start, places[block.start : block.stop].copy(), folder.part(shard))

    description = f"generate with {options.model}"
    do_shards(job, folder, payload, options, description=description, unit="documents", progress=progress)
    records = write_lines(output, folder.merged())
    reports = worker_reports(folder.marks())
    results = {"documents": total, WORKERS_RESULT: reports}
    return Outcome(records, dict(chosen.dropped), results, reports[0]["device"])


def places_in(documents: Sequence[Document]) -> npt.NDArray[np.integer[Any]]:
    """The places in the corpus' file of documents that were chosen from it."""
    if not isinstance(documents, Picked):
        raise TypeError("the documents are not those of a corpus on disk")
    return documents.places


def open_corpus(path: Path, sha256: str) -> Corpus:
    """The corpus as a worker sees it. Raises StaleInputError where it is another one there."""
    corpus = Corpus(path)
    if corpus.sha256 != sha256:
        raise StaleInputError(f"{path} has other documents on a worker's machine; let all machines see one file")
    return corpus


@dataclass(frozen=True, slots=True)
class GenerateShard:
    """What travels for one shard."""

    block: int  # the first of its documents among those chosen, which tells it from others
    places: npt.NDArray[np.integer[Any]]
    part: Shard


@dataclass(frozen=True, slots=True)
class GenerateJob:
    """What each worker is told."""

    corpus: Path
    sha256: str
    prompt: PromptSource
    options: GenerateOptions
    make_generator: Callable[[], QueryGenerator]
    header: str

    def open(self) -> GenerateWorker:
        """Open the corpus, load the generator."""
        return GenerateWorker(self)


class GenerateWorker:
    """A generator in a worker's process."""

    def __init__(self, job: GenerateJob) -> None:
        self._job = job
        self._placed = open_corpus(job.corpus, job.sha256).in_file_order()
        self._generator = PlannedOnce(job.make_generator())
        self._canary = Canary(example.query for example in job.prompt.examples) if job.options.canary else None
        self.device = self._generator.device

    def write(self, shard: GenerateShard, partial: Path, output: Path) -> Mapping[str, Any]:
        """The queries of one shard, in the order of the corpus."""
        documents = Picked(self._placed.__getitem__, shard.places)
        self._generator.block = shard.block
        task = WriteTask(documents, self._generator, shard.part, BLOCK_ITEMS, 0)
        write_queries(task, partial, self._job.header, self._job.prompt.name, SILENT, self._canary)
        places = list(task.places())
        counts = write_in_order(partial, output, (documents[place].doc_id for place in places))
        return {"places": pack_places(zip(places, counts, strict=True))}


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
