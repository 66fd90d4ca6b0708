"""Valid files made invalid: bytes, lines, columns, words and containers. Every choice comes from a `random.Random`."""

from __future__ import annotations

import bz2
import gzip
import random
import re
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import TypeAlias

from fuzzing import odd
from fuzzing.cases import Case
from fuzzing.containers import change_member, change_rows, gunzip
from fuzzing.json_changes import change_json, change_json_lines

Change: TypeAlias = Callable[[bytes, random.Random], bytes]

MAX_BYTES = 1 << 20
LOOKED_AT = 4096  # bytes in which a word is looked for
WORD = re.compile(r'"[^"\n]*"|[-+]?\d[\w.+-]*|\w+|[^\w\s]')


def mutated(case: Case, rng: random.Random, others: Sequence[bytes]) -> Case:
    """The case with one or several changes; `others` are contents of files of other kinds."""
    files, main = dict(case.files), case.main
    for _ in range(rng.choice((1, 1, 1, 1, 2, 2, 3, 6))):
        name = main if main in files and rng.random() < 0.6 else rng.choice(sorted(files))
        if rng.random() < 0.07:
            main = _change_file(files, name, main, rng, others)
        else:
            files[name] = changed(files[name], name, rng)[:MAX_BYTES]
        if not files:
            break
    return Case(case.reader, main, files)


def changed(content: bytes, name: str, rng: random.Random) -> bytes:
    """One change of a kind that goes with the file's name."""
    if name.endswith(".gz") and (inner := gunzip(content)) is not None and rng.random() < 0.8:
        return gzip.compress(changed(inner, name.removesuffix(".gz"), rng), 1, mtime=0)
    changes = CHANGES.get(PurePosixPath(name).suffix, TEXT)
    return rng.choice(changes)(content, rng)


# bytes


def flip(content: bytes, rng: random.Random) -> bytes:
    """A few bits turned."""
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 3, 16)) if found else 0):
        found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
    return bytes(found)


def put_bytes(content: bytes, rng: random.Random) -> bytes:
    """Odd bytes somewhere, in front, or at the end."""
    place = rng.choice((0, len(content), rng.randint(0, len(content))))
    end = place + rng.choice((0, 0, 1, 4))
    return content[:place] + rng.choice(odd.BYTES) + content[end:]


def cut(content: bytes, rng: random.Random) -> bytes:
    """The end is gone."""
    return content[: rng.choice((0, 1, rng.randint(0, len(content)), max(0, len(content) - 1)))]


def drop_range(content: bytes, rng: random.Random) -> bytes:
    """A part is gone, or there twice."""
    start, end = sorted(rng.randint(0, len(content)) for _ in range(2))
    return content[:start] + content[end:] if rng.random() < 0.5 else content[:end] + content[start:]


def encode(content: bytes, rng: random.Random) -> bytes:
    """Another encoding, or a mark of byte order."""
    name = rng.choice(
        ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252", "utf-8-sig", "cp037", "utf-7")
    )
    return content.decode("utf-8", "replace").encode(name, "replace")


# lines


def lines(content: bytes, rng: random.Random) -> bytes:
    """Lines in another order, twice, gone, joined, blank, or thousands of one."""
    found = content.splitlines(keepends=True) or [b""]
    place, other = rng.randrange(len(found)), rng.randrange(len(found))
    way = rng.randrange(9)
    if way == 0:
        rng.shuffle(found)
    elif way == 1:
        found.insert(other, found[place])
    elif way == 2:
        del found[place]
    elif way == 3:
        found[place] = found[place].rstrip(b"\r\n")
    elif way == 4:
        found[place:place] = [rng.choice((b"\n", b"\r\n", b" \n", b"\t\n", b"#\n", b"\x0c\n"))] * rng.choice((1, 3))
    elif way == 5:
        found[place:place] = [found[place]] * rng.choice((5, 50, 800))
    elif way == 6:
        found[place] = found[place].rstrip(b"\n") * rng.choice((20, 500)) + b"\n"
    elif way == 7:
        found[place], found[other] = found[other], found[place]
    else:
        half = len(found[place]) // 2
        found[place : place + 1] = [found[place][:half] + b"\n", found[place][half:]]
    return b"".join(found)


def newlines(content: bytes, rng: random.Random) -> bytes:
    """Other ends of lines, all or some; none at the end of the file."""
    new = rng.choice((b"\r\n", b"\r", b"\n\n", b"\x0b", b"\x85", b"\xe2\x80\xa8", b"\n\xef\xbb\xbf"))
    if rng.random() < 0.2:
        return content.rstrip(b"\n")
    return content.replace(b"\n", new, rng.choice((-1, -1, 1)))


def odd_line(content: bytes, rng: random.Random) -> bytes:
    """A line that belongs to another format."""
    found = content.splitlines(keepends=True)
    line = rng.choice(odd.LINES) + b"\n"
    found.insert(rng.choice((0, 0, len(found), rng.randint(0, len(found)))), line)
    return b"".join(found)


# columns and words


