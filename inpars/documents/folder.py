"""Find the files to read in folders, and the reasons why others are skipped."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urlsplit

from inpars.cache import cache_folder
from inpars.documents.readers import KINDS, ReadOptions, kind_of
from inpars.errors import ConfigError, DataFormatError
from inpars.io.json_text import replace_surrogates
from inpars.io.manifest import FileStamp, sha256_of

NOT_READ = "of no kind that is read"
NOT_ALLOWED = "without permission to read it"
LINKED = "a link to a folder, which is not followed, or to nothing"
_NOT_IN_IDS = re.compile(r"[\s%\ud800-\udfff]")  # names that are not UTF-8 contain surrogates


@dataclass(frozen=True)
class SourceFile:
    """A file to read: `name` is the prefix of its documents' ids, `source` goes into their metadata."""

    path: Path
    name: str
    source: str

    @property
    def title(self) -> str:
        """A title for documents without one: the name of the file, or of a page in its URL."""
        if "://" in self.source:
            return replace_surrogates(unquote(PurePosixPath(urlsplit(self.source).path).stem))
        return replace_surrogates(self.path.stem)

    @cached_property
    def sha256(self) -> str:
        """The hash of the file's bytes."""
        return sha256_of(self.path)


@dataclass(frozen=True, slots=True)
class FoundFiles:
    """The readable files, sorted by name, and the skipped files by reason."""

    where: str
    readable: list[SourceFile]
    skipped: dict[str, list[str]] = field(default_factory=dict)  # reason -> names

    @property
    def stamp(self) -> FileStamp:
        """A stamp of the readable files' names and contents."""
        digest = hashlib.sha256()
        for file in self.readable:
            digest.update(f"{file.name}\0{file.sha256}\n".encode())
        size = sum(file.path.stat().st_size for file in self.readable)
        return FileStamp(self.where, digest.hexdigest(), size, len(self.readable))


def find_files(
    sources: Sequence[Path], options: ReadOptions | None = None, leave_out: Collection[Path] = ()
) -> FoundFiles:
    """The given files and all files below the given folders, except hidden ones.

    The cache and what is in `leave_out` are not read, unless a source lies within. Raises DataFormatError if a source
    is missing or no file is readable, ConfigError if two files have the same name.
    """
    options = options or ReadOptions()
    unwanted, seen = {path.resolve() for path in (*leave_out, cache_folder())}, set[str]()
    files_found = FoundFiles(", ".join(map(str, sources)), [])
    for source in sources:
        if not source.exists():
            raise DataFormatError("no such folder of documents; check the path", path=source)
        below = unwanted.difference(source.resolve().parents)
        files = [(source, source.parent)] if source.is_file() else [(path, source) for path in _below(source)]
        for path, folder in files:
            absolute = os.path.abspath(path)  # noqa: PTH100 - a link is a file of its own
            if absolute in seen:  # by a source that holds this one
                continue
            seen.add(absolute)
            name = as_id(path.relative_to(folder).as_posix())  # unique within the folder
            if path.is_symlink() and not path.is_file():
                files_found.skipped.setdefault(LINKED, []).append(name)
            elif below.intersection(((resolved := path.resolve()), *resolved.parents)):
                continue
            elif not os.access(path, os.R_OK):
                files_found.skipped.setdefault(NOT_ALLOWED, []).append(name)
            elif kind_of(path, options) is None:
                files_found.skipped.setdefault(NOT_READ, []).append(name)
            else:
                files_found.readable.append(SourceFile(path, name, name))
    _check(files_found)
    files_found.readable.sort(key=lambda file: file.name)
    return files_found


def as_id(name: str) -> str:
    """A name with blanks percent-encoded, since ids are one word."""
    return _NOT_IN_IDS.sub(lambda match: quote(match[0], safe="", errors="surrogateescape"), name)


def _below(folder: Path) -> Iterable[Path]:
    """Files, links and locked folders, sorted, without hidden ones; links to folders are not followed."""
    for path in sorted(folder.rglob("*")):
        if (path.is_file() or path.is_symlink() or not os.access(path, os.R_OK)) and not any(
            part.startswith(".") for part in path.relative_to(folder).parts
        ):
            yield path


def _check(files: FoundFiles) -> None:
    names: dict[str, Path] = {}
    for file in files.readable:
        if file.name in names:
            raise ConfigError(f"{names[file.name]} and {file.path} have one name; give the folder above both")
        names[file.name] = file.path
    if not files.readable:
        others = sum(map(len, files.skipped.values()))
        raise DataFormatError(
            f"no file here that can be read, {others} others; read are {', '.join(KINDS)}", path=files.where
        )
