"""Files as the stages use them: unpacked where they are packed, atomic replacement, lines that survive a loss of power.

Knows nothing of records; `formats.py` turns lines into records and back.
"""

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
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any

import jsonlines

from inpars.errors import DataFormatError, StorageError
from inpars.io.json_text import JsonError, parse_json, to_json
from inpars.io.packing import packing, unpacked_stream

BYTE_ORDER_MARK = "\ufeff"  # several where files that begin with one were joined twice
UNFINISHED = re.compile(r"\..+\.(?P<process>\d+)-(?P<machine>[0-9a-f]{8})\.tmp(?:\.\w+)?")  # see `_writer`
NOT_WRITABLE = {
    errno.EACCES,
    errno.EEXIST,  # a file is in the place of a folder
    errno.EFBIG,  # a file system or a process limit allows no files of this size
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}


def is_gzip(path: Path) -> bool:
    """Whether the name says gzip, as it decides for files that are written."""
    return path.suffix == ".gz"


@contextmanager
def open_lines(path: Path) -> Iterator[IO[bytes]]:
    """Open for reading as bytes, unpacked where it is packed; a file that is absent or holds no lines is named."""
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
    """Line number from 1 and text without its newline; blank lines are skipped."""
    with open_lines(path) as stream:
        for number, raw in enumerate(stream, start=1):
            line = decode_line(raw, path, number)
            if line.strip():
                yield number, line


