"""download_data.sh against a server on the loopback: transfers, checks, refusals, resuming."""

import gzip
import hashlib
import io
import os
import re
import subprocess
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from inpars.io.formats import read_run
from inpars.records import Document, Query

SCRIPT = Path(__file__).parents[2] / "download_data.sh"
TOY = Path(__file__).parents[1] / "data" / "toy"
BEIR_NFCORPUS_MD5 = "a89dba18a62ef92f7d323ec890a0d38d"
MSMARCO_MD5 = "31644046b18952c1386cd4564ba2ae69"
V2_FOLDER = "/hub/datasets/inpars/generated-data/resolve/main/scifact"


class Server:
    """Serves files by path and records the requests."""

    def __init__(self):
        self.files = {}
        self.requests = []
        self.ranges = True
        self.stated_extra = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.answer(body=False)

            def do_GET(self):
                self.answer(body=True)

            def answer(self, *, body):
                wanted = self.headers.get("Range") if outer.ranges else None
                outer.requests.append((self.command, self.path, wanted))
                content = outer.files.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
                if wanted and start >= len(content):
                    self.send_error(416)
                    return
                self.send_response(206 if wanted else 200)
                if wanted:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                extra = 0 if body else outer.stated_extra
                self.send_header("Content-Length", str(len(content) - start + extra))
                self.end_headers()
                if body:
                    self.wfile.write(content[start:])

            def log_message(self, *_):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def gets(self):
        return [path for method, path, _ in self.requests if method == "GET"]

    def close(self):
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def download(server, tmp_path):
    """Runs the script in an empty folder against local servers; `sums` replaces published MD5s."""

    def run(*arguments, sums=None, url=None):
        text = SCRIPT.read_text(encoding="utf-8")
        for published, ours in (sums or {}).items():
            assert text.count(published) == 1
            text = text.replace(published, ours)
        script = tmp_path / "download_data.sh"
        script.write_text(text, encoding="utf-8")
        places = ("BEIR", "MSMARCO", "HUB", "TREC", "RUN", "V1", "PROMPTS")
        urls = {f"INPARS_{place}_URL": f"{url or server.url}/{place.lower()}" for place in places}
        environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        return subprocess.run(
            ["bash", str(script), *arguments],
            cwd=tmp_path,
            env=environment | urls,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def md5(content):
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def zipped(entries):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in entries.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def toy_zip():
    names = ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv"]
    return zipped({f"nfcorpus/{name}": (TOY / "beir" / name).read_text(encoding="utf-8") for name in names})


def visible(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def one_line(result):
    lines = result.stderr.splitlines()
    assert result.returncode == 1
    assert len(lines) == 1, result.stderr
    return lines[0]


def test_the_script_parses():
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True, capture_output=True)


def test_help_and_list_go_to_stdout(download):
    shown = download("--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "--output FOLDER" in shown.stdout
    names = download("--list").stdout.split()
    assert len(names) == len(set(names))
    expected = {"msmarco-passage", "msmarco-dl19", "msmarco-dl20", "beir/scifact", "inpars-synthetic/fiqa"}
    assert expected <= set(names)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name what to fetch"),
        (["--output"], "--output needs a folder"),
        (["--fast", "beir/nfcorpus"], "unknown option --fast"),
        (["beir/nope", "beir/nfcorpus", "x"], "unknown: beir/nope x; --list"),
        (["beir/nfcorpus*"], "unknown: beir/nfcorpus*"),
        (["beir/../nfcorpus"], "unknown: beir/../nfcorpus"),
    ],
)
def test_bad_commands_are_one_line_and_fetch_nothing(download, server, arguments, said):
    assert said in one_line(download(*arguments))
    assert server.requests == []


def test_no_network_is_one_line(download):
    # port 1 of the loopback: nobody listens
    line = one_line(download("beir/nfcorpus", url="http://127.0.0.1:1"))
    assert line.startswith("download_data: no network: 127.0.0.1:1 cannot be reached")


