"""A complete search system: weighted first stages and optional rerankers.

`system.json` in a run's folder describes the system that the run measured; `search`, `ask` and `serve` use it. Loads no
torch.
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
from inpars.fusion.gate import Coverage, Gate, findings, reranker_weight
from inpars.io.formats import as_stored
from inpars.io.json_text import JsonError, parse_json
from inpars.io.runs import completed, cut, fuse_z_scores
from inpars.io.storage import atomic_writer
from inpars.models.folders import EMBEDDED, exists
from inpars.models.retrievers import MULTI_VECTOR
from inpars.prompts.templates import Example, Prompt
from inpars.records import Run
from inpars.rerankers.rerank import fuse_with_first_stage

SYSTEM_FILE = "system.json"
FORMAT = 1
BM25 = "bm25"
FORMER_LATE_ODDS, FORMER_LIKELIHOOD_ODDS = (0.25, 2.0), (0.0, 2.0)  # of files written before odds were stored


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstStage:
    """BM25 or a bi-encoder, and the weight of its z-scores."""

    name: str  # name of its run
    retriever: str  # bm25, a short name, a folder or a hub id
    window_tokens: int | None = None
    weight: float = 1.0

    @property
    def label(self) -> str:
        """Display name, such as `minilm in windows`."""
        if self.retriever == BM25:
            return "BM25"
        name = Path(self.retriever).name
        return f"{name} in windows" if self.window_tokens else name


@dataclass(frozen=True, slots=True, kw_only=True)
class Reranking:
    """A reranker and the weight of its z-scores; the fused first stages have the rest to 1."""

    model: str
    depth: int  # documents scored per query
    weight: float = 0.5
    odds: tuple[float, float] | None = None  # for `reranker_weight`, which then replaces the weight
    kind: str = "auto"
    max_length: int | None = None
    window_retriever: str | None = None  # bi-encoder that selects the window to score
    window_tokens: int | None = None
    prompt: Prompt | None = None  # for an untrained query likelihood

    @property
    def label(self) -> str:
        """Display name."""
        name = Path(self.model).name
        return f"MaxSim of {name}" if self.kind == MULTI_VECTOR else name

    @property
    def scorer(self) -> dict[str, Any]:
        """The arguments of `load_scorer` it was measured with, except the prompt."""
        names = ("model", "kind", "max_length", "window_retriever", "window_tokens")
        windows = None if self.window_retriever is None else "nearest"
        return {"windows": windows, **{name: getattr(self, name) for name in names}}


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSystem:
    """First stages, their fusion, and the rerankers in order."""

    stages: tuple[FirstStage, ...]
    gate: Gate | None = None  # the bi-encoders' share per query, which they divide by their weights
    late_interaction: Reranking | None = None  # MaxSim before the reranker, cheap enough for more documents
    reranking: Reranking | None = None
    fusion_depth: int = 100  # documents per stage and query that are fused
    k1: float
    b: float
    language: str

    def __post_init__(self) -> None:
        """Raise ConfigError for weights out of range, duplicate names, or a gate with only one kind of stage."""
        weights = [stage.weight for stage in self.stages]
        if not weights or not all(math.isfinite(weight) and weight > 0 for weight in weights):
            raise ConfigError(f"the weights of a search system must be above 0, not {weights}")
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ConfigError(f"the stages of a search system need distinct names, not {', '.join(names)}")
        if self.gate is not None and len({stage.retriever == BM25 for stage in self.stages}) < 2:
            raise ConfigError("a gate weighs bi-encoders against BM25; the system needs both")
        for reranking in self.rerankings:
            if not 0 < reranking.weight <= 1:
                raise ConfigError(f"a reranker's weight is {reranking.weight}; it must be above 0 and at most 1")

    def fuse(self, runs: Mapping[str, Run], k: int, shares: Mapping[str, float] | None = None) -> Run:
        """The best `k` documents per query by the weighted sum of z-scores; `runs` are by stage name.

        `shares` is the result of `shares`: None without a gate.
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
            raise ConfigError("a system with a gate needs term coverage from a BM25 index")
        lexical, dense = (self.first(lexical=lexical).name for lexical in (True, False))
        features = findings(queries, runs[lexical], runs[dense], coverage, text_of)
        return {query_id: self.gate.share(query_features) for query_id, query_features in features.items()}

    def first(self, *, lexical: bool) -> FirstStage:
        """BM25's stage, or the first bi-encoder's."""
        return next(stage for stage in self.stages if (stage.retriever == BM25) == lexical)

    @property
    def embedded(self) -> FirstStage:
        """The stage whose embeddings an index stores first, preferably of whole documents.

        Raises ConfigError without a bi-encoder.
        """
        dense = [stage for stage in self.stages if stage.retriever != BM25]
        if not dense:
            raise ConfigError(
                "this system has no bi-encoder and needs no embeddings; search with `inpars search --run`"
            )
        return next((stage for stage in dense if stage.window_tokens is None), dense[0])

    @property
    def views(self) -> dict[str, FirstStage]:
        """The other bi-encoders' stages by name; an index stores further embeddings for each."""
        main = self.embedded if self.embedded.window_tokens is None else None
        return {stage.name: stage for stage in self.stages if stage.retriever != BM25 and stage is not main}

    def weights_of(self, share: float) -> list[float]:
        """The weight of each stage for this share of the bi-encoders."""
        lexical = sum(stage.weight for stage in self.stages if stage.retriever == BM25)
        dense = sum(stage.weight for stage in self.stages if stage.retriever != BM25)
        return [
            stage.weight / lexical * (1 - share) if stage.retriever == BM25 else stage.weight / dense * share
            for stage in self.stages
        ]

    @property
    def rerankings(self) -> tuple[Reranking, ...]:
        """The rerankers in order of application."""
        return tuple(each for each in (self.late_interaction, self.reranking) if each is not None)

    @property
    def unreranked(self) -> SearchSystem:
        """The system without rerankers."""
        return replace(self, late_interaction=None, reranking=None)

    def rerank(
        self, run: Run, score: Callable[[Reranking, Run], Run], shares: Mapping[str, float] | None = None
    ) -> Run:
        """The fused run with its top reordered by each reranker in turn.

        `score` returns a reranker's scores of the top of a run. `shares` weigh rerankers that have odds.
        """
        run = as_stored(run)
        for reranking in self.rerankings:
            run = as_stored(self._reordered(run, as_stored(score(reranking, run)), reranking, shares))
        return run

    def _reordered(self, run: Run, scores: Run, reranking: Reranking, shares: Mapping[str, float] | None) -> Run:
        """The run with its top ordered by the weighted z-scores of run and reranker."""
        weight, reranked = reranking.weight, Run()
        for query_id, documents in run.items():
            if reranking.odds is not None and shares is not None:
                weight = reranker_weight(reranking.odds, shares[query_id])
            query_run = {query_id: documents}
            reranked |= fuse_with_first_stage(query_run, scores, depth=reranking.depth, weights=(1 - weight, weight))
        return reranked

    def fused(self, k: int) -> int:
        """Documents per query that the fusion must keep for the best `k`: at least every reranker's depth."""
        return max(k, *(reranking.depth for reranking in self.rerankings), 0)

    def retrieved(self, k: int) -> int:
        """Documents per query that each stage must retrieve for the best `k`."""
        return self.fusion_depth if len(self.stages) > 1 else self.fused(k)

    @property
    def weights(self) -> list[float]:
        """The weight of each stage."""
        return [stage.weight for stage in self.stages]

    def __str__(self) -> str:
        """Display text, such as `0.30 BM25 + 0.70 minilm in windows, first 20 reranked by smollm2-135m`."""
        if len(self.stages) == 1:
            text = self.stages[0].label
        else:
            text = " + ".join(f"{stage.weight:.2f} {stage.label}" for stage in self.stages)
            text += ", weighed query by query" if self.gate else ""
        return "".join([text, *(f", first {each.depth} reranked by {each.label}" for each in self.rerankings)])


