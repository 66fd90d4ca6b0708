"""One input: a reader's name and a small tree of files, as a JSON file that anybody can run again.

Knows nothing of readers and mutations.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

READABLE_BYTES = 3000  # longer contents are packed

Files: TypeAlias = Mapping[str, bytes]
"""Relative path -> content; names that are not UTF-8 hold surrogates, as `os.fsdecode` makes them."""


@dataclass(frozen=True, slots=True)
class Case:
    """Files for one reader; `main` is the one it is told of, empty for the folder itself."""

    reader: str
    main: str
    files: Files

    def write(self, folder: Path) -> Path:
        """Write the files below the folder and return the path that the reader is told of."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return folder / self.main if self.main else folder

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(map(len, self.files.values()))


@dataclass(frozen=True, slots=True)
class Finding:
    """A case that goes wrong, and how it went wrong when it was found."""

    case: Case
    fault: str  # one line
    seed: int | None = None
    number: int | None = None


def write_finding(folder: Path, found: Finding) -> Path:
    """Write the case under a name made of its reader and content."""
    files = {name: _packed(content) for name, content in found.case.files.items()}
    record = {
        "reader": found.case.reader,
        "fault": found.fault,
        "seed": found.seed,
        "number": found.number,
        "main": found.case.main,
        "files": files,
    }
    digest = hashlib.sha256(json.dumps([found.case.reader, files]).encode()).hexdigest()[:8]
    path = folder / f"{slug(found.case.reader)}-{digest}.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="ascii")
    return path


def read_finding(path: Path) -> Finding:
    """A case that was written before."""
    record = json.loads(path.read_text(encoding="ascii"))
    files = {name: _unpacked(content) for name, content in record["files"].items()}
    case = Case(record["reader"], record["main"], files)
    return Finding(case, record["fault"], record["seed"], record["number"])


def findings_in(places: list[Path]) -> list[Path]:
    """The files named, and those below the folders."""
    return [file for place in places for file in (sorted(place.rglob("*.json")) if place.is_dir() else [place])]


def slug(reader: str) -> str:
    """`formats/read_qrels` as a part of a file's name."""
    return re.sub(r"[^\w]+", "-", os.fsencode(reader).decode("ascii", "replace")).strip("-").lower()


def _packed(content: bytes) -> Any:  # noqa: ANN401 - a JSON value
    """Text where it is short and text, so that a finding can be read."""
    if len(content) > READABLE_BYTES:
        return {"zlib": base64.b64encode(zlib.compress(content, 9)).decode("ascii")}
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(content).decode("ascii")}


def _unpacked(packed: Any) -> bytes:  # noqa: ANN401
    if isinstance(packed, str):
        return packed.encode()
    return zlib.decompress(base64.b64decode(packed["zlib"])) if "zlib" in packed else base64.b64decode(packed["base64"])
