"""The runs of a whole experiment: every system's documents for the judged queries, first stages and reranked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inpars.datasets import Dataset
from inpars.formats import read_run, write_run
from inpars.manifest import stamp
from inpars.options import option
from inpars.pipeline.options import PipelineOptions
from inpars.pipeline.reranking import rerank_pool
from inpars.progress import Progress
from inpars.prompting.templates import Prompt, PromptSource
from inpars.records import Run
from inpars.runs import cut, fuse_z_scores
from inpars.stages.reranking import RerankOptions, run_scorer_maker
from inpars.stages.retrieving import BM25, SearchOptions, search_dataset
from inpars.stages.stage import Outcome, run_stage
from inpars.topics import Topics

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
    progress: Progress
    overwrite: bool

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


def all_runs(run: Surroundings, topics: Topics) -> dict[str, Path]:
    """The runs of all systems by name, in the order of the table."""
    own = run.options
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
    search_dataset(run.dataset, topics, options, output=output, **run.told)
    return output


def _joined(run: Surroundings, name: str, bm25: Path, dense: Path, whole: Path) -> Path:
    """The fusion of BM25 and a bi-encoder, fused with that of whole documents."""
    return _fuse(run, name, [whole, _fuse(run, f"{name}-windows", [bm25, dense])])


@dataclass(frozen=True, slots=True)
class _FusionOptions:
    depth: int = option(FUSION_DEPTH, help="documents of each run that the fusion reads")
    k: int = option(FUSION_DEPTH, help="documents a query that it keeps")


def fuse_runs(sources: Sequence[Path], *, output: Path, k: int = FUSION_DEPTH, told: Mapping[str, Any]) -> Path:
    """Write the sum of the runs' z-scores, `k` documents a query, as a stage; returns `output`."""
    options = _FusionOptions(FUSION_DEPTH, k)

    def work() -> Outcome:
        runs: list[Run] = [cut(read_run(source), options.depth) for source in sources]
        return Outcome(write_run(output, fuse_z_scores(runs, options.k), output.stem))

    inputs = {source.name: stamp(source) for source in sources}
    run_stage("fuse", options, output=output, inputs=inputs, work=work, **told)
    return output


def _fuse(run: Surroundings, name: str, sources: Sequence[Path]) -> Path:
    return fuse_runs(sources, output=run.path("runs") / f"{name}.trec", k=run.options.k, told=run.told)


def _rerank(run: Surroundings, topics: Topics, paths: Mapping[str, Path]) -> dict[str, Path]:
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
    reranked = rerank_pool(
        {name: paths[name] for name in ("bm25", BASE_FUSION, TUNED_FUSION)},
        run.dataset,
        topics,
        options,
        make_scorer=run_scorer_maker(options, prompt),
        prompt=prompt,
        told=run.told,
    )
    return {name + RERANKED: path for name, path in reranked.items()}
