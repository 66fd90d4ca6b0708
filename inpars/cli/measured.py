"""--run FOLDER of `search`, `ask` and `serve`: the system that a run measured, over the run's documents."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

from inpars.apps.qa.build_engine import AnswerOptions, EngineOptions, open_engine
from inpars.apps.qa.engine import Engine, SystemName
from inpars.apps.qa.measured import MEASURED, open_measured
from inpars.cli.common import DatasetFlags, add_path, open_dataset, open_dataset_if_named
from inpars.documents.datasets import Dataset
from inpars.errors import ConfigError, DataFormatError, InparsError, StaleInputError, UnknownNameError
from inpars.fusion.system import SYSTEM_FILE, SearchSystem, read_system
from inpars.options import flag_name, from_flags
from inpars.pipeline.mark import FOLDER_MARK, read_mark, source_of
from inpars.progress import Progress
from inpars.provenance import current_argv
from inpars.retrieval.vector_index import VectorIndex

FIXED = (  # flags that the system fixes or does not use
    *("retriever", "base_retriever", "reranker", "bm25", "no_bm25", "index", "depth", "fusion_depth"),
    *("k1", "b", "language", "max_length", "window_tokens", "engine", "address", "workers"),
    *("cpus_per_worker", "gpus_per_worker"),
)
DOCUMENTS = "documents"  # folder of the passages in a run of --documents


def add_run_flag(parser: argparse.ArgumentParser) -> None:
    add_path(
        parser,
        "--run",
        "use the measured system of this `inpars run`, and its documents unless others are given",
        metavar="FOLDER",
    )


def read_measured(flags: argparse.Namespace, folder: Path, *, named: str = "--run") -> SearchSystem:
    """The system of the folder. Raises ConfigError for flags that contradict it, UnknownNameError for --system."""
    typed_flags = {word.partition("=")[0] for word in current_argv() if word.startswith("--")}
    free = ("index",) if named == "--index" else ()
    if fixed := [flag for flag in map(flag_name, FIXED) if flag in typed_flags and flag.removeprefix("--") not in free]:
        raise ConfigError(f"{', '.join(fixed)}: fixed by {folder / SYSTEM_FILE}; leave it out, or {named} {folder}")
    if not folder.is_dir():
        raise DataFormatError("no such folder; give the --output of an `inpars run`", path=folder)
    system = read_system(folder)
    names = [MEASURED, *(stage.name for stage in system.stages)]
    _check_name(flags, names)
    return system


def open_run(
    flags: argparse.Namespace, folder: Path, progress: Progress, *, named: str = "--run"
) -> tuple[SearchSystem, Dataset]:
    """The system with the documents of the flags, else those of the run; `named` is the flag of its folder.

    Raises StaleInputError if the run's documents have changed; a note says if the flags name other documents.
    """
    system, mark = read_measured(flags, folder, named=named), read_mark(folder)
    if flags.dataset is not None or flags.corpus is not None:
        dataset = open_dataset(flags, progress)
        if dataset.corpus.sha256 != mark.get("corpus_sha256"):
            progress.note(f"{dataset.name}: not the documents that the system of {folder} was measured on")
        return system, dataset
    dataset = _run_dataset(flags, folder, mark, progress)
    if dataset.corpus.sha256 != mark.get("corpus_sha256"):
        raise StaleInputError(
            f"{dataset.corpus.path}: these documents have changed since {folder} was measured; run `inpars run` again, "
            "or search them anyway with --corpus"
        )
    return system, dataset


def open_named_engine(
    flags: argparse.Namespace,
    folder: Path | None,
    progress: Progress,
    *,
    answers: AnswerOptions | None = None,
    writes: bool = False,
    options: EngineOptions | None = None,
) -> Engine:
    """The engine of a run's folder or of its index, else over the documents or the index that the flags name.

    `options` default to those of the flags.
    """
    options = options or from_flags(EngineOptions, flags)
    common: dict[str, Any] = {"answers": answers, "writes": writes, "progress": progress}
    if folder is not None:
        system, dataset = open_run(flags, folder, progress)
        return open_measured(system, options, corpus=dataset.corpus, **common)
    if is_measured(flags.index):
        system = read_measured(flags, flags.index, named="--index")
        return open_measured(system, options, corpus=VectorIndex(flags.index), **common)
    _check_name(flags, get_args(SystemName))
    named = open_dataset_if_named(flags, progress)
    return open_engine(options, corpus=named.corpus if named else None, index=flags.index, **common)


def is_measured(index: Path | None) -> bool:
    return index is not None and (index / SYSTEM_FILE).is_file()


def _check_name(flags: argparse.Namespace, names: Sequence[str]) -> None:
    name = getattr(flags, "system", None)
    if name is not None and name not in names:
        raise UnknownNameError("system", name, names)


def _run_dataset(flags: argparse.Namespace, folder: Path, mark: dict[str, object], progress: Progress) -> Dataset:
    """The dataset named in the run's mark; for a run of --documents the one in the folder, which may have moved."""
    source = source_of(mark)
    if mark.get("documents"):
        source["dataset"] = str(folder / DOCUMENTS)
        if not (folder / DOCUMENTS).is_dir():
            problem = f"its folder {DOCUMENTS}/ with the passages is missing; copy it too, or give --corpus"
            raise DataFormatError(problem, path=folder)
    if not source.keys() & {"dataset", "corpus"}:
        lacks = "names no documents" if (folder / FOLDER_MARK).exists() else "is missing, which names the documents"
        raise DataFormatError(f"{FOLDER_MARK} {lacks}; give --dataset or --corpus", path=folder)
    try:
        return open_dataset(_dataset_flags(flags, source), progress)
    except InparsError as error:
        raise StaleInputError(f"{folder}: the run's documents: {error}; or give --dataset or --corpus") from error


def _dataset_flags(flags: argparse.Namespace, source: dict[str, str]) -> argparse.Namespace:
    """The flags with the run's documents, and with its queries unless the flags name some."""
    queries_source = {} if flags.queries is not None or flags.qrels is not None else source
    values = {field.name: queries_source.get(field.name, getattr(flags, field.name)) for field in fields(DatasetFlags)}
    values |= {name: source.get(name) for name in ("dataset", "corpus")}
    paths = {name: Path(value) for name in ("corpus", "queries", "qrels") if (value := values[name]) is not None}
    return argparse.Namespace(**values | paths)
