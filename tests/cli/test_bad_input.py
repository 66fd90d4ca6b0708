"""User errors on the command line: exit code 1 and one line on stderr that says what failed, where, and what to do."""

import errno
import importlib.util
import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from inpars.cli import main as cli
from inpars.generation import GeneratedQuery
from inpars.retrieval.java import find_jar, find_java

TOY = Path(__file__).parents[1] / "data" / "toy"
CORPUS, QUERIES, QRELS, RUN = TOY / "corpus.tsv", TOY / "queries.tsv", TOY / "qrels.trec", TOY / "run.trec"
SYNTHETIC = TOY / "queries.synthetic.jsonl"


@pytest.fixture(autouse=True)
def workdir(tmp_path, monkeypatch):
    """An empty working folder with a separate cache."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "work"


@pytest.fixture
def fails(capsys):
    """Runs a command that must fail, and returns its one line."""

    def run(*arguments):
        code = cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert (code, out) == (1, "")
        return the_line(err)

    return run


def the_line(err):
    assert err.startswith("inpars: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert "Traceback" not in err
    return err


def rows(*records):
    return "".join(json.dumps(record) + "\n" for record in records)


TOY_ROWS = (TOY / "beir" / "corpus.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
BROKEN = "".join(TOY_ROWS[:16]) + '{"_id": "d17", "text": \n' + "".join(TOY_ROWS[17:])
FILES = {
    "broken.jsonl": BROKEN,
    "noids.jsonl": rows({"text": "a"}, {"text": "b"}),
    "twice.jsonl": "".join(TOY_ROWS[:3] + TOY_ROWS[:1]),
    "empty.jsonl": "",
    "words.jsonl": "1\n",
    "notext.jsonl": rows({"_id": "a", "body": 7}),
    "unknown.qrels": "q1 0 d01 1\nq1 0 d99 1\n",
    "letters.qrels": "q1 0 d01 yes\n",
    "wide.qrels": "q1 0 d01 1 extra\n",
    "plain.txt": "Write a question about this.\n",
    "five.trec": "q1 Q0 d01 1 2.0 t\nq1 Q0 d02 2 1.0\n",
    "nan.trec": "q1 Q0 d01 1 nan t\n",
    "twice.trec": "q1 Q0 d01 1 2.0 t\nq1 Q0 d01 2 1.0 t\n",
    "foreign.trec": "q1 Q0 d99 1 2.0 t\n",
    "empty.trec": "",
    "twins.tsv": "q1\tone\nq1\ttwo\n",
    "column.tsv": "q1\tone\nq2 two\n",
    "noprobs.jsonl": rows({"doc_id": "d01", "query": "x", "log_probs": None}),
    "badprobs.jsonl": rows({"doc_id": "d01", "query": "x", "log_probs": ["a"]}),
    "foreign.jsonl": rows({"doc_id": "zzz", "query": "what is it here", "log_probs": [-1, -1, -1]}),
    "key.yaml": "form: '{document} {query}'\ncolour: red\n",
    "badyaml.yaml": "form: |\n  {document}\n bad: [\n",
}
OUT = ("--output", "out/made")
INGEST, GENERATE, FILTER = ("ingest", *OUT), ("generate", *OUT), ("filter", *OUT)
SEARCH, TRIPLES, RERANK = ("search", *OUT), ("triples", *OUT), ("rerank", *OUT)
CASES = {
    "missing corpus": ((*INGEST, "--corpus", "gone.jsonl"), ["gone.jsonl: no such corpus file", "check the path"]),
    "missing dataset": ((*INGEST, "--dataset", "./gone"), ["./gone: no such dataset", "check the path"]),
    "missing folder": ((*INGEST, "--documents", "gone"), ["gone: no such folder of documents", "check the path"]),
    "missing queries": ((*FILTER, "--input", "gone.jsonl"), ["gone.jsonl: no such file", "check the path"]),
    "missing run": (("evaluate", "--run", "gone.trec", "--qrels", QRELS), ["gone.trec: no such file"]),
    "missing qrels": (("evaluate", "--run", RUN, "--qrels", "gone.tsv"), ["gone.tsv: no such file"]),
    "missing triples": (("train", "reranker", "--triples", "gone.tsv", *OUT), ["gone.tsv: no such file"]),
    "missing prompt": ((*GENERATE, "--corpus", CORPUS, "--prompt", "gone.yaml"), ["gone.yaml: no such prompt file"]),
    "folder for a file": (("evaluate", "--run", ".", "--qrels", QRELS), ["is a folder, a file is needed"]),
    "broken JSON": ((*INGEST, "--corpus", "broken.jsonl"), ["broken.jsonl:17: broken JSON", "mend or remove", "d17"]),
    "no object": ((*INGEST, "--corpus", "words.jsonl"), ["words.jsonl:1: not a JSON object", "found '1'"]),
    "no ids": ((*INGEST, "--corpus", "noids.jsonl"), ["noids.jsonl:1: no '_id' field (or id, "]),
    "no text": ((*INGEST, "--corpus", "notext.jsonl"), ["notext.jsonl:1: field 'body': must be text"]),
    "ids twice": ((*INGEST, "--corpus", "twice.jsonl"), ["twice.jsonl: duplicate document id 'd01'", "unique"]),
    "empty corpus": ((*INGEST, "--corpus", "empty.jsonl"), ["empty.jsonl: the corpus is empty", "at least one"]),
    "unknown documents": (
        (*SEARCH, "--corpus", CORPUS, "--queries", QUERIES, "--qrels", "unknown.qrels"),
        ["1 of 2 judged documents are not in the corpus, 'd99' first", "--unknown-judgements keep or drop"],
    ),
    "relevance in letters": (
        ("evaluate", "--run", RUN, "--qrels", "letters.qrels"),
        ["letters.qrels:1: field 'relevance': must be a whole number", "yes"],
    ),
    "wide qrels": (("evaluate", "--run", RUN, "--qrels", "wide.qrels"), ["wide.qrels:1: 5 columns, qrels have 4"]),
    "prompt without a document": (
        (*GENERATE, "--corpus", CORPUS, "--prompt", "plain.txt"),
        ["plain.txt: the template has no {document}", "put it"],
    ),
    "prompt with an unknown key": (
        (*GENERATE, "--corpus", CORPUS, "--prompt", "key.yaml"),
        ["key.yaml: unknown key colour", "known: "],
    ),
    "prompt that is no YAML": (
        (*GENERATE, "--corpus", CORPUS, "--prompt", "badyaml.yaml"),
        ["badyaml.yaml:3: not valid YAML", "indent"],
    ),
    "unknown prompt": (
        (*GENERATE, "--corpus", CORPUS, "--prompt", "inpas"),
        ["unknown prompt 'inpas'; did you mean 'inpars'?", "give the path of a prompt file"],
    ),
    "run of 5 columns": (
        ("evaluate", "--run", "five.trec", "--qrels", QRELS),
        ["five.trec:2: 5 columns, a TREC run has 6: query Q0 document rank score tag"],
    ),
    "score that is none": (("evaluate", "--run", "nan.trec", "--qrels", QRELS), ["nan.trec:1: field 'score'", "nan"]),
    "document ranked twice": (
        (*RERANK, "--corpus", CORPUS, "--queries", QUERIES, "--run", "twice.trec"),
        ["twice.trec:2: document 'd01'"],
    ),
    "unknown baseline": (
        ("evaluate", "--run", RUN, "--qrels", QRELS, "--baseline", "bm25"),
        ["the baseline 'bm25' is none of the runs (run)"],
    ),
    "nothing judged": (("evaluate", "--run", RUN), ["no judgements named", "--qrels FILE"]),
    "unknown measure": (
        ("evaluate", "--run", RUN, "--qrels", QRELS, "--metrics", "nDCG@10 Best"),
        ["unknown measure Best", "try: nDCG@10"],
    ),
    "query ids twice": (
        (*SEARCH, "--corpus", CORPUS, "--queries", "twins.tsv"),
        ["twins.tsv:2: duplicate query id", "q1"],
    ),
    "one column": (
        (*SEARCH, "--corpus", CORPUS, "--queries", "column.tsv"),
        ["column.tsv:2: 1 tab-separated columns, 2 are needed", "q2 two"],
    ),
    "no queries": ((*SEARCH, "--corpus", CORPUS), ["there are no queries here", "--queries FILE"]),
    "unknown split": ((*SEARCH, "--dataset", TOY / "beir", "--split", "tset"), ["'tset'; did you mean 'test'?"]),
    "unknown dataset": (
        (*INGEST, "--dataset", "beir/nfcorpus/tset"),
        ["unknown dataset 'beir/nfcorpus/tset'; did you mean 'beir/nfcorpus/test'?"],
    ),
    "no documents": (GENERATE, ["no documents named", "--dataset NAME or --corpus FILE"]),
    "both": ((*INGEST, "--documents", ".", "--corpus", CORPUS), ["--documents replaces a dataset; leave out --corpus"]),
    "k of nothing": ((*SEARCH, "--dataset", TOY / "beir", "--k", "0"), ["--k is 0; it must be at least 1"]),
    "numbers below their minimum": (
        (*SEARCH, "--dataset", TOY / "beir", "--limit", "-1", "--threads", "0"),
        ["--limit is -1; it must be at least 1; --threads is 0; it must be at least 1"],
    ),
    "unknown language": (
        (*SEARCH, "--dataset", TOY / "beir", "--language", "xx"),
        ["unknown language 'xx' (known: ar, bn, "],
    ),
    "no log-probs": ((*FILTER, "--input", "noprobs.jsonl"), ["have no log-probabilities"]),
    "wrong log-probs": ((*FILTER, "--input", "badprobs.jsonl"), ["badprobs.jsonl:1: field 'log_probs'"]),
    "nothing to filter": ((*FILTER, "--input", "empty.jsonl"), ["empty.jsonl: there are no queries", "generate some"]),
    "all filtered out": (
        (*FILTER, "--input", SYNTHETIC, "--min-tokens", "99"),
        ["no query passes the filter (too_short 5, no_stop 1); loosen it"],
    ),
    "queries of another corpus": (
        (*TRIPLES, "--input", "foreign.jsonl", "--corpus", CORPUS),
        ["foreign.jsonl: 1 of 1 queries are about documents this corpus lacks, 'zzz' first", "give the corpus"],
    ),
    "ranks backwards": (
        (*TRIPLES, "--input", SYNTHETIC, "--corpus", CORPUS, "--ranks", "9-5"),
        ["--ranks is '9-5'; write the first and the last rank"],
    ),
    "nothing to rerank": (
        (*RERANK, "--run", "empty.trec", "--dataset", TOY / "beir"),
        ["empty.trec: the run is empty; there is nothing to rerank"],
    ),
}


NEEDS_BM25 = {"unknown language"}
HAS_BM25 = bool(find_java() and find_jar() and importlib.util.find_spec("jnius"))


@pytest.mark.parametrize("case", CASES)
def test_one_line_says_what_is_wrong(workdir, fails, case):
    if case in NEEDS_BM25 and not HAS_BM25:
        pytest.skip("pyserini, pyjnius or Java is missing")
    for name, content in FILES.items():
        (workdir / name).write_text(content, encoding="utf-8")
    command, fragments = CASES[case]
    line = fails(*command)
    assert [fragment for fragment in fragments if fragment not in line] == []
    assert not [path for path in workdir.rglob("*") if path.is_file() and path.name not in FILES]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("frobnicate",),
        ("generate",),
        ("train",),
        ("train", "reranker"),
        ("evaluate", "--qrels", "x"),
        ("search", "--output", "x", "--k", "many"),
        ("search", "--output", "x", "--outpt", "y"),
        ("filter", "--input", "x", "--output", "y", "--top-k", "best"),
        ("doctor", "extra"),
    ],
)
def test_wrong_usage_is_exit_code_2(capsys, arguments):
    try:
        code = cli.main(arguments)
    except SystemExit as exit_:
        code = exit_.code
    out, err = capsys.readouterr()
    assert code == 2
    assert (out.startswith("usage: inpars") and not err) if not arguments else (not out and err.count("\n") == 1)
    assert "Traceback" not in err


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help(capsys, command):
    with pytest.raises(SystemExit) as exit_:
        cli.main([command, "--help"])
    out, err = capsys.readouterr()
    assert (exit_.value.code, err) == (0, "")
    assert out.startswith(f"usage: inpars {command}")


def outside(workdir, name):
    return {
        "above": "../evil.txt",
        "far above": "toy/../../../evil.txt",
        "absolute": str(workdir.parent / "evil.txt"),
        "backslashes": "..\\evil.txt",
    }[name]


@pytest.mark.parametrize("kind", ["above", "far above", "absolute", "backslashes", "link"])
def test_zips_that_reach_outside(workdir, fails, kind):
    with zipfile.ZipFile("bad.zip", "w") as archive:
        archive.write(TOY / "beir" / "corpus.jsonl", "corpus.jsonl")
        if kind == "link":
            entry = zipfile.ZipInfo("queries.jsonl")
            entry.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(entry, "/etc/passwd")
        else:
            archive.writestr(outside(workdir, kind), "evil")
    line = fails(*INGEST, "--dataset", "bad.zip")
    assert "bad.zip: an entry " in line
    assert "the archive is refused" in line
    assert sorted(path.name for path in workdir.parent.rglob("*") if path.is_file()) == ["bad.zip"]


def test_outputs_that_cannot_be_written(workdir, fails):
    (workdir / "file").write_text("", encoding="utf-8")
    line = fails("ingest", "--dataset", TOY / "beir", "--output", "file/corpus.jsonl")
    assert "file/corpus.jsonl: cannot be written" in line
    assert "choose another --output" in line


def test_a_device_is_never_replaced(workdir, fails):
    os.mkfifo(workdir / "pipe")  # a device would do as well, but takes rights to make
    assert "pipe: not a plain file" in fails("ingest", "--quiet", "--corpus", CORPUS, "--output", "pipe")
    assert stat.S_ISFIFO((workdir / "pipe").stat().st_mode)


def test_an_input_is_never_overwritten(workdir, fails):
    (workdir / "q.jsonl").write_bytes(SYNTHETIC.read_bytes())
    line = fails("filter", "--input", "q.jsonl", "--output", "./q.jsonl", "--overwrite")
    assert line == "inpars: q.jsonl is an input and would be overwritten; choose another --output\n"
    assert (workdir / "q.jsonl").read_bytes() == SYNTHETIC.read_bytes()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_files_that_may_not_be_read(workdir, fails):
    (workdir / "secret.trec").write_text("", encoding="utf-8")
    (workdir / "secret.trec").chmod(0)
    assert "secret.trec: Permission denied; check the path" in fails(
        "evaluate", "--run", "secret.trec", "--qrels", QRELS
    )


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


def test_what_the_system_refuses_is_one_line(fails, monkeypatch):
    refused = PermissionError(errno.EACCES, "Permission denied", "secret.trec")
    monkeypatch.setattr("inpars.cli.evaluate.evaluate_files", raising(refused))
    line = fails("evaluate", "--run", "secret.trec", "--qrels", QRELS)
    assert line == "inpars: secret.trec: Permission denied; check the path, your rights to it and the disk\n"


def test_an_interrupt_is_no_error(monkeypatch, capsys):
    monkeypatch.setattr("inpars.cli.evaluate.evaluate_files", raising(KeyboardInterrupt()))
    assert cli.main(["evaluate", "--run", str(RUN), "--qrels", str(QRELS)]) == 130
    assert capsys.readouterr().err == "inpars: interrupted; run the same command again to resume\n"


def test_a_library_that_was_never_installed_is_one_line(fails, monkeypatch):
    monkeypatch.setattr("inpars.cli.evaluate.evaluate_files", raising(ModuleNotFoundError("x", name="tqdm.auto")))
    line = fails("evaluate", "--run", str(RUN), "--qrels", str(QRELS))
    assert line.startswith("inpars: tqdm.auto is needed by this command (")
    assert "pip install 'tqdm>=4.66', or all that inpars needs: pip install -e ." in line


def test_our_own_missing_modules_are_faults(monkeypatch):
    """They must not be explained away."""
    monkeypatch.setattr("inpars.cli.evaluate.evaluate_files", raising(ModuleNotFoundError("x", name="inpars.typo")))
    with pytest.raises(ModuleNotFoundError):
        cli.main(["evaluate", "--run", str(RUN), "--qrels", str(QRELS)])


@pytest.fixture
def small_disk(workdir):
    """A disk of 64 KiB, where mounting is allowed."""
    if shutil.which("mount") is None:
        pytest.skip("there is no mount command")
    (workdir / "disk").mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", workdir / "disk"],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no right to mount a small disk ({mounted.stderr.strip().splitlines()[0]})")
    yield workdir / "disk"
    subprocess.run(["umount", "-l", workdir / "disk"], check=True)


@pytest.fixture
def large(workdir):
    """A corpus of 128 documents and 160 KB."""
    path = workdir / "large.jsonl"
    path.write_text(rows(*({"_id": f"d{n}", "text": f"{n} " + "word " * 240} for n in range(128))), encoding="utf-8")
    return path


FULL = "the disk is full; free some space and run the same command again, what is done is kept"


def test_a_full_disk_when_a_corpus_is_written(small_disk, large, fails):
    line = fails(*("ingest", "--quiet"), "--corpus", large, "--output", small_disk / "corpus.jsonl")
    assert f"{small_disk / 'corpus.jsonl'}: {FULL}" in line
    assert list(small_disk.iterdir()) == []


def test_a_full_disk_when_the_cache_is_written(small_disk, fails, monkeypatch, workdir):
    monkeypatch.setenv("INPARS_CACHE", str(small_disk))
    with zipfile.ZipFile("toy.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("corpus.jsonl", rows({"_id": "a", "text": "word " * 40_000}))
    line = fails("ingest", "--quiet", "--dataset", "toy.zip", *OUT)
    assert FULL in line
    assert str(small_disk) in line
    assert not [path for path in small_disk.rglob("*") if path.is_file()]


class Writer:
    """Writes a long query per document, four at a time, and remembers which ones were billed."""

    name, log_prob_kind, device = "writer", "raw", "cpu"

    def __init__(self):
        self.paid = []

    def plan(self, documents):
        return [list(range(start, min(start + 4, len(documents)))) for start in range(0, len(documents), 4)]

    def generate(self, documents):
        self.paid += [document.doc_id for document in documents]
        return [
            [GeneratedQuery(f"query {d.doc_id} " + "x" * 200, (1, 2), (-0.5, -0.25), -0.1, "stop")] for d in documents
        ]


def test_a_full_disk_while_generating(small_disk, large, fails, monkeypatch, capsys, workdir):
    """Queries written before the disk was full are neither lost nor requested again."""
    writer = Writer()
    monkeypatch.setattr("inpars.stages.generate.load_generator", lambda *_: writer)
    command = ["generate", "--quiet", "--corpus", str(large), "--output"]
    assert cli.main([*command, str(workdir / "undisturbed.jsonl")]) == 0
    capsys.readouterr()
    writer.paid.clear()
    (small_disk / "ballast").write_bytes(b"\0" * 20_000)

    assert FULL in fails(*command, small_disk / "q.jsonl")
    assert 0 < len(writer.paid) < 128
    kept = (small_disk / "q.jsonl.partial").read_bytes()
    (workdir / "bigger").mkdir()
    (workdir / "bigger" / "q.jsonl.partial").write_bytes(kept)  # the same disk with room

    first = list(writer.paid)
    assert cli.main([*command, str(workdir / "bigger" / "q.jsonl")]) == 0
    assert (workdir / "bigger" / "q.jsonl").read_bytes() == (workdir / "undisturbed.jsonl").read_bytes()
    twice = [doc_id for doc_id in writer.paid[len(first) :] if doc_id in first]
    assert len(twice) <= 4  # at most the part that could not be saved


def test_a_full_disk_without_mounting_one(large, fails, monkeypatch, capsys, workdir):
    """The same without the right to mount a disk: the fifth flush fails."""
    writer = Writer()
    monkeypatch.setattr("inpars.stages.generate.load_generator", lambda *_: writer)
    command = ["generate", "--quiet", "--corpus", str(large), "--output"]
    assert cli.main([*command, "undisturbed.jsonl"]) == 0
    capsys.readouterr()
    writer.paid.clear()
    flushes = []

    def fsync(_):
        flushes.append(1)
        if len(flushes) == 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        assert FULL in fails(*command, "q.jsonl")
    assert len(writer.paid) == 16  # the header was flushed first, then three parts of four, the next was not
    assert cli.main([*command, "q.jsonl"]) == 0
    assert (workdir / "q.jsonl").read_bytes() == (workdir / "undisturbed.jsonl").read_bytes()
    assert len(writer.paid) in (128, 132)  # no part was paid for twice but the one that was not flushed


LIMITED = """
import resource, sys
from inpars.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limits on the size of files here")
def test_a_limit_on_the_size_of_files(workdir, large):
    """Needs no right to mount anything."""
    command = [sys.executable, "-c", LIMITED, "ingest", "--quiet", "--corpus", str(large), "--output", "out.jsonl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "out.jsonl: cannot be written (File too large)" in the_line(done.stderr)
    assert not (workdir / "out.jsonl").exists()


def inpars(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-m", "inpars", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_in_a_process_of_its_own():
    done = inpars(*INGEST, "--corpus", "gone.jsonl")
    assert (done.returncode, done.stdout) == (1, "")
    assert the_line(done.stderr) == "inpars: gone.jsonl: no such corpus file; check the path\n"


def test_an_unknown_model_offline():
    done = inpars("generate", "--quiet", "--corpus", CORPUS, "--model", "nobody/nothing", *OUT, HF_HUB_OFFLINE="1")
    assert (done.returncode, done.stdout) == (1, "")
    line = the_line(done.stderr)
    assert "unknown model 'nobody/nothing' (known: gemma3-270m, minilm, smollm2-135m); or give a folder" in line


def test_a_reader_that_goes_away():
    """`inpars ... | head -1` ends without a word."""
    command = f"{sys.executable} -m inpars evaluate --json --run {RUN} --qrels {QRELS}"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | head -c 1"], capture_output=True, text=True, check=False
    )
    assert done.stdout == "{"
    assert done.stderr == ""