def decode_line(raw: bytes, path: Path, number: int) -> str:
    """One line as text; bytes that are not UTF-8 are reported with their place.

    A mark of byte order is no part of it, which files put together from several have in their midst too.
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
    """Line number from 1 and the JSON object on it."""
    return ((number, record) for _, number, record in read_jsonl_with_offsets(path))


def read_jsonl_with_offsets(path: Path) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """As `read_jsonl`, each with the byte (of the unpacked file) that its line begins at."""
    with open_lines(path) as stream:
        lines, first = _CountedLines(stream, path), True
        reader = jsonlines.Reader(lines, loads=parse_json)  # the same answer whether or not orjson is installed
        try:
            for record in reader.iter(type=dict, skip_empty=True):
                yield lines.start, lines.number, record
                first = False
        except jsonlines.InvalidLineError as error:
            raise _line_error(error.__cause__, str(error.line), path, lines.number, first=first) from None


class _CountedLines:
    """Decoded lines of a stream, with the number and the first byte of the latest one."""

    def __init__(self, stream: IO[bytes], path: Path) -> None:
        self.number = self.start = self._end = 0
        self._stream, self._path = stream, path

    def __iter__(self) -> Iterator[str]:
        try:
            for raw in self._stream:
                self.number += 1
                self.start, self._end = self._end, self._end + len(raw)
                yield decode_line(raw, self._path, self.number)
        except EOFError as error:  # of a packed file that is cut off; jsonlines takes it for the end of the lines
            raise zlib.error(str(error)) from None


def parse_object(line: str, path: Path, number: int, *, first: bool = False) -> dict[str, Any]:
    """The JSON object on a line. Raises DataFormatError; the first line may show that the file is of another kind."""
    try:
        record = parse_json(line)
    except JsonError as error:
        raise _line_error(error, line, path, number, first=first) from None
    if not isinstance(record, dict):
        raise _line_error(None, line, path, number, first=first)
    return record


def _line_error(cause: object, line: str, path: Path, number: int, *, first: bool) -> DataFormatError:
    """The error for a line that is not a JSON object; `cause` is set if it is not JSON at all."""
    if other := first_line_error(path, number, line, first):
        return other
    if isinstance(cause, JsonError):
        return broken_json(path, number, cause, line)
    return DataFormatError("not a JSON object", path=path, line=number, excerpt=line)


def read_json_at(path: Path, starts: Iterable[int]) -> Iterator[dict[str, Any]]:
    """The JSON objects on the lines that begin at these bytes, in their order; the file was read before and is good."""
    with path.open("rb") as stream:
        for start in starts:
            stream.seek(start)
            yield parse_json(stream.readline())


def broken_json(path: Path, number: int, error: JsonError, line: str) -> DataFormatError:
    """The error for a line that is not JSON."""
    return DataFormatError(f"{error}; mend or remove this line", path=path, line=number, excerpt=line)


def first_line_error(path: Path, number: int, line: str, first: bool) -> DataFormatError | None:
    """The error for a file whose first line shows that it holds no JSON lines; None where it may, or is a later one."""
    if not first:
        return None
    start, kind = line.strip()[:1], None
    if start == "{":
        kind = "JSON over several lines" if line.strip() == "{" else None
    elif start in ("[", "<"):
        kind = "a JSON list" if start == "[" else "XML, SGML or HTML (TREC's topics, for instance)"
    elif any(separator in line for separator in "\t,;"):
        kind = "a table (name it .tsv or .csv)"
    problem = f"{kind}, not JSON lines; one object per line is needed"
    return DataFormatError(problem, path=path, line=number, excerpt=line) if kind else None


def to_json_line(record: dict[str, Any]) -> str:
    """Strict JSON without a newline; non-ASCII text stays readable, NaN and infinities become null."""
    return to_json(record)


def write_jsonl(path: Path, records: Iterable[dict[str, Any]]) -> int:
    """Write atomically and return the number of records."""
    return write_lines(path, (to_json_line(record) for record in records))


def write_json(path: Path, values: Mapping[str, Any], *, ensure_ascii: bool = True) -> None:
    """Write the values as one object, atomically."""
    with atomic_writer(path) as stream:
        json.dump(values, stream, indent=1, ensure_ascii=ensure_ascii)
        stream.write("\n")


def write_lines(path: Path, lines: Iterable[str]) -> int:
    """Write atomically, one newline after each line, and return their number."""
    count = 0
    with atomic_writer(path) as stream:
        for line in lines:
            stream.write(line + "\n")
            count += 1
    return count


@contextmanager
def atomic_writer(path: Path) -> Iterator[IO[str]]:
    """A text stream that replaces `path` when the block ends well and leaves it untouched when it does not.

    The same text gives the same bytes, gzip included.
    """
    with atomic_file(path) as working, _text_writer(working, packed=is_gzip(path)) as stream:
        yield stream


@contextmanager
def atomic_file(path: Path, ending: str = ".tmp") -> Iterator[Path]:
    """As `atomic_writer` for what writes to a path by itself; `ending` for libraries that go by a file's ending."""
    with storage_errors(path):
        refuse_device(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(path.parent)
        working = path.with_name(f".{path.name}.{_writer()}{ending}")
        try:
            yield working
            _flush_to_disk(working)
            working.replace(path)
        finally:
            working.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """An empty folder that takes the place of `folder` when the block ends well and is removed when it does not."""
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
    """This process among all that may write to a folder, those of other machines included."""
    return f"{os.getpid()}-{zlib.crc32(platform.node().encode()):08x}"


@cache
def remove_abandoned(folder: Path) -> None:
    """Remove what commands that were killed on this machine left of unfinished files and folders; once a process."""
    machine = _writer().partition("-")[2]
    for path in folder.iterdir() if os.name == "posix" else ():  # elsewhere asking for a process could end it
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
    """A device or a pipe must never be replaced by a file, as root could."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise StorageError(f"{path}: not a plain file, it would be replaced; choose another --output")


@contextmanager
def _text_writer(path: Path, *, packed: bool) -> Iterator[IO[str]]:
    with path.open("wb") as raw:
        binary = gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) if packed else raw
        # records hold no unpaired surrogates, but names of files that pages and metrics show may
        with io.TextIOWrapper(binary, encoding="utf-8", errors="replace", newline="\n") as stream:
            yield stream


class AppendedLines:
    """Appends whole blocks of lines to a file and makes each block durable before it returns.

    Opening cuts a torn last line off, so that after a loss of power only whole lines are left.
    """

    def __init__(self, path: Path, keep_lines: int | None = None) -> None:
        """Open for appending after the first `keep_lines` whole lines (all of them by default)."""
        self.path = path
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = path.open("r+b" if path.exists() else "w+b")
            self.kept = _cut_after(self._stream, keep_lines)

    def append(self, lines: Iterable[str]) -> None:
        """Write the lines and flush them to the disk."""
        with storage_errors(self.path):
            self._stream.write("".join(line + "\n" for line in lines).encode())
            self._stream.flush()
            os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Close the file; what was appended stays."""
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
    """Turn a full disk or a forbidden path into a StorageError that says what to do."""
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
    """Put `source` where `target` is; a former `target` is removed only once `source` stands.

    Its files get the rights that the umask gives.
    """
    with storage_errors(target):
        _readable_as_usual(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        former = target.with_name(f".{target.name}.former")
        shutil.rmtree(former, ignore_errors=True)
        if target.exists():
            target.replace(former)
        source.replace(target)
        shutil.rmtree(former, ignore_errors=True)


def _readable_as_usual(folder: Path) -> None:
    """Give every file the rights that the umask gives, read off the folder: safetensors writes for its owner alone."""
    usual = folder.stat().st_mode & 0o666
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            mode = path.stat().st_mode
            if mode | usual != mode:
                path.chmod(mode | usual)


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
