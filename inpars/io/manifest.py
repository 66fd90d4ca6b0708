"""The manifest `<name>.manifest.json`, written last and atomically, proves that an output is complete.

It records the stage, its settings, hashes of inputs and output, drop counts, versions, device and times. `status`
compares it with the current settings and inputs.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from inpars import __version__
from inpars.errors import DataFormatError
from inpars.io.json_text import parse_json, plain_json, to_json
from inpars.io.storage import atomic_writer

LONGEST_SECONDS = 1e12  # upper limit of a plausible duration
MANIFEST_SUFFIX = ".manifest.json"
TRACKED_PACKAGES = (
    "torch",
    "transformers",
    "sentence-transformers",
    "pyserini",
    "openai",
    "ir-measures",
    "ir-datasets",
)
CHUNK_BYTES = 1 << 20
WORD_BITS = 64
CARD = "README.md"
MEASURED_BEGIN, MEASURED_END = "<!-- measured later -->", "<!-- end of what was measured later -->"
_MEASURED = re.compile(f"{MEASURED_BEGIN}\n.*?{MEASURED_END}\n".encode(), re.DOTALL)


@dataclass(frozen=True, slots=True)
class FileStamp:
    """The content of a file or folder, identified by hash; `records` is None if not counted."""

    path: str
    sha256: str
    size: int
    records: int | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """The record of one finished stage."""

    stage: str
    arguments: dict[str, Any]
    inputs: dict[str, FileStamp]
    output: FileStamp
    seed: int | None = None
    dropped: dict[str, int] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    device: str = ""
    started: str = ""
    seconds: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)
    git_commit: str | None = None
    peak_bytes: int = 0  # peak memory of the process when the stage ended; 0 if unknown
    argv: list[str] = field(default_factory=list)  # the command line; empty if called from Python


def manifest_path(output: Path) -> Path:
    """The manifest's path for an output file or folder."""
    return output.with_name(output.name + MANIFEST_SUFFIX)


