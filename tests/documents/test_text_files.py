"""Text files: detection of encodings and of binary files."""

import gzip
import random

import pytest

from inpars.documents.text_files import CHUNK_BYTES, LINE_CHARACTERS, NOT_TEXT, encoding_of, lines_of, open_text
from inpars.errors import ConfigError, UnreadableFileError

GERMAN = "Die Straße führt über die Brücke. Größe zählt.\n"


@pytest.mark.parametrize(
    ("written_as", "found"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8-sig"),
        ("latin-1", "cp1252"),
        ("cp1252", "cp1252"),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
        ("utf-32", "utf-32"),
    ],
)
def test_encodings_are_found_and_read(tmp_path, written_as, found):
    path = tmp_path / "a.txt"
    path.write_bytes((GERMAN * 9).encode(written_as))
    assert encoding_of(path) == found
    with open_text(path, found) as stream:
        assert stream.read() == GERMAN * 9


def test_the_encoding_of_the_rest_can_be_named(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("Příliš žluťoučký kůň".encode("latin2"))
    assert encoding_of(path, "latin2") == "latin2"
    with pytest.raises(ConfigError, match="--encoding is 'klingon'"):
        encoding_of(path, "klingon")


def test_a_late_byte_decides(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"a" * 3_000_000 + b"\xff")
    assert encoding_of(path) == "cp1252"
    path.write_bytes(b"a" * (CHUNK_BYTES - 1) + "ü".encode() * 5)  # a letter across the border of two reads
    assert encoding_of(path) == "utf-8"


def test_a_few_broken_bytes_do_not_make_a_text_another(tmp_path):
    path, notes = tmp_path / "a.txt", []
    path.write_bytes((GERMAN * 9).encode() + "ü".encode()[:1])  # cut off within a letter
    assert encoding_of(path, note=notes.append) == "utf-8"
    path.write_bytes((GERMAN * 9).encode() + GERMAN.encode("latin-1"))
    assert encoding_of(path, note=notes.append) == "utf-8"
    path.write_bytes("\ufffd".encode() * 9)
    assert encoding_of(path, note=notes.append) == "utf-8"
    path.write_bytes(GERMAN.encode("latin-1"))
    assert encoding_of(path, note=notes.append) == "cp1252"
    assert notes == ["read as utf-8, with 1 broken bytes", "read as utf-8, with 7 broken bytes", "read as cp1252"]


@pytest.mark.parametrize(
    "content",
    [random.Random(0).randbytes(5000), b"MZ\x90\0\x03\0\0\0" * 40, b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(200)],
    ids=["noise", "program", "picture"],
)
def test_what_is_not_text_is_refused(tmp_path, content):
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(UnreadableFileError) as caught:
        encoding_of(path)
    assert caught.value.reason == NOT_TEXT


def test_lines_come_with_their_places_and_long_ones_in_pieces(tmp_path):
    path = tmp_path / "a.txt.gz"
    text = "ü\r\n" + "x" * (LINE_CHARACTERS + 5) + "\nend"
    path.write_bytes(gzip.compress(text.encode()))
    with open_text(path, "utf-8") as stream:
        found = list(lines_of(stream))
    assert [start for start, _ in found] == [0, 3, 3 + LINE_CHARACTERS, 3 + LINE_CHARACTERS + 6]
    assert "".join(line for _, line in found) == text
    assert all(text[start:].startswith(line) for start, line in found)
