"""The stages that train: a file of triples in, a model folder with its card out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from inpars.cards.card import CardFacts, write_card
from inpars.datasets import Dataset
from inpars.errors import ConfigError
from inpars.manifest import FileStamp, Manifest, stamp, stamp_text
from inpars.models.folders import require_utf8
from inpars.options import result_settings
from inpars.progress import SILENT, Progress
from inpars.prompting.prompts import load_prompt
from inpars.prompting.templates import Prompt
from inpars.stages.development import development_inputs, separate_development
from inpars.stages.margins import margins_path, read_margins
from inpars.stages.mining import negatives_path
from inpars.stages.stage import Outcome, model_stamp, run_stage
from inpars.stages.teaching import TeacherScores, TeachOptions, read_mined, read_taught, teach
from inpars.training.examples import TripleTexts, grouped, limited, pairs_once, read_triple_texts

if TYPE_CHECKING:
    from inpars.training.loop import Curve
    from inpars.training.options import RerankerOptions, RetrieverOptions
    from inpars.training.validation import DevSet


@dataclass(frozen=True, slots=True)
class _Material:
    """What a model is trained with."""

    rows: Sequence[TripleTexts]
    dev: DevSet | None
    teacher: TeacherScores | None
    fingerprint: Mapping[str, Any]


def train_retriever_from_file(
    triples: Path,
    options: RetrieverOptions,
    *,
    output: Path,
    dataset: Dataset | None = None,
    progress: Progress = SILENT,
    overwrite: bool = False,
) -> Manifest:
    """Fine-tune a bi-encoder; `dataset` is what given dev queries are searched in."""
    from inpars.training.retriever import check_retriever, train_retriever

    check_retriever(options)

    def train(material: _Material) -> tuple[Curve, str, int]:
        rows = material.rows if options.negatives else pairs_once(material.rows)
        curve, device = train_retriever(
            rows,
            options,
            output=output,
            fingerprint=material.fingerprint,
            margins=_margins(material),
            dev=material.dev,
            progress=progress,
        )
        return curve, device, len(rows)

    return _train("train retriever", triples, options, output, train, dataset, progress, overwrite)


def train_reranker_from_file(
    triples: Path,
    options: RerankerOptions,
    *,
    output: Path,
    prompt: Prompt | None = None,
    dataset: Dataset | None = None,
    progress: Progress = SILENT,
    overwrite: bool = False,
) -> Manifest:
    """Fine-tune a reranker; `dataset` is what --dev-queries are searched in, `prompt` a query likelihood's."""

    def train(material: _Material) -> tuple[Curve, str, int]:
        from inpars.training.reranker import train_reranker

        groups = grouped(material.rows)
        curve, device = train_reranker(
            groups,
            options,
            output=output,
            fingerprint=material.fingerprint,
            dev=material.dev,
            teacher=material.teacher,
            prompt=prompt,
            progress=progress,
        )
        return curve, device, len(groups)

    shown = {} if prompt is None else {"prompt": stamp_text(prompt.name, prompt.text)}
    return _train("train reranker", triples, options, output, train, dataset, progress, overwrite, shown)


def _train(
    stage: str,
    triples: Path,
    options: RetrieverOptions | RerankerOptions,
    output: Path,
    train: Callable[[_Material], tuple[Curve, str, int]],
    dataset: Dataset | None,
    progress: Progress,
    overwrite: bool,
    more_inputs: Mapping[str, FileStamp] = MappingProxyType({}),
) -> Manifest:
    require_utf8(output)
    inputs = {"triples": stamp(triples), "model": model_stamp(options.model), **more_inputs}
    inputs |= development_inputs(options, dataset) | _teacher_inputs(triples, options)
    fingerprint = {**result_settings(options), **{name: stamp.sha256 for name, stamp in inputs.items()}}

    def work() -> Outcome:
        from inpars.models.hardware import compute_with
        from inpars.training.validation import validation_results, worse_than_start

        compute_with(options.threads, options.engine_backend)
        teacher = _teacher(triples, options, progress)
        read = _scored(limited(read_triple_texts(triples), options.limit), teacher, progress)
        rows, dev = separate_development(read, options, dataset, progress)
        curve, device, examples = train(_Material(rows, dev, teacher, fingerprint))
        results = {"examples": examples, "curve": asdict(curve), **validation_results(curve)}
        if dev is not None:
            results["validated_by"] = dev.describe()
        if warning := worse_than_start(curve):
            progress.note(f"{stage}: {warning}")
        write_card(output, CardFacts(options.model, triples, result_settings(options), results, device))
        return Outcome(None, {}, results, device)

    return run_stage(stage, options, output=output, inputs=inputs, work=work, progress=progress, overwrite=overwrite)


def _teacher_inputs(triples: Path, options: RetrieverOptions | RerankerOptions) -> dict[str, FileStamp]:
    """What the teacher's scores come from. Raises ConfigError where margin-mse has none."""
    if options.teacher is not None:
        return {"teacher": model_stamp(options.teacher)}
    if options.loss != "margin-mse":
        return {}
    if margins_path(triples).exists():
        return {"teacher's margins": stamp(margins_path(triples))}
    if not negatives_path(triples).exists():
        raise ConfigError(
            f"{triples}: no teacher's scores lie beside these triples; give --teacher MODEL, or mine them with "
            "`inpars triples --rescore MODEL`"
        )
    return {"teacher's scores": stamp(negatives_path(triples))}


def _teacher(triples: Path, options: RetrieverOptions | RerankerOptions, progress: Progress) -> TeacherScores | None:
    if options.teacher is None and options.loss != "margin-mse":
        return None
    if options.teacher is None:
        return read_margins(triples) if margins_path(triples).exists() else read_mined(triples)
    prompt = load_prompt(options.teacher_prompt) if options.teacher_prompt else None
    asked = TeachOptions(teacher=options.teacher, limit=options.limit, **options.computing)
    teach(triples, asked, prompt=prompt, progress=progress)
    return read_taught(triples, options.limit)


def _scored(rows: Sequence[TripleTexts], teacher: TeacherScores | None, progress: Progress) -> Sequence[TripleTexts]:
    """The rows whose two pairs the teacher has scored; all of them where there is none."""
    if teacher is None:
        return rows
    kept = [row for row in rows if {(row.query, row.positive), (row.query, row.negative)} <= teacher.keys()]
    if len(kept) < len(rows):
        progress.note(f"{len(rows) - len(kept)} of {len(rows)} triples have no teacher's score and are left out")
    return kept


def _margins(material: _Material) -> dict[TripleTexts, float] | None:
    """The teacher's score of each positive less its negative's."""
    if (scores := material.teacher) is None:
        return None
    return {row: scores[row.query, row.positive] - scores[row.query, row.negative] for row in material.rows}
