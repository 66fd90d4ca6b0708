"""Search the test queries with every system of a run: first stages, fusions and reranked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inpars.distributed import workers_of
from inpars.documents.datasets import Dataset
from inpars.evaluation.run_files import read_ordered_run
from inpars.fusion.stage_choice import VIEW
from inpars.fusion.system import BM25, SYSTEM_FILE, FirstStage, SearchSystem
from inpars.io.formats import write_run
from inpars.io.manifest import read_manifest, stamp
from inpars.io.runs import cut, fuse_z_scores, with_zeros
from inpars.io.topics import Topics
from inpars.pipeline.commands import StageCommands, run_flags
from inpars.pipeline.evidence import Evidence
from inpars.pipeline.options import PipelineOptions
from inpars.pipeline.steps import Steps
from inpars.progress import Progress
from inpars.prompts.mixture import PromptMixture, PromptSource, example_prompt_of
from inpars.prompts.templates import Prompt
from inpars.records import Run
from inpars.stages.examples import SUFFIX as EXAMPLES_SUFFIX
from inpars.stages.examples import example_query_ids
from inpars.stages.rerank import reranked_depth
from inpars.stages.search import SearchOptions, search_dataset
from inpars.stages.stage import Outcome, Stage
from inpars.stages.system_search import SystemSearchOptions, search_system

SYNTHETIC = "queries.synthetic.jsonl"
FILTERED = "queries.filtered.jsonl"
FUSION_DEPTH = 100
BASE_FUSION, TUNED, MIX = "fusion", "tuned", "mix"
RERANKED = " + reranker"


@dataclass(frozen=True, slots=True)
class RunContext:
    """What all steps of one whole run share."""

    dataset: Dataset
    prompt: PromptSource
    options: PipelineOptions
    folder: Path
    topics: Topics | None
    progress: Steps
    overwrite: bool
    commands: StageCommands
    evidence: Evidence = Evidence()  # noqa: RUF009 - frozen
    runs: str = "runs"  # folder for the systems' results

    def path(self, name: str) -> Path:
        return self.folder / name

    @property
    def tuned(self) -> Path:
        return self.folder / "models" / "retriever"

    @property
    def stage_kwargs(self) -> dict[str, Any]:
        return {"progress": self.progress, "overwrite": self.overwrite}

    @property
    def reranker_prompt(self) -> Prompt | None:
        """The run's prompt for a query-likelihood reranker, if all documents share its examples.

        None also for a checkpoint that was trained with a prompt of its own.
        """
        from inpars.rerankers.load import has_own_prompt  # torch

        options = self.options
        if has_own_prompt(options.reranker, trust_remote_code=options.trust_remote_code):
            return None
        return example_prompt_of(self.prompt)

    @property
    def reranker_prompt_flags(self) -> list[str]:
        """The flags that name that prompt."""
        prompt = self.reranker_prompt
        if prompt is not None and isinstance(self.prompt, PromptMixture):
            return ["--prompt", prompt.source or prompt.name]
        return [] if prompt is None else self.commands.prompt

    @property
    def left_out(self) -> list[str]:
        """The flag that leaves out queries shown in the prompt."""
        ids = self.path(SYNTHETIC).with_name(f"{SYNTHETIC}{EXAMPLES_SUFFIX}")
        return ["--leave-out", str(ids)] if example_query_ids(self.prompt) else []

    @property
    def searched(self) -> list[str]:
        """The flags that name the test queries."""
        first = ["--limit", str(self.options.limit)] if self.options.limit else []
        return [*self.commands.topics, *self.left_out, *first]


def all_runs(
    run: RunContext, topics: Topics, system: SearchSystem, candidates: Sequence[FirstStage]
) -> dict[str, Path]:
    """The runs of all systems by name, in table order; the shipped system comes last.

    `candidates` are the first stages that the system was chosen from.
    """
    run.progress.begin("search")
    stages = {
        stage.name: search_stage(run, topics, f"{run.runs}/{stage.name}", stage, k=run.options.k)
        for stage in candidates
    }
    if len(system.stages) == 1:
        return _lexical_runs(run, topics, system, stages["bm25"])
    bm25, whole = stages["bm25"], stages["whole"]
    base = stages.get("base", whole)
    equal = _fuse(run, "whole-fusion" if base != whole else "fusion", [bm25, whole])
    parts = [] if base == whole else [equal, _fuse(run, "fusion-windows", [bm25, base])]
    paths = {
        "bm25": bm25,
        run.options.retriever: base,
        BASE_FUSION: _fuse(run, "fusion", parts) if parts else equal,
        **({TUNED: stages["tuned"]} if "tuned" in stages else {}),
        **{_label(run, stage): stages[stage.name] for stage in candidates if stage.name.startswith(VIEW)},
        MIX: _measured(run, topics, system.unreranked, "mix"),
    }
    if system.rerankings:
        run.progress.begin("rerank")
        paths[MIX + RERANKED] = _measured(run, topics, system, "mix.reranked")
    run.commands.say(
        "choice/ and system.json, which the next command searches with, are written by `inpars run` alone, and so is",
        f"{run.runs}/mix.trec, which is the same search before the reranker",
    )
    _add_search_command(run, list(paths.values())[-1])
    return paths


def _label(run: RunContext, view: FirstStage) -> str:
    """A view's name in the table: its folder, with its number if another system has that name."""
    names = [BM25, run.options.retriever, BASE_FUSION, TUNED, MIX, *(Path(name).name for name in run.options.view)]
    return view.label if names.count(view.label) == 1 else f"{view.label} ({view.name})"


