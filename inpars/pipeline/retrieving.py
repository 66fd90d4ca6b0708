"""The runs of a whole experiment: every system's documents for the judged queries, first stages and reranked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from inpars.datasets import Dataset
from inpars.formats import read_run, write_run
from inpars.manifest import stamp
from inpars.options import option
from inpars.pipeline.commands import StageCommands, run_flags
from inpars.pipeline.options import PipelineOptions
from inpars.pipeline.reranking import POOL, SCORES, rerank_pool
from inpars.pipeline.steps import Steps
from inpars.prompting.templates import Prompt, PromptSource
from inpars.records import Run
from inpars.runs import cut, fuse_z_scores
from inpars.stages.examples import SUFFIX as EXAMPLES_SUFFIX
from inpars.stages.examples import example_query_ids
from inpars.stages.reranking import RerankOptions, run_scorer_maker
from inpars.stages.retrieving import BM25, SearchOptions, search_dataset
from inpars.stages.stage import Outcome, run_stage
from inpars.topics import Topics

SYNTHETIC = "queries.synthetic.jsonl"
FUSION_DEPTH = 100
BASE_FUSION, TUNED, TUNED_FUSION = "fusion", "tuned", "tuned fusion"
RERANKED = " + reranker"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all steps of one whole run share."""

    dataset: Dataset
    prompt: PromptSource
    options: PipelineOptions
    folder: Path
    topics: Topics | None
    progress: Steps
    overwrite: bool
    commands: StageCommands

    def path(self, name: str) -> Path:
        """A file of the run's folder."""
        return self.folder / name

    @property
    def told(self) -> dict[str, Any]:
        """What every stage is told."""
        return {"progress": self.progress, "overwrite": self.overwrite}

    @property
    def shown(self) -> Prompt | None:
        """The examples that a query likelihood is shown: the prompt's, where all documents have the same."""
        return self.prompt if isinstance(self.prompt, Prompt) else None

    @property
    def shown_flags(self) -> list[str]:
        """The flags of the same."""
        return [] if self.shown is None else self.commands.prompt

    @property
    def left_out(self) -> list[str]:
        """The flag that leaves out the queries which the prompt shows."""
        ids = self.path(SYNTHETIC).with_name(f"{SYNTHETIC}{EXAMPLES_SUFFIX}")
        return ["--leave-out", str(ids)] if example_query_ids(self.prompt) else []


def all_runs(run: Surroundings, topics: Topics) -> dict[str, Path]:
    """The runs of all systems by name, in the order of the table."""
    own = run.options
    run.progress.begin("search")
    bm25, base = _search(run, topics, "bm25", BM25), _search(run, topics, "base", own.retriever)
    tuned = _search(run, topics, "tuned", str(run.path("models") / "retriever"))
    # both fusions hold the untuned bi-encoder's view of whole documents too: two views err less than one
    of_whole = _search(run, topics, "whole", own.retriever, windows=False) if own.window_tokens else base
    whole = _fuse(run, "whole-fusion" if own.window_tokens else "fusion", [bm25, of_whole])
    paths = {
        "bm25": bm25,
        own.retriever: base,
        BASE_FUSION: _joined(run, "fusion", bm25, base, whole) if own.window_tokens else whole,
        TUNED: tuned,
        TUNED_FUSION: _joined(run, "tuned-fusion", bm25, tuned, whole),
    }
    return paths | _rerank(run, topics, paths)


def _search(run: Surroundings, topics: Topics, name: str, retriever: str, *, windows: bool = True) -> Path:
    own = run.options
    options = SearchOptions(
        retriever=(retriever,),
        k=own.k,
        window_tokens=own.window_tokens or None if windows and retriever != BM25 else None,
        **own.clustered,
    )
    output = run.path("runs") / f"{name}.trec"
    first = ["--limit", str(own.limit)] if own.limit else []
    run.commands.add("search", [*run.commands.topics, *run.left_out, *first], output, options)
    search_dataset(run.dataset, topics, options, output=output, **run.told)
    return output


def _joined(run: Surroundings, name: str, bm25: Path, dense: Path, whole: Path) -> Path:
    """The fusion of BM25 and a bi-encoder, fused with that of whole documents."""
    return _fuse(run, name, [whole, _fuse(run, f"{name}-windows", [bm25, dense])])


@dataclass(frozen=True, slots=True)
class _FusionOptions:
    depth: int = option(FUSION_DEPTH, help="documents of each run that the fusion reads")
    k: int = option(FUSION_DEPTH, help="documents a query that it keeps")


def fuse_runs(
    sources: Sequence[Path], *, output: Path, k: int = FUSION_DEPTH, depth: int = FUSION_DEPTH, told: Mapping[str, Any]
) -> Path:
    """Write the sum of the runs' z-scores, `k` documents a query, as a stage; returns `output`."""
    options = _FusionOptions(depth, k)

    def work() -> Outcome:
        runs: list[Run] = [cut(read_run(source), options.depth) for source in sources]
        return Outcome(write_run(output, fuse_z_scores(runs, options.k), output.stem))

    names = [source.name for source in sources]
    inputs = {source.name if names.count(source.name) == 1 else str(source): stamp(source) for source in sources}
    run_stage("fuse", options, output=output, inputs=inputs, work=work, **told)
    return output


def _fuse(run: Surroundings, name: str, sources: Sequence[Path]) -> Path:
    output = run.path("runs") / f"{name}.trec"
    settings = ["--fusion-depth", FUSION_DEPTH, "--k", run.options.k]
    run.commands.add("search", [*run_flags(sources), *settings], output)
    return fuse_runs(sources, output=output, k=run.options.k, told=run.told)


def _rerank(run: Surroundings, topics: Topics, paths: Mapping[str, Path]) -> dict[str, Path]:
    run.progress.begin("rerank")
    own, trained = run.options, run.path("models") / "reranker"
    options = RerankOptions(
        model=str(trained) if own.reranker_epochs else own.reranker,
        kind="auto" if own.reranker_epochs else own.reranker_kind,
        depth=own.rerank_depth,
        max_length=None if own.reranker_epochs else own.reranker_max_length,
        windows="nearest" if own.window_tokens else None,
        window_retriever=own.retriever if own.window_tokens else None,
        window_tokens=own.window_tokens or None,
        **own.clustered,
    )
    prompt = None if own.reranker_epochs else run.shown
    sources = {name: paths[name] for name in ("bm25", BASE_FUSION, TUNED_FUSION)}
    reranked = rerank_pool(
        sources,
        run.dataset,
        topics,
        options,
        make_scorer=run_scorer_maker(options, prompt),
        prompt=prompt,
        told=run.told,
    )
    _say_reranked(run, sources, reranked, options)
    return {name + RERANKED: path for name, path in reranked.items()}


def _say_reranked(
    run: Surroundings, sources: Mapping[str, Path], reranked: Mapping[str, Path], options: RerankOptions
) -> None:
    """The same as commands: the tops are pooled by the one that scores them."""
    scores, depth = run.path("runs") / SCORES, options.depth
    pooled = replace(options, depth=depth * len(sources), fusion="rrf", fusion_depth=depth)
    shown = [] if run.options.reranker_epochs else run.shown_flags
    run.commands.say(f"runs/{POOL}, the tops of the next command's runs, is written by `inpars run` alone")
    run.commands.add("rerank", [*run.commands.topics, *run_flags(sources.values()), *shown], scores, pooled)
    for name, source in sources.items():
        run.commands.add("rerank", ["--run", source, "--scores", scores, "--depth", depth], reranked[name])
