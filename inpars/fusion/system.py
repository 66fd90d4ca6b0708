"""A whole search system: first stages with the weight of each, and perhaps rerankers above them.

`system.json` of a run's folder names the system that the run measured, so that `search`, `ask` and `serve` use
that one. Importing this loads no torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any

from inpars.errors import ConfigError, DataFormatError, PromptError
from inpars.fusion.gate import LATE_INTERACTION_ODDS, Coverage, Gate, findings, reranker_weight
from inpars.io.formats import as_stored
from inpars.io.json_text import JsonError, parse_json
from inpars.io.runs import completed, cut, fuse_z_scores
from inpars.io.storage import atomic_writer
from inpars.models.retrievers import MULTI_VECTOR
from inpars.prompts.templates import Example, Prompt
from inpars.records import Run
from inpars.rerankers.rerank import fuse_with_first_stage

SYSTEM_FILE = "system.json"
FORMAT = 1
BM25 = "bm25"
FORMER_LIKELIHOOD_ODDS = (0.0, 2.0)  # of systems that were written before they held them


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstStage:
    """BM25 or a bi-encoder, and what its z-scores count for."""

    name: str  # of its run
    retriever: str  # bm25, an embedded name, a folder or a hub id
    window_tokens: int | None = None
    weight: float = 1.0

    @property
    def label(self) -> str:
        """For people: `minilm in windows`."""
        if self.retriever == BM25:
            return "BM25"
        name = Path(self.retriever).name
        return f"{name} in windows" if self.window_tokens else name


@dataclass(frozen=True, slots=True, kw_only=True)
class Reranking:
    """A reranker and what its z-scores count for; those of the fused first stages count for the rest."""

    model: str
    depth: int  # documents of a query that it scores
    weight: float = 0.5
    odds: tuple[float, float] | None = None  # of `reranker_weight`, which then replaces the weight
    kind: str = "auto"
    max_length: int | None = None
    window_retriever: str | None = None  # bi-encoder that finds the window it reads
    window_tokens: int | None = None
    prompt: Prompt | None = None  # that an untrained query likelihood is shown

    @property
    def label(self) -> str:
        """For people."""
        name = Path(self.model).name
        return f"MaxSim of {name}" if self.kind == MULTI_VECTOR else name

    @property
    def scorer(self) -> dict[str, Any]:
        """The settings of `load_scorer` that the model was measured with, its prompt aside."""
        names = ("model", "kind", "max_length", "window_retriever", "window_tokens")
        windows = None if self.window_retriever is None else "nearest"
        return {"windows": windows, **{name: getattr(self, name) for name in names}}


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSystem:
    """A complete search system."""

    stages: tuple[FirstStage, ...]
    gate: Gate | None = None  # the bi-encoders' share, query by query; their weights then say how they divide it
    late_interaction: Reranking | None = None  # before the reranker: MaxSim, cheap enough for more documents
    reranking: Reranking | None = None
    fusion_depth: int = 100  # documents of each stage that are read
    k1: float
    b: float
    language: str

    def __post_init__(self) -> None:
        """Raise ConfigError for weights that make no order."""
        weights = [stage.weight for stage in self.stages]
        if not weights or not all(math.isfinite(weight) and weight > 0 for weight in weights):
            raise ConfigError(f"the weights of a search system must be above 0, not {weights}")
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ConfigError(f"the stages of a search system need names of their own, not {', '.join(names)}")
        kinds = {stage.retriever == BM25 for stage in self.stages}
        if self.gate is not None and len(kinds) < len((True, False)):
            raise ConfigError("a gate stands between BM25 and bi-encoders; the system has not both")
        for reranking in self.rerankings:
            if not 0 < reranking.weight <= 1:
                raise ConfigError(f"a reranker's weight is {reranking.weight}; it must be above 0 and at most 1")

    def fuse(self, runs: Mapping[str, Run], k: int, shares: Mapping[str, float] | None = None) -> Run:
        """The k best documents of each query by the weighted sum of z-scores, from the stages' runs by name.

        `shares` are those of `shares`; a system without a gate has none.
        """
        if len(self.stages) == 1:
            return cut(runs[self.stages[0].name], k)
        lexical = [stage.retriever == BM25 for stage in self.stages]
        completed_runs = completed([runs[stage.name] for stage in self.stages], lexical, self.fusion_depth)
        if shares is None:
            return fuse_z_scores(completed_runs, k, self.weights)
        fused: Run = {}
        for query_id, share in shares.items():
            query_runs: list[Run] = [{query_id: run.get(query_id, {})} for run in completed_runs]
            fused |= fuse_z_scores(query_runs, k, self.weights_of(share))
        return fused

    def shares(
        self,
        queries: Mapping[str, str],
        runs: Mapping[str, Run],
        coverage: Coverage | None,
        text_of: Callable[[str], str],
    ) -> dict[str, float] | None:
        """The bi-encoders' share per query; None without a gate. `coverage` comes from BM25's index."""
        if self.gate is None:
            return None
        if coverage is None:
            raise ConfigError("a system with a gate needs the coverage of BM25's index")
        lexical, dense = (self.first(lexical=lexical).name for lexical in (True, False))
        features = findings(queries, runs[lexical], runs[dense], coverage, text_of)
        return {query_id: self.gate.share(query_features) for query_id, query_features in features.items()}

    def first(self, *, lexical: bool) -> FirstStage:
        """The first stage that is BM25, or the first that is not."""
        return next(stage for stage in self.stages if (stage.retriever == BM25) == lexical)

    @property
    def embedded(self) -> FirstStage:
        """The stage whose whole documents an index embeds first. Raises ConfigError where there is no bi-encoder."""
        dense = [stage for stage in self.stages if stage.retriever != BM25]
        if not dense:
            raise ConfigError("this system has no bi-encoder, so there is nothing to embed; `inpars search --run` does")
        return next((stage for stage in dense if stage.window_tokens is None), dense[0])

    @property
    def views(self) -> dict[str, FirstStage]:
        """The other bi-encoders' stages by name, each of which embeds the documents once more."""
        main = self.embedded if self.embedded.window_tokens is None else None
        return {stage.name: stage for stage in self.stages if stage.retriever != BM25 and stage is not main}

    def weights_of(self, share: float) -> list[float]:
        """The weight of each stage where the bi-encoders count for this share."""
        sums = [
            sum(stage.weight for stage in self.stages if (stage.retriever == BM25) == side) for side in (True, False)
        ]
        return [
            stage.weight / sums[0] * (1 - share) if stage.retriever == BM25 else stage.weight / sums[1] * share
            for stage in self.stages
        ]

    @property
    def rerankings(self) -> tuple[Reranking, ...]:
        """Those there are, in their order."""
        return tuple(each for each in (self.late_interaction, self.reranking) if each is not None)

    @property
    def unreranked(self) -> SearchSystem:
        """Its first stages alone."""
        return replace(self, late_interaction=None, reranking=None)

    def rerank(
        self, run: Run, score: Callable[[Reranking, Run], Run], shares: Mapping[str, float] | None = None
    ) -> Run:
        """The fused run, its top reordered by each reranker in turn.

        `score` gives a reranker's scores of the top of a run; with `shares` the gate weighs rerankers that have odds.
        """
        run = as_stored(run)
        for reranking in self.rerankings:
            run = as_stored(self._reordered(run, as_stored(score(reranking, run)), reranking, shares))
        return run

    def _reordered(self, run: Run, scores: Run, reranking: Reranking, shares: Mapping[str, float] | None) -> Run:
        """The run with its top in the order of both."""
        if reranking.odds is None or shares is None:
            return fuse_with_first_stage(
                run, scores, depth=reranking.depth, weights=(1 - reranking.weight, reranking.weight)
            )
        reranked: Run = {}
        for query_id, documents in run.items():
            weight = reranker_weight(reranking.odds, shares[query_id])
            query_run = {query_id: documents}
            reranked |= fuse_with_first_stage(query_run, scores, depth=reranking.depth, weights=(1 - weight, weight))
        return reranked

    def fused(self, k: int) -> int:
        """Documents of a query that the fusion has to keep for the k best: no fewer than a reranker scores."""
        return max(k, *(reranking.depth for reranking in self.rerankings), 0)

    def retrieved(self, k: int) -> int:
        """Documents of a query that each stage has to find for the k best."""
        return self.fusion_depth if len(self.stages) > 1 else self.fused(k)

    @property
    def weights(self) -> list[float]:
        """The weight of each stage."""
        return [stage.weight for stage in self.stages]

    def __str__(self) -> str:
        """For people: `.30 bm25 + .70 minilm in windows, reranked by smollm2-135m`."""
        if len(self.stages) == 1:
            text = self.stages[0].label
        else:
            text = " + ".join(f"{stage.weight:.2f} {stage.label}" for stage in self.stages)
            text += ", weighed query by query" if self.gate else ""
        return "".join([text, *(f", first {each.depth} reranked by {each.label}" for each in self.rerankings)])


