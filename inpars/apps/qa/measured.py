"""An engine for the measured system of a run: its first stages with their weights, and its rerankers.

If this machine cannot run a part, opening the engine fails; no part is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from inpars.apps.qa.build_engine import (
    AnswerOptions,
    EngineOptions,
    answerers,
    bm25_stage,
    dense_alone,
    dense_stage,
    load_encoder,
    load_engine_retriever,
    use_compute_options,
)
from inpars.apps.qa.engine import Engine, Part, System
from inpars.apps.qa.retrievers import LockedScorer, Stage, StoredStage
from inpars.errors import BackendError, ConfigError, MissingDependencyError
from inpars.fusion.system import BM25, FirstStage, Reranking, SearchSystem
from inpars.io.corpus import Documents
from inpars.models.retrievers import DENSE, retriever_kind
from inpars.options import check
from inpars.progress import SILENT, Progress
from inpars.protocols import PairScorer, TextEncoder
from inpars.retrieval.index_writer import check_encoder, check_views
from inpars.retrieval.vector_index import VectorIndex

if TYPE_CHECKING:
    from inpars.retrieval.dense import Encoder

MEASURED = "measured"


def open_measured(
    system: SearchSystem,
    options: EngineOptions,
    *,
    corpus: Documents,
    answers: AnswerOptions | None = None,
    writes: bool = False,
    progress: Progress = SILENT,
) -> Engine:
    """An engine over a corpus or an index of the system; offers `measured` and each of its first stages.

    Only the compute options among `options` are used. Raises BackendError if the system needs BM25 and it cannot run,
    StaleInputError if the index was built for another system.
    """
    check(options)
    use_compute_options(options)
    options = replace(options, k1=system.k1, b=system.b, language=system.language, max_length=None)
    lexical = [stage for stage in system.stages if stage.retriever == BM25]  # first, to fail early
    bm25 = {stage.name: _bm25(stage, options, corpus, progress) for stage in lexical}
    load = cache(lambda model: load_engine_retriever(model, options))  # stages of one model share its network
    encoders = {
        stage.name: load(stage.retriever).reading(stage.window_tokens)
        for stage in system.stages
        if stage not in lexical
    }
    dense: Mapping[str, Part] = (
        _stored(system, corpus, encoders)
        if isinstance(corpus, VectorIndex)
        else {name: dense_stage(name, corpus, None, encoder, progress) for name, encoder in encoders.items()}
    )
    rerankers = tuple(LockedScorer(_load_reranker(reranking, options, load)) for reranking in system.rerankings)
    # a bi-encoder scores sentences, since the scores of a query likelihood have no threshold for an answer
    reader, writer = answerers(options, answers, None, _weightiest(system, dense_alone(encoders)), writes=writes)
    return Engine(
        corpus,
        _systems(system, bm25, {**bm25, **dense}, rerankers),
        encoders=dense_alone(encoders),
        reranker=rerankers[-1] if rerankers else None,
        reader=reader,
        writer=writer,
    )


def _bm25(stage: FirstStage, options: EngineOptions, corpus: Documents, progress: Progress) -> Stage:
    try:
        return bm25_stage(stage.name, options, corpus, progress)
    except (MissingDependencyError, BackendError) as error:
        raise BackendError(f"the measured system searches with BM25, which cannot run here: {error}") from error


def load_views(system: SearchSystem, options: EngineOptions) -> tuple[Encoder, dict[str, Encoder]]:
    """The encoder of whole documents for an index of the system, and the encoder of each further view.

    Encoders of one model share its network. Raises ConfigError if a retriever of the system is not a bi-encoder.
    """
    for stage in system.stages:
        if stage.retriever != BM25 and (kind := retriever_kind(stage.retriever)) != DENSE:
            raise ConfigError(
                f"an index holds the vectors of bi-encoders, and this system has a {kind} retriever ({stage.label}); "
                "search and serve it with --run in place of an index"
            )
    load = cache(lambda model: load_encoder(model, options))
    views = {name: load(stage.retriever).reading(stage.window_tokens) for name, stage in system.views.items()}
    return load(system.embedded.retriever), views


def _stored(system: SearchSystem, index: VectorIndex, encoders: Mapping[str, Encoder]) -> dict[str, StoredStage]:
    """The stages over an index. Raises StaleInputError if it was built for another system."""
    check_views(index.state, {name: encoders[name] for name in system.views})
    for name in encoders.keys() - system.views.keys():
        check_encoder(index.state, encoders[name])
    return {
        name: StoredStage(name, index, encoder, view=name if name in system.views else None)
        for name, encoder in encoders.items()
    }


def _load_reranker(reranking: Reranking, options: EngineOptions, load: Callable[[str], Any]) -> PairScorer:
    from inpars.rerankers import NEAREST_TOKENS, load_scorer
    from inpars.rerankers.windows import NearestWindowScorer

    settings, retriever = reranking.scorer, reranking.window_retriever
    if retriever is not None:
        settings |= dict.fromkeys(("windows", "window_retriever", "window_tokens"))
    scorer = load_scorer(**settings, prompt=reranking.prompt, **options.placement)
    if retriever is None:
        return scorer
    return NearestWindowScorer(scorer, load(retriever).reading(reranking.window_tokens or NEAREST_TOKENS))


def _weightiest(system: SearchSystem, encoders: Mapping[str, TextEncoder]) -> TextEncoder | None:
    dense = [stage for stage in system.stages if stage.name in encoders]
    return encoders[max(dense, key=lambda stage: stage.weight).name] if dense else None


def _systems(
    system: SearchSystem, bm25: Mapping[str, Stage], parts: Mapping[str, Part], rerankers: tuple[LockedScorer, ...]
) -> dict[str, System]:
    """The whole system first, then each stage alone."""
    coverage = next((part.coverage for part in bm25.values()), None)
    whole = System(tuple(parts[stage.name] for stage in system.stages), str(system), rerankers, system, coverage)
    return {MEASURED: whole, **{stage.name: System((parts[stage.name],), stage.label) for stage in system.stages}}
