"""Files: reading lines, atomic writing, appending, errors with line numbers."""

import bz2
import errno
import gzip
import json
import lzma
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inpars.errors import DataFormatError, StorageError
from inpars.io.storage import (
    AppendedLines,
    atomic_file,
    atomic_folder,
    atomic_writer,
    read_jsonl,
    read_lines,
    replace_folder,
    storage_errors,
    to_json_line,
    write_jsonl,
    write_lines,
)

VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
RECORDS = st.lists(st.dictionaries(st.text(max_size=5), VALUES | st.lists(VALUES, max_size=3), max_size=4), max_size=6)
on_disk = settings(max_examples=40, deadline=None)  # a disk shared with others has no deadline


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("storage")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz"])
@on_disk
@given(records=RECORDS)
def test_json_lines_round_trip(folder, name, records):
    path = folder / name
    assert write_jsonl(path, records) == len(records)
    assert list(read_jsonl(path)) == list(enumerate(records, start=1))


@on_disk
@given(
    st.lists(st.text(st.characters(blacklist_characters="\n\r", blacklist_categories=["Cs"]), min_size=1), max_size=8)
)
def test_lines_round_trip_without_the_blank_ones(folder, lines):
    path = folder / "lines.txt"
    write_lines(path, ["first", *lines])  # a first character U+FEFF would be taken for a byte order mark
    kept = [(number, line) for number, line in enumerate(["first", *lines], start=1) if line.strip()]
    assert list(read_lines(path)) == kept


def test_line_ends_byte_order_marks_and_blank_lines(tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\r\n  \ntwo\xe2\x80\xa8still two")
    assert list(read_lines(path)) == [(1, "one"), (4, "two\u2028still two")]


def test_text_stays_readable():
    assert to_json_line({"text": "Zürich"}) == '{"text": "Zürich"}'


def test_packed_bytes_do_not_depend_on_time_or_name(tmp_path):
    for name in ("a.gz", "b.gz"):
        write_lines(tmp_path / name, ["one", "two"])
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    assert (tmp_path / "a.gz").read_bytes()[4:8] == bytes(4)  # RFC 1952: no time of change
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()) == b"one\ntwo\n"


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        (b'{"a": 1}\n{"a": \n', 2, "broken JSON: Expecting value at column 7"),
        (b'{"a": 1}\n\n[1, 2]\n', 3, "not a JSON object (found '[1, 2]')"),
        (b"null\n", 1, "not a JSON object"),
        (b'{"a": 1} {"b": 2}\n', 1, "broken JSON: Extra data"),
        (b'{"a": 1}\n{"a": "\xff"}\n', 2, "not UTF-8 at byte 7; convert"),
    ],
)
def test_bad_json_lines_are_named(tmp_path, content, line, said):
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataFormatError) as caught:
        list(read_jsonl(path))
    assert str(caught.value).startswith(f"{path}:{line}: {said}")
    assert (caught.value.path, caught.value.line) == (path, line)
    assert "\n" not in str(caught.value)


def test_what_is_written_is_strict_json(tmp_path):
    # pandas-dev/pandas#30716: NaN is not JSON; py-pdf/pypdf#1872: no UTF-8 file takes half a surrogate pair
    record = {"a\ud83d": [float("nan"), float("-inf"), 1.5], "b": {"c": "\udcff"}, "d": True}
    write_jsonl(tmp_path / "x.jsonl", [record])
    line = (tmp_path / "x.jsonl").read_text(encoding="utf-8")
    assert json.loads(line, parse_constant=int) == {"a\ufffd": [None, None, 1.5], "b": {"c": "\ufffd"}, "d": True}


def test_what_json_has_no_form_for_is_an_error():
    with pytest.raises(TypeError):
        to_json_line({"a": [float("nan"), {1}]})


def test_absent_files_and_folders_are_named(tmp_path):
    with pytest.raises(DataFormatError, match=r"absent\.jsonl: no such file"):
        list(read_jsonl(tmp_path / "absent.jsonl"))
    with pytest.raises(DataFormatError, match="is a folder"):
        list(read_lines(tmp_path))


