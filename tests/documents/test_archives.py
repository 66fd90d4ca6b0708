"""Zip archives: unpacked once, never outside their folder; rejected archives leave nothing behind."""

import os
import stat
import zipfile

import pytest

from inpars.documents import datasets as module
from inpars.documents.datasets import unpacked
from inpars.errors import DataFormatError


def zipped(path, entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in entries.items():
            archive.writestr(name, text)
    return path


def below(folder):
    return sorted(str(part.relative_to(folder)) for part in folder.rglob("*") if part.is_file())


def test_files_are_unpacked_once(tmp_path, monkeypatch):
    archive = zipped(tmp_path / "a.zip", {"corpus.jsonl": "{}", "qrels/test.tsv": "x"})
    folder = unpacked(archive, tmp_path / "cache")
    assert below(folder) == ["corpus.jsonl", "qrels/test.tsv"]
    assert (folder / "qrels" / "test.tsv").read_text(encoding="utf-8") == "x"
    monkeypatch.setattr(module, "_unpack", None)  # would fail if it were called
    assert unpacked(archive, tmp_path / "cache") == folder


def test_a_changed_archive_is_unpacked_again(tmp_path):
    archive = zipped(tmp_path / "a.zip", {"corpus.jsonl": "old"})
    former = unpacked(archive, tmp_path / "cache")
    zipped(archive, {"corpus.jsonl": "newer"})
    os.utime(archive, (1, 1))
    folder = unpacked(archive, tmp_path / "cache")
    assert folder != former
    assert (folder / "corpus.jsonl").read_text(encoding="utf-8") == "newer"


@pytest.mark.parametrize(
    "name", ["../evil.txt", "a/../../evil.txt", "/tmp/evil.txt", "..\\evil.txt", "C:\\evil.txt", "C:evil.txt"]
)
def test_entries_that_point_outside_are_refused(tmp_path, name):
    archive = tmp_path / "a.zip"
    entry = zipfile.ZipInfo(name)
    entry.filename = name  # ZipInfo turns backslashes on some systems
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("fine.txt", "x")
        made.writestr(entry, "evil")
    with pytest.raises(DataFormatError, match="outside the archive's folder") as caught:
        unpacked(archive, tmp_path / "cache")
    assert str(archive) in str(caught.value)
    assert below(tmp_path) == ["a.zip"]


def test_links_are_refused(tmp_path):
    entry = zipfile.ZipInfo("corpus.jsonl")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        made.writestr(entry, "/etc/passwd")
    with pytest.raises(DataFormatError, match=r"is a link; .*'corpus.jsonl'"):
        unpacked(tmp_path / "a.zip", tmp_path / "cache")
    assert below(tmp_path) == ["a.zip"]


def damaged_data(raw):
    middle = raw.index(b"corpus.jsonl") + len("corpus.jsonl")
    return raw[:middle] + b"\xff" * 20 + raw[middle + 20 :]


@pytest.mark.parametrize("damage", [lambda raw: raw[: len(raw) // 2], lambda _: b"no zip", damaged_data, lambda _: b""])
def test_damaged_archives_are_named(tmp_path, damage):
    archive = zipped(tmp_path / "a.zip", {"corpus.jsonl": "some text that is packed " * 20})
    archive.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(DataFormatError, match=r"a\.zip: .*whole zip archive .*again"):
        unpacked(archive, tmp_path / "cache")
    assert below(tmp_path) == ["a.zip"]


def test_a_wrong_checksum_is_noticed(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        made.writestr("corpus.jsonl", "stored text")
    raw = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(raw.replace(b"stored text", b"stored test"))
    with pytest.raises(DataFormatError, match="whole zip archive"):
        unpacked(tmp_path / "a.zip", tmp_path / "cache")
    assert below(tmp_path) == ["a.zip"]


def test_names_that_are_not_utf8_are_refused_in_one_line(tmp_path):
    archive = zipped(tmp_path / "a.zip", {"n\u00e9e.txt": "x"})  # a name that is flagged as UTF-8
    archive.write_bytes(archive.read_bytes().replace("\u00e9".encode(), b"\xff\xff"))
    with pytest.raises(DataFormatError, match=r"a\.zip: .*whole zip archive"):
        unpacked(archive, tmp_path / "cache")
    assert below(tmp_path / "cache") == []
