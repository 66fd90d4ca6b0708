"""URLs in a command's arguments: fetches inputs first, stores outputs during the command and at its end.

The command itself sees only local paths. Existing parts of an output are fetched too, so another machine can resume;
partial files are stored regularly, manifests last.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from inpars.contrib.remote.mirror import Mirror, is_url
from inpars.errors import ConfigError, InparsError
from inpars.io.manifest import MANIFEST_SUFFIX
from inpars.stages.shards import Shard, shard_path

OUTPUT_FLAGS = {f"--{name}" for name in ("output", "output-train", "output-dev", "queries-dev", "qrels-dev")}
OUTPUT_FLAGS |= {f"--{name}" for name in ("pairs", "report", "write-kept", "index")}
PARTIAL = ".partial"
SIDES = (".ids.tsv", ".negatives.jsonl")  # next to a file of triples
RUNS_BESIDE = ("negatives.trec", "negatives.dense.trec")
SECONDS_BETWEEN = 60.0  # between uploads during a command; INPARS_REMOTE_SECONDS overrides it
QUIET_SECONDS = 10.0  # how long a file of a folder must be unchanged before an upload during a command


@contextmanager
def local_paths(command: str, arguments: Sequence[str], note: Callable[[str], None]) -> Iterator[list[str]]:
    """Yield the arguments with local paths for URLs; the block's output is stored even if it fails."""
    parsed = list(_with_flags(arguments))
    mirror = Mirror()
    shard = next((Shard.parse(value) for flag, value, _ in parsed if flag == "--shard" and value), None)
    outputs = [
        Output(mirror, mirror.path(value), shard, merges=command == "merge")
        for flag, value, _ in parsed
        if flag in OUTPUT_FLAGS and is_url(value)
    ]
    for output in outputs:
        output.fetch()
    for flag, value, _ in parsed:
        if is_url(value) and flag not in OUTPUT_FLAGS:
            note(f"fetching {value}")
            mirror.fetch(value, siblings=_belongs_to(mirror.path(value)))
    local = [
        argument.replace(value, str(mirror.path(value))) if is_url(value) else argument for _, value, argument in parsed
    ]
    with _stored_meanwhile(outputs, note):
        yield local
    for output in outputs:
        note(f"stored {mirror.url(output.path)}")


def _with_flags(arguments: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Each argument as (its flag, its value, the argument)."""
    flag = ""
    for argument in arguments:
        if argument.startswith("--"):
            flag, equals, value = argument.partition("=")
            yield flag, value if equals else "", argument
        else:
            yield flag, argument, argument
            flag = ""


def _belongs_to(path: Path) -> Callable[[str], bool]:
    stem = path.name.removesuffix(".gz").removesuffix(".tsv")
    sides = {stem + side for side in SIDES}
    return lambda name: (name.startswith(f"{path.name}.") and not name.endswith(PARTIAL)) or name in sides


@dataclass(slots=True)
class Output:
    """A file or folder that a command writes, with the files next to it."""

    mirror: Mirror
    path: Path
    shard: Shard | None = None
    merges: bool = False
    began: float = field(default_factory=time.time)

    @property
    def file(self) -> Path:
        """The output file, or that of the shard."""
        return self.path if self.shard is None else shard_path(self.path, self.shard)

    def fetch(self) -> None:
        """Fetch what another machine has already done."""
        belongs, name = _belongs_to(self.file), self.file.name
        stem = self.path.name.removesuffix(".gz").partition(".")[0]

        def is_fetched(other: str) -> bool:
            if self.merges and ".shard-" in other:
                return other.startswith(f"{stem}.") and not other.endswith(PARTIAL)
            return other == name or other == name + PARTIAL or belongs(other) or other in RUNS_BESIDE

        self.mirror.fetch_beside(self.file, is_fetched)
        self.mirror.fetch_below(self.file)
        self.mirror.fetch_below(self.file.with_name(f"{name}.shards"))

    def store_meanwhile(self) -> None:
        """Store changed files during the command; files inside a folder only after `QUIET_SECONDS` without a write."""
        for path in self._changed():
            beside = path.parent == self.file.parent
            if path.exists() and (beside or time.time() - path.stat().st_mtime > QUIET_SECONDS):
                self.mirror.store(path)

    def store(self) -> None:
        """Store all changed files, manifests last, and remove the object of a finished partial file."""
        for path in sorted(self._changed(), key=lambda path: path.name.endswith(MANIFEST_SUFFIX)):
            if path.exists():
                self.mirror.store(path)
        partial = self.file.with_name(self.file.name + PARTIAL)
        if self.mirror.is_stored(partial) and not partial.exists():
            self.mirror.remove(partial)

    def _changed(self) -> list[Path]:
        """Files written since the command began: below the output and next to it, without other shards."""
        folders = [folder for folder in (self.file, self.file.with_name(f"{self.file.name}.shards")) if folder.is_dir()]
        below = [path for folder in folders for path in sorted(folder.rglob("*"))]
        beside = sorted(self.file.parent.iterdir()) if self.file.parent.is_dir() else []
        return [path for path in (*below, *(path for path in beside if self._is_own(path.name))) if self._is_new(path)]

    def _is_own(self, name: str) -> bool:
        return name.startswith(self.file.name) if self.shard is not None else ".shard-" not in name

    def _is_new(self, path: Path) -> bool:
        hidden = path.name.startswith(".")
        return (
            not hidden
            and path.is_file()
            and (path.stat().st_mtime >= self.began - 1 or not self.mirror.is_stored(path))
        )


def _seconds_between() -> float:
    text = os.environ.get("INPARS_REMOTE_SECONDS", str(SECONDS_BETWEEN))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise ConfigError(f"INPARS_REMOTE_SECONDS is {text!r}; give seconds, for example {SECONDS_BETWEEN:g}")
    return seconds


@contextmanager
def _stored_meanwhile(outputs: Sequence[Output], note: Callable[[str], None]) -> Iterator[None]:
    """Store partial files from a thread while the block runs, and everything when it ends or fails."""
    stopped = threading.Event()
    seconds = _seconds_between()

    def work() -> None:
        wait = seconds
        while not stopped.wait(wait):
            began = time.monotonic()
            for output in outputs:
                try:
                    output.store_meanwhile()
                except (InparsError, OSError) as error:
                    note(f"{error}; will retry")
            wait = max(seconds, 10 * (time.monotonic() - began))  # uploads take at most a tenth of the time

    thread = threading.Thread(target=work, name="inpars-remote", daemon=True)
    if outputs:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        if outputs:
            thread.join()
        for output in outputs:
            output.store()