def write_system(system: SearchSystem, folder: Path) -> Path:
    """Write `system.json` into a run's folder, unless it is there; models of this folder are named relative to it."""
    values = asdict(with_models(system, lambda model: _inside(model, folder)))
    if values["late_interaction"] is None:  # as in folders of former versions
        del values["late_interaction"]
    path = folder / SYSTEM_FILE
    text = json.dumps({"format": FORMAT, **values}, indent=1, ensure_ascii=False) + "\n"
    if not path.is_file() or path.read_bytes() != text.encode():
        with atomic_writer(path) as stream:
            stream.write(text)
    return path


def read_system(folder: Path) -> SearchSystem:
    """The system of a run's folder. Raises DataFormatError where there is none, or an unreadable one."""
    path = folder / SYSTEM_FILE
    try:
        values = parse_json(path.read_bytes())
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise TypeError(f"not of format {FORMAT}")
        system = _system_of(values)
    except FileNotFoundError:
        problem = "no search system here; give the folder of a finished `inpars run`"
        raise DataFormatError(problem, path=path) from None
    except IsADirectoryError:
        raise DataFormatError("a folder, not a file; give the folder of a finished `inpars run`", path=path) from None
    except (JsonError, KeyError, TypeError, ValueError, PromptError, ConfigError) as error:
        raise DataFormatError(f"not a search system ({error}); run the same `inpars run` again", path=path) from None
    return with_models(system, lambda model: str(folder / model) if (folder / model).is_dir() else model)


