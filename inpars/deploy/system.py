"""The search system of a run as one folder: its documents, its trained models and its settings, to carry elsewhere.

`inpars search`, `ask`, `serve` and `index build` take the folder with --run. Models that the run did not train stay
named as they are: an embedded name, a hub id or a folder of the machine.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from inpars.datasets import Dataset, load_dataset
from inpars.formats import write_documents
from inpars.fusion.system import SearchSystem, write_system
from inpars.pipeline.results import Asked, write_mark
from inpars.storage import replace_folder, storage_errors

DOCUMENTS, MODELS = "documents", "models"


def export_system(run: Path, system: SearchSystem, dataset: Dataset, output: Path, command: str) -> list[str]:
    """Write the folder, replacing one that is there; the names of the models that it holds."""
    working = output.with_name(f".{output.name}.tmp")
    try:
        with storage_errors(output):
            shutil.rmtree(working, ignore_errors=True)
            (working / DOCUMENTS).mkdir(parents=True)
            write_documents(working / DOCUMENTS / "corpus.jsonl", dataset.corpus)
            own = _own_models(run, system)
            for model in own:
                shutil.copytree(run / MODELS / model, working / MODELS / model)
            carried = {str(run / MODELS / model): str(working / MODELS / model) for model in own}
            write_system(_with_models(system, carried), working)
            source = {"dataset": DOCUMENTS, "split": "test"}
            write_mark(working, load_dataset(str(working / DOCUMENTS)), Asked(command, source, documents=str(run)))
        replace_folder(working, output)
    finally:
        shutil.rmtree(working, ignore_errors=True)
    return own


def _own_models(run: Path, system: SearchSystem) -> list[str]:
    """The models that lie in the run's folder."""
    names = [stage.retriever for stage in system.stages] + ([system.reranking.model] if system.reranking else [])
    return sorted({Path(name).name for name in names if Path(name).parent == run / MODELS})


def _with_models(system: SearchSystem, carried: dict[str, str]) -> SearchSystem:
    stages = tuple(replace(stage, retriever=carried.get(stage.retriever, stage.retriever)) for stage in system.stages)
    reranking = system.reranking
    if reranking is not None:
        reranking = replace(reranking, model=carried.get(reranking.model, reranking.model))
    return replace(system, stages=stages, reranking=reranking)
