"""Adds the measures of `inpars run` and `inpars evaluate` to the cards of the models that made the runs.

A card that cannot be changed only causes a note.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from inpars.cards.card import Measured, add_numbers, plain_name
from inpars.errors import InparsError
from inpars.evaluation.measures import Evaluation
from inpars.io.manifest import CARD, FileStamp, Manifest, read_manifest
from inpars.io.model_judgements import Origin
from inpars.progress import Progress
from inpars.stages.caveats import lineage

USING_MODELS = ("search", "rerank", "search system")  # stages that use a model to make a run


def add_numbers_of_run(
    trained: Mapping[str, Manifest],
    evaluations: Mapping[str, Evaluation],
    metric: str,
    collection: tuple[str, str],
    reranked: str,
    progress: Progress,
) -> None:
    """Add a whole run's systems to the cards of its `retriever` and `reranker`, if these were trained.

    `collection` is a dataset's name and its split. Names of reranked systems end in `reranked`; the reranker's card
    lists them with their first stages.
    """
    first_stages = [name for name in evaluations if not name.endswith(reranked)]
    after = [name for name in evaluations if name.endswith(reranked)]
    before = [name for name in first_stages if f"{name}{reranked}" in evaluations]
    for folder, names in (("retriever", first_stages), ("reranker", [*before, *after])):
        rows = _rows({name: evaluations[name] for name in names}, metric, collection)
        if rows and folder in trained:
            _add(Path(trained[folder].output.path), rows, progress)


def split_label(split: str, origin: Origin | None) -> str:
    """A split and, if any, the model that judged it."""
    return split if origin is None else f"{split}, judged by {origin.model}"


def add_numbers_of_evaluation(
    runs: Mapping[str, Path],
    evaluations: Mapping[str, Evaluation],
    metric: str,
    collection: tuple[str, str],
    baseline: str,
    progress: Progress,
) -> None:
    """Add the evaluated runs and the baseline to the cards of the models that made them."""
    systems: dict[Path, list[str]] = {}
    for name, path in runs.items():
        for model in models_behind(path):
            systems.setdefault(model, []).append(name)
    for model, names in systems.items():
        chosen = {name: evaluations[name] for name in dict.fromkeys([baseline, *names])}
        _add(model, _rows(chosen, metric, collection), progress)


def models_behind(run: Path) -> list[Path]:
    """The unchanged model folders with a card that a run was made with."""
    stamps = (
        s for _, manifest in lineage(run).steps if manifest.stage in USING_MODELS for s in manifest.inputs.values()
    )
    return list(dict.fromkeys(Path(stamp.path) for stamp in stamps if _has_card(stamp)))


def _has_card(stamp: FileStamp) -> bool:
    folder = Path(stamp.path)
    manifest = read_manifest(folder) if (folder / CARD).is_file() else None
    return manifest is not None and manifest.output.sha256 == stamp.sha256


def _rows(evaluations: Mapping[str, Evaluation], metric: str, collection: tuple[str, str]) -> list[Measured]:
    dataset, split = collection
    rows = []
    for name, evaluation in evaluations.items():
        system = "/".join(Path(name).parts[-2:]) if Path(name).exists() else name  # a run named by its path
        measured = f"{plain_name(dataset)}, {split} ({evaluation.queries} queries)"
        rows.append(Measured(measured, metric, system, evaluation.means[metric]))
    return rows


def _add(model: Path, rows: Iterable[Measured], progress: Progress) -> None:
    try:
        add_numbers(model, list(rows))
    except (InparsError, OSError) as error:
        progress.note(f"numbers are not added to a model card: {error}")
