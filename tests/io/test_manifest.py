"""Manifests: writing, reading, and the reasons why an output is stale."""

import hashlib
import json
from dataclasses import replace

import pytest

from inpars import __version__
from inpars.errors import DataFormatError
from inpars.io.manifest import (
    FileStamp,
    Manifest,
    manifest_path,
    read_manifest,
    size_of,
    stamp,
    stamp_text,
    versions,
    why_stale,
    write_manifest,
)

ARGUMENTS = {"k": 10, "names": ("a", "b"), "model": None}
INPUTS = {"corpus": stamp_text("corpus", "some documents")}


@pytest.fixture
def output(tmp_path):
    """A finished output of `search`."""
    path = tmp_path / "run.trec"
    path.write_text("q Q0 d 1 1.0 t\n", encoding="utf-8")
    write_manifest(Manifest("search", ARGUMENTS, INPUTS, stamp(path, records=1), seed=3), path)
    return path


def test_a_manifest_lies_beside_files_and_folders(tmp_path):
    assert manifest_path(tmp_path / "run.trec") == tmp_path / "run.trec.manifest.json"
    assert manifest_path(tmp_path / "model") == tmp_path / "model.manifest.json"


def test_a_manifest_is_read_as_it_was_written(output):
    manifest = read_manifest(output)
    # JSON knows lists, not tuples
    expected = Manifest("search", ARGUMENTS | {"names": ["a", "b"]}, INPUTS, stamp(output, records=1), seed=3)
    assert manifest == expected
    assert manifest_path(output).read_text(encoding="utf-8").endswith("}\n")


def test_no_manifest_is_none(tmp_path):
    assert read_manifest(tmp_path / "absent") is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"inputs": {}, "output": {}}', b"\xff\xfe"])
def test_what_is_no_manifest_is_refused(output, content):
    manifest_path(output).write_bytes(content)
    with pytest.raises(DataFormatError, match=r"run\.trec\.manifest\.json: not a manifest .*; remove it to redo"):
        read_manifest(output)


def test_a_manifest_of_another_version_is_refused(output):
    fields = json.loads(manifest_path(output).read_text(encoding="utf-8"))
    manifest_path(output).write_text(json.dumps(fields | {"unheard_of": 1}), encoding="utf-8")
    with pytest.raises(DataFormatError, match="unheard_of"):
        read_manifest(output)


def test_the_same_stage_settings_and_inputs_are_not_stale(output):
    assert why_stale(output, "search", ARGUMENTS, INPUTS) is None
    # inputs are compared by content, wherever they lie
    moved = {"corpus": replace(INPUTS["corpus"], path="/elsewhere")}
    assert why_stale(output, "search", ARGUMENTS, moved) is None


@pytest.mark.parametrize(
    ("stage", "arguments", "inputs", "reason"),
    [
        ("rerank", ARGUMENTS, INPUTS, "it was made by 'search'"),
        ("search", ARGUMENTS | {"k": 11}, INPUTS, "setting changed: k"),
        ("search", ARGUMENTS | {"k": 11, "model": "x"}, INPUTS, "setting changed: k, model"),
        ("search", ARGUMENTS | {"new": 1}, INPUTS, "setting changed: new"),
        ("search", {"k": 10, "names": ["a", "b"]}, INPUTS, None),  # an absent setting and None are one
        ("search", {"names": ["a", "b"]}, INPUTS, "setting changed: k"),
        ("search", ARGUMENTS | {"names": ("b", "a")}, INPUTS, "setting changed: names"),
        ("search", ARGUMENTS, {"corpus": stamp_text("corpus", "other")}, "input changed: corpus"),
        ("search", ARGUMENTS, INPUTS | {"run": stamp_text("run", "")}, "input changed: run"),
        ("search", ARGUMENTS, {}, "input changed: corpus"),
        ("search", {}, {}, "setting changed: k, names"),  # settings are named first
    ],
)
def test_why_stale(output, stage, arguments, inputs, reason):
    assert why_stale(output, stage, arguments, inputs) == reason


def test_stale_by_the_state_of_the_output(output):
    output.write_text("q Q0 d 1 1.0 tampered\n", encoding="utf-8")
    assert why_stale(output, "search", ARGUMENTS, INPUTS) == "it was changed after it was made"
    manifest_path(output).unlink()
    assert why_stale(output, "search", ARGUMENTS, INPUTS) == "it was not finished"
    output.unlink()
    assert why_stale(output, "search", ARGUMENTS, INPUTS) == "it does not exist yet"


def test_stamp_of_a_file(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    # SHA-256 of "abc" from FIPS 180-4's examples
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert stamp(path, records=2) == FileStamp(str(path), known, 3, 2)
    assert stamp_text("x", "abc") == FileStamp("x", known, 3)


def test_stamp_of_a_folder_follows_names_and_bytes(tmp_path):
    folder = tmp_path / "model"
    (folder / "deep").mkdir(parents=True)
    (folder / "b.txt").write_bytes(b"22")
    (folder / "deep" / "a.txt").write_bytes(b"1")
    digest = hashlib.sha256(b"b.txt\0" + b"22" + b"deep/a.txt\0" + b"1").hexdigest()
    assert stamp(folder) == FileStamp(str(folder), digest, 3)
    folder.rename(tmp_path / "moved")
    assert stamp(tmp_path / "moved").sha256 == digest
    (tmp_path / "moved" / "b.txt").rename(tmp_path / "moved" / "c.txt")
    renamed = stamp(tmp_path / "moved")
    assert (renamed.size, size_of(tmp_path / "moved")) == (3, 3)
    assert renamed.sha256 != digest


def test_versions_name_python_and_this_package():
    found = versions()
    assert found["inpars"] == __version__
    assert found["python"].count(".") == 2