def write_system(system: SearchSystem, folder: Path) -> Path:
    """Write `system.json` unless it is unchanged; models inside the folder are stored by relative path."""
    values = asdict(with_models(system, lambda model: _inside(model, folder)))
    if values["late_interaction"] is None:  # as earlier versions wrote it
        del values["late_interaction"]
    path = folder / SYSTEM_FILE
    text = json.dumps({"format": FORMAT, **values}, indent=1, ensure_ascii=False) + "\n"
    if not path.is_file() or path.read_bytes() != text.encode():
        with atomic_writer(path) as stream:
            stream.write(text)
    return path


def read_system(folder: Path) -> SearchSystem:
    """The system of a run's folder. Raises DataFormatError if there is none or it is invalid."""
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
    return with_models(system, lambda model: str(folder / model) if _is_path(model, folder) else model)


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
        late_interaction=_reranking_of(late_interaction, FORMER_LATE_ODDS),
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
    """Raise ValueError unless these are None or numbers of the kind, at least 0 (integers, being depths: 1)."""
    for name in names:
        value = values.get(name)
        if value is None:
            continue
        if not isinstance(value, kind) or isinstance(value, bool) or not (kind is int) <= value < math.inf:
            raise ValueError(f"{name} is {value!r}")


def with_models(system: SearchSystem, rename: Callable[[str], str]) -> SearchSystem:
    """The system with every model renamed."""
    stages = tuple(replace(stage, retriever=rename(stage.retriever)) for stage in system.stages)

    def renamed(reranking: Reranking | None) -> Reranking | None:
        if reranking is None:
            return None
        retriever = None if reranking.window_retriever is None else rename(reranking.window_retriever)
        return replace(reranking, model=rename(reranking.model), window_retriever=retriever)

    late_interaction, reranking = renamed(system.late_interaction), renamed(system.reranking)
    return replace(system, stages=stages, late_interaction=late_interaction, reranking=reranking)


def _inside(model: str, folder: Path) -> str:
    """A model inside the folder as a relative path, another local model as an absolute one; other names unchanged."""
    if not _is_path(model, Path()):
        return model
    path, root = Path(model).resolve(), folder.resolve()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _is_path(model: str, folder: Path) -> bool:
    """Whether it is a model in the folder, whatever else there has the name of BM25 or of an embedded model."""
    return model not in (BM25, *EMBEDDED) and exists(folder / model)
