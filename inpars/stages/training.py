"""The stages that train: a file of triples in, a model folder out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inpars.manifest import Manifest, stamp
from inpars.options import result_settings
from inpars.progress import SILENT, Progress
from inpars.stages.stage import Outcome, model_stamp, run_stage
from inpars.training.examples import grouped, limited, read_triple_texts

if TYPE_CHECKING:
    from inpars.training.loop import Curve, TrainOptions
    from inpars.training.reranker import RerankerOptions
    from inpars.training.retriever import RetrieverOptions


def train_retriever_from_file(
    triples: Path,
    options: RetrieverOptions,
    *,
    output: Path,
    progress: Progress = SILENT,
    overwrite: bool = False,
) -> Manifest:
    """Fine-tune a bi-encoder."""

    def train(fingerprint: Mapping[str, Any]) -> tuple[Curve, str, int]:
        from inpars.training.retriever import train_retriever

        rows = limited(read_triple_texts(triples), options.limit)
        return *train_retriever(rows, options, output=output, fingerprint=fingerprint, progress=progress), len(rows)

    return _train("train retriever", triples, options, output, train, progress, overwrite)


def train_reranker_from_file(
    triples: Path,
    options: RerankerOptions,
    *,
    output: Path,
    progress: Progress = SILENT,
    overwrite: bool = False,
) -> Manifest:
    """Fine-tune a reranker."""

    def train(fingerprint: Mapping[str, Any]) -> tuple[Curve, str, int]:
        from inpars.training.reranker import train_reranker

        groups = grouped(limited(read_triple_texts(triples), options.limit))
        return *train_reranker(groups, options, output=output, fingerprint=fingerprint, progress=progress), len(groups)

    return _train("train reranker", triples, options, output, train, progress, overwrite)


def _train(
    stage: str,
    triples: Path,
    options: TrainOptions,
    output: Path,
    train: Callable[[Mapping[str, Any]], tuple[Curve, str, int]],
    progress: Progress,
    overwrite: bool,
) -> Manifest:
    inputs = {"triples": stamp(triples), "model": model_stamp(options.model)}
    fingerprint = {**result_settings(options), **{name: stamp.sha256 for name, stamp in inputs.items()}}

    def work() -> Outcome:
        from inpars.hardware import use_threads

        use_threads(options.threads)
        curve, device, examples = train(fingerprint)
        return Outcome(None, {}, {"examples": examples, "curve": asdict(curve)}, device)

    return run_stage(stage, options, output=output, inputs=inputs, work=work, progress=progress, overwrite=overwrite)
