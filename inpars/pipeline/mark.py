"""`run.json` marks the folder of a run and records its dataset and command."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inpars.documents.datasets import Dataset
from inpars.errors import DataFormatError
from inpars.io.json_text import parse_json
from inpars.io.storage import write_json
from inpars.pipeline.commands import Invocation

FOLDER_MARK = "run.json"


def read_mark(folder: Path) -> dict[str, Any]:
    """The content of the mark, empty if there is none. Raises DataFormatError."""
    path = folder / FOLDER_MARK
    try:
        mark = parse_json(path.read_bytes())
        if not isinstance(mark, dict) or not isinstance(mark.get("source") or {}, dict):
            raise TypeError("an object is needed")
        return mark
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError) as error:
        raise DataFormatError(f"not the mark of a run ({error}); remove it", path=path) from None


def write_mark(
    folder: Path, dataset: Dataset, invocation: Invocation, finished: Mapping[str, Any] | None = None
) -> None:
    """Mark the folder as a run of this dataset and invocation; `finished` are the settings of its results."""
    values = {
        "dataset": dataset.name,
        "corpus_sha256": dataset.corpus.sha256,
        **{name: getattr(invocation, name) for name in ("command", "source", "prompt", "documents")},
        **({"finished": finished} if finished is not None else {}),
    }
    write_json(folder / FOLDER_MARK, values)