def _lexical_runs(run: RunContext, topics: Topics, system: SearchSystem, bm25: Path) -> dict[str, Path]:
    if system.reranking is None:
        return {"bm25": bm25}
    run.progress.begin("rerank")
    reranked = _measured(run, topics, system, "bm25.reranked")
    run.commands.say(f"{SYSTEM_FILE}, which the next command searches with, is written by `inpars run` alone")
    _add_search_command(run, reranked)
    return {"bm25": bm25, f"bm25{RERANKED}": reranked}


def _add_search_command(run: RunContext, shipped: Path) -> None:
    run.commands.add("search", ["--run", run.folder, *run.searched, "--k", run.options.k], shipped)


def search_stage(run: RunContext, topics: Topics, name: str, stage: FirstStage, *, k: int, shown: bool = True) -> Path:
    """Search with one first stage; `shown=False` omits the command, if no flags name the queries."""
    windows = stage.window_tokens
    options = SearchOptions(
        retriever=(stage.retriever,), k=k, window_tokens=windows, **run.options.bm25, **run.options.clustered
    )
    output = run.path(f"{name}.trec")
    if shown:
        run.commands.add("search", run.searched, output, options)
    search_dataset(run.dataset, topics, options, output=output, workers=workers_of(options), **run.stage_kwargs)
    return output


def _measured(run: RunContext, topics: Topics, system: SearchSystem, name: str) -> Path:
    """Search with the system, as `inpars search --run` does."""
    output = run.path(run.runs) / f"{name}.trec"
    options = SystemSearchOptions(k=run.options.k, **run.options.computing)
    search_system(system, run.folder, run.dataset, topics, options, output=output, **run.stage_kwargs)
    return output


def fuse_runs(
    sources: Sequence[Path],
    *,
    output: Path,
    k: int = FUSION_DEPTH,
    depth: int = FUSION_DEPTH,
    stage_kwargs: Mapping[str, Any],
) -> Path:
    """Write the sum of the z-scores of several runs, `k` documents per query, as a stage; returns `output`.

    In runs of BM25, recognized by their manifests, documents without a match score zero; short lists in runs without a
    manifest are counted in a note.
    """
    paths = [source.name for source in sources]
    named = {source.name if paths.count(source.name) == 1 else str(source): source for source in sources}
    known = {name: _lexical_depth(source) for name, source in named.items()}
    lexical = [(name, lexical_depth) for name, lexical_depth in known.items() if lexical_depth is not None]
    settings = {"depth": depth, "k": k, **({"lexical": lexical} if lexical else {})}

    def work() -> Outcome:
        runs = {name: read_ordered_run(source, stage_kwargs["progress"].note) for name, source in named.items()}
        for name, source in named.items():
            if read_manifest(source) is None:
                _note_short_lists(source, runs[name], depth, stage_kwargs["progress"])
            scored = reranked_depth(source)
            if scored is not None and scored < min(depth, max(map(len, runs[name].values()), default=0)):
                stage_kwargs["progress"].note(
                    f"{source}: its reranker scored the first {scored} documents only; --fusion-depth {scored} fuses "
                    "these"
                )
        return Outcome(write_run(output, fused_files(runs, depth, k, lexical), output.stem))

    inputs = {name: stamp(source) for name, source in named.items()}
    Stage("fuse", settings, output, inputs, **stage_kwargs).run(work)
    return output


def fused_files(runs: Mapping[str, Run], depth: int, k: int, lexical: Iterable[tuple[str, int]]) -> Run:
    """The sum of the z-scores of runs; `lexical` names the runs of BM25 with their depths."""
    cut_runs, lexical_depths = {name: cut(run, depth) for name, run in runs.items()}, dict(lexical)
    others = [run for name, run in cut_runs.items() if name not in lexical_depths]
    parts = [
        with_zeros(run, others, min(depth, lexical_depths[name])) if name in lexical_depths else run
        for name, run in cut_runs.items()
    ]
    return fuse_z_scores(parts, k)


def _note_short_lists(source: Path, run: Run, depth: int, progress: Progress) -> None:
    """Note how many lists are short in a run without a manifest, which may be BM25's."""
    short = sum(len(scores) < depth for scores in run.values())
    if short:
        progress.note(
            f"{source}: {short} of {len(run)} queries have fewer than {depth} documents, and no manifest says whether "
            "they are all that hold a word of the query; what the run lacks counts as its lowest score"
        )


def _lexical_depth(source: Path) -> int | None:
    """Documents per query of a BM25 run, from its manifest; None for other runs."""
    manifest = read_manifest(source)
    if manifest is None or manifest.arguments.get("retriever") != [BM25]:
        return None
    return int(manifest.arguments["k"])


def _fuse(run: RunContext, name: str, sources: Sequence[Path]) -> Path:
    output = run.path(run.runs) / f"{name}.trec"
    settings = ["--fusion-depth", FUSION_DEPTH, "--k", run.options.k]
    run.commands.add("search", [*run_flags(sources), *settings], output)
    return fuse_runs(sources, output=output, k=run.options.k, stage_kwargs=run.stage_kwargs)
