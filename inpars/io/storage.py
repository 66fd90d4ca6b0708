"""Read compressed files, replace files and folders atomically, append lines durably."""

from __future__ import annotations

import errno
import gzip
import io
import json
import lzma
import os
import platform
import re
import shutil
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

import jsonlines

from inpars.errors import DataFormatError, StorageError
from inpars.io.json_text import JsonError, parse_json, to_json
from inpars.io.packing import packing, unpacked_stream

BYTE_ORDER_MARK = "\ufeff"
UNFINISHED = re.compile(r"\..+\.(?P<process>\d+)-(?P<machine>[0-9a-f]{8})\.tmp(?:\.\w+)?")  # see `_writer`
NOT_WRITABLE = {
    errno.EACCES,
    errno.EEXIST,  # a file instead of a folder
    errno.EFBIG,  # a limit of the file system or process
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}


def is_gzip(path: Path) -> bool:
    """Whether a file of this name is written with gzip."""
    return path.suffix == ".gz"


@contextmanager
def open_lines(path: Path) -> Iterator[IO[bytes]]:
    """Open for reading as bytes, decompressed if necessary. Raises DataFormatError."""
    packed = None
    try:
        with path.open("rb") as raw:
            stream = unpacked_stream(raw, path)
            packed = packing(stream)
            yield stream
    except FileNotFoundError:
        raise DataFormatError("no such file; check the path", path=path) from None
    except IsADirectoryError:
        raise DataFormatError("is a folder, a file is needed here", path=path) from None
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        if packed is None or getattr(error, "errno", None) is not None:
            raise
        raise DataFormatError(f"not a whole {packed} file ({error}); fetch or write it again", path=path) from None


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Line numbers from 1 and lines without newlines; blank lines are skipped."""
    with open_lines(path) as stream:
        for number, raw in enumerate(stream, start=1):
            line = decode_line(raw, path, number)
            if line.strip():
                yield number, line


def decode_line(raw: bytes, path: Path, number: int) -> str:
    """Decode one line, without byte order marks, which concatenated files contain anywhere.

    Raises DataFormatError with the position of bytes that are not UTF-8.
    """
    try:
        line = raw.decode().rstrip("\r\n")
        return line.lstrip(BYTE_ORDER_MARK) if raw.startswith(BOM_UTF8) else line
    except UnicodeDecodeError as error:
        raise DataFormatError(
            f"not UTF-8 at byte {error.start}; convert the file to UTF-8",
            path=path,
            line=number,
            excerpt=raw.decode("latin-1"),
        ) from None


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers from 1 and JSON objects. Raises DataFormatError."""
    return ((number, record) for _, number, record in read_jsonl_with_offsets(path))


def read_jsonl_with_offsets(path: Path) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Like `read_jsonl`, after the byte offset of the line in the unpacked file."""
    with open_lines(path) as stream:
        lines, first = _CountedLines(stream, path), True
        reader = jsonlines.Reader(lines, loads=parse_json)  # instead of orjson, if it is installed
        try:
            for record in reader.iter(type=dict, skip_empty=True):
                yield lines.start, lines.number, record
                first = False
        except jsonlines.InvalidLineError as error:
            raise _line_error(error.__cause__, str(error.line), path, lines.number, first=first) from None


class _CountedLines:
    """Decoded lines of a stream, with the number and offset of the current one."""

    def __init__(self, stream: IO[bytes], path: Path) -> None:
        self.number = self.start = self._end = 0
        self._stream, self._path = stream, path

    def __iter__(self) -> Iterator[str]:
        try:
            for raw in self._stream:
                self.number += 1
                self.start, self._end = self._end, self._end + len(raw)
                yield decode_line(raw, self._path, self.number)
        except EOFError as error:  # a truncated file; jsonlines would treat it as the end of the lines
            raise zlib.error(str(error)) from None


def parse_object(line: str, path: Path, number: int, *, first: bool = False) -> dict[str, Any]:
    """The JSON object on a line. Raises DataFormatError, which may name another format if it is the first line."""
    try:
        record = parse_json(line)
    except JsonError as error:
        raise _line_error(error, line, path, number, first=first) from None
    if not isinstance(record, dict):
        raise _line_error(None, line, path, number, first=first)
    return record


def _line_error(cause: object, line: str, path: Path, number: int, *, first: bool) -> DataFormatError:
    """The error for a line that is not a JSON object; `cause` is a JsonError if it is not JSON at all."""
    if first and (other := _other_format(line)):
        problem = f"{other}, not JSON lines; one object per line is needed"
        return DataFormatError(problem, path=path, line=number, excerpt=line)
    if isinstance(cause, JsonError):
        return broken_json(path, number, cause, line)
    return DataFormatError("not a JSON object", path=path, line=number, excerpt=line)


def read_json_at(path: Path, starts: Iterable[int]) -> Iterator[dict[str, Any]]:
    """The JSON objects on the lines at these byte offsets of a valid file."""
    with path.open("rb") as stream:
        for start in starts:
            stream.seek(start)
            yield parse_json(stream.readline())


def broken_json(path: Path, number: int, error: JsonError, line: str) -> DataFormatError:
    """The error for a line that is not JSON."""
    return DataFormatError(f"{error}; mend or remove this line", path=path, line=number, excerpt=line)


def _other_format(line: str) -> str | None:
    """The format that a file's first line suggests, None if it may be JSON lines."""
    text = line.strip()
    if text.startswith("{"):
        return "JSON over several lines" if text == "{" else None
    if text.startswith("["):
        return "a JSON list"
    if text.startswith("<"):
        return "XML, SGML or HTML (TREC's topics, for instance)"
    return "a table (name it .tsv or .csv)" if re.search("[\t,;]", line) else None


