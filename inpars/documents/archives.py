"""Zip archives, unpacked without leaving their folder."""

from __future__ import annotations

import lzma
import stat
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from inpars.errors import DataFormatError
from inpars.io.corpus_files import file_key
from inpars.io.storage import atomic_folder

DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, NotImplementedError, RuntimeError, ValueError, IndexError),  # the last for a name that is empty
)
"""What `zipfile` raises for archives that are not whole."""


def unpacked(path: Path, cache: Path) -> Path:
    """The folder in the cache with the archive's files, made the first time.

    Raises DataFormatError for what is no zip, is damaged, or has an entry that points outside its folder.
    """
    target = cache / "archives" / file_key(path)
    if not target.exists():
        with atomic_folder(target) as working:
            _unpack(path, working)
    return target


def _unpack(path: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                _reject_escape(entry, path)
            archive.extractall(folder)
    except DAMAGE as error:
        raise DataFormatError(f"not a whole zip archive ({error}); fetch it again", path=path) from None


def _reject_escape(entry: zipfile.ZipInfo, path: Path) -> None:
    parts = PurePosixPath(entry.filename.replace("\\", "/"))
    drive = ":" in (parts.parts[0] if parts.parts else "")
    if parts.is_absolute() or drive or ".." in parts.parts:
        raise DataFormatError(
            "an entry points outside the archive's folder; the archive is refused", path=path, excerpt=entry.filename
        )
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise DataFormatError("an entry is a link; the archive is refused", path=path, excerpt=entry.filename)
