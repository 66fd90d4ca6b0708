"""`inpars index push` into real stores: counts, resuming, syncing, and the same nearest documents."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import fake_search_server
import numpy as np
import pytest
import tiny_models

from inpars.cli import main as cli
from inpars.contrib.stores import push as module
from inpars.contrib.stores.push import STORES, open_store
from inpars.errors import ConfigError
from inpars.io.formats import write_documents
from inpars.records import Document
from inpars.retrieval.vector_index import VectorIndex

MODULES = {"qdrant": "qdrant_client", "lancedb": "lancedb", "milvus": "milvus_lite", "pgvector": "pgvector"}
MODULES |= {"elasticsearch": "elasticsearch", "opensearch": "opensearchpy", "weaviate": "weaviate"}
COUNT = 60


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    """A PostgreSQL with pgvector, from INPARS_TEST_POSTGRES or pgserver."""
    if address := os.environ.get("INPARS_TEST_POSTGRES"):
        yield address
        return
    pgserver = pytest.importorskip("pgserver", reason="no PostgreSQL with pgvector: pgserver is not installed")
    home = tmp_path_factory.mktemp("pg")
    for attempt in range(3):  # it waits ten seconds for a start, which a busy machine exceeds
        try:
            server = pgserver.get_server(home, cleanup_mode="stop")
            break
        except subprocess.SubprocessError:
            if attempt == 2:
                raise
    yield server.get_uri()
    server.cleanup()


@pytest.fixture
def search_server(monkeypatch):
    """A fake server, because neither engine can be installed with pip."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = fake_search_server.started()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def weaviate_server(monkeypatch):
    """A fake server, because Weaviate cannot be installed with pip."""
    import fake_weaviate

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = fake_weaviate.Started()
    monkeypatch.setenv("WEAVIATE_GRPC_PORT", str(server.grpc_port))
    yield server
    server.stop()


@pytest.fixture(params=STORES)
def store(request, tmp_path):
    """A kind of store and an empty target."""
    pytest.importorskip(MODULES[request.param], reason=f"the {request.param} extra is not installed")
    if request.param == "pgvector":
        import psycopg

        address = request.getfixturevalue("postgres")
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute("DROP TABLE IF EXISTS passages")
        return request.param, address
    if request.param in ("elasticsearch", "opensearch"):
        server = request.getfixturevalue("search_server")
        return request.param, f"http://127.0.0.1:{server.server_port}"
    if request.param == "weaviate":
        return request.param, request.getfixturevalue("weaviate_server").address
    return request.param, str(tmp_path / ("store.db" if request.param == "milvus" else "store"))


