"""An index on disk: content, search, and atomic changes by writers that are killed."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from inpars.errors import ConfigError, DataFormatError, StaleInputError
from inpars.io.corpus import Corpus
from inpars.io.formats import write_documents
from inpars.records import Document
from inpars.retrieval import index_state, index_writer
from inpars.retrieval.index_writer import Change, add_documents, build_index, delete_documents
from inpars.retrieval.vector_index import VectorIndex, choose_structure
from inpars.stages.search import SearchOptions, retrieve

WIDTH = 8


class Letters:
    """Counts letters a to h; of unit length."""

    name, fingerprint = "letters", "letters-1\0float32"

    def __init__(self):
        self.encoded = []

    def encode_documents(self, texts, progress=None):
        self.encoded += texts
        counts = np.array([[text.count(letter) for letter in "abcdefgh"] for text in texts], dtype=np.float32)
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)


def corpus(folder, texts, name="corpus"):
    folder.mkdir(exist_ok=True)
    write_documents(folder / f"{name}.jsonl", [Document(doc_id, text) for doc_id, text in texts.items()])
    return Corpus(folder / f"{name}.jsonl", folder / "cache")


def texts_of(folder):
    return {document.doc_id: document.text for document in VectorIndex(folder)}


def found(folder, text, k=10):
    return VectorIndex(folder).search(Letters().encode_documents([text]), k)[0]


def test_the_nearest_are_found_with_their_products(tmp_path):
    build_index(tmp_path / "index", corpus(tmp_path, {"1": "aab", "2": "b", "3": "c"}), Letters())
    # (2, 1)/sqrt(5) . (1, 0) = 0.894427; b and c share nothing with a; of equal products the lower id first
    assert found(tmp_path / "index", "a") == pytest.approx({"1": 0.894427, "2": 0.0, "3": 0.0})
    assert list(found(tmp_path / "index", "a", 2)) == ["1", "2"]


def test_of_equal_products_the_lower_ids_are_found_wherever_they_lie(tmp_path):
    index, names = tmp_path / "index", [f"{number:02}" for number in range(40)]
    random.Random(1).shuffle(names)
    build_index(index, corpus(tmp_path, dict.fromkeys(names[:30], "a")), Letters())
    add_documents(index, corpus(tmp_path, dict.fromkeys(names[30:], "a"), "more"), Letters())
    assert list(found(index, "a", 5)) == ["00", "01", "02", "03", "04"]


def test_added_documents_are_found_and_deleted_ones_are_not(tmp_path):
    index = tmp_path / "index"
    assert build_index(index, corpus(tmp_path, {"1": "a", "2": "b"}), Letters()) == Change(added=2)
    assert add_documents(index, corpus(tmp_path, {"3": "aab"}, "more"), Letters()) == Change(added=1)
    assert list(found(index, "a")) == ["1", "3", "2"]
    assert delete_documents(index, ["1", "absent"]) == Change(unchanged=1, deleted=1)
    assert list(found(index, "a")) == ["3", "2"]
    assert len(VectorIndex(index)) == 2
    assert "1" not in VectorIndex(index)
    with pytest.raises(DataFormatError, match="no document '1' in this index"):
        VectorIndex(index)["1"]


def test_adding_again_changes_only_what_changed(tmp_path):
    index, encoder = tmp_path / "index", Letters()
    build_index(index, corpus(tmp_path, {"1": "a", "2": "b", "3": "c"}), Letters())
    later = corpus(tmp_path, {"1": "a", "2": "bbd", "4": "e"}, "later")
    assert add_documents(index, later, encoder) == Change(added=1, replaced=1, unchanged=1)
    assert encoder.encoded == ["bbd", "e"]
    assert texts_of(index) == {"1": "a", "2": "bbd", "3": "c", "4": "e"}
    assert add_documents(index, later, encoder, sync=True) == Change(unchanged=3, deleted=1)
    assert texts_of(index) == {"1": "a", "2": "bbd", "4": "e"}
    digest = VectorIndex(index).sha256
    assert add_documents(index, later, encoder, sync=True) == Change(unchanged=3)
    assert VectorIndex(index).sha256 == digest


def test_small_parts_are_merged_and_nothing_is_lost(tmp_path):
    index = tmp_path / "index"
    build_index(index, corpus(tmp_path, {str(n): "abc" for n in range(30)}), Letters())
    for number in range(30, 50):
        add_documents(index, corpus(tmp_path, {str(number): "abd"}, f"c{number}"), Letters())
    assert len(VectorIndex(index).segments) <= index_writer.MAX_SEGMENTS
    assert texts_of(index) == {str(n): "abc" if n < 30 else "abd" for n in range(50)}
    assert set(found(index, "d", 20)) == {str(n) for n in range(30, 50)}
    assert index_state.stale_files(index, VectorIndex(index).state) == []


def test_a_mostly_deleted_part_is_written_anew(tmp_path):
    index = tmp_path / "index"
    build_index(index, corpus(tmp_path, {str(n): "ab" for n in range(10)}), Letters())
    delete_documents(index, ["0", "1", "2"])
    assert VectorIndex(index).info()["deleted"] == 3
    delete_documents(index, ["3"])  # 4 of 10 are more than 30%
    assert VectorIndex(index).info() | {"documents": 6, "deleted": 0} == VectorIndex(index).info()
    delete_documents(index, [str(n) for n in range(10)])
    assert len(VectorIndex(index)) == 0
    assert found(index, "a") == {}


def test_an_opened_index_stays_as_it_was(tmp_path):
    index = tmp_path / "index"
    build_index(index, corpus(tmp_path, {"1": "a", "2": "b"}), Letters())
    opened = VectorIndex(index)
    delete_documents(index, ["1", "2"])
    assert [document.text for document in opened] == ["a", "b"]
    assert list(opened.search(Letters().encode_documents(["a"]), 5)[0]) == ["1", "2"]


def test_rows_can_be_narrowed(tmp_path):
    index = tmp_path / "index"
    build_index(index, corpus(tmp_path, {"1": "a", "2": "ab", "3": "abb"}), Letters())
    opened = VectorIndex(index)
    allowed = opened.matching("short", lambda document: "b" in document.text)
    assert list(opened.search(Letters().encode_documents(["a"]), 5, allowed=allowed)[0]) == ["2", "3"]


def test_another_model_is_refused(tmp_path):
    index = tmp_path / "index"
    build_index(index, corpus(tmp_path, {"1": "a"}), Letters())
    other = Letters()
    other.fingerprint = "letters-2\0float32"
    with pytest.raises(StaleInputError, match="was made with letters"):
        add_documents(index, corpus(tmp_path, {"2": "b"}, "more"), other)
    other.fingerprint = "letters-1\0bfloat16"  # the same weights on another processor
    assert add_documents(index, corpus(tmp_path, {"2": "b"}, "more"), other) == Change(added=1)


def test_an_index_has_no_windows(tmp_path):
    build_index(tmp_path / "index", corpus(tmp_path, {"1": "a"}), Letters())
    options = SearchOptions(retriever=("minilm",), window_tokens=96)
    with pytest.raises(ConfigError, match="leave --window-tokens out"):
        list(retrieve(VectorIndex(tmp_path / "index"), [], options))


def test_what_is_no_index_is_named(tmp_path):
    with pytest.raises(DataFormatError, match="no index in"):
        VectorIndex(tmp_path)
    with pytest.raises(DataFormatError, match="no index in"):
        delete_documents(tmp_path / "absent", ["1"])
    assert not (tmp_path / "absent").exists()
    (tmp_path / "index.json").write_text("{}")
    with pytest.raises(DataFormatError, match="not an index"):
        VectorIndex(tmp_path)
    (tmp_path / "index.json").write_text(json.dumps({"format": 99, "segments": []}))
    with pytest.raises(DataFormatError, match="an index of format 99"):
        VectorIndex(tmp_path)


def test_building_over_an_index_must_be_asked_for(tmp_path):
    index = tmp_path / "index"
    build_index(index, corpus(tmp_path, {"1": "a"}), Letters())
    with pytest.raises(ConfigError, match="already holds an index"):
        build_index(index, corpus(tmp_path, {"2": "b"}, "other"), Letters())
    build_index(index, corpus(tmp_path, {"2": "b"}, "other"), Letters(), overwrite=True)
    assert texts_of(index) == {"2": "b"}


def test_two_writers_at_a_time_are_refused(tmp_path):
    build_index(tmp_path / "index", corpus(tmp_path, {"1": "a"}), Letters())
    with index_state.writing(tmp_path / "index"), pytest.raises(ConfigError, match="another process"):
        delete_documents(tmp_path / "index", ["1"])


def test_an_interrupted_addition_goes_on_after_its_last_block(tmp_path, monkeypatch):
    monkeypatch.setattr(index_writer, "DOCUMENTS_PER_BLOCK", 2)
    index = tmp_path / "index"
    build_index(index, corpus(tmp_path, {"1": "a"}), Letters())
    more = corpus(tmp_path, {str(n): "abc"[n % 3] for n in range(2, 9)}, "more")

    class Failing(Letters):
        def encode_documents(self, texts, progress=None):
            if len(self.encoded) >= 4:
                raise KeyboardInterrupt
            return super().encode_documents(texts, progress)

    with pytest.raises(KeyboardInterrupt):
        add_documents(index, more, Failing())
    assert texts_of(index) == {"1": "a"}
    encoder = Letters()
    assert add_documents(index, more, encoder) == Change(added=7)
    assert len(encoder.encoded) == 3
    assert len(texts_of(index)) == 8


def test_the_structure_goes_by_size():
    assert [choose_structure("auto", count) for count in (10, 100_000, 100_001, 3_000_000)] == [
        *("exact", "exact", "hnsw", "ivf")
    ]
    assert choose_structure("ivf", 10) == "ivf"


@pytest.mark.parametrize("kind", ["hnsw", "ivf", "int8", "binary"])
def test_approximate_search_finds_nearly_all_with_exact_products(tmp_path, monkeypatch, kind):
    pytest.importorskip("faiss", reason="faiss is an extra")
    from inpars.retrieval import vector_index

    monkeypatch.setattr(vector_index, "EXACT_SEARCH_BELOW", 100)
    chooser = np.random.default_rng(0)
    centres = chooser.normal(size=(40, WIDTH))  # embeddings come in clusters, and so do queries
    near_centres = centres[chooser.integers(40, size=2050)] + 0.3 * chooser.normal(size=(2050, WIDTH))
    points = (near_centres / np.linalg.norm(near_centres, axis=1, keepdims=True)).astype(np.float32)
    table = {str(n): vector for n, vector in enumerate(points[:2000])}

    class Table(Letters):
        def encode_documents(self, texts, progress=None):
            return np.array([table.get(text, np.zeros(WIDTH)) for text in texts], dtype=np.float32)

    documents = corpus(tmp_path, {name: name for name in table})
    build_index(tmp_path / "index", documents, Table(), structure=kind)
    build_index(tmp_path / "exact", documents, Table(), structure="exact")
    gone = [str(n) for n in range(500)]
    delete_documents(tmp_path / "index", gone)
    delete_documents(tmp_path / "exact", gone)
    queries = points[2000:]
    near, exact = (VectorIndex(tmp_path / name).search(queries, 10) for name in ("index", "exact"))
    common = sum(len(one.keys() & other.keys()) for one, other in zip(near, exact, strict=True))
    assert common >= 450  # of 500
    for one, other in zip(near, exact, strict=True):
        assert not one.keys() & set(gone)
        assert all(abs(score - other[name]) < 1e-5 for name, score in one.items() if name in other)
    even = VectorIndex(tmp_path / "index").matching("even", lambda document: int(document.doc_id) % 2 == 0)
    assert all(int(name) % 2 == 0 for name in VectorIndex(tmp_path / "index").search(queries[:1], 10, allowed=even)[0])


ADDING = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_vector_index import Letters, corpus
from inpars.io.corpus import Corpus
from inpars.retrieval import index_writer
index_writer.DOCUMENTS_PER_BLOCK = 50
folder = Path(sys.argv[2])
for _ in sys.stdin:
    if (child := os.fork()) == 0:  # of a process that has loaded everything
        index_writer.add_documents(folder / "index", Corpus(folder / "more.jsonl", folder / "cache"), Letters())
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_a_killed_addition_leaves_all_or_nothing(tmp_path):
    """kill -9 at random moments of an addition that replaces 200 documents and adds 200."""
    index, moments = tmp_path / "index", random.Random(0)
    old = {str(n): "ab" for n in range(300)}
    new = {str(n): "cd" for n in range(100, 500)}
    build_index(index, corpus(tmp_path, old), Letters())
    corpus(tmp_path, new, "more")
    with subprocess.Popen(
        [sys.executable, "-c", ADDING, str(Path(__file__).parent), str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    ) as process:
        for attempt in range(6):
            process.stdin.write("\n")
            process.stdin.flush()
            child = int(process.stdout.readline())
            time.sleep(moments.uniform(0, 0.06))
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            assert int(process.stdout.readline()) in (0, -signal.SIGKILL)
            now = texts_of(index)
            assert now in (old, old | new), attempt
            assert len(VectorIndex(index).search(Letters().encode_documents(["d"]), 1000)[0]) == len(now)
        process.stdin.close()
    add_documents(index, Corpus(tmp_path / "more.jsonl", tmp_path / "cache"), Letters())
    assert texts_of(index) == old | new
    assert index_state.stale_files(index, VectorIndex(index).state) == []


def _steps(monkeypatch, stop_at):
    """Count the calls that change the disk durably, and stop before one of them, like a kill."""
    done = 0

    def counted(original):
        def call(*arguments, **settings):
            nonlocal done
            done += 1
            if done == stop_at:
                raise SystemExit("killed")
            return original(*arguments, **settings)

        return call

    for name in ("write_rows", "write_vectors", "sync_folder", "commit", "remove_stale", "save_array"):
        monkeypatch.setattr(index_writer, name, counted(getattr(index_writer, name)))


@pytest.mark.parametrize("stop_at", range(1, 20))
def test_stopped_before_any_step_the_index_is_old_or_new(tmp_path, monkeypatch, stop_at):
    index = tmp_path / "index"
    old, new = {str(n): "ab" for n in range(10)}, {str(n): "cd" for n in range(5, 15)}
    build_index(index, corpus(tmp_path, old), Letters())
    more = corpus(tmp_path, new, "more")
    with monkeypatch.context() as patched:
        _steps(patched, stop_at)
        try:
            add_documents(index, more, Letters())
        except SystemExit:
            assert texts_of(index) in (old, old | new)
        else:
            assert stop_at > 5  # there is something to stop before
            assert texts_of(index) == old | new
    add_documents(index, more, Letters())
    assert texts_of(index) == old | new
    assert index_state.stale_files(index, VectorIndex(index).state) == []


@pytest.mark.parametrize("structure", ["exact", "hnsw", "ivf", "int8", "binary"])
def test_an_index_of_few_documents_and_of_none(tmp_path, structure):
    if structure != "exact":
        pytest.importorskip("faiss")
    folder, two = tmp_path / "index", corpus(tmp_path, {"1": "a", "2": "b"})
    build_index(folder, two, Letters(), structure=structure)
    assert list(found(folder, "a")) == ["1", "2"]
    index = VectorIndex(folder)
    nothing = index.matching("nothing", lambda document: False)
    assert index.search(Letters().encode_documents(["a"]), 3, allowed=nothing) == [{}]
    assert index.search(np.empty((0, WIDTH), dtype=np.float32), 3) == []
    delete_documents(folder, ["1", "2"])
    assert found(folder, "a") == {}
    add_documents(folder, two, Letters())
    assert list(found(folder, "b", 1)) == ["2"]


def test_a_damaged_index_can_be_built_again(tmp_path):
    folder, two = tmp_path / "index", corpus(tmp_path, {"1": "a", "2": "b"})
    build_index(folder, two, Letters())
    (folder / index_state.STATE).write_text("{")
    with pytest.raises(DataFormatError, match="build it again"):
        VectorIndex(folder)
    build_index(folder, two, Letters(), overwrite=True)
    assert texts_of(folder) == {"1": "a", "2": "b"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("vectors", b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f4',("),  # numpy reads the header as Python
        ("hashes", np.zeros(2)),
        ("rows", np.array([10**9, 10**9])),
        ("offsets", np.array([-9, 0])),
        ("vectors", np.zeros(2, dtype=np.float32)),
    ],
)
def test_a_damaged_table_is_named(tmp_path, name, content):
    folder, two = tmp_path / "index", corpus(tmp_path, {"1": "a", "2": "b"})
    build_index(folder, two, Letters())
    [path] = folder.glob(f"segments/*/{name}.npy")
    path.write_bytes(content) if isinstance(content, bytes) else np.save(path, content)
    with pytest.raises(DataFormatError, match="build the index again"):
        VectorIndex(folder)["1"]
