"""Copies of objects: fetched when they changed, stored when the file did, whatever fails on the way."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from inpars.contrib.remote import mirror as mirrors
from inpars.contrib.remote.arguments import local_paths
from inpars.contrib.remote.mirror import ATTEMPTS, Mirror, ObjectInfo, is_url
from inpars.errors import BackendError, ConfigError, DataFormatError, StorageError
from inpars.io.manifest import manifest_path

pytestmark = pytest.mark.skipif(importlib.util.find_spec("fsspec") is None, reason="fsspec is not installed")
SHARED = "memory://bucket/run"


@pytest.fixture(autouse=True)
def store():
    """fsspec's objects in memory, empty."""
    import fsspec

    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    return files


@pytest.fixture
def mirror(tmp_path):
    return Mirror(tmp_path / "cache", wait=lambda seconds: None)


class Failing:
    """A file system of which every call but each `every`-th fails."""

    def __init__(self, files, every):
        self.files, self.every, self.calls = files, every, 0

    def __getattr__(self, name):
        def call(*arguments, **named):
            self.calls += 1
            if self.calls % self.every:
                raise ConnectionError("503 Slow Down\nand more")
            return getattr(self.files, name)(*arguments, **named)

        return call


def test_addresses_of_stores_are_told_from_others():
    assert is_url("s3://bucket/key")
    assert is_url("gs://bucket/folder/")
    for text in ("https://example.org/x", "s3:bucket", "s3://", "corpus.jsonl", "beir/nfcorpus/test"):
        assert not is_url(text)


def test_an_object_is_fetched_once_and_again_when_it_changed(mirror, store):
    store.pipe_file("/bucket/run/corpus.jsonl", b"one\n")
    path = mirror.fetch(f"{SHARED}/corpus.jsonl")
    assert path.read_bytes() == b"one\n"
    fetched = path.stat().st_mtime_ns
    assert mirror.fetch(f"{SHARED}/corpus.jsonl").stat().st_mtime_ns == fetched
    store.pipe_file("/bucket/run/corpus.jsonl", b"two\n")
    assert mirror.fetch(f"{SHARED}/corpus.jsonl").read_bytes() == b"two\n"


def test_a_folder_is_fetched_as_a_whole(mirror, store):
    for name in ("config.json", "1_Pooling/config.json"):
        store.pipe_file(f"/bucket/run/model/{name}", name.encode())
    path = mirror.fetch(f"{SHARED}/model/")
    assert sorted(p.relative_to(path).as_posix() for p in path.rglob("*.json")) == [
        "1_Pooling/config.json",
        "config.json",
    ]


def test_an_absent_object_is_an_error_with_its_address(mirror):
    with pytest.raises(DataFormatError, match=r"memory://bucket/run/none: no such object"):
        mirror.fetch(f"{SHARED}/none")


def test_a_file_is_stored_when_it_changed(mirror, store):
    path = mirror.path(f"{SHARED}/out.jsonl")
    path.parent.mkdir(parents=True)
    path.write_text("one\n")
    assert mirror.store(path)
    assert not mirror.store(path)
    path.write_text("one\ntwo\n")
    assert mirror.store(path)
    assert store.cat_file("/bucket/run/out.jsonl") == b"one\ntwo\n"
    mirror.remove(path)
    mirror.remove(path)
    assert not store.exists("/bucket/run/out.jsonl")


def there(folder, files, wait=lambda seconds: None):
    """A mirror of this store, and the path of bucket/a in it."""
    found = Mirror(folder, wait=wait, _stores={"memory": files})
    return found, found.path("memory://bucket/a")


def test_failing_requests_are_repeated(tmp_path, store):
    waits = []
    files = Failing(store, 3)  # two of three requests fail
    one, path = there(tmp_path / "one", files, waits.append)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"bytes")
    assert one.store(path)
    two, _ = there(tmp_path / "two", files, waits.append)
    assert two.fetch("memory://bucket/a").read_bytes() == b"bytes"
    # put and list to store, list and one part to fetch: 4 good requests, 2 failures before each
    assert (files.calls, len(waits)) == (12, 8)


def test_what_keeps_failing_is_one_line_and_keeps_the_file(tmp_path, store):
    waits = []
    mirror, path = there(tmp_path, Failing(store, 1000), waits.append)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"bytes")
    with pytest.raises(StorageError) as raised:
        mirror.store(path)
    assert re.fullmatch(
        r"memory://bucket/a: failed 8 times \(503 Slow Down\); .*the same command .*", str(raised.value)
    )
    assert path.read_bytes() == b"bytes"
    assert len(waits) == ATTEMPTS - 1
    assert all(0.5 * 0.2 * 2**n <= wait <= 0.2 * 2**n for n, wait in enumerate(waits))


def test_refused_credentials_are_not_tried_again(tmp_path):
    class Closed:
        def __getattr__(self, name):
            def call(*_, **__):
                raise PermissionError("AccessDenied")

            return call

    mirror, path = there(tmp_path, Closed(), lambda seconds: pytest.fail("waited"))
    with pytest.raises(BackendError, match="AccessDenied; check the credentials"):
        mirror.listed(path.parent)


