"""The loop of reranking: a run's top in, scores out, appended batch by batch to a partial file.

The same for one process and for the workers of a cluster, each of which has its scorer and its corpus. A worker's shard
is some queries, or parts of two, whose batches are those of one process, and so are the scores; what travels are ids
and the queries' words.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inpars.errors import DataFormatError
from inpars.io.corpus import Corpus, open_corpus
from inpars.io.fields import number_of
from inpars.io.storage import read_jsonl, to_json_line
from inpars.progress import SILENT
from inpars.protocols import PairScorer
from inpars.records import Run, ScoredDocument
from inpars.rerankers.rerank import PAIRS_PER_BATCH, Texts, check_ids, pairs_to_score, score_run
from inpars.stages.partial import Partial
from inpars.stages.shard_folder import ShardFolder
from inpars.stages.stage import Stage
from inpars.stages.workers import WORKERS_RESULT, Workers, do_shards, worker_reports

STAGE = "rerank"
GPU_BATCHES = 8  # in a shard


def score_top(
    run: Run,
    query_ids: Collection[str],
    corpus: Texts,
    queries: Mapping[str, str],
    depth: int,
    make_scorer: Callable[[], PairScorer],
    saved: Partial,
) -> list[ScoredDocument]:
    """All scores of the top of its own queries, those of the partial file first."""
    keep = saved.kept()
    known = read_scores(saved.path) if keep else []
    done = {(row.query_id, row.doc_id) for row in known}
    mine = None if len(query_ids) == len(run) else set(query_ids)
    with saved.append(keep) as lines:
        scorer, progress = make_scorer(), saved.progress
        for batch in score_run(run, queries, corpus, scorer, depth=depth, done=done, query_ids=mine, progress=progress):
            lines.append(to_json_line({"q": row.query_id, "d": row.doc_id, "s": row.score}) for row in batch)
            known += batch
    return known


def read_scores(partial: Path) -> list[ScoredDocument]:
    """The scores of a partial file, whose first line is its header."""
    return [_read_score(row, partial, line) for line, row in read_jsonl(partial) if line > 1]


def _read_score(row: Mapping[str, Any], partial: Path, line: int) -> ScoredDocument:
    query_id, doc_id = row.get("q"), row.get("d")
    if not isinstance(query_id, str) or not isinstance(doc_id, str):
        raise DataFormatError("not a score; remove this file to begin again", path=partial, line=line)
    return ScoredDocument(query_id, doc_id, number_of(row.get("s"), "s", partial, line))


def score_by_workers(
    stage: Stage,
    workers: Workers,
    run: Run,
    corpus: Corpus,
    queries: Mapping[str, str],
    depth: int,
    make_scorer: Callable[[], PairScorer],
) -> tuple[list[ScoredDocument], dict[str, Any]]:
    """All scores of the top, and what the workers did; the shards stay until the manifest is there."""
    pairs = pairs_to_score(run, depth)
    check_ids(pairs, queries, corpus)
    size, header = PAIRS_PER_BATCH * (GPU_BATCHES if workers.on_gpus else 1), stage.partial.header
    folder = ShardFolder.open(stage.output.absolute(), header, size, len(pairs), stage.progress)
    make = functools.partial(RerankWorker, (corpus.path.absolute(), corpus.sha256), make_scorer, header)

    def payload(shard: int) -> RerankShard:
        shard_pairs = pairs[folder.items(shard).start : folder.items(shard).stop]
        return RerankShard(shard_pairs, {query_id: queries[query_id] for query_id, _ in shard_pairs})

    described = f"rerank with {Path(stage.options.model).name}"
    do_shards(make, folder, payload, workers, description=described, unit="pairs", progress=stage.progress)
    scored = [row for shard in range(folder.count) for row in read_scores(folder.file(shard))]
    return scored, {WORKERS_RESULT: worker_reports(folder.marks())}


@dataclass(frozen=True, slots=True)
class RerankShard:
    """What travels for one shard: (query_id, doc_id) in the order they are scored in, and the queries' texts."""

    pairs: Sequence[tuple[str, str]]
    queries: Mapping[str, str]


class RerankWorker:
    """A scorer in a worker's process."""

    device = ""

    def __init__(self, corpus: tuple[Path, str], make_scorer: Callable[[], PairScorer], header: str) -> None:
        self._header, self._corpus, self._scorer = header, open_corpus(*corpus), make_scorer()

    def write(self, shard: RerankShard, partial: Path, output: Path) -> Mapping[str, Any]:
        """The scores of one shard."""
        run: Run = {}
        for position, (query_id, doc_id) in enumerate(shard.pairs):
            run.setdefault(query_id, {})[doc_id] = -float(position)
        saved = Partial(STAGE, partial, self._header, SILENT)
        score_top(run, run, self._corpus, shard.queries, len(shard.pairs), lambda: self._scorer, saved)
        partial.replace(output)
        return {}
