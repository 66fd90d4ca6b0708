"""The reranker's part of a whole run: several systems' tops are pooled and scored once, then each is reordered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from inpars.datasets import Dataset, Topics
from inpars.formats import read_run, write_run
from inpars.manifest import stamp
from inpars.options import option
from inpars.prompting.templates import Prompt
from inpars.records import Run
from inpars.reranking import fuse_with_first_stage
from inpars.runs import cut, fuse_reciprocal_ranks
from inpars.stages.reranking import RerankOptions, rerank_file, run_scorer_maker
from inpars.stages.stage import Outcome, run_stage

POOL = "pool.trec"


@dataclass(frozen=True, slots=True)
class _Depth:
    depth: int = option(help="documents of each run")


@dataclass(frozen=True, slots=True)
class Reranker:
    """A model, how it reads, and the prompt whose examples it is shown."""

    options: RerankOptions
    prompt: Prompt | None = None


def rerank_pool(
    sources: Mapping[str, Path],
    dataset: Dataset,
    topics: Topics,
    rerankers: Sequence[Reranker],
    *,
    told: Mapping[str, Any],
) -> dict[str, Path]:
    """Runs by system -> reranked runs by system: the z-scores of first stage and all rerankers, added over the depth.

    The depth is the first reranker's.
    """
    folder, depth = next(iter(sources.values())).parent, rerankers[0].options.depth
    pool = folder / POOL
    _pool(list(sources.values()), depth, pool, told)
    scores = []
    for number, reranker in enumerate(rerankers, start=1):
        output = folder / (f"pool.reranked.{number}.trec" if number > 1 else "pool.reranked.trec")
        options, prompt = replace(reranker.options, depth=depth * len(sources)), reranker.prompt
        make_scorer = run_scorer_maker(reranker.options, prompt)
        rerank_file(pool, dataset, topics, options, output=output, make_scorer=make_scorer, prompt=prompt, **told)
        scores.append(output)
    return {name: _reorder(source, scores, depth, told) for name, source in sources.items()}


def _pool(sources: Sequence[Path], depth: int, output: Path, told: Mapping[str, Any]) -> None:
    """The documents of all tops, best first by their ranks."""

    def work() -> Outcome:
        tops: list[Run] = [cut(read_run(source), depth) for source in sources]
        return Outcome(write_run(output, fuse_reciprocal_ranks(tops, depth * len(tops)), "pool"))

    inputs = {source.name: stamp(source) for source in sources}
    run_stage("pool", _Depth(depth), output=output, inputs=inputs, work=work, **told)


def _reorder(source: Path, scores: Sequence[Path], depth: int, told: Mapping[str, Any]) -> Path:
    output = source.with_name(f"{source.stem}.reranked.trec")

    def work() -> Outcome:
        return Outcome(write_run(output, reordered(read_run(source), list(map(read_run, scores)), depth), "reranked"))

    inputs = {"run": stamp(source)}
    inputs |= {f"scores {n}" if n > 1 else "scores": stamp(path) for n, path in enumerate(scores, start=1)}
    run_stage("fuse top", _Depth(depth), output=output, inputs=inputs, work=work, **told)
    return output


def reordered(run: Run, scores: Sequence[Run], depth: int) -> Run:
    """The run with its first `depth` documents in the order of the sum of all z-scores; the tail stays."""
    known = {query_id: documents for query_id, documents in run.items() if all(query_id in some for some in scores)}
    return run | fuse_with_first_stage(known, *scores, depth=depth)