def test_a_beir_collection_is_verified_unpacked_and_then_skipped(download, server, tmp_path):
    archive = toy_zip()
    server.files["/beir/nfcorpus.zip"] = archive
    sums = {BEIR_NFCORPUS_MD5: md5(archive)}
    first = download("--output", "my data", "beir/nfcorpus", sums=sums)
    assert first.returncode == 0, first.stderr
    folder = tmp_path / "my data" / "beir" / "nfcorpus"
    assert visible(folder) == [".verified", "corpus.jsonl", "qrels/test.tsv", "queries.jsonl"]
    assert (folder / "corpus.jsonl").read_bytes() == (TOY / "beir" / "corpus.jsonl").read_bytes()
    assert not (tmp_path / "my data" / ".partial").exists()

    again = download("--output=my data", "beir/nfcorpus", sums=sums)
    assert (again.returncode, server.gets()) == (0, ["/beir/nfcorpus.zip"])
    assert "verified, skipped" in again.stderr

    (folder / "corpus.jsonl").write_text("changed", encoding="utf-8")
    assert download("--output=my data", "beir/nfcorpus", sums=sums).returncode == 0
    assert server.gets() == ["/beir/nfcorpus.zip"] * 2
    assert (folder / "corpus.jsonl").read_bytes() == (TOY / "beir" / "corpus.jsonl").read_bytes()


def test_a_wrong_md5_leaves_nothing_behind(download, server, tmp_path):
    server.files["/beir/nfcorpus.zip"] = toy_zip()
    result = download("beir/nfcorpus")
    assert result.returncode == 1
    assert f"published is {BEIR_NFCORPUS_MD5}; the file was removed" in result.stderr.splitlines()[-1]
    assert visible(tmp_path / "data") == []


@pytest.mark.parametrize("name", ["../outside", "/tmp/inpars-outside", "nfcorpus/../../outside", "a\\..\\..\\outside"])
def test_archives_that_leave_their_folder_are_refused(download, server, tmp_path, name):
    archive = zipped({"nfcorpus/corpus.jsonl": "{}", name: "x"})
    server.files["/beir/nfcorpus.zip"] = archive
    result = download("beir/nfcorpus", sums={BEIR_NFCORPUS_MD5: md5(archive)})
    assert result.returncode == 1
    assert "would leave the folder" in result.stderr
    assert not (tmp_path / "data" / "beir" / "nfcorpus").exists()
    assert not list(tmp_path.rglob("*outside*"))
    assert not Path("/tmp/inpars-outside").exists()


def test_links_in_archives_are_refused(download, server):
    link = zipfile.ZipInfo("nfcorpus/link")
    link.external_attr = 0o120777 << 16
    archive = zipped({"nfcorpus/corpus.jsonl": "{}", link: "/etc"})
    server.files["/beir/nfcorpus.zip"] = archive
    result = download("beir/nfcorpus", sums={BEIR_NFCORPUS_MD5: md5(archive)})
    assert (result.returncode, "would leave the folder" in result.stderr) == (1, True)


@pytest.mark.parametrize(
    ("ranges", "begun", "sent"),
    [
        (True, 10, ["bytes=10-"]),  # goes on at byte 10
        (False, 10, [None, None]),  # the server ignores ranges: once more from the start
        (True, 10**6, ["bytes=1000000-", None]),  # longer than the file: once more from the start
    ],
)
def test_an_interrupted_transfer_goes_on(download, server, tmp_path, ranges, begun, sent):
    archive = toy_zip()
    server.files["/beir/nfcorpus.zip"] = archive
    server.ranges = ranges
    part = tmp_path / "data" / ".partial" / "beir" / "nfcorpus" / "downloads" / "nfcorpus.zip.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(archive[:begun].ljust(begun, b"x"))
    result = download("beir/nfcorpus", sums={BEIR_NFCORPUS_MD5: md5(archive)})
    assert result.returncode == 0, result.stderr
    assert [wanted for method, _, wanted in server.requests if method == "GET"] == sent
    assert (tmp_path / "data" / "beir" / "nfcorpus" / "corpus.jsonl").exists()


