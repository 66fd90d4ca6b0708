"""Log-probabilities by the workers of a cluster: each has its scorer and reads its queries where they lie.

Blocks, plans and chunks are those of one process, and so are the bytes. What travels for a shard are the bytes of the
file that its block's lines begin at, and the queries' ids.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inpars.cluster.generating import open_corpus
from inpars.cluster.shard_folder import ShardFolder
from inpars.cluster.shards import Shard, pack_places
from inpars.cluster.work import WORKERS_RESULT, do_shards, shard_size, worker_reports
from inpars.corpus import Corpus
from inpars.errors import ConfigError
from inpars.formats import read_placed_synthetic_records, synthetic_query
from inpars.packing import is_packed
from inpars.progress import SILENT, Progress
from inpars.prompting.templates import PromptSource
from inpars.stages.scoring import ScoreOptions, ScoreTask, score_task, write_scores
from inpars.stages.stage import Outcome
from inpars.storage import read_json_at, write_lines

if TYPE_CHECKING:
    from inpars.generation.teacher_forcing import TeacherForcing


def score_on_cluster(
    source: Path,
    corpus: Corpus | None,
    prompt: PromptSource,
    options: ScoreOptions,
    make_scorer: Callable[[], TeacherForcing],
    output: Path,
    header: str,
    progress: Progress,
) -> Outcome:
    """Write `output` from shards; they stay until its manifest is there. Raises ConfigError for packed queries."""
    if is_packed(source):
        raise ConfigError(f"{source}: workers read from the middle of a file; unpack it for --engine ray")
    starts, query_ids = _lines(source, options.limit)
    total = len(query_ids)
    if not total:
        raise ConfigError(f"{source}: there are no queries to score")
    folder = ShardFolder.open(output.absolute(), header, shard_size(total, options), total, progress)
    documents = None if corpus is None else (corpus.path.absolute(), corpus.sha256)
    job = ScoreJob(source.absolute(), documents, prompt.name, make_scorer, header)

    def payload(shard: int) -> ScoreShard:
        block = folder.block(shard)
        own = slice(block.start, block.stop)
        return ScoreShard(block.start, starts[own], query_ids[own], folder.part(shard))

    description = f"score with {options.model_name}"
    do_shards(job, folder, payload, options, description=description, unit="queries", progress=progress)
    count = write_lines(output, folder.merged())
    marks = list(folder.marks())
    tokens, mean = sum(mark["tokens"] for mark in marks), sum(mark["log_probs"] for mark in marks)
    reports = worker_reports(marks)
    results = {"tokens": tokens, "mean_log_prob": mean / tokens if tokens else None, WORKERS_RESULT: reports}
    return Outcome(count, {}, results, reports[0]["device"])


def _lines(source: Path, limit: int | None) -> tuple[array[int], list[str]]:
    """Where each query's line begins, and the queries' ids."""
    starts, query_ids = array("Q"), []
    for query, _, start in itertools.islice(read_placed_synthetic_records(source), limit):
        starts.append(start)
        query_ids.append(query.query_id)
    return starts, query_ids


@dataclass(frozen=True, slots=True)
class ScoreShard:
    """What travels for one shard."""

    block: int  # the first of its queries in the file, which tells it from others
    starts: array[int]
    query_ids: Sequence[str]
    part: Shard


@dataclass(frozen=True, slots=True)
class ScoreJob:
    """What each worker is told; `documents` are the corpus' path and hash."""

    source: Path
    documents: tuple[Path, str] | None
    prompt: str
    make_scorer: Callable[[], TeacherForcing]
    header: str

    def open(self) -> ScoreWorker:
        """Open the corpus, load the scorer."""
        return ScoreWorker(self)


class ScoreWorker:
    """A scorer in a worker's process; it keeps the latest block's queries, since it has several shards of one."""

    def __init__(self, job: ScoreJob) -> None:
        self._job = job
        self._corpus = None if job.documents is None else open_corpus(*job.documents)
        self._scorer = job.make_scorer()
        self._block, self._task = -1, ScoreTask((), (), 0, 0, self._scorer, None)
        self.device = self._scorer.device

    def write(self, shard: ScoreShard, partial: Path, output: Path) -> Mapping[str, Any]:
        """The rows of one shard with their new numbers."""
        task = self._read(shard)
        score_task(task, partial, self._job.header, SILENT)
        places, (tokens, total) = write_scores(task, partial, output, self._job.prompt)
        return {"places": pack_places((place, 1) for place in places), "tokens": tokens, "log_probs": total}

    def _read(self, shard: ScoreShard) -> ScoreTask:
        if self._block != shard.block:
            source = self._job.source
            records = zip(shard.query_ids, read_json_at(source, shard.starts), strict=True)
            rows = [
                (synthetic_query(record, query_id, str(record["doc_id"]), source), record)
                for query_id, record in records
            ]
            self._task = ScoreTask.of(rows, self._corpus, source, self._scorer, None)
            self._block = shard.block
        return ScoreTask(self._task.rows, self._task.known, 0, len(self._task.rows), self._scorer, shard.part)