def test_broken_gzip_files_are_named(tmp_path):
    path = tmp_path / "x.gz"
    whole = gzip.compress("".join(f"line {n}\n" for n in range(999)).encode())
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    bad_block = whole[:10] + b"\x07" + whole[11:]  # block type 3 does not exist
    for content in (b"plain text\n", whole[: len(whole) // 2], bytes(damaged), bad_block):
        path.write_bytes(content)
        with pytest.raises(DataFormatError, match=r"x\.gz: .*whole gzip file"):
            list(read_lines(path))


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)])
def test_packed_json_lines_that_are_cut_off_are_never_taken_for_whole(tmp_path, suffix, pack):
    # a reader that takes EOFError for the end loses the rest in silence
    path = tmp_path / f"x.jsonl{suffix}"
    whole = pack("".join(f'{{"a": {n}}}\n' for n in range(999)).encode())
    for length in (len(whole) - 1, len(whole) - 8, len(whole) // 2):
        path.write_bytes(whole[:length])
        with pytest.raises(DataFormatError, match=r"x\.jsonl\.\w+: not a whole"):
            list(read_jsonl(path))


def test_a_failure_inside_the_block_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.txt"
    write_lines(path, ["old"])

    def lines():
        yield "new"
        raise RuntimeError("stop here")

    with pytest.raises(RuntimeError, match="stop here"):
        write_lines(path, lines())
    assert (path.read_text(encoding="utf-8"), names(tmp_path)) == ("old\n", ["x.txt"])


def test_the_old_file_stands_until_the_block_ends(tmp_path):
    path = tmp_path / "deep" / "x.txt"
    with atomic_writer(path) as stream:
        stream.write("new")
        assert not path.exists()
    assert (path.read_text(encoding="utf-8"), names(path.parent)) == ("new", ["x.txt"])


@pytest.mark.parametrize("below", ["file/x.txt", "file/deeper/x.txt", "x" * 300])
def test_paths_that_cannot_be_written_are_named(tmp_path, below):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StorageError, match=r"cannot be written .*; choose another --output"):
        write_lines(tmp_path / below, ["x"])
    with pytest.raises(StorageError, match="cannot be written"):
        AppendedLines(tmp_path / below)


def test_a_folder_is_not_replaced_by_a_file(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="cannot be written"):
        write_lines(tmp_path / "folder", ["x"])
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_says_what_to_do(tmp_path, code):
    said = "the disk is full; free some space and run the same command again"
    with pytest.raises(StorageError, match=said), storage_errors(tmp_path / "x"):
        raise OSError(code, "full")


def test_other_errors_pass():
    with pytest.raises(OSError, match="unusual"), storage_errors("x"):
        raise OSError(errno.EIO, "unusual")


