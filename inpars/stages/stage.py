"""What all stages share: skip finished work, say why something is redone, write the manifest last."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict

from inpars.cache import cache_folder
from inpars.errors import ConfigError, StorageError
from inpars.io import manifest as manifests
from inpars.io.corpus import Corpus
from inpars.io.locks import locked
from inpars.io.manifest import FileStamp, Manifest, stamp, stamp_text
from inpars.io.storage import storage_errors
from inpars.models.folders import EMBEDDED, exists, model_folder, model_path
from inpars.models.processor import return_freed_memory
from inpars.options import check, result_settings
from inpars.progress import SILENT, Progress
from inpars.prompts.mixture import PromptSource
from inpars.provenance import current_argv
from inpars.stages.partial import Partial
from inpars.stages.shard_folder import remove_leftovers
from inpars.text.hashing import hex_key


class Running(TypedDict, total=False):
    """Keyword arguments of every stage: where to report progress, and whether to redo a finished output."""

    progress: Progress
    overwrite: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a stage reports to its manifest."""

    records: int | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)
    results: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class Stage:
    """One output of a stage: what determines it, and the files written next to it."""

    name: str
    options: Any  # a dataclass of options, or a mapping for a stage without flags
    output: Path
    inputs: Mapping[str, FileStamp]
    sides: Sequence[Path] = ()
    read: Sequence[Path] = ()  # input files without a stamp
    progress: Progress = SILENT
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Raise ConfigError for options out of bounds, an output without a name, and outputs that are also inputs."""
        check(self.options)
        if self.output.name in ("", ".."):
            raise ConfigError(f"--output {self.output} has no name of its own; give a file or folder in it")
        sources = [*(Path(stamped.path) for stamped in self.inputs.values()), *self.read]
        refuse_to_overwrite([self.output, *self.sides], sources)

    @property
    def partial(self) -> Partial:
        """The file that saves the work in progress."""
        return Partial.of(self.name, self.options, self.inputs, self.output, self.progress)

    @property
    def training(self) -> dict[str, Any]:
        """Keyword arguments of a training, which keeps its checkpoints outside `partial`."""
        fingerprint = {**result_settings(self.options), **{name: one.sha256 for name, one in self.inputs.items()}}
        return {"output": self.output, "fingerprint": fingerprint, "progress": self.progress}

    def note(self, line: str) -> None:
        self.progress.note(f"{self.name}: {line}")

    def run(self, work: Callable[[], Outcome]) -> Manifest:
        """Do the work and write its manifest, unless the existing manifest matches settings and inputs.

        Work in progress (`partial.py`, `shard_folder.py`) is removed once the manifest is written.
        """
        settings, reason = result_settings(self.options), self._why()
        self.progress.stage(self.name, self.output, up_to_date=reason is None)
        if reason is None:  # newer leftovers belong to a later run with other settings
            remove_leftovers(self.output, until=manifests.manifest_path(self.output).stat().st_mtime_ns)
            manifest = manifests.read_manifest(self.output)
            if manifest is None:
                raise RuntimeError(f"{self.output} lost its manifest while the stage ran")
            return manifest
        with _only_writer(self.output):
            if self.output.exists():
                self.note(f"rebuilding {self.output}: {reason}")
            with storage_errors(self.output), suppress(FileNotFoundError):
                self.output.lstat()  # raises if the path is unusable
            if self.sides:  # the manifest has no hashes of them
                with storage_errors(self.output):
                    manifests.manifest_path(self.output).unlink(missing_ok=True)
            return self._done(work, settings)

    def _done(self, work: Callable[[], Outcome], settings: dict[str, Any]) -> Manifest:
        started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
        outcome = work()
        return_freed_memory()
        manifest = Manifest(
            stage=self.name,
            arguments=settings,
            inputs=dict(self.inputs),
            output=stamp(self.output, outcome.records),
            seed=getattr(self.options, "seed", None),
            dropped=dict(outcome.dropped),
            results=dict(outcome.results),
            device=outcome.device,
            started=started,
            seconds=round(time.monotonic() - clock, 2),
            versions=manifests.versions(),
            git_commit=manifests.git_commit(),
            peak_bytes=manifests.peak_memory(),
            argv=current_argv(),
        )
        manifests.write_manifest(manifest, self.output)
        remove_leftovers(self.output)
        return manifest

    def _why(self) -> str | None:
        """Why the work has to be done; None if the output is up to date."""
        missing = [side for side in self.sides if not side.exists()] if self.output.exists() else []
        if self.overwrite or missing:
            return "--overwrite was given" if self.overwrite else f"{missing[0]} is not there"
        return manifests.why_stale(self.output, self.name, result_settings(self.options), self.inputs)


def _only_writer(output: Path) -> AbstractContextManager[Any]:
    """The lock on an output. Raises StorageError if another process of this machine holds it."""
    name = hex_key(os.fsencode(output.absolute()).decode("utf-8", "backslashreplace"))
    path = cache_folder() / "locks" / f"{name}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = locked(path, nested=True)  # a stage may run inside another one
    except OSError:  # the cache is read-only
        return nullcontext()
    if lock is None:
        raise StorageError(
            f"{output}: another inpars process is writing it; wait until it finishes, or choose another --output"
        )
    return lock


def refuse_to_overwrite(targets: Iterable[Path], sources: Iterable[Path]) -> None:
    """Raise ConfigError if a source would be overwritten."""
    taken = {path.resolve() for path in sources if path.exists()}
    for target in targets:
        if target.resolve() in taken:
            raise ConfigError(f"{target} is an input and would be overwritten; choose another --output")


def dropped_line(dropped: Mapping[str, int]) -> str:
    """`120 dropped: copied 7, duplicate 113`, or `nothing dropped`."""
    total = sum(dropped.values())
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(dropped.items()) if count)
    return f"{total} dropped: {reasons}" if total else "nothing dropped"


def model_stamp(name: str) -> FileStamp:
    """The stamp of a model: a folder's contents, or the name of embedded weights or of a hub id.

    Raises DataFormatError for a path without a model.
    """
    path = model_folder(name) or model_path(name)
    if name not in EMBEDDED and exists(path):
        return stamp(path)
    return stamp_text(name, name)


def input_stamps(
    *, prompt: PromptSource | None = None, corpus: Corpus | None = None, **models: str | None
) -> dict[str, FileStamp]:
    """Stamps of the prompt, the corpus and the models that a stage reads; None is left out."""
    stamps = {name.replace("_", " "): model_stamp(model) for name, model in models.items() if model is not None}
    stamps |= {} if prompt is None else {"prompt": stamp_text(prompt.name, prompt.text)}
    return stamps | ({} if corpus is None else {"corpus": corpus.stamp})
