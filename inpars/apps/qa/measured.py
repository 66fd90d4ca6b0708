"""An engine that searches with a measured system: its first stages with their weights, its reranker, nothing else.

Nothing is left out in silence: where this machine cannot run a part, there is no engine.
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
    compute_with,
    dense_alone,
    dense_stage,
    load_encoder,
    load_engine_retriever,
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
    """An engine over a corpus, or over an index of the system; each of its first stages is offered too.

    The system's own name is `measured`. Of `options` only those of computing count. Raises BackendError where BM25 is
    wanted and cannot run, StaleInputError where the index was built for another system.
    """
    check(options)
    compute_with(options)
    options = replace(options, k1=system.k1, b=system.b, language=system.language, max_length=None)
    lexical = [stage for stage in system.stages if stage.retriever == BM25]  # first: where it cannot run, at once
    bm25 = {stage.name: _bm25(stage, options, corpus, progress) for stage in lexical}
    load = cache(lambda model: load_engine_retriever(model, options))  # one network for all stages that it serves
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
    rerankers = tuple(LockedScorer(_load_reranker(each, options, load)) for each in system.rerankings)
    # sentences are judged by a bi-encoder: a likelihood's scores have no threshold from which they answer
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
    """The encoder of whole documents that an index of the system embeds with, and that of each further view.

    Those of one model share its network. Raises ConfigError where the system has a retriever that is no bi-encoder.
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
    """The stages over an index. Raises StaleInputError where it was made for another system."""
    check_views(index.state, {name: encoders[name] for name in system.views})
    for name in encoders.keys() - system.views.keys():
        check_encoder(index.state, encoders[name])
    view_names = {name: name if name in system.views else None for name in encoders}
    return {name: StoredStage(name, index, encoder, view_names[name]) for name, encoder in encoders.items()}


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
    """The whole first, then each stage alone."""
    coverage = next((part.coverage for part in bm25.values()), None)
    whole = System(tuple(parts[stage.name] for stage in system.stages), str(system), rerankers, system, coverage)
    return {MEASURED: whole, **{stage.name: System((parts[stage.name],), stage.label) for stage in system.stages}}
