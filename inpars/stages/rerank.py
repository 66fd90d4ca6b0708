"""The rerank stage: a TREC run in, the same run with its top reordered out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Unpack

from inpars.documents.datasets import Dataset
from inpars.errors import ConfigError, DataFormatError, StaleInputError
from inpars.evaluation.run_files import read_ordered_run
from inpars.io.corpus import Corpus, open_corpus
from inpars.io.fields import number_of
from inpars.io.formats import read_run, write_run
from inpars.io.manifest import Manifest, read_manifest, stamp
from inpars.io.runs import DEFAULT_FUSION, Fusion, cut, fuse
from inpars.io.storage import read_jsonl, to_json_line
from inpars.io.topics import Topics
from inpars.options import option
from inpars.progress import SILENT, Note
from inpars.prompts.templates import Prompt
from inpars.protocols import PairScorer
from inpars.records import Run, ScoredDocument
from inpars.rerankers.kinds import ScorerKind, Windows, kind_help
from inpars.rerankers.rerank import (
    PAIRS_PER_BATCH,
    Texts,
    apply_scores,
    check_ids,
    fuse_with_first_stage,
    pairs_to_score,
    score_run,
)
from inpars.stages.partial import Partial
from inpars.stages.shard_folder import ShardFolder
from inpars.stages.shards import own_items, shard_results
from inpars.stages.stage import Outcome, Running, Stage, input_stamps
from inpars.stages.workers import WORKERS_RESULT, ShardedOptions, Workers, check_engine, do_shards, worker_reports

STAGE = "rerank"
GPU_BATCHES = 8  # per shard


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankOptions(ShardedOptions):
    """How a run is reranked."""

    model: str = option("smollm2-135m", help="reranker: embedded name, folder or hub id")
    kind: ScorerKind | Literal["auto", "multi-vector"] = option(
        "auto", help=f"{kind_help('what the model is')}; multi-vector: MaxSim over the token states of a bi-encoder"
    )
    depth: int = option(100, help="documents per query to rerank; those below keep their order", minimum=1)
    fuse: bool = option(False, help="fuse with the first stage instead of replacing its scores")
    fusion: Fusion = option(
        DEFAULT_FUSION, help="fusion method, also for several runs: sum of z-scores, or reciprocal rank fusion"
    )
    fusion_depth: int = option(100, help="documents per run to fuse when there are several", minimum=1, advanced=True)
    max_length: int | None = option(
        None, help="maximum input length in tokens, query and document together (default: the model's limit)", minimum=1
    )
    true_token: str | None = option(None, help="output token that means relevant", advanced=True)
    false_token: str | None = option(None, help="output token that means not relevant", advanced=True)
    windows: Windows | None = option(
        None,
        help="score long documents in windows: the best, the first, the mean, or the one nearest to the query"
        " by --window-retriever (default: truncate)",
    )
    window_retriever: str | None = option(None, help="bi-encoder for --windows nearest", metavar="MODEL", advanced=True)
    window_tokens: int | None = option(
        None,
        help="window length in tokens (default: three quarters of --max-length; 96 for nearest)",
        minimum=1,
        advanced=True,
    )
    window_stride: int | None = option(
        None, help="window stride in tokens (default: half a window)", minimum=1, advanced=True
    )
    limit: int | None = option(None, help="use only the first N queries, for a quick try", minimum=1)
    batch_tokens: int | None = option(
        None,
        help="padded tokens per batch (default: 1024 on a CPU, 2048 with AMX, 8192 on a GPU)",
        changes_result=False,
        minimum=1,
        advanced=True,
    )


def run_scorer_maker(options: RerankOptions, prompt: Prompt | None = None) -> Callable[[], PairScorer]:
    """A function that loads the scorer, here or in a worker."""
    return functools.partial(load_run_scorer, options.for_worker(), prompt)


def load_run_scorer(options: RerankOptions, prompt: Prompt | None = None) -> PairScorer:
    """The scorer that the options name."""
    where = options.set_up()
    from inpars.rerankers import load_scorer

    names = ("kind", "max_length", "batch_tokens", "true_token", "false_token")
    of_windows = ("windows", "window_tokens", "window_stride", "window_retriever")
    settings = {name: getattr(options, name) for name in names + of_windows}
    return load_scorer(options.model, prompt=prompt, **settings, **where)


def rerank_file(
    source: Path | Sequence[Path],
    dataset: Dataset,
    topics: Topics,
    options: RerankOptions,
    *,
    output: Path,
    make_scorer: Callable[[], PairScorer],
    prompt: Prompt | None = None,
    workers: Workers | None = None,
    **running: Unpack[Running],
) -> Manifest:
    """Write the reranked run, first fusing several sources. Raises ConfigError for an empty run.

    An interrupted run resumes from the scores in `<output>.partial`. With `workers` each of them loads the scorer:
    `make_scorer` is pickled, so it must not hold a model.
    """
    check_engine(options, workers)
    sources = [source] if isinstance(source, Path) else list(source)
    if options.fusion != DEFAULT_FUSION and not options.fuse and len(sources) == 1:
        raise ConfigError(f"--fusion {options.fusion} has nothing to fuse; add --fuse, or give more runs with --run")
    inputs = {f"run {number}" if number > 1 else "run": stamp(path) for number, path in enumerate(sources, start=1)}
    inputs |= {"queries": topics.query_stamp}
    models = {"model": options.model, "window_retriever": options.window_retriever}
    inputs |= input_stamps(prompt=prompt, corpus=dataset.corpus, **models)
    stage = Stage(STAGE, options, output, inputs, **running)

    def work() -> Outcome:
        run = dict(list(_first_stage(sources, options, stage.progress.note).items())[: options.limit])
        if not run:
            raise ConfigError(f"{', '.join(map(str, sources))}: the run is empty; there is nothing to rerank")
        part = own_items(len(run), options.part)
        shard_run = {query_id: run[query_id] for query_id in list(run)[part.start : part.stop]}
        scoring, results = (dataset.corpus, topics.queries, options.depth, make_scorer), dict[str, Any]()
        if workers is not None:
            scored, results = score_by_workers(stage, workers, run, *scoring)
        else:
            scored = score_top(run, shard_run, *scoring, stage.partial)
        reranked = apply_scores(shard_run, scored, depth=options.depth)
        if options.fuse:
            reranked = fuse_with_first_stage(shard_run, reranked, depth=options.depth, fusion=options.fusion)
        count = write_run(output, reranked, Path(options.model).name)
        results |= shard_results(options.part, len(run), zip(part, map(len, reranked.values()), strict=True))
        return Outcome(count, {}, {"queries": len(shard_run), "pairs": len(scored), **results})

    return stage.run(work)


def _first_stage(sources: Sequence[Path], options: RerankOptions, note: Note) -> Run:
    runs = [read_ordered_run(path, note) for path in sources]
    if len(runs) == 1:
        return runs[0]
    cut_runs = [cut(run, options.fusion_depth) for run in runs]
    return fuse(cut_runs, len(sources) * options.fusion_depth, options.fusion)


def reorder_file(source: Path, scores: Path, depth: int, *, output: Path, **running: Unpack[Running]) -> Path:
    """Write the run with its top ordered by the sum of both z-scores; returns `output`.

    Raises StaleInputError if `scores`, a run scored by a reranker, lacks a document of the top.
    """
    stage = Stage("fuse top", {"depth": depth}, output, {"run": stamp(source), "scores": stamp(scores)}, **running)

    def work() -> Outcome:
        run, scored = read_ordered_run(source, stage.progress.note), read_run(scores)
        scored_depth = reranked_depth(scores)
        if scored_depth is not None and scored_depth < min(depth, max(map(len, run.values()), default=0)):
            raise StaleInputError(
                f"{scores}: its reranker scored the first {scored_depth} documents only; give --depth {scored_depth}"
            )
        if unscored := len(run.keys() - scored.keys()):
            stage.progress.note(
                f"{scores}: {unscored} of {len(run)} queries of {source} have no scores, left as they are"
            )
        return Outcome(write_run(output, reordered(run, scored, depth), "reranked"))

    stage.run(work)
    return output


def reranked_depth(path: Path) -> int | None:
    """To which depth a reranker scored a run, by its manifest; below it, scores only keep the order."""
    manifest = read_manifest(path)
    depth = manifest.arguments.get("depth") if manifest is not None and manifest.stage == STAGE else None
    return depth if isinstance(depth, int) else None


def reordered(run: Run, scores: Run, depth: int) -> Run:
    """The run with its first `depth` documents ordered by the sum of both z-scores; the tail is unchanged."""
    known = {query_id: documents for query_id, documents in run.items() if query_id in scores}
    for query_id, documents in cut(known, depth).items():
        if missing := [doc_id for doc_id in documents if doc_id not in scores[query_id]]:
            raise StaleInputError(
                f"query {query_id!r}: document {missing[0]!r} of the run's top {depth} has no reranker score; give the "
                "scores of this run, or a smaller --depth"
            )
    return run | fuse_with_first_stage(known, scores, depth=depth)


def score_top(
    run: Run,
    query_ids: Collection[str],
    corpus: Texts,
    queries: Mapping[str, str],
    depth: int,
    make_scorer: Callable[[], PairScorer],
    saved: Partial,
) -> list[ScoredDocument]:
    """All scores of the top documents of `query_ids`, those in the partial file first."""
    keep = saved.kept()
    known = read_scores(saved.path) if keep else []
    done = {(row.query_id, row.doc_id) for row in known}
    only = None if len(query_ids) == len(run) else set(query_ids)
    with saved.append(keep) as lines:
        scorer, progress = make_scorer(), saved.progress
        for batch in score_run(run, queries, corpus, scorer, depth=depth, done=done, query_ids=only, progress=progress):
            lines.append(to_json_line({"q": row.query_id, "d": row.doc_id, "s": row.score}) for row in batch)
            known += batch
    return known


def read_scores(partial: Path) -> list[ScoredDocument]:
    """The scores of a partial file, whose first line is its header."""
    return [_read_score(row, partial, line) for line, row in read_jsonl(partial) if line > 1]


def _read_score(row: Mapping[str, Any], partial: Path, line: int) -> ScoredDocument:
    query_id, doc_id = row.get("q"), row.get("d")
    if not isinstance(query_id, str) or not isinstance(doc_id, str):
        raise DataFormatError("not a score; remove this file to start over", path=partial, line=line)
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
    """All scores of the top, and the workers' reports; the shards stay until the manifest is written."""
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
    """What is sent to a worker for one shard: (query_id, doc_id) in scoring order, and the queries' texts."""

    pairs: Sequence[tuple[str, str]]
    queries: Mapping[str, str]


class RerankWorker:
    """A scorer in a worker's process."""

    device = ""

    def __init__(self, corpus: tuple[Path, str], make_scorer: Callable[[], PairScorer], header: str) -> None:
        self._header, self._corpus, self._scorer = header, open_corpus(*corpus), make_scorer()

    def write(self, shard: RerankShard, partial: Path, output: Path) -> Mapping[str, Any]:
        run: Run = {}
        for position, (query_id, doc_id) in enumerate(shard.pairs):
            run.setdefault(query_id, {})[doc_id] = -float(position)
        saved = Partial(STAGE, partial, self._header, SILENT)
        score_top(run, run, self._corpus, shard.queries, len(shard.pairs), lambda: self._scorer, saved)
        partial.replace(output)
        return {}