def peak_memory() -> int:
    """Peak memory of this process so far, in bytes; 0 on Windows."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def write_manifest(manifest: Manifest, output: Path) -> None:
    """Write the manifest of `output`; call this last."""
    with atomic_writer(manifest_path(output)) as stream:
        stream.write(to_json(asdict(manifest), indent=1, default=str) + "\n")


def read_manifest(output: Path) -> Manifest | None:
    """The manifest of `output`, None if it has none. Raises DataFormatError for an invalid manifest."""
    path = manifest_path(output)
    try:
        fields = plain_json(parse_json(path.read_bytes()))
        fields["inputs"] = {name: _stamp_of(stamp) for name, stamp in fields["inputs"].items()}
        fields["output"] = _stamp_of(fields["output"])
        manifest = Manifest(**fields)
        _check(manifest)
        return replace(manifest, results=Results(manifest.results, path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataFormatError(f"not a manifest ({error}); remove it to redo the stage", path=path) from None


class Results(dict[str, Any]):
    """The results of a stage. Raises DataFormatError for a missing name."""

    def __init__(self, values: Any = (), path: Path | None = None) -> None:  # noqa: ANN401  as in dict
        super().__init__(values)
        self._path = path

    def __missing__(self, name: str) -> Any:  # noqa: ANN401
        raise DataFormatError(f"no {name!r} in its results; remove this manifest to redo the stage", path=self._path)


def _stamp_of(fields: Mapping[str, Any]) -> FileStamp:
    stamp = FileStamp(**fields)
    if not isinstance(stamp.path, str) or not isinstance(stamp.sha256, str) or type(stamp.size) is not int:
        raise ValueError("a stamp has a path, a hash and a size")
    if stamp.records is not None and type(stamp.records) is not int:
        raise ValueError("the number of records must be whole")
    return stamp


def _check(manifest: Manifest) -> None:
    """Raise ValueError for fields of the wrong type or out of range."""
    for name, kind in _KINDS.items():
        if not isinstance(getattr(manifest, name), kind):
            raise ValueError(f"{name} is of the wrong kind")
    if not all(type(count) is int for count in manifest.dropped.values()):
        raise ValueError("dropped must hold whole numbers")
    if any(
        map(_too_large, (manifest.arguments, manifest.results, manifest.dropped, manifest.seconds, manifest.peak_bytes))
    ):
        raise ValueError("a whole number is too large")
    if not 0 <= manifest.seconds < LONGEST_SECONDS:  # nor NaN
        raise ValueError("seconds must be a time")


def _too_large(value: object) -> bool:
    """Whether a JSON value contains an integer of more than 64 bits, with which sums and means would fail."""
    if isinstance(value, dict):
        return any(map(_too_large, value.values()))
    if isinstance(value, list):
        return any(map(_too_large, value))
    return isinstance(value, int) and value.bit_length() > WORD_BITS


_KINDS: Mapping[str, Any] = {
    **dict.fromkeys(("stage", "device", "started"), str),
    **dict.fromkeys(("arguments", "dropped", "results", "versions"), dict),
    "seconds": int | float,
    "peak_bytes": int,
}


def why_stale(output: Path, stage: str, arguments: Mapping[str, Any], inputs: Mapping[str, FileStamp]) -> str | None:
    """Why the output must be rebuilt; None if its manifest still matches."""
    if not output.exists():
        return "it does not exist yet"
    manifest = read_manifest(output)
    if manifest is None:
        return "it was not finished"
    if manifest.stage != stage:
        return f"it was made by {manifest.stage!r}"
    if size_of(output) != manifest.output.size or sha256_of(output) != manifest.output.sha256:
        return "it was changed after it was made"
    settings = json.loads(json.dumps(dict(arguments), default=str))
    return _difference("setting", manifest.arguments, settings) or _difference(
        "input",
        {name: stamp.sha256 for name, stamp in manifest.inputs.items()},
        {name: stamp.sha256 for name, stamp in inputs.items()},
    )


def stamp(path: Path, records: int | None = None) -> FileStamp:
    """A stamp of a file, or of a folder by its sorted relative names and contents."""
    return FileStamp(str(path), sha256_of(path), size_of(path), records)


def stamp_text(name: str, text: str) -> FileStamp:
    """A stamp of an input that is not a file, such as a prompt's text."""
    raw = text.encode("utf-8", "surrogateescape")
    return FileStamp(name, hashlib.sha256(raw).hexdigest(), len(raw))


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file, or of a folder's names and contents without later additions to its model card."""
    digest = hashlib.sha256()
    for part in _files(path):
        if path.is_dir():
            digest.update(os.fsencode(part.relative_to(path).as_posix()) + b"\0")  # names may be arbitrary bytes
        if path.is_dir() and part.name == CARD:
            digest.update(_lasting(part))
            continue
        with part.open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()


def size_of(path: Path) -> int:
    """Size in bytes of what `sha256_of` hashes."""
    if not path.is_dir():
        return sum(part.stat().st_size for part in _files(path))
    return sum(len(_lasting(part)) if part.name == CARD else part.stat().st_size for part in _files(path))


def _lasting(card: Path) -> bytes:
    """A model card without measurements of later runs, which do not change the model."""
    return _MEASURED.sub(b"", card.read_bytes())


def versions() -> dict[str, str]:
    """Versions of Python, this package and the packages that influence results."""
    versions = {"python": platform.python_version(), "inpars": __version__}
    for name in TRACKED_PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def git_commit() -> str | None:
    """The git commit of the checkout that this package runs from, if any."""
    here = Path(__file__).resolve().parent
    if not (here.parent / ".git").exists():
        return None
    command = ["git", "-C", str(here), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _files(path: Path) -> Iterable[Path]:
    if not path.exists():
        raise DataFormatError("no such file or folder; check the path", path=path)
    return [path] if path.is_file() else sorted(part for part in path.rglob("*") if part.is_file())


def _difference(kind: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    names = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    return f"{kind} changed: {', '.join(names)}" if names else None
