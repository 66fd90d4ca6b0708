"""The state of an index on disk: `index.json` lists its segments and is replaced atomically.

A writer creates new files next to the old ones, flushes them and then replaces `index.json`, so a killed writer leaves
the index either unchanged or complete. The next writer removes stale files, which no state lists. Writers take a lock;
readers need none.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from inpars.errors import ConfigError, DataFormatError
from inpars.io.json_text import parse_json
from inpars.io.locks import locked
from inpars.io.storage import atomic_writer, storage_errors
from inpars.retrieval.segments import sync_folder
from inpars.text.hashing import hex_key

INDEX_FORMAT = 1
STATE = "index.json"
LOCK = "lock"
SEGMENTS = "segments"
DELETIONS = "deletions"

StructureKind: TypeAlias = Literal["exact", "hnsw", "ivf", "int8", "binary"]


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """A segment's folder, its search structure, and the file of its deleted rows."""

    name: str
    documents: int
    structure: StructureKind
    deleted: str | None = None


@dataclass(frozen=True, slots=True)
class IndexState:
    """A snapshot of an index. `model` is the encoder's name, `weights` identifies its weights."""

    model: str
    weights: str
    width: int
    structure: Literal["auto"] | StructureKind = "auto"
    generation: int = 0
    segments: tuple[SegmentEntry, ...] = ()
    format: int = INDEX_FORMAT
    views: Mapping[str, str] = field(default_factory=dict)  # more embeddings per document: name -> weights

    @property
    def digest(self) -> str:
        """A hash of the documents and embeddings, from the segments' names, which are hashes of their content."""
        parts = [self.weights, *(f"{entry.name}\0{entry.deleted}" for entry in self.segments)]
        return hex_key(*parts, digits=64)

    def after(self, *segments: SegmentEntry) -> IndexState:
        """The next state, with these segments."""
        return replace(self, generation=self.generation + 1, segments=segments)


def is_index(folder: Path) -> bool:
    """Whether the folder contains an index."""
    return (folder / STATE).is_file()


def read_state(folder: Path) -> IndexState:
    """The state of an index. Raises DataFormatError if it is missing, damaged or of another version."""
    path = folder / STATE
    try:
        fields = parse_json(path.read_bytes())
        if fields["format"] != INDEX_FORMAT:
            raise DataFormatError(
                f"an index of format {fields['format']}, {INDEX_FORMAT} is read here; build it again", path=path
            )
        segments = tuple(_entry(entry) for entry in fields.pop("segments"))
        return _checked(IndexState(**fields, segments=segments))
    except (FileNotFoundError, NotADirectoryError):
        raise DataFormatError("no index in this folder; make one with `inpars index build`", path=folder) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataFormatError(f"not an index ({error}); build it again", path=path) from None


def _entry(fields: dict[str, Any]) -> SegmentEntry:
    """A segment's entry. Raises ValueError if it is invalid."""
    entry = SegmentEntry(**fields)
    names = [entry.name, *([entry.deleted] if entry.deleted is not None else [])]
    if not all(isinstance(name, str) and name and Path(name).name == name for name in names):
        raise ValueError("a segment's name is not a file name")
    if type(entry.documents) is not int or entry.structure not in get_args(StructureKind):
        raise ValueError(f"segment {entry.name} has a wrong number of documents or a wrong structure")
    return entry


def _checked(state: IndexState) -> IndexState:
    """The state. Raises ValueError for fields of the wrong type."""
    texts, numbers = (state.model, state.weights, state.structure), (state.width, state.generation)
    if not all(isinstance(text, str) for text in texts) or not all(type(number) is int for number in numbers):
        raise ValueError("model, weights and structure are texts, width and generation whole numbers")
    if not isinstance(state.views, dict) or not all(isinstance(weights, str) for weights in state.views.values()):
        raise ValueError("views are texts by name")
    return state


def commit(folder: Path, state: IndexState) -> None:
    """Make this the index's state, durably; all its files must be on disk already."""
    with atomic_writer(folder / STATE) as stream:
        json.dump({name: value for name, value in asdict(state).items() if name != "views" or value}, stream, indent=1)
        stream.write("\n")
    sync_folder(folder)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Lock an index for changes. Raises ConfigError if another process holds the lock."""
    with storage_errors(folder):
        (folder / SEGMENTS).mkdir(parents=True, exist_ok=True)
        (folder / DELETIONS).mkdir(exist_ok=True)
        lock = locked(folder / LOCK)
        if lock is None:
            raise ConfigError(f"{folder}: another process is changing this index; wait until it is done")
        with lock:
            yield


def stale_files(folder: Path, state: IndexState | None) -> list[Path]:
    """Files and folders that are not in the state: replaced, or left by killed writers."""
    entries = state.segments if state else ()
    current = {folder / SEGMENTS / entry.name for entry in entries}
    current |= {folder / DELETIONS / entry.deleted for entry in entries if entry.deleted}
    existing = [path for part in (SEGMENTS, DELETIONS) for path in sorted((folder / part).glob("*"))]
    return [path for path in existing if path not in current] + list(folder.glob(f".{STATE}.*.tmp"))


def remove_stale(folder: Path, state: IndexState | None, *, keep: str | None = None) -> None:
    """Remove stale files, except unfinished work named `keep`, which will be resumed."""
    for path in stale_files(folder, state):
        if path.name == keep:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def size_on_disk(folder: Path) -> int:
    """The size of all files of an index in bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
