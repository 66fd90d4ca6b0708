"""What an earlier run with other settings left in the folder: models that are not used, and what was made by them.

Only what a whole run writes by itself is named here, so that nobody else's file is removed.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from inpars.manifest import manifest_path
from inpars.pipeline.held_out import choice_files
from inpars.pipeline.steps import Steps
from inpars.pipeline.training import TRIPLES
from inpars.stages.mining import ids_path, negatives_path
from inpars.stages.partial import partial_path
from inpars.storage import storage_errors

CHECKPOINTS = ".checkpoints"  # of an interrupted training
MODELS = ("retriever", "reranker")
STAGES = ("base", "tuned", "whole")  # first stages that not every run has
FUSED = ("whole-fusion", "fusion-windows", "mix.reranked")
OF_OLDER_VERSIONS = (
    *("tuned-fusion", "tuned-fusion-windows", "pool", "pool.reranked"),
    *("bm25.reranked", "fusion.reranked", "tuned-fusion.reranked"),
)


def remove_leftovers(folder: Path, steps: Steps) -> list[str]:
    """Remove outputs that no stage of this run wrote or found up to date; their places in the folder."""
    removed = []
    for output, beside in _outputs(folder).items():
        if output not in steps.outputs and (output.exists() or manifest_path(output).exists()):
            for path in (manifest_path(output), partial_path(output), *beside, output):
                _remove(path)
            removed.append(output.relative_to(folder).as_posix())
    if (models := folder / "models").is_dir() and not any(models.iterdir()):
        models.rmdir()
    if removed:
        steps.note(f"removed what an earlier run with other settings left: {', '.join(removed)}")
    return removed


def _outputs(folder: Path) -> dict[Path, list[Path]]:
    """Each output with its companion files."""
    triples, split = folder / TRIPLES, choice_files(folder)
    models = [folder / "models" / name for name in MODELS]
    runs = [folder / "runs" / f"{name}.trec" for name in (*STAGES, *FUSED, *OF_OLDER_VERSIONS)]
    choice = [folder / "choice" / f"{name}.trec" for name in STAGES]
    return {
        triples: [ids_path(triples), negatives_path(triples), folder / "negatives.trec"],
        split.train: split.sides,
        **{model: [model.with_name(f"{model.name}{CHECKPOINTS}")] for model in models},
        **{run: [] for run in (*runs, *choice)},
    }


def _remove(path: Path) -> None:
    with storage_errors(path):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
