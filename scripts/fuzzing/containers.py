"""Changes inside containers: a member of a zip archive, a row of a parquet file, a stream that gzip packed."""

from __future__ import annotations

import gzip
import io
import random
import re
import warnings
import zipfile
import zlib
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from fuzzing import odd

MARKUP = re.compile(r">[^<]+<|\"[^\"]*\"|\w+")
VALUES: tuple[Any, ...] = (
    *(
        None,
        "",
        " ",
        "\0",
        "a\tb",
        0,
        -1,
        2**62,
        1.5,
        float("nan"),
        float("inf"),
        True,
        b"\xff\x00",
        [],
        [""],
        [None],
        {},
    ),
    *(
        "é" * 2000,
        {"a": 1},
        {"a": None},
        [1, 2],
        [["a"]],
        ["a", "b"],
        datetime(2020, 1, 1, tzinfo=UTC),
        Decimal("1.10"),
    ),
)


def gunzip(content: bytes) -> bytes | None:
    """What is packed, None where it is no gzip."""
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        return None


def change_member(content: bytes, rng: random.Random) -> bytes:
    """One member of a zip archive changed, renamed, gone or there twice; what is none comes back as it is."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError, zlib.error):
        return content
    if members:
        place = rng.randrange(len(members))
        name, inner = members[place]
        way = rng.randrange(10)
        if way < 6:
            members[place] = (name, _markup(inner, rng))
        elif way == 6:
            members[place] = (name, rng.choice((b"", b"\0", inner[: len(inner) // 2], inner * 2)))
        elif way == 7:
            new = rng.choice(
                ("../x", "/x", "a\\..\\b", "é", "x" * 300, "corpus.jsonl", name + "/", "C:x", "", "a/" * 300 + "b")
            )
            members[place] = (new, inner)
        elif way == 8:
            del members[place]
        else:
            members.append(members[place])
    return zipped(members)


def zipped(members: list[tuple[str, bytes]]) -> bytes:
    """A zip archive with the same bytes for the same members."""
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")  # a name that is there twice is meant
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def change_rows(content: bytes, rng: random.Random) -> bytes:
    """Values, columns or rows of a parquet file changed; what is none, or has mixed types then, stays as it is."""
    import pyarrow
    from pyarrow import parquet

    try:
        rows = parquet.read_table(io.BytesIO(content), use_threads=False).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError):
        return content
    if not rows:
        return content
    names = list(rows[0]) or ["a"]
    way, name, value = rng.randrange(7), rng.choice(names), rng.choice(VALUES)
    if way <= 1:
        for row in rows:
            row[name] = value
    elif way == 2:
        rng.choice(rows)[name] = None
    elif way == 3:
        new = rng.choice(odd.KEYS) if rng.random() < 0.7 else odd.plain(rng).encode("utf-8", "replace").decode()
        rows = [{new if key == name else key: item for key, item in row.items()} for row in rows]
    elif way == 4:
        rng.shuffle(rows)
    elif way == 5:
        rows = [{key: row[key] for key in names if key != name} for row in rows] if rng.random() < 0.6 else rows[:0]
    else:
        rows = [{key: row[key] for key in rng.sample(names, len(names))} for row in rows] * rng.choice((1, 40))
    try:
        return parquet_bytes(rows)
    except (pyarrow.ArrowException, ValueError, TypeError, OverflowError, NotImplementedError):
        return content


def parquet_bytes(rows: list[dict[str, Any]]) -> bytes:
    """A parquet file of these rows."""
    import pyarrow
    from pyarrow import parquet

    out = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), out)
    return out.getvalue()


def shuffled(content: bytes, name: str) -> bytes:
    """The rows of a file of rows in another order, always the same one."""
    rng = random.Random(0)
    if name.endswith(".gz") and (inner := gunzip(content)) is not None:
        return gzip.compress(shuffled(inner, name.removesuffix(".gz")), 1, mtime=0)
    if not name.endswith(".parquet"):
        lines = [line for line in content.split(b"\n") if line.strip()]
        rng.shuffle(lines)
        return b"".join(line + b"\n" for line in lines) if name.endswith((".jsonl", ".tsv", ".txt")) else content
    import pyarrow
    from pyarrow import parquet

    try:
        rows = parquet.read_table(io.BytesIO(content), use_threads=False).to_pylist()
        rng.shuffle(rows)
        return parquet_bytes(rows)
    except (pyarrow.ArrowException, OSError, ValueError, TypeError):
        return content


def _markup(content: bytes, rng: random.Random) -> bytes:
    """A text, a value or a name within XML or JSON that is another one."""
    text = content.decode("utf-8", "surrogateescape")
    found = list(MARKUP.finditer(text))
    if not found:
        return rng.choice(odd.BYTES)
    chosen = rng.choice(found)
    new = odd.plain(rng) if rng.random() < 0.6 else rng.choice(found)[0]
    if chosen[0][0] == ">":
        new = f">{new}<"
    elif chosen[0][0] == '"':
        new = f'"{new}"'
    return (text[: chosen.start()] + new + text[chosen.end() :]).encode("utf-8", "surrogateescape")