def test_appending_cuts_a_torn_last_line(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": 2}\n{"a": 3')
    with AppendedLines(path) as out:
        assert out.kept == 2
        assert path.read_bytes() == b'{"a": 1}\n{"a": 2}\n'
        out.append(['{"a": 4}'])
        # durable before it is closed
        assert path.read_bytes() == b'{"a": 1}\n{"a": 2}\n{"a": 4}\n'


@pytest.mark.parametrize(
    ("keep", "kept", "content"),
    [(None, 3, b"a\nb\nc\n+\n"), (2, 2, b"a\nb\n+\n"), (0, 0, b"+\n"), (9, 3, b"a\nb\nc\n+\n")],
)
def test_appending_after_the_lines_to_keep(tmp_path, keep, kept, content):
    path = tmp_path / "x.txt"
    path.write_bytes(b"a\nb\nc\n")
    with AppendedLines(path, keep) as out:
        out.append(["+"])
        out.append([])
    assert (out.kept, path.read_bytes()) == (kept, content)


@on_disk
@given(st.lists(st.text("abä", max_size=4), max_size=5), st.integers(0, 40))
def test_any_tear_keeps_the_whole_lines(folder, lines, tear):
    path = folder / "torn.txt"
    path.write_bytes("".join(line + "\n" for line in lines).encode()[:tear])
    whole = path.read_bytes().count(b"\n")
    with AppendedLines(path) as out:
        out.append(["end"])
    assert out.kept == whole
    assert path.read_text(encoding="utf-8").split("\n") == [*lines[:whole], "end", ""]


def test_a_new_file_is_made_with_its_folder(tmp_path):
    with AppendedLines(tmp_path / "new" / "x.txt") as out:
        assert out.kept == 0
        out.append(["one"])
    assert (tmp_path / "new" / "x.txt").read_bytes() == b"one\n"


def test_folders_are_replaced_whole(tmp_path):
    source, target = tmp_path / "source", tmp_path / "place" / "target"
    for content in ("first", "second"):
        source.mkdir()
        (source / content).write_text(content, encoding="utf-8")
        replace_folder(source, target)
        assert (names(target), names(target.parent)) == ([content], ["target"])
    assert not source.exists()


def test_a_folder_that_another_process_puts_there_meanwhile_is_replaced_too(tmp_path, monkeypatch):
    source, target, move = tmp_path / "source", tmp_path / "target", Path.replace

    def contended(path, place):
        moved = move(path, place)
        if path == target:  # is out of the way, when another process is faster
            (target / "theirs").mkdir(parents=True)
            monkeypatch.setattr(Path, "replace", move)
        return moved

    for folder in (source / "ours", target):
        folder.mkdir(parents=True)
    monkeypatch.setattr(Path, "replace", contended)
    replace_folder(source, target)
    assert (names(target), names(tmp_path)) == (["ours"], ["target"])


def test_a_link_to_a_folder_is_replaced(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "target").symlink_to(tmp_path / "there")
    for _ in range(2):
        (tmp_path / "source").mkdir()
        replace_folder(tmp_path / "source", tmp_path / "target")
    assert names(tmp_path) == ["target", "there"]


def test_names_that_are_not_utf8_are_written_with_a_mark(tmp_path):
    """Pages and metrics may show file names that are not UTF-8."""
    with atomic_writer(tmp_path / "page.html") as stream:
        stream.write("a\udcff.trec é")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == "a?.trec é"


def test_a_folder_appears_when_its_block_ends_well(tmp_path):
    target = tmp_path / "model"
    with atomic_folder(target) as working:
        (working / "weights").write_text("1")
        assert not target.exists()
    with pytest.raises(ZeroDivisionError), atomic_folder(target) as working:
        (working / "weights").write_text(str(1 / 0))
    assert {
        path.relative_to(tmp_path).as_posix(): path.is_dir() or path.read_text() for path in tmp_path.rglob("*")
    } == {
        "model": True,
        "model/weights": "1",
    }


WRITE = """
import os, signal, sys
from pathlib import Path
from inpars.io.storage import atomic_file, atomic_folder
with atomic_folder(Path(sys.argv[1]) / "model") as folder, atomic_file(Path(sys.argv[1]) / "a.tsv") as file:
    (folder / "weights").write_text("1")
    file.write_text("1")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_command_left_goes_with_the_next_one(tmp_path):
    def left_by_a_killed_command():
        subprocess.run([sys.executable, "-c", WRITE, str(tmp_path)], check=False)
        return {*names(tmp_path)} - foreign

    foreign = {".a.tsv.partial", ".a.tsv.1.tmp", ".a.tsv.1-ffffffff.tmp", "a.tmp"}  # of others, or unknown
    for name in foreign:
        (tmp_path / name).touch()
    with atomic_file(tmp_path / "b") as working:
        working.touch()
        foreign.add(working.name)  # still being written
        first, second = left_by_a_killed_command(), left_by_a_killed_command()
        assert (len(first), len(second), first & second) == (2, 2, set())
        assert {*names(tmp_path)} == foreign | second