def columns(content: bytes, rng: random.Random) -> bytes:
    """A column of one line or of all: gone, there twice, swapped, odd, quoted, or with other separators."""
    text = content.decode("utf-8", "surrogateescape")
    rows = text.split("\n")
    separator = next((mark for mark in ("\t", ",", ";", " ") if mark in rows[0]), " ")
    chosen = range(len(rows)) if rng.random() < 0.3 else [rng.randrange(len(rows))]
    way, place, other, value = rng.randrange(9), rng.random(), rng.random(), odd.plain(rng)
    if rng.random() < 0.4:
        value = odd.number(rng)
    for row in chosen:
        if rows[row]:
            rows[row] = separator.join(_columns(rows[row].split(separator), way, place, other, value))
            if way == 8:
                rows[row] = rows[row].replace(separator, rng.choice(("\t", " ", ",", "  ", "\u00a0", "|")))
    return "\n".join(rows).encode("utf-8", "surrogateescape")


def _columns(fields: list[str], way: int, place: float, other: float, value: str) -> list[str]:
    one, two = int(place * len(fields)), int(other * len(fields))
    if way in (0, 1, 2):
        fields[one] = value
    elif way == 3:
        del fields[one]
    elif way == 4:
        fields.insert(one, value)
    elif way == 5:
        fields[one], fields[two] = fields[two], fields[one]
    elif way == 6:
        fields[one] = fields[two]
    elif way == 7:
        fields[one] = f'"{fields[one]}"' if other < 0.7 else f'"{fields[one]}'
    return fields


def words(content: bytes, rng: random.Random) -> bytes:
    """A word, a number, a quoted text or a sign that is another one."""
    start = rng.randint(0, max(0, len(content) - LOOKED_AT))
    head, tail = content[:start], content[start + LOOKED_AT :]
    text = content[start : start + LOOKED_AT].decode("utf-8", "surrogateescape")
    found = list(WORD.finditer(text))
    if not found:
        return head + odd.plain(rng).encode("utf-8", "surrogateescape") + tail
    chosen = rng.choice(found)
    new = rng.choice((odd.plain(rng), odd.number(rng), odd.json_text(rng), "", chosen[0] * 2, rng.choice(found)[0]))
    changed_text = text[: chosen.start()] + new + text[chosen.end() :]
    return head + changed_text.encode("utf-8", "surrogateescape") + tail


# whole files


def _change_file(files: dict[str, bytes], name: str, main: str, rng: random.Random, others: Sequence[bytes]) -> str:
    """Another packing, suffix or content, or no file; the name of the main file, which may be a new one."""
    content, way, new = files[name], rng.randrange(9), name
    if way == 0:
        files[name] = rng.choice((b"", b"\n", b" ", b"\0", b"\xef\xbb\xbf", b"null", b"{}", b"[]", b"a" * 500_000))
    elif way == 1:
        files[name] = rng.choice(others)
    elif way == 2:
        files[name] = rng.choice((gzip.compress(content, 1, mtime=0), bz2.compress(content, 1)))
    elif way in (3, 4):
        packed = gzip.compress(content, 1, mtime=0)
        new = name if name.endswith(".gz") else f"{name}.gz"
        files[new] = rng.choice(
            (packed, packed[: len(packed) // 2], packed + b"x", packed * 2, flip(packed, rng), content)
        )
    elif way in (5, 6):
        new = PurePosixPath(name).stem + rng.choice(SUFFIXES)
        files[new] = content
    elif way == 7:
        new = rng.choice(("a\udcff", "a b", "é", "-x", "%41", "#", "a" * 200, "🌋", "x;y")) + PurePosixPath(name).suffix
        files[new] = content
    elif name != main or rng.random() < 0.2:
        del files[name]
        return main
    if new != name:
        del files[name]
    return new if name == main else main


BINARY: tuple[Change, ...] = (flip, put_bytes, cut, drop_range)
LINED: tuple[Change, ...] = (lines, lines, newlines, odd_line, encode)
TEXT: tuple[Change, ...] = (*BINARY, *LINED, words, words, words, words)
TABLE: tuple[Change, ...] = (*TEXT, columns, columns, columns, columns, columns, columns, columns)
CHANGES: dict[str, tuple[Change, ...]] = {
    **dict.fromkeys((".jsonl", ".ndjson", ".partial"), (*[change_json_lines] * 12, *TEXT)),
    **dict.fromkeys((".json", ".ipynb"), (*[change_json] * 14, *BINARY, words, words, encode)),
    **dict.fromkeys((".tsv", ".txt", ".trec", ".csv", ".qrels"), TABLE),
    ".parquet": (*[change_rows] * 6, *BINARY),
    **dict.fromkeys((".docx", ".xlsx", ".zip", ".tar"), (change_member, change_member, change_member, *BINARY)),
    ".pdf": (*BINARY, words, words, words, lines, drop_range),
}
SUFFIXES = (
    *(
        ".jsonl",
        ".json",
        ".tsv",
        ".txt",
        ".csv",
        ".md",
        ".rst",
        ".html",
        ".pdf",
        ".docx",
        ".parquet",
        ".zip",
        ".jsonl.gz",
    ),
    *(".tsv.gz", ".json.gz", ".bz2", ".zst", ".xlsx", "", ".TXT", ".trec", ".yaml", ".csv.gz", ".ndjson", ".xml"),
)
