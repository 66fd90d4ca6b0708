"""What all stages share: skip what is done, say why something is redone, write the manifest last."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from inpars import manifest as manifests
from inpars.errors import ConfigError
from inpars.manifest import FileStamp, Manifest, stamp_text
from inpars.models.embedded import EMBEDDED
from inpars.models.folders import exists, model_folder, model_path
from inpars.models.processor import return_freed_memory
from inpars.options import check, result_settings
from inpars.progress import Progress
from inpars.provenance import current_argv
from inpars.stages.shard_folder import remove_leftovers
from inpars.storage import storage_errors


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a stage's work has to tell its manifest."""

    records: int | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)
    results: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"


def run_stage(
    stage: str,
    options: Any,
    *,
    output: Path,
    inputs: Mapping[str, FileStamp],
    work: Callable[[], Outcome],
    progress: Progress,
    overwrite: bool = False,
) -> Manifest:
    """Do the work unless the output's manifest matches settings and inputs, then write its manifest.

    What the work saved on the way (`partial.py`, `shard_folder.py`) goes once the manifest stands.

    Raises ConfigError for numbers below their minimum, and where the output is one of the inputs.
    """
    check(options)
    refuse_to_overwrite([output], [Path(stamp.path) for stamp in inputs.values()])
    settings = result_settings(options)
    reason = "--overwrite was given" if overwrite else manifests.why_stale(output, stage, settings, inputs)
    progress.stage(stage, output, up_to_date=reason is None)
    if reason is None:
        remove_leftovers(output)
        return _known(output)
    if output.exists():
        progress.note(f"{stage}: {output} is made again, because {reason}")
    with storage_errors(output):
        manifests.manifest_path(output).unlink(missing_ok=True)
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    outcome = work()
    return_freed_memory()
    manifest = Manifest(
        stage=stage,
        arguments=settings,
        inputs=dict(inputs),
        output=manifests.stamp(output, outcome.records),
        seed=getattr(options, "seed", None),
        dropped=dict(outcome.dropped),
        results=dict(outcome.results),
        device=outcome.device,
        started=started,
        seconds=round(time.monotonic() - clock, 2),
        versions=manifests.versions(),
        git_commit=manifests.git_commit(),
        argv=current_argv(),
    )
    manifests.write_manifest(manifest, output)
    remove_leftovers(output)
    return manifest


def refuse_to_overwrite(targets: Iterable[Path], sources: Iterable[Path]) -> None:
    """Raise ConfigError where a file that is read would be written."""
    taken = {path.resolve() for path in sources if path.exists()}
    for target in targets:
        if target.resolve() in taken:
            raise ConfigError(f"{target} is an input and would be overwritten; choose another --output")


def _known(output: Path) -> Manifest:
    manifest = manifests.read_manifest(output)
    if manifest is None:
        raise RuntimeError(f"{output} lost its manifest while the stage ran")
    return manifest


def dropped_line(dropped: Mapping[str, int]) -> str:
    """`120 dropped: copied 7, duplicate 113` for people; empty where nothing was dropped."""
    total = sum(dropped.values())
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(dropped.items()) if count)
    return f"{total} dropped: {reasons}" if total else "nothing dropped"


def model_stamp(name: str) -> FileStamp:
    """What a model's name stands for: a folder by content, embedded weights and hub ids by name.

    Raises DataFormatError for a path that holds no model, before it is read as a whole.
    """
    path = model_folder(name) or model_path(name)
    if name not in EMBEDDED and exists(path):
        return manifests.stamp(path)
    return stamp_text(name, name)
