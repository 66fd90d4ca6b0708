"""Outputs that an earlier run with other settings left in the folder, and that this one does not use.

Only names that a whole run writes are looked at. Trained models are moved aside, not removed: they took hours.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from inpars.fusion.stage_choice import VIEW
from inpars.io.manifest import manifest_path
from inpars.io.storage import replace_folder, storage_errors
from inpars.pipeline.held_out import choice_files
from inpars.pipeline.measurement import JUDGED, METRICS, TOPICS
from inpars.pipeline.steps import Steps
from inpars.pipeline.trainings import TRIPLES
from inpars.stages.partial import partial_path
from inpars.stages.triple_files import ids_path, negatives_path

CHECKPOINTS = ".checkpoints"  # of an interrupted training
EARLIER = "models.earlier"
MODELS = ("retriever", "reranker")
STAGES = ("base", "tuned", "whole")  # first stages that not every run has
FUSED = ("fusion", "whole-fusion", "fusion-windows", "mix", "mix.reranked")
OF_EVIDENCE = (  # of a choice by judged queries or beside real ones, and of a learning curve
    *("mix.trec", "mix.scored.trec", "reranking.json"),
    *("learning-curve.json", "curve-quarter", "curve-quarter-run.trec", "curve-half", "curve-half-run.trec"),
    *("unlabelled/topics", "unlabelled/bm25.trec", "unlabelled/whole.trec"),
)
OF_OLDER_VERSIONS = (
    *("tuned-fusion", "tuned-fusion-windows", "pool", "pool.reranked"),
    *("bm25.reranked", "fusion.reranked", "tuned-fusion.reranked"),
)


def remove_leftovers(folder: Path, steps: Steps) -> list[str]:
    """Remove outputs that no stage of this run wrote or found up to date; returns their places in the folder."""
    removed = []
    moved = _move_models(folder, steps)
    for output, beside in _outputs(folder).items():
        if output not in steps.outputs and (output.exists() or manifest_path(output).exists()):
            for path in (manifest_path(output), partial_path(output), *beside, output):
                _remove(path)
            removed.append(output.relative_to(folder).as_posix())
    if (models := folder / "models").is_dir() and not any(models.iterdir()):
        models.rmdir()
    if removed:
        steps.note(f"removed what an earlier run with other settings left: {', '.join(removed)}")
    return [*moved, *removed]


def _move_models(folder: Path, steps: Steps) -> list[str]:
    """Put trained models that this run does not use into `models.earlier`, in place of those that are there."""
    unused = [model for name in MODELS if (model := folder / "models" / name).is_dir() and model not in steps.outputs]
    for model in unused:
        target = folder / EARLIER / model.name
        with storage_errors(target):
            target.parent.mkdir(exist_ok=True)
            manifest_path(model).unlink(missing_ok=True)
            replace_folder(model, target)
        steps.note(f"{model}: not used by this run, moved to {target}")
    return [model.relative_to(folder).as_posix() for model in unused]


def _outputs(folder: Path) -> dict[Path, list[Path]]:
    """Each output with its companion files."""
    triples, split = folder / TRIPLES, choice_files(folder)
    models = [folder / "models" / name for name in MODELS]
    runs = [folder / "runs" / f"{name}.trec" for name in (*STAGES, *FUSED, *OF_OLDER_VERSIONS)]
    names = ("topics", "choice.json", *(f"{name}.trec" for name in ("bm25", *STAGES)), *OF_EVIDENCE)
    choice = [folder / "choice" / name for name in names]
    choice += [view for place in ("choice", "runs") for view in sorted((folder / place).glob(f"{VIEW}-*.trec"))]
    judged = folder / JUDGED  # but for the grades, which may have been paid for
    judged_by = [judged / TOPICS, judged / METRICS, *sorted(judged.glob("runs/*.trec"))]
    tried = [folder / "prompts" / name for name in ("1.jsonl", "2.jsonl", "3.jsonl", "choice.json")]
    return {
        triples: [ids_path(triples), negatives_path(triples), folder / "negatives.trec"],
        split.train: split.sides,
        **{model: [model.with_name(f"{model.name}{CHECKPOINTS}")] for model in models},
        **{run: [] for run in (*runs, *choice, *judged_by, *tried)},
    }


def _remove(path: Path) -> None:
    with storage_errors(path):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
