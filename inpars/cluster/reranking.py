"""Reranking by the workers of a cluster: each has its scorer and its corpus, and scores whole batches of pairs.

A shard is some queries, or parts of two, whose batches are those of one process, and so are the scores. What travels
are ids and the queries' words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inpars.cluster.generating import open_corpus
from inpars.cluster.shard_folder import ShardFolder
from inpars.cluster.work import WORKERS_RESULT, do_shards, worker_reports
from inpars.corpus import Corpus
from inpars.progress import SILENT, Progress
from inpars.records import Run, ScoredDocument
from inpars.reranking import PAIRS_PER_BATCH, check_ids, pairs_to_score
from inpars.scoring import PairScorer
from inpars.stages.reranking import RerankOptions, read_scores, score_top
from inpars.topics import Topics

GPU_BATCHES = 8  # in a shard


def score_on_cluster(
    run: Run,
    corpus: Corpus,
    topics: Topics,
    options: RerankOptions,
    make_scorer: Callable[[], PairScorer],
    output: Path,
    header: str,
    progress: Progress,
) -> tuple[list[ScoredDocument], dict[str, Any]]:
    """All scores of the top, and what the workers did; the shards stay until the manifest is there."""
    pairs, queries = pairs_to_score(run, options.depth), topics.queries
    check_ids(pairs, queries, corpus)
    size = PAIRS_PER_BATCH * (GPU_BATCHES if options.gpus_per_worker else 1)
    folder = ShardFolder.open(output.absolute(), header, size, len(pairs), progress)

    def payload(shard: int) -> RerankShard:
        own = pairs[folder.items(shard).start : folder.items(shard).stop]
        return RerankShard(own, {query_id: queries[query_id] for query_id, _ in own})

    job = RerankJob(corpus.path.absolute(), corpus.sha256, make_scorer, header)
    description = f"rerank with {Path(options.model).name}"
    do_shards(job, folder, payload, options, description=description, unit="pairs", progress=progress)
    scored = [row for shard in range(folder.count) for row in read_scores(folder.file(shard))]
    return scored, {WORKERS_RESULT: worker_reports(folder.marks())}


@dataclass(frozen=True, slots=True)
class RerankShard:
    """What travels for one shard: (query_id, doc_id) in the order they are scored in, and the queries' texts."""

    pairs: Sequence[tuple[str, str]]
    queries: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RerankJob:
    """What each worker is told."""

    corpus: Path
    sha256: str
    make_scorer: Callable[[], PairScorer]
    header: str

    def open(self) -> RerankWorker:
        """Open the corpus, load the scorer."""
        return RerankWorker(self)


class RerankWorker:
    """A scorer in a worker's process."""

    device = ""

    def __init__(self, job: RerankJob) -> None:
        self._header, self._corpus = job.header, open_corpus(job.corpus, job.sha256)
        self._scorer = job.make_scorer()

    def write(self, shard: RerankShard, partial: Path, output: Path) -> Mapping[str, Any]:
        """The scores of one shard."""
        run: Run = {}
        for place, (query_id, doc_id) in enumerate(shard.pairs):
            run.setdefault(query_id, {})[doc_id] = -float(place)
        depth, make = len(shard.pairs), lambda: self._scorer
        score_top(run, run, self._corpus, shard.queries, depth, partial, self._header, make, SILENT)
        partial.replace(output)
        return {}
