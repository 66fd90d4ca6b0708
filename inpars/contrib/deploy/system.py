"""The search system of a run as one portable folder: its documents, its trained models and its settings.

`inpars search`, `ask`, `serve` and `index build` take the folder with --run. Models that the run did not train are
named, not copied, unless all models are requested, as for an archive.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from inpars.documents.datasets import Dataset, load_dataset
from inpars.errors import ConfigError
from inpars.fusion.system import BM25, SearchSystem, with_models, write_system
from inpars.io.formats import write_documents
from inpars.io.storage import replace_folder, storage_errors
from inpars.models.folders import check_output
from inpars.pipeline.commands import Invocation
from inpars.pipeline.mark import write_mark

DOCUMENTS, MODELS, CORPUS = "documents", "models", "corpus.jsonl"


def export_system(
    run: Path, system: SearchSystem, dataset: Dataset, output: Path, command: str, *, all_models: bool = False
) -> list[str]:
    """Write the folder, replacing an existing one, and return the names of the models in it.

    `all_models` also copies models that the run did not train. Raises ConfigError for a model that is not on this
    machine.
    """
    check_output(output, (f"{DOCUMENTS}/{CORPUS}",))
    working = output.with_name(f".{output.name}.tmp")
    sources = _sources(run, system, all_models=all_models)
    names = [folder.name for folder in sources.values()]  # repeated names get a number
    numbered = (name if names.index(name) == index else f"{name}-{index}" for index, name in enumerate(names))
    folder_names = dict(zip(sources, numbered, strict=True))
    try:
        with storage_errors(output):
            shutil.rmtree(working, ignore_errors=True)
            (working / DOCUMENTS).mkdir(parents=True)
            write_documents(working / DOCUMENTS / CORPUS, dataset.corpus)
            for model, folder in sources.items():
                shutil.copytree(folder, working / MODELS / folder_names[model])
            copies = {model: str(working / MODELS / folder_name) for model, folder_name in folder_names.items()}
            write_system(with_models(system, lambda model: copies.get(model, model)), working)
            source = {"dataset": DOCUMENTS, "split": "test"}
            write_mark(working, load_dataset(str(working / DOCUMENTS)), Invocation(command, source, documents=str(run)))
        replace_folder(working, output)
    finally:
        shutil.rmtree(working, ignore_errors=True)
    return sorted(folder_names.values())


def _sources(run: Path, system: SearchSystem, *, all_models: bool) -> dict[str, Path]:
    """The folders of the models to copy, by their names in the system."""
    names = [stage.retriever for stage in system.stages if stage.retriever != BM25]
    names += [name for each in system.rerankings for name in (each.model, each.window_retriever) if name]
    trained = {name: Path(name) for name in names if Path(name).parent == run / MODELS}
    return {
        name: trained.get(name) or _folder_of(name) for name in dict.fromkeys(names) if all_models or name in trained
    }


def _folder_of(model: str) -> Path:
    from inpars.models.loading import resolve_model  # torch

    folder = Path(resolve_model(model))
    if not folder.is_dir():
        raise ConfigError(f"{model}: not a folder on this machine; download it and name its folder in the run")
    return folder