def to_json_line(record: dict[str, Any]) -> str:
    """Strict JSON on one line, without a newline; see `to_json`."""
    return to_json(record)


def write_jsonl(path: Path, records: Iterable[dict[str, Any]]) -> int:
    """Write records atomically and return their number."""
    return write_lines(path, (to_json_line(record) for record in records))


def write_json(path: Path, values: Mapping[str, Any], *, ensure_ascii: bool = True) -> None:
    """Write one JSON object atomically."""
    with atomic_writer(path) as stream:
        json.dump(values, stream, indent=1, ensure_ascii=ensure_ascii)
        stream.write("\n")


def write_lines(path: Path, lines: Iterable[str]) -> int:
    """Write lines atomically and return their number."""
    count = 0
    with atomic_writer(path) as stream:
        for line in lines:
            stream.write(line + "\n")
            count += 1
    return count


@contextmanager
def atomic_writer(path: Path) -> Iterator[IO[str]]:
    """A text stream that replaces `path` if the block succeeds and leaves it untouched otherwise.

    Equal text gives equal bytes, also with gzip.
    """
    with atomic_file(path) as working, working.open("wb") as raw:
        binary = gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) if is_gzip(path) else raw
        # records have no unpaired surrogates, but file names may
        with io.TextIOWrapper(binary, encoding="utf-8", errors="replace", newline="\n") as stream:
            yield stream


@contextmanager
def atomic_file(path: Path, ending: str = ".tmp") -> Iterator[Path]:
    """Like `atomic_writer`, as a path; `ending` is for libraries that require a file extension."""
    with storage_errors(path):
        refuse_device(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(path.parent)
        working = path.with_name(f".{path.name}.{_writer()}{ending}")
        try:
            yield working
            sync(working)
            working.replace(path)
        finally:
            working.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """An empty folder that replaces `folder` if the block succeeds and is removed otherwise."""
    with storage_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(folder.parent)
        working = folder.with_name(f".{folder.name}.{_writer()}.tmp")
        shutil.rmtree(working, ignore_errors=True)
        working.mkdir()
        try:
            yield working
            replace_folder(working, folder)
        finally:
            shutil.rmtree(working, ignore_errors=True)


def _writer() -> str:
    """Identifies this process among those of all machines."""
    return f"{os.getpid()}-{zlib.crc32(platform.node().encode()):08x}"


@cache
def remove_abandoned(folder: Path) -> None:
    """Remove unfinished files and folders of killed processes of this machine; once per process."""
    machine = _writer().partition("-")[2]
    for path in folder.iterdir() if os.name == "posix" else ():  # on Windows os.kill would end the process
        match = UNFINISHED.fullmatch(path.name)
        if match and match["machine"] == machine and not _is_running(int(match["process"])):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError as error:
        return error.errno != errno.ESRCH
    return True


def refuse_device(path: Path) -> None:
    """Raise StorageError for a device or pipe, which root could replace by a file."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise StorageError(f"{path}: not a plain file, it would be replaced; choose another --output")


class AppendedLines:
    """Appends blocks of lines to a file and flushes each block to disk.

    Opening removes an incomplete last line, left by a loss of power.
    """

    def __init__(self, path: Path, keep_lines: int | None = None) -> None:
        """Open for appending after the first `keep_lines` complete lines (default: all)."""
        self.path = path
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = path.open("r+b" if path.exists() else "w+b")
            self.kept = _cut_after(self._stream, keep_lines)

    def append(self, lines: Iterable[str]) -> None:
        """Write the lines and flush them to disk."""
        with storage_errors(self.path):
            self._stream.write("".join(line + "\n" for line in lines).encode())
            self._stream.flush()
            os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Close the file."""
        with storage_errors(self.path):
            self._stream.close()

    def __enter__(self) -> AppendedLines:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _cut_after(stream: IO[bytes], keep_lines: int | None) -> int:
    kept = end = 0
    for line in stream:
        if not line.endswith(b"\n") or kept == keep_lines:
            break
        kept, end = kept + 1, end + len(line)
    stream.seek(end)
    stream.truncate()
    return kept


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Raise StorageError for a full disk or a path that is not writable."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(
                f"{path}: the disk is full; free some space and run the same command again, what is done is kept"
            ) from error
        if error.errno in NOT_WRITABLE:
            raise StorageError(
                f"{path}: cannot be written ({error.strerror}); choose another --output (INPARS_CACHE for the cache)"
            ) from error
        raise


def replace_folder(source: Path, target: Path) -> None:
    """Move `source` to `target`; an existing `target` is removed afterwards. File modes follow the umask.

    Several processes may do so at once; the last one's folder stays.
    """
    with storage_errors(target):
        _apply_umask(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        former = target.with_name(f".{target.name}.{_writer()}.tmp.former")
        while source.exists():
            _remove(former)
            with suppress(FileNotFoundError):
                target.replace(former)
            try:
                source.replace(target)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # else there is another process's folder now
                    raise
        _remove(former)


def _remove(path: Path) -> None:
    """Remove what may be a folder or a link to one."""
    shutil.rmtree(path, ignore_errors=True)
    if path.is_symlink() or path.is_file():
        path.unlink()


def _apply_umask(folder: Path) -> None:
    """Give all files the folder's permissions: safetensors writes files that only the owner can read."""
    usual = folder.stat().st_mode & 0o666
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            mode = path.stat().st_mode
            if mode | usual != mode:
                path.chmod(mode | usual)


def sync(path: Path) -> None:
    """Flush a file or a folder's entries to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
