"""The archive that a SageMaker container unpacks: a model's or a search system's folder, the handler, this package.

It names the packages that pip must add.
The same inputs give the same bytes, so that an unchanged model is known by its archive's hash.
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
OF_THE_IMAGE = ("torch",)  # whose build must be the container's
BASE = ("numpy>=1.26", "pyyaml>=6.0", "tqdm>=4.66")
LEFT_OUT = ("__pycache__",)
REQUIREMENTS_FILE, HANDLER_FILE = "code/requirements.txt", "code/inference.py"


def write_archive(folder: Path, output: Path, extras: Sequence[str] = ("train",)) -> int:
    """Write `output` from a folder, replacing it at the end; the number of files. pip adds the packages of `extras`."""
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
    """Raise ConfigError for a name that no container unpacks."""
    if not output.name.endswith(SUFFIX):
        raise ConfigError(f"{output}: the archive's name must end in {SUFFIX}")


def _members(folder: Path, extras: Sequence[str]) -> Iterator[tuple[str, Path | bytes]]:
    """Names in the archive, in order, with a file or its content."""
    yield from ((path.relative_to(folder).as_posix(), path) for path in _files(folder))
    package = Path(inpars.__file__).parent
    yield HANDLER_FILE, package / "contrib" / "deploy" / "handler.py"
    yield REQUIREMENTS_FILE, "".join(f"{line}\n" for line in _requirements(extras)).encode()
    for path in _files(package):
        if path.suffix in (".py", ".typed"):
            yield f"code/inpars/{path.relative_to(package).as_posix()}", path


def _files(folder: Path) -> list[Path]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [path for path in paths if not set(LEFT_OUT) & set(path.parts)]


def _requirements(extras: Sequence[str]) -> list[str]:
    packages = [package for extra in extras for package in EXTRAS[extra].packages]
    needed = [package for package in packages if package.name not in OF_THE_IMAGE]
    return [*BASE, *(package.requirement for package in needed)]


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