def test_a_file_that_is_not_there_is_named(download, server):
    result = download("inpars-v1-synthetic/scifact")
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert f"{server.url}/v1/scifacts_synthetic_queries_100k.jsonl: the server answered HTTP 404" in last


def test_without_a_published_md5_the_stated_size_decides(download, server, tmp_path):
    server.files["/v1/nq_synthetic_queries_100k.jsonl"] = b'{"doc_id": "1"}\n'
    server.stated_extra = 5
    # 16 bytes come, 21 are stated
    result = download("inpars-v1-synthetic/nq")
    assert (result.returncode, bool(re.search(r"16 bytes came, .*21", result.stderr))) == (1, True)
    server.stated_extra = 0
    assert download("inpars-v1-synthetic/nq").returncode == 0
    assert visible(tmp_path / "data") == [
        f"inpars-v1-synthetic/nq/{name}" for name in (".verified", "queries.synthetic.jsonl")
    ]


def test_a_folder_of_somebody_else_is_left_alone(download, server, tmp_path):
    mine = tmp_path / "data" / "beir" / "nfcorpus" / "notes.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine", encoding="utf-8")
    assert "was not made by this script" in one_line(download("beir/nfcorpus"))
    assert (mine.read_text(encoding="utf-8"), server.requests) == ("mine", [])


def test_what_is_whole_is_kept_when_a_later_file_fails(download, server, tmp_path):
    server.files[f"{V2_FOLDER}/queries.jsonl"] = b"{}\n"
    assert download("inpars-synthetic/scifact").returncode == 1
    assert not (tmp_path / "data" / "inpars-synthetic" / "scifact").exists()
    server.files[f"{V2_FOLDER}/queries_filtered_v2.jsonl"] = b"{}\n"
    assert download("inpars-synthetic/scifact").returncode == 0
    assert server.gets().count(f"{V2_FOLDER}/queries.jsonl") == 1
    expected = [".verified", "queries.filtered.jsonl", "queries.synthetic.jsonl"]
    assert visible(tmp_path / "data" / "inpars-synthetic" / "scifact") == expected


def test_msmarco_becomes_a_folder_that_opens_as_a_dataset(download, server, tmp_path, monkeypatch):
    from inpars.documents.datasets import load_dataset

    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        members = {
            "collection.tsv": "7\tfirst passage\n8\tsecond passage\n",
            "queries.train.tsv": "1\tnot wanted\n",
            "queries.dev.small.tsv": "3\twhat is second\n",
            "qrels.dev.small.tsv": "3\t0\t8\t1\n",
        }
        for name, text in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    server.files["/msmarco/collectionandqueries.tar.gz"] = archive.getvalue()
    server.files["/run/run.bm25.dev.small.tsv"] = b"3\t8\t1\n3\t7\t2\n"
    result = download("msmarco-passage", sums={MSMARCO_MD5: md5(archive.getvalue())})
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "data" / "msmarco-passage"
    # rank r gets the score 1001 - r
    assert read_run(folder / "run.bm25.dev.small.trec") == {"3": {"8": 1000.0, "7": 999.0}}
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    dataset = load_dataset(str(folder))
    topics = dataset.topics("dev")
    assert list(dataset.corpus) == [Document("7", "first passage"), Document("8", "second passage")]
    assert (topics.as_queries(), topics.qrels) == ([Query("3", "what is second")], {"3": {"8": 1}})


def test_deep_learning_queries_are_unpacked(download, server, tmp_path):
    queries, qrels = gzip.compress(b"9\tsome query\n", mtime=0), b"9 Q0 8 2\n"
    server.files["/msmarco/msmarco-test2019-queries.tsv.gz"] = queries
    server.files["/trec/2019qrels-pass.txt"] = qrels
    sums = {"eda71eccbe4d251af83150abe065368c": md5(queries), "2f4be390198da108f6845c822e5ada14": md5(qrels)}
    assert download("msmarco-dl19", sums=sums).returncode == 0
    folder = tmp_path / "data" / "msmarco-dl19"
    assert (folder / "queries.tsv").read_bytes() == b"9\tsome query\n"
    assert (folder / "qrels.trec").read_bytes() == qrels
