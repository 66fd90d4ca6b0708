"""`run.json` marks the folder of a run and records its dataset and command."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from inpars.documents.datasets import Dataset
from inpars.errors import DataFormatError
from inpars.io.json_text import parse_json
from inpars.io.storage import write_json
from inpars.pipeline.commands import Invocation

FOLDER_MARK = "run.json"
SOURCES = ("dataset", "corpus", "queries", "qrels")  # flags with a path, or a name


def read_mark(folder: Path) -> dict[str, Any]:
    """The content of the mark, empty if there is none. Raises DataFormatError."""
    path = folder / FOLDER_MARK
    try:
        mark = parse_json(path.read_bytes())
        if not isinstance(mark, dict) or not isinstance(source := mark.get("source") or {}, dict):
            raise TypeError("an object is needed")
        if not all(isinstance(text, str) for text in (mark.get("working_folder") or "", *source.values())):
            raise TypeError("its source is not of texts")
        return mark
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError) as error:
        raise DataFormatError(f"not the mark of a run ({error}); remove it", path=path) from None


def run_folders(folders: Sequence[Path]) -> Iterator[Path]:
    """The folders of runs below these."""
    for path in (path for folder in folders for path in sorted(folder.rglob(FOLDER_MARK))):
        with suppress(DataFormatError, OSError):  # another program's file
            if path.parent not in folders and "corpus_sha256" in read_mark(path.parent):
                yield path.parent


def write_mark(
    folder: Path, dataset: Dataset, invocation: Invocation, finished: Mapping[str, Any] | None = None
) -> None:
    """Mark the folder as a run of this dataset and invocation; `finished` are the settings of its results."""
    values = {
        "dataset": dataset.name,
        "corpus_sha256": dataset.corpus.sha256,
        **{name: getattr(invocation, name) for name in ("command", "source", "prompt", "documents")},
        "working_folder": str(Path.cwd()),
        **({"finished": finished} if finished is not None else {}),
    }
    write_json(folder / FOLDER_MARK, values)


def source_of(mark: Mapping[str, Any]) -> dict[str, str]:
    """The flags that name the run's dataset; relative paths that lead nowhere here are those of its working folder."""
    source: dict[str, str] = dict(mark.get("source") or {})
    for name in (name for name in SOURCES if name in source):
        there = Path(mark.get("working_folder") or "", source[name])
        if not Path(source[name]).exists() and there.exists():
            source[name] = str(there)
    return source
