"""Runs the golden commands once, one after another, in a folder of their own."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import golden_inputs
import pytest
from fake_api import KEY, FakeApi
from golden_files import HASHES, digest, files_of, portrait, stable_manifest
from golden_steps import API, EXACT, STEPS, Step

from inpars.cli import main as cli
from inpars.retrieval.java import find_jar, find_java

HAS_JAVA = bool(find_java() and find_jar())
SUFFIX = ".manifest.json"


@dataclass
class Pipeline:
    """What the steps left: portraits of files, manifests, one digest, and what a step said where it failed."""

    folder: Path
    api: FakeApi
    made: dict[str, dict[str, Any]] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    flushed: dict[str, list[str]] = field(default_factory=dict)
    _exact: set[str] = field(default_factory=lambda: set(golden_inputs.EXACT_INPUTS))

    def run(self, step: Step) -> None:
        """Run one command, and look at what it wrote before a later one writes on."""
        if step.missing(HAS_JAVA):
            return
        before = self._manifests()
        said = io.StringIO()
        with _watched_flushes(self.flushed.setdefault(step.name, [])), contextlib.redirect_stderr(said):
            code = cli.main(self.arguments(step))
        gc.freeze()  # the stages collect garbage when they end: what was there before need not be looked through again
        if step.tolerance == EXACT:
            self._exact |= set(step.outputs)
        if code or not all((self.folder / output).exists() for output in step.outputs):
            self.failures[step.name] = f"exit {code}: {said.getvalue()}"
            return
        names = list(files_of(self.folder, step.outputs))
        written = [path for path, moment in self._manifests().items() if before.get(path) != moment]
        self.digests[step.name] = digest(self.folder, names)
        self.made[step.name] = {
            "command": f"inpars {shlex.join(step.arguments)}",
            "outputs": {HASHES.sub("", name): portrait(self.folder / name, step.tolerance) for name in names},
            "manifests": {self._name(path): self._manifest(path) for path in sorted(written)},
        }

    def arguments(self, step: Step) -> list[str]:
        """The command with the fake server's true address."""
        return [self.api.url if word == API else word for word in step.arguments]

    def _manifests(self) -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in self.folder.rglob(f"*{SUFFIX}")}

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix().removesuffix(SUFFIX)

    def _manifest(self, path: Path) -> dict[str, Any]:
        return stable_manifest(path, self._exact)


@contextlib.contextmanager
def pipeline(folder: Path) -> Iterator[Pipeline]:
    """The folder with all steps done; the fake server answers until the end."""
    import torch

    golden_inputs.make_inputs(folder)
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch, FakeApi() as api:
        patch.chdir(folder)
        patch.setenv("INPARS_CACHE", str(folder / "cache"))
        patch.setenv("OPENAI_API_KEY", KEY)
        patch.setenv("NO_PROXY", "127.0.0.1")
        done = Pipeline(folder, api)
        try:
            for step in STEPS:
                done.run(step)
            yield done
        finally:
            torch.set_num_threads(threads)


@contextlib.contextmanager
def _watched_flushes(names: list[str]) -> Iterator[None]:
    """The names of the files that are flushed to the disk, in order."""
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        names.append(name_of(descriptor))
        fsync(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", watched)
        yield


def name_of(descriptor: int) -> str:
    """The file behind a descriptor, where the system tells (Linux does)."""
    link = Path(f"/proc/self/fd/{descriptor}")
    return str(link.readlink()) if link.parent.exists() else ""