def _system_of(values: dict[str, Any]) -> SearchSystem:
    reranking, late_interaction = values.pop("reranking"), values.pop("late_interaction", None)
    if reranking is not None and reranking["prompt"] is not None:
        prompt = reranking["prompt"]
        examples = tuple(Example(**example) for example in prompt.pop("examples"))
        reranking["prompt"] = Prompt(**{**prompt, "stop": tuple(prompt["stop"])}, examples=examples)
    gate = values.pop("gate", None)
    _check_numbers(values, ("k1", "b"), int | float)
    _check_numbers(values, ("fusion_depth",), int)
    for each in (reranking, late_interaction):
        _check_numbers(each or {}, ("depth",), int)
    return SearchSystem(
        gate=None if gate is None else Gate(**gate),
        stages=tuple(FirstStage(**stage) for stage in values.pop("stages")),
        late_interaction=_reranking_of(late_interaction, LATE_INTERACTION_ODDS),
        reranking=_reranking_of(reranking, FORMER_LIKELIHOOD_ODDS),
        **values,
    )


def _reranking_of(values: dict[str, Any] | None, former_odds: tuple[float, float]) -> Reranking | None:
    if values is None:
        return None
    odds = values.pop("odds", None)
    if values.pop("gated", False):
        odds = former_odds
    if odds is not None:
        constant, factor = map(float, odds)
        if not (math.isfinite(constant) and math.isfinite(factor) and min(constant, factor) >= 0):
            raise ValueError(f"odds are {odds!r}")
        odds = (constant, factor)
    return Reranking(**values, odds=odds)


def _check_numbers(values: Mapping[str, Any], names: Iterable[str], kind: type[int] | UnionType) -> None:
    """Raise ValueError for one of these that is no number of the kind, or below 0; a depth of 0 finds nothing."""
    for name in names:
        value = values.get(name)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool) or value < (kind is int)):
            raise ValueError(f"{name} is {value!r}")


def with_models(system: SearchSystem, name: Callable[[str], str]) -> SearchSystem:
    """The system with each model called what the function of its name says."""
    stages = tuple(replace(stage, retriever=name(stage.retriever)) for stage in system.stages)

    def renamed(reranking: Reranking | None) -> Reranking | None:
        if reranking is None:
            return None
        retriever = None if reranking.window_retriever is None else name(reranking.window_retriever)
        return replace(reranking, model=name(reranking.model), window_retriever=retriever)

    late_interaction, reranking = renamed(system.late_interaction), renamed(system.reranking)
    return replace(system, stages=stages, late_interaction=late_interaction, reranking=reranking)


def _inside(model: str, folder: Path) -> str:
    """A model of the folder as a path within it; another one as it was named, a folder by its whole path."""
    path = Path(model)
    if not path.is_dir():
        return model
    whole, home = path.resolve(), folder.resolve()
    return whole.relative_to(home).as_posix() if whole.is_relative_to(home) else str(whole)