def test_objects_that_arrive_otherwise_are_refused(tmp_path, store, monkeypatch):
    store.pipe_file("/bucket/a", b"bytes")
    mirror, path = there(tmp_path / "cache", store)
    monkeypatch.setattr(mirrors, "_info", lambda entry: ObjectInfo(5, "0" * 32))  # not the MD5 sum of these
    with pytest.raises(StorageError, match="other bytes"):
        mirror.fetch("memory://bucket/a")
    assert list(path.parent.iterdir()) == []


def test_large_objects_come_in_parts(tmp_path, store, monkeypatch):
    monkeypatch.setattr(mirrors, "PART_BYTES", 3)
    store.pipe_file("/bucket/a", b"0123456789")
    mirror, _ = there(tmp_path, store)
    assert mirror.fetch("memory://bucket/a").read_bytes() == b"0123456789"


@pytest.fixture
def shared(monkeypatch):
    """The arguments as one of two machines sees them, each with a cache of its own."""

    def use(folder, *arguments, command="generate"):
        monkeypatch.setenv("INPARS_CACHE", str(folder))
        return local_paths(command, arguments, lambda line: None)

    return use


def test_a_command_sees_paths_and_its_output_is_stored(tmp_path, shared, store):
    store.pipe_file("/bucket/in/corpus.jsonl", b"{}\n")
    arguments = ["--corpus", "memory://bucket/in/corpus.jsonl", f"--output={SHARED}/q.jsonl", "--model", "minilm"]
    with shared(tmp_path, *arguments) as local:
        assert local[0::2] == ["--corpus", local[2], "minilm"]
        assert Path(local[1]).read_text() == "{}\n"
        output = Path(local[2].removeprefix("--output="))
        output.parent.mkdir(parents=True)
        output.write_text("q\n")
        manifest_path(output).write_text("{}")
    assert store.cat_file("/bucket/run/q.jsonl") == b"q\n"
    assert store.exists("/bucket/run/q.jsonl.manifest.json")
    assert not store.exists("/bucket/in/corpus.jsonl.manifest.json")


def test_another_machine_goes_on_with_the_partial_file(tmp_path, shared, store):
    output = ["--output", f"{SHARED}/q.jsonl", "--shard", "2/3"]

    def interrupted():
        with shared(tmp_path / "one", *output) as local:
            assert local[3] == "2/3"
            partial = tmp_path / "one/remote/memory/bucket/run/q.shard-02-of-03.jsonl.partial"
            partial.parent.mkdir(parents=True)
            partial.write_text("half\n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with shared(tmp_path / "two", *output):
        partial = tmp_path / "two/remote/memory/bucket/run/q.shard-02-of-03.jsonl.partial"
        assert partial.read_text() == "half\n"
        partial.rename(partial.with_suffix(""))
    assert [name["name"] for name in store.ls("/bucket/run")] == ["/bucket/run/q.shard-02-of-03.jsonl"]


def test_a_machine_leaves_the_shards_of_others_alone(tmp_path, shared, store):
    store.pipe_file("/bucket/run/q.shard-01-of-03.jsonl", b"theirs\n")
    store.pipe_file("/bucket/run/q.shard-01-of-03.jsonl.example_query_ids.txt", b"q7\n")
    store.pipe_file("/bucket/run/q.shard-02-of-03.jsonl.partial", b"half\n")
    with shared(tmp_path, "--output", f"{SHARED}/q.jsonl", "--shard", "3/3"):
        folder = tmp_path / "remote/memory/bucket/run"
        assert not folder.exists() or not list(folder.iterdir())
    with shared(tmp_path, "--output", f"{SHARED}/q.jsonl", command="merge"):
        assert {path.name: path.read_text() for path in folder.iterdir()} == {
            "q.shard-01-of-03.jsonl": "theirs\n",
            "q.shard-01-of-03.jsonl.example_query_ids.txt": "q7\n",
        }


@pytest.mark.parametrize("seconds", ["often", "0", "-1", "nan"])
def test_seconds_between_stores_are_a_positive_number(tmp_path, shared, monkeypatch, seconds):
    monkeypatch.setenv("INPARS_REMOTE_SECONDS", seconds)
    with pytest.raises(ConfigError, match="INPARS_REMOTE_SECONDS is"), shared(tmp_path, "--output", f"{SHARED}/q"):
        pass


def test_partial_files_are_stored_while_it_works(tmp_path, shared, store, monkeypatch):
    import time

    monkeypatch.setenv("INPARS_REMOTE_SECONDS", "0.05")
    with shared(tmp_path, "--output", f"{SHARED}/q.jsonl"):
        partial = tmp_path / "remote/memory/bucket/run/q.jsonl.partial"
        partial.parent.mkdir(parents=True)
        partial.write_text("half\n")
        until = time.monotonic() + 20
        while not store.exists("/bucket/run/q.jsonl.partial"):
            assert time.monotonic() < until
            time.sleep(0.02)
        partial.unlink()
    assert not store.exists("/bucket/run/q.jsonl.partial")
