"""An engine that searches with a measured system: its first stages with their weights, its reranker, nothing else.

Nothing is left out in silence: where this machine cannot run a part, there is no engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from inpars.answering.engine import Engine, Part, System
from inpars.answering.opening import (
    AnswerOptions,
    EngineOptions,
    answerers,
    bm25_stage,
    compute_with,
    dense_stage,
    load_encoder,
)
from inpars.answering.parts import LockedScorer, Stage
from inpars.corpus import Documents
from inpars.errors import BackendError, MissingDependencyError
from inpars.fusion.system import BM25, FirstStage, Reranking, SearchSystem
from inpars.options import check
from inpars.progress import SILENT, Progress
from inpars.protocols import PairScorer

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
    """An engine over a corpus, whose system `measured` is this one; each of its first stages is offered too.

    Of `options` only those of computing count. Raises BackendError where BM25 is wanted and cannot run.
    """
    check(options)
    compute_with(options)
    options = replace(options, k1=system.k1, b=system.b, language=system.language, max_length=None)
    lexical = [stage for stage in system.stages if stage.retriever == BM25]  # first: where it cannot run, at once
    bm25 = {stage.name: _bm25(stage, options, corpus, progress) for stage in lexical}
    encoders = {
        stage.name: load_encoder(stage.retriever, options, stage.window_tokens)
        for stage in system.stages
        if stage not in lexical
    }
    dense = {name: dense_stage(name, corpus, None, encoder, progress) for name, encoder in encoders.items()}
    reranker = None if system.reranking is None else LockedScorer(_load_reranker(system.reranking, options))
    # sentences are judged by a bi-encoder: a likelihood's scores have no threshold from which they answer
    reader, writer = answerers(options, answers, None, _weightiest(system, encoders), writes=writes)
    return Engine(
        corpus,
        _systems(system, bm25, bm25 | dense, reranker),
        encoders=encoders,
        reranker=reranker,
        reader=reader,
        writer=writer,
    )


def _bm25(stage: FirstStage, options: EngineOptions, corpus: Documents, progress: Progress) -> Stage:
    try:
        return bm25_stage(stage.name, options, corpus, progress)
    except (MissingDependencyError, BackendError) as error:
        raise BackendError(f"the measured system searches with BM25, which cannot run here: {error}") from error


def _load_reranker(reranking: Reranking, options: EngineOptions) -> PairScorer:
    from inpars.scoring import load_scorer

    return load_scorer(
        **reranking.scorer,
        prompt=reranking.prompt,
        device=options.device,
        dtype=options.dtype,
        trust_remote_code=options.trust_remote_code,
    )


def _weightiest(system: SearchSystem, encoders: Mapping[str, Encoder]) -> Encoder | None:
    dense = [stage for stage in system.stages if stage.name in encoders]
    return encoders[max(dense, key=lambda stage: stage.weight).name] if dense else None


def _systems(
    system: SearchSystem, bm25: Mapping[str, Stage], parts: Mapping[str, Part], reranker: LockedScorer | None
) -> dict[str, System]:
    """The whole first, then each stage alone."""
    coverage = next((part.coverage for part in bm25.values()), None)
    whole = System(tuple(parts[stage.name] for stage in system.stages), str(system), reranker, system, coverage)
    return {MEASURED: whole, **{stage.name: System((parts[stage.name],), stage.label) for stage in system.stages}}
