"""The reranker's part of a whole run: several systems' tops are pooled and scored once, then each is reordered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from inpars.datasets import Dataset
from inpars.errors import StaleInputError
from inpars.formats import read_run, write_run
from inpars.manifest import stamp
from inpars.options import option
from inpars.prompting.templates import Prompt
from inpars.protocols import PairScorer
from inpars.records import Run
from inpars.reranking import fuse_with_first_stage
from inpars.runs import cut, fuse_reciprocal_ranks
from inpars.stages.reranking import RerankOptions, rerank_file
from inpars.stages.stage import Outcome, run_stage
from inpars.topics import Topics

POOL, SCORES = "pool.trec", "pool.reranked.trec"


@dataclass(frozen=True, slots=True)
class _Depth:
    depth: int = option(help="documents of each run")


def rerank_pool(
    sources: Mapping[str, Path],
    dataset: Dataset,
    topics: Topics,
    options: RerankOptions,
    *,
    make_scorer: Callable[[], PairScorer],
    prompt: Prompt | None = None,
    told: Mapping[str, Any],
) -> dict[str, Path]:
    """Runs by system -> reranked runs by system, each fused with its first stage over the first `options.depth`."""
    folder = next(iter(sources.values())).parent
    pool, scores = folder / POOL, folder / SCORES
    _pool(list(sources.values()), options.depth, pool, told)
    everything = replace(options, depth=options.depth * len(sources))
    rerank_file(pool, dataset, topics, everything, output=scores, make_scorer=make_scorer, prompt=prompt, **told)
    return {
        name: reorder_file(
            source, scores, options.depth, output=source.with_name(f"{source.stem}.reranked.trec"), told=told
        )
        for name, source in sources.items()
    }


def _pool(sources: Sequence[Path], depth: int, output: Path, told: Mapping[str, Any]) -> None:
    """The documents of all tops, best first by their ranks."""

    def work() -> Outcome:
        tops: list[Run] = [cut(read_run(source), depth) for source in sources]
        return Outcome(write_run(output, fuse_reciprocal_ranks(tops, depth * len(tops)), "pool"))

    inputs = {source.name: stamp(source) for source in sources}
    run_stage("pool", _Depth(depth), output=output, inputs=inputs, work=work, **told)


def reorder_file(source: Path, scores: Path, depth: int, *, output: Path, told: Mapping[str, Any]) -> Path:
    """Write the run with its top in the order of the sum of both z-scores, as a stage; returns `output`.

    Raises StaleInputError where `scores`, a run that a reranker scored, lacks a document of the top.
    """

    def work() -> Outcome:
        run, scored = read_run(source), read_run(scores)
        if unscored := len(run.keys() - scored.keys()):
            told["progress"].note(
                f"{scores}: {unscored} of {len(run)} queries of {source} have no scores, left as they are"
            )
        return Outcome(write_run(output, reordered(run, scored, depth), "reranked"))

    inputs = {"run": stamp(source), "scores": stamp(scores)}
    run_stage("fuse top", _Depth(depth), output=output, inputs=inputs, work=work, **told)
    return output


def reordered(run: Run, scores: Run, depth: int) -> Run:
    """The run with its first `depth` documents in the order of the sum of both z-scores; the tail stays."""
    known = {query_id: documents for query_id, documents in run.items() if query_id in scores}
    for query_id, documents in cut(known, depth).items():
        if missing := [doc_id for doc_id in documents if doc_id not in scores[query_id]]:
            raise StaleInputError(
                f"query {query_id!r}: document {missing[0]!r} of the run's top {depth} has no reranker score; give the "
                "scores of this run, or a smaller --depth"
            )
    return run | fuse_with_first_stage(known, scores, depth=depth)
