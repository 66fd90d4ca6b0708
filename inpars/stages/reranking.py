"""The stage that reranks: a TREC run in, the same with its top reordered out, saved part by part."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from inpars.datasets import Dataset
from inpars.errors import ConfigError
from inpars.formats import read_run, write_run
from inpars.manifest import Manifest, stamp, stamp_text
from inpars.options import option
from inpars.progress import SILENT, Progress
from inpars.prompting.templates import Prompt
from inpars.protocols import PairScorer
from inpars.records import Run
from inpars.reranking import apply_scores, fuse_with_first_stage
from inpars.runs import DEFAULT_FUSION, Fusion, cut, fuse
from inpars.scoring.kinds import ScorerKind, Windows
from inpars.stages.pair_scores import STAGE, score_by_workers, score_top
from inpars.stages.partial import Partial
from inpars.stages.sharding import ShardedOptions, own_items, shard_results
from inpars.stages.stage import Outcome, model_stamp, run_stage
from inpars.stages.workers import Workers, check_engine
from inpars.topics import Topics


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankOptions(ShardedOptions):
    """How a run is reranked."""

    model: str = option("smollm2-135m", help="reranker: a folder, an embedded name or a hub id")
    kind: ScorerKind | Literal["auto"] = option("auto", help="what the model is; auto reads its configuration")
    depth: int = option(100, help="documents per query that are scored; those below keep their order", minimum=1)
    fuse: bool = option(False, help="fuse the reranker with the first stage instead of replacing its scores")
    fusion: Fusion = option(DEFAULT_FUSION, help="how: the sum of z-scores, or reciprocal ranks; several runs too")
    fusion_depth: int = option(100, help="documents of each run that are read where there are several", minimum=1)
    max_length: int | None = option(
        None, help="tokens of query and document together (default: the model's limit)", minimum=1
    )
    true_token: str | None = option(None, help="what the model answers where the document is relevant")
    false_token: str | None = option(None, help="what it answers where it is not")
    windows: Windows | None = option(
        None,
        help="score a long document in windows: its best one, its first one, the mean, or only the one that "
        "--window-retriever finds nearest to the query (default: cut it)",
    )
    window_retriever: str | None = option(None, help="bi-encoder that finds the nearest window", metavar="MODEL")
    window_tokens: int | None = option(
        None, help="tokens of a window (default: three quarters of --max-length; 96 of nearest ones)", minimum=1
    )
    window_stride: int | None = option(
        None, help="tokens from one window's start to the next (default: half a window)", minimum=1
    )
    limit: int | None = option(None, help="only the first N queries, to try things out", minimum=1)
    batch_tokens: int | None = option(
        None,
        help="padded tokens scored together (default: 1024 on a processor, 2048 with AMX, 8192 on a GPU)",
        changes_result=False,
        minimum=1,
    )


def run_scorer_maker(options: RerankOptions, prompt: Prompt | None = None) -> Callable[[], PairScorer]:
    """What loads the scorer, here or in a worker."""
    return functools.partial(load_run_scorer, options.for_worker(), prompt)


def load_run_scorer(options: RerankOptions, prompt: Prompt | None = None) -> PairScorer:
    """The scorer the options name."""
    from inpars.models.hardware import compute_with
    from inpars.scoring import load_scorer

    compute_with(options.threads, options.engine_backend)
    return load_scorer(
        options.model,
        kind=options.kind,
        max_length=options.max_length,
        batch_tokens=options.batch_tokens,
        true_token=options.true_token,
        false_token=options.false_token,
        prompt=prompt,
        windows=options.windows,
        window_tokens=options.window_tokens,
        window_stride=options.window_stride,
        window_retriever=options.window_retriever,
        **options.placement,
    )


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
    progress: Progress = SILENT,
    overwrite: bool = False,
) -> Manifest:
    """Write the reranked run; several first stages are fused before. Raises ConfigError where there is nothing.

    Scores already paid for by an interrupted run are kept in `<output>.partial`. With `workers` the scorer is made in
    each of them: `make_scorer` is pickled, and so must not hold a model.
    """
    check_engine(options, workers)
    sources = [source] if isinstance(source, Path) else list(source)
    names = ["run", *(f"run {number}" for number in range(2, len(sources) + 1))]
    inputs = {
        **{name: stamp(path) for name, path in zip(names, sources, strict=True)},
        "corpus": dataset.corpus_stamp,
        "queries": topics.query_stamp,
        "model": model_stamp(options.model),
    }
    if prompt is not None:
        inputs["prompt"] = stamp_text(prompt.name, prompt.text)
    if options.window_retriever is not None:
        inputs["window retriever"] = model_stamp(options.window_retriever)

    def work() -> Outcome:
        run = dict(list(_first_stage(sources, options).items())[: options.limit])
        if not run:
            raise ConfigError(f"{', '.join(map(str, sources))}: the run is empty; there is nothing to rerank")
        partial = Partial.of(STAGE, options, inputs, output, progress)
        own = own_items(len(run), options.part)
        query_ids = list(run)[own.start : own.stop]
        told: dict[str, Any] = {}
        if workers is not None:
            scored, told = score_by_workers(
                *(workers, run, dataset.corpus, topics.queries, options.depth, make_scorer, output, partial.header),
                model=options.model,
                progress=progress,
            )
        else:
            scored = score_top(*(run, query_ids, dataset.corpus, topics.queries, options.depth, partial, make_scorer))
        total, run = len(run), {query_id: run[query_id] for query_id in query_ids}
        reranked = apply_scores(run, scored, depth=options.depth)
        if options.fuse:
            reranked = fuse_with_first_stage(run, reranked, depth=options.depth, fusion=options.fusion)
        count = write_run(output, reranked, Path(options.model).name)
        told |= shard_results(options.part, total, zip(own, map(len, reranked.values()), strict=True))
        return Outcome(count, {}, {"queries": len(run), "pairs": len(scored), **told})

    manifest = run_stage(
        STAGE, options, output=output, inputs=inputs, work=work, progress=progress, overwrite=overwrite
    )
    return manifest


def _first_stage(sources: Sequence[Path], options: RerankOptions) -> Run:
    """The run as it is, or what several ones come to."""
    if len(sources) == 1:
        return read_run(sources[0])
    runs = [cut(read_run(path), options.fusion_depth) for path in sources]
    return fuse(runs, len(sources) * options.fusion_depth, options.fusion)