@pytest.fixture(scope="module")
def built(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("index")
    write_documents(folder / "c.jsonl", documents())
    given = ["--corpus", folder / "c.jsonl", "--index", folder / "i", "--retriever", tiny("sentence_transformer")]
    assert cli.main([*map(str, ["index", "build", *given, "--quiet"])]) == 0
    return folder / "i"


@pytest.fixture
def index(built, tmp_path):
    return Path(shutil.copytree(built, tmp_path / "i"))


def documents():
    for number in range(COUNT):
        text = tiny_models.sentence(number, 9)
        yield Document(
            f"d'{number}/ü", text, f"title {number}" * (number % 2), {"page": number, "headings": ["a", "b"]}
        )


@pytest.fixture
def push(capsys):
    def call(index, store, *flags, code=0):
        capsys.readouterr()
        kind, target = store
        given = ["index", "push", "--index", index, "--to", kind, target, "--json", "--quiet", *flags]
        assert cli.main([str(word) for word in given]) == code
        printed = capsys.readouterr()
        return json.loads(printed.out) if printed.out else printed.err

    return call


def opened(store):
    return open_store(*store, "passages")


def test_a_push_is_repeated_changed_and_synced(store, index, push, capsys):
    first = push(index, store)
    assert (first["documents"], first["sent"], first["unchanged"]) == (COUNT, COUNT, 0)
    assert not first["missing"] + first["changed"] + first["extra"]
    again = push(index, store)
    assert (again["sent"], again["unchanged"]) == (0, COUNT)
    gone = [f"d'{number}/ü" for number in range(5)]
    assert cli.main(["index", "delete", "--index", str(index), "--ids", *gone, "--quiet"]) == 0
    changed = [Document("d'7/ü", "another text", "", {"page": 7}), Document("new", "a new text")]
    write_documents(index.parent / "more.jsonl", changed)
    more = ["--index", str(index), "--corpus", str(index.parent / "more.jsonl"), "--quiet"]
    assert cli.main(["index", "add", *more]) == 0
    third = push(index, store)
    assert (third["sent"], third["unchanged"], third["deleted"]) == (2, COUNT - 6, 0)
    assert sorted(third["extra"]) == sorted(gone)
    synced = push(index, store, "--sync")
    assert (synced["sent"], synced["deleted"], synced["extra"]) == (0, 5, [])


def test_the_nearest_are_those_of_the_index(store, index, push):
    push(index, store)
    own = VectorIndex(index)
    queries = np.random.default_rng(0).normal(size=(20, own.state.width)).astype(np.float32)
    there = opened(store)
    try:
        for query, expected in zip(queries, own.search(queries, 10), strict=True):
            found = there.nearest(query, 10)
            assert [doc_id for doc_id, _ in found] == list(expected)
            np.testing.assert_allclose([score for _, score in found], list(expected.values()), rtol=1e-4, atol=1e-5)
    finally:
        there.close()


KILLED = """
import os, signal, sys
from inpars.cli import main as cli
from inpars.contrib.stores import push
push.BATCH = 10
put, done = None, 0
def killing(store):
    put = store.put
    def one(rows):
        global done
        if done == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
        put(rows)
        done += 1
    store.put = one
    return store
from inpars.cli import index as command
opened = command.open_store
command.open_store = lambda *given: killing(opened(*given))
cli.main(sys.argv[2:])
"""


def test_killed_twice_it_goes_on(store, index, push):
    kind, target = store
    given = ["index", "push", "--index", str(index), "--to", kind, target, "--quiet"]
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", KILLED, "2", *given], check=False, capture_output=True, text=True)
        assert done.returncode == -9, done.stderr
    last = push(index, store)
    assert (last["documents"], last["sent"], last["unchanged"]) == (COUNT, COUNT - 40, 40)
    assert not last["missing"] + last["changed"] + last["extra"]


def test_another_width_is_refused(store, index, push):
    push(index, store)
    there = opened(store)
    try:
        with pytest.raises(ConfigError, match="width"):
            there.prepare(7)
    finally:
        there.close()


def test_a_foreign_qdrant_collection_is_refused(tmp_path):
    models = pytest.importorskip("qdrant_client", reason="the qdrant extra is not installed").models
    from inpars.contrib.stores.qdrant import open_collection

    store = open_collection(str(tmp_path / "store"), "passages")
    try:
        config = models.VectorParams(size=2, distance=models.Distance.COSINE)
        store._client.create_collection("passages", vectors_config=config)
        with pytest.raises(ConfigError, match="compares by Cosine"):
            store.prepare(2)
        store._client.delete_collection("passages")
        store.prepare(2)
        point = models.PointStruct(id=1, vector=[1, 0], payload={"page_content": "theirs"})
        store._client.upsert("passages", points=[point])
        with pytest.raises(ConfigError, match="lacks doc_id"):
            store.prepare(2)
    finally:
        store.close()


@pytest.mark.parametrize(
    ("target", "collection", "message"),
    [
        ("localhost:8080", "passages", "give a server's address"),
        ("http://x", "my-passages", "--collection 'my-passages'"),
    ],
)
def test_what_is_no_address_or_name_of_weaviates(target, collection, message):
    pytest.importorskip("weaviate", reason="the weaviate extra is not installed")
    with pytest.raises(ConfigError, match=message):
        open_store("weaviate", target, collection)


@pytest.mark.parametrize("target", ["localhost:6333", "qdrant://here"])
def test_a_qdrant_server_without_http_is_no_folder(target):
    pytest.importorskip("qdrant_client", reason="the qdrant extra is not installed")
    with pytest.raises(ConfigError, match="with http://"):
        open_store("qdrant", target, "passages")


class Memory:
    """A store that loses one row and corrupts another."""

    def __init__(self):
        self.rows = {}

    def prepare(self, width):
        pass

    def contents(self):
        return dict(self.rows)

    def put(self, rows):
        for row in rows:
            doc_id = row.document.doc_id
            self.rows[doc_id] = "other" if doc_id == "d'1/ü" else row.digest
        self.rows.pop("d'2/ü", None)

    def close(self):
        pass


def test_what_differs_is_said_and_fails(index, monkeypatch, capsys):
    own = Memory()
    own.rows["x"] = "y"
    pushed = module.push(VectorIndex(index), own)
    assert (pushed.missing, pushed.changed, pushed.extra) == (("d'2/ü",), ("d'1/ü",), ("x",))
    from inpars.cli import index as command

    monkeypatch.setattr(command, "open_store", lambda *_: own)
    monkeypatch.setattr(command, "store_errors", lambda _: __import__("contextlib").nullcontext())
    assert cli.main(["index", "push", "--index", str(index), "--to", "qdrant", "x", "--quiet"]) == 1
    printed = capsys.readouterr()
    assert "1 missing: d'2/ü" in printed.err
    assert "--sync" in printed.out


def test_a_digest_tells_every_part():
    vector = np.ones(3, np.float32)
    one = Document("a", "text", "title", {"page": 1})
    others = [
        (Document("a", "text", "title", {"page": 2}), vector),
        (Document("a", "texts", "title", {"page": 1}), vector),
        (Document("a", "text", "", {"page": 1}), vector),
        (one, vector * 2),
    ]
    digests = {module.Row(document, values).digest for document, values in [(one, vector), *others]}
    assert len(digests) == 5
