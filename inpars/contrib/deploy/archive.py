"""The archive that a SageMaker container unpacks: a model or search system, the handler, this package, requirements.

The same inputs give the same bytes, so the archive's hash identifies the model.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import inpars
from inpars.errors import ConfigError
from inpars.extras import EXTRAS
from inpars.io.storage import atomic_file

SUFFIX = ".tar.gz"
OF_THE_IMAGE = ("torch",)  # the container brings its own build
BASE = ("numpy>=1.26", "pyyaml>=6.0", "tqdm>=4.66")
REQUIREMENTS_FILE, HANDLER_FILE = "code/requirements.txt", "code/inference.py"


def write_archive(folder: Path, output: Path, extras: Sequence[str] = ("train",)) -> int:
    """Write `output` atomically and return the number of files. The container installs the packages of `extras`."""
    check_name(output)
    count = 0
    with (
        atomic_file(output) as working,
        working.open("wb") as raw,
        gzip.GzipFile("", fileobj=raw, mode="wb", mtime=0, compresslevel=1) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for name, content in _members(folder, extras):
            _add(archive, name, content)
            count += 1
    return count


def check_name(output: Path) -> None:
    """Raise ConfigError for a name that containers do not unpack."""
    if not output.name.endswith(SUFFIX):
        raise ConfigError(f"{output}: the archive's name must end in {SUFFIX}")


def _members(folder: Path, extras: Sequence[str]) -> Iterator[tuple[str, Path | bytes]]:
    """Each member's name with its file or content, in the order of the archive."""
    yield from ((path.relative_to(folder).as_posix(), path) for path in _files(folder))
    package = Path(inpars.__file__).parent
    yield HANDLER_FILE, package / "contrib" / "deploy" / "handler.py"
    yield REQUIREMENTS_FILE, "".join(f"{line}\n" for line in _requirements(extras)).encode()
    for path in _files(package):
        if path.suffix in (".py", ".typed"):
            yield f"code/inpars/{path.relative_to(package).as_posix()}", path


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def _requirements(extras: Sequence[str]) -> list[str]:
    packages = [package for extra in extras for package in EXTRAS[extra].packages]
    return [*BASE, *(package.requirement for package in packages if package.name not in OF_THE_IMAGE)]


def _add(archive: tarfile.TarFile, name: str, content: Path | bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode = 0o644
    if isinstance(content, bytes):
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
        return
    entry.size = content.stat().st_size
    with content.open("rb") as stream:
        archive.addfile(entry, stream)
