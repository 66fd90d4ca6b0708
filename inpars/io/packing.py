"""Detect compression by a file's first bytes: gzip, bzip2 and xz are unpacked, other binary formats are refused.

No text begins with these bytes, so the file name does not matter.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from pathlib import Path
from typing import IO, NamedTuple, cast

from inpars.errors import DataFormatError

HEAD_BYTES = 512
PACKED_SUFFIXES = (".gz", ".bz2", ".xz")
PARQUET = b"PAR1\x15"
_GZIP, _BZIP2, _XZ = b"\x1f\x8b", (b"BZh", b"1AY&SY"), b"\xfd7zXZ\0"
_RECORDS = "write its records as text, one record per line"
_CSV = "save it as csv"


class _Kind(NamedTuple):
    """A file type that cannot be read as lines, and what to do instead."""

    magic: bytes
    name: str
    help: str
    offset: int = 0


_KINDS = (
    _Kind(b"\x28\xb5\x2f\xfd", "a zstd file", "unpack it first (zstd -d)"),
    _Kind(b"\x04\x22\x4d\x18", "an lz4 file", "unpack it first (lz4 -d)"),
    _Kind(b"\xff\x06\0\0sNaPpY", "a snappy file", "unpack it first (snzip -d)"),
    _Kind(b"\x1f\x9d", "a file packed by compress (.Z)", "unpack it first (gzip -d)"),
    _Kind(b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first (7z x)"),
    _Kind(b"Rar!\x1a\x07", "a rar archive", "unpack it first (unrar x)"),
    _Kind(b"PK\x03\x04", "a zip archive", "unpack it first (unzip); a BEIR folder's zip can be given as --dataset"),
    _Kind(b"ustar\0", "a tar archive", "unpack it first (tar -xf)", 257),
    _Kind(b"ustar  \0", "a tar archive", "unpack it first (tar -xf)", 257),
    _Kind(PARQUET, "a parquet file", _RECORDS),
    _Kind(b"ARROW1\0\0", "an Arrow file", _RECORDS),
    _Kind(b"\xff\xff\xff\xff", "an Arrow stream", _RECORDS),
    _Kind(b"Obj\x01", "an Avro file", _RECORDS),
    _Kind(b"SQLite format 3\0", "an SQLite database", _RECORDS),
    _Kind(b"\x89HDF\r\n", "an HDF5 file", _RECORDS),
    _Kind(b"\x93NUMPY", "a NumPy file", _RECORDS),
    _Kind(b"\x80\x04\x95", "a pickle", _RECORDS),
    _Kind(b"\x80\x05\x95", "a pickle", _RECORDS),
    _Kind(b"%PDF-", "a PDF", "inpars ingest --documents reads it"),
    _Kind(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Office file (.xls, .doc)", _CSV),
)
_OFFICE = (b"[Content_Types].xml", b"_rels/.rels", b"docProps/")


def plain_name(path: Path) -> str:
    """The file name without a compression suffix: `corpus.tsv` of `corpus.tsv.bz2`."""
    return path.stem if path.suffix.lower() in PACKED_SUFFIXES else path.name


def packing(stream: object) -> str | None:
    """The compression of a stream from `unpacked_stream`, None if there is none."""
    if isinstance(stream, gzip.GzipFile):
        return "gzip"
    return "bzip2" if isinstance(stream, bz2.BZ2File) else "xz" if isinstance(stream, lzma.LZMAFile) else None


def is_packed(path: Path) -> bool:
    """Whether the file is compressed; by its name if it is missing or a pipe."""
    if not path.is_file():
        return path.suffix == ".gz"
    with path.open("rb") as raw:
        return unpacked_stream(raw, path) is not raw


def is_parquet(path: Path) -> bool:
    """Whether the file starts like a parquet file."""
    with path.open("rb") as raw:
        return raw.read(len(PARQUET)) == PARQUET


def unpacked_stream(raw: io.BufferedReader, path: Path) -> IO[bytes]:
    """The stream, decompressed if necessary. Raises DataFormatError for file types that cannot be read as lines."""
    head = raw.peek(HEAD_BYTES)[:HEAD_BYTES]
    if path.suffix == ".gz" or head.startswith(_GZIP):
        return cast(IO[bytes], gzip.GzipFile(fileobj=raw))
    if head.startswith(_BZIP2[0]) and head[4:10] == _BZIP2[1]:
        return bz2.BZ2File(raw)
    if head.startswith(_XZ):
        return lzma.LZMAFile(raw)
    for kind in _KINDS:
        if head.startswith(kind.magic, kind.offset):
            name, helps = kind.name, kind.help
            if kind.magic.startswith(b"PK") and any(part in head for part in _OFFICE):
                name, helps = "an Office file (.xlsx, .docx)", _CSV
            raise DataFormatError(f"{name}; {helps}", path=path)
    return raw
