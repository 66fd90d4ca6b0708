"""`inpars judge`: a server killed in between and capped, a local model, a person at the keyboard, and who is told."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from fake_api import KEY, PRICES, FakeApi, document, log_probs_of, usd_of_one

from inpars.cli import main as cli
from inpars.generation.api import client as api_client
from inpars.io.formats import write_documents, write_run
from inpars.io.judgements import read_qrels, write_qrels
from inpars.io.manifest import read_manifest
from inpars.io.model_judgements import lines_path, origin_of, origin_path, read_judgements

QUERIES, DEPTH = 10, 40
RUNS = {  # two systems that find the same documents in other orders, 40 for each query
    "up": {f"q{q}": {f"d{40 * q + d}": float(d) for d in range(DEPTH)} for q in range(QUERIES)},
    "down": {f"q{q}": {f"d{40 * q + d}": float(-d) for d in range(DEPTH)} for q in range(QUERIES)},
}


def grade_of(number):
    return number % 4


def tokens_of(number):
    return ["Grade", ": ", str(grade_of(number)), f"\nIt says n{number}."]


@pytest.fixture(autouse=True)
def workdir(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(api_client, "FIRST_DELAY_SECONDS", 0.01)
    (tmp_path / "prices.yaml").write_text(PRICES, encoding="utf-8")
    write_documents(tmp_path / "corpus.jsonl", map(document, range(QUERIES * DEPTH)))
    texts = (json.dumps({"_id": f"q{q}", "text": f"which text is the {q}th"}) for q in range(QUERIES))
    (tmp_path / "queries.jsonl").write_text("\n".join(texts) + "\n")
    for name, run in RUNS.items():
        write_run(tmp_path / f"{name}.trec", run, name)
    return tmp_path


def command(*more, depth=DEPTH, output="qrels.tsv"):
    flags = ["--corpus", "corpus.jsonl", "--queries", "queries.jsonl", "--run", "up.trec", "--run", "down.trec"]
    return ["judge", *flags, "--depth", str(depth), "--output", output, *more]


def asking(api, *more, **settings):
    server = ["--backend", "chat", "--base-url", api.url, "--model", "fake", "--price-file", "prices.yaml"]
    return command(*server, *more, **settings)


@pytest.fixture
def run(capsys):
    def call(arguments, code=0):
        capsys.readouterr()
        assert cli.main([str(argument) for argument in arguments]) == code
        out, err = capsys.readouterr()
        assert "sk-test" not in out + err
        return out, err

    return call


def test_a_server_killed_three_times_is_asked_once_about_each_pair(workdir, run):
    pairs, workers, killed_at = QUERIES * DEPTH, 4, (80, 200, 300)
    with FakeApi(tokens=tokens_of, delay=0.002) as api:
        start = [sys.executable, "-m", "inpars", *asking(api, "--concurrency", str(workers))]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        for stop in (*killed_at, None):
            kept = kept_in(workdir / "qrels.tsv.answers.jsonl")
            asked = Counter(api.asked)
            process = subprocess.Popen(start, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            while stop and api.answered.total() < stop and process.poll() is None:
                time.sleep(0.005)
            if stop:
                os.kill(process.pid, signal.SIGKILL)
            message = process.communicate(timeout=60)[0].decode()
            assert process.returncode == (-signal.SIGKILL if stop else 0), message
            assert all(api.asked[number] == asked[number] for number in kept), "asked again after it was kept"
        # only answers that were on their way while their asker was killed can come twice
        assert api.answered.total() - pairs <= len(killed_at) * workers
        assert set(api.answered) == set(range(pairs))
    with FakeApi(tokens=tokens_of) as api:
        run(asking(api, output="whole.tsv"))
    for path in (Path, lines_path):
        assert path(workdir / "qrels.tsv").read_bytes() == path(workdir / "whole.tsv").read_bytes()
    lines = list(read_judgements(lines_path(workdir / "qrels.tsv")))
    assert len(lines) == pairs
    for line in lines:
        number = int(line.doc_id[1:])
        assert (line.grade, line.log_prob, line.reason) == (grade_of(number), -0.125, f"It says n{number}.")
        assert (line.model, line.prompt, line.grade_log_probs) == ("fake", "relevance", ())
    assert log_probs_of(7)[2] == -0.125  # of the token that is the grade
    assert read_qrels(workdir / "qrels.tsv")["q0"]["d3"] == 3


def kept_in(journal):
    lines = journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []
    return {int(json.loads(line)["query_id"].partition("\td")[2]) for line in lines if b"query_id" in line}


def test_a_cap_stops_and_keeps_what_is_done(workdir, run):
    with FakeApi(tokens=tokens_of) as api:
        out, err = run(asking(api, "--max-usd", 0.05, "--max-new-tokens", 8), code=1)
        assert out == ""
        assert any(line.startswith("inpars: --max-usd: $0.0") for line in err.splitlines())
        assert "qrels.tsv.answers.jsonl" in err
        assert not (workdir / "qrels.tsv").exists()
        done = api.asked.total()
        assert 0 < done <= 0.05 / usd_of_one()
        run(asking(api, "--max-usd", 5, "--max-new-tokens", 8))
        assert api.asked.total() == QUERIES * DEPTH, "what was paid for is not asked again"
    assert read_manifest(workdir / "qrels.tsv").results["usd"] == pytest.approx(QUERIES * DEPTH * usd_of_one())


def test_the_batch_api_and_a_dry_run(workdir, run):
    with FakeApi(tokens=tokens_of) as api:
        values = json.loads(run(asking(api, "--dry-run", "--json", depth=3))[0])
        assert (values["requests"], api.asked.total()) == (60, 0)
        assert not (workdir / "qrels.tsv").exists()
        run(asking(api, "--batch", "--poll-seconds", 0, depth=3))
        assert (len(api.batches), api.asked.total()) == (1, 60)
    assert {line.grade for line in read_judgements(lines_path(workdir / "qrels.tsv"))} == {0, 1, 2, 3}


def test_replies_without_a_grade_are_counted_and_not_asked_again(workdir, run):
    def odd(number):
        return [*tokens_of(number)] if number % 5 else ["I", " do", " not", " know"]

    def refused(number, _):
        return (400, "filtered") if number == 39 else None

    with FakeApi(refused, tokens=odd) as api:
        out, err = run(asking(api, depth=3))
        asked = api.asked.total()
        assert "no_grade" in out
        assert "10 of 60" in err
        assert run(asking(api, depth=3))[0] == out
        assert api.asked.total() == asked
    lines = {line.doc_id: line for line in read_judgements(lines_path(workdir / "qrels.tsv"))}
    assert (lines["d40"].grade, lines["d40"].problem, lines["d39"].problem) == (None, "no_grade", "refused")
    assert "d40" not in read_qrels(workdir / "qrels.tsv")["q1"]
    assert read_manifest(workdir / "qrels.tsv").dropped == {"no_grade": 10, "refused": 1}


def test_a_server_that_never_grades_is_an_error(run):
    with FakeApi() as api:
        assert "none of the 2 replies" in run([*asking(api, depth=1), "--limit", 1], code=1)[1]


@pytest.fixture
def local(tiny):
    return command("--model", tiny("llama"), "--device", "cpu", "--dtype", "float32", "--prompt", "tiny.yaml", depth=4)


@pytest.fixture(autouse=True)
def small_prompt(workdir):
    (workdir / "tiny.yaml").write_text('form: "{query} {document} Grade: {grade}"\n', encoding="utf-8")


def test_a_local_model(workdir, run, local):
    out, _ = run(local)
    assert out.startswith("qrels.tsv: 80 pairs judged by")
    lines = list(read_judgements(lines_path(workdir / "qrels.tsv")))
    assert [(line.query_id, line.doc_id) for line in lines] == sorted(
        (query_id, doc_id)
        for query_id, scores in RUNS["up"].items()
        for doc_id in scores
        if int(doc_id[1:]) % 40 < 4 or int(doc_id[1:]) % 40 >= 36
    )
    for line in lines:
        assert line.log_prob == max(line.grade_log_probs) == line.grade_log_probs[line.grade]
    before = (workdir / "qrels.tsv").read_bytes(), lines_path(workdir / "qrels.tsv").read_bytes()
    run([*local, "--overwrite", "--batch-size", 3])
    assert ((workdir / "qrels.tsv").read_bytes(), lines_path(workdir / "qrels.tsv").read_bytes()) == before
    assert "up to date" in run(local)[1]
    origin_path(workdir / "qrels.tsv").unlink()
    assert "judged_by.json is not there" in run(local)[1]
    assert "parameters" in out


def test_a_local_model_goes_on_where_it_was_killed(workdir, run, local, monkeypatch):
    from inpars.judging.local import LocalJudge

    graded, judge = [], LocalJudge.judge

    def dying(self, pairs):
        if len(graded) == 2:
            raise KeyboardInterrupt
        graded.append(len(pairs))
        return judge(self, pairs)

    monkeypatch.setattr(LocalJudge, "judge", dying)
    run(local, code=130)
    assert graded == [32, 32]
    graded[:] = [0, 0, 0]
    run(local)
    assert graded[3:] == [16], "what was saved is not read again"
    monkeypatch.setattr(LocalJudge, "judge", judge)
    run([*local[:-1], local[-1], "--overwrite"])
    whole = lines_path(workdir / "qrels.tsv").read_bytes()
    run([*local, "--overwrite"])
    assert lines_path(workdir / "qrels.tsv").read_bytes() == whole


def test_a_local_model_reads_only_what_a_pool_has_more(workdir, run, local, monkeypatch):
    from inpars.judging.local import LocalJudge

    read, judge = [], LocalJudge.judge
    monkeypatch.setattr(
        LocalJudge, "judge", lambda self, pairs: read.extend(p.key for p in pairs) or judge(self, pairs)
    )
    run([*local, "--limit", 5])
    before = lines_path(workdir / "qrels.tsv").read_text().splitlines()
    assert len(read) == len(before) == 40
    run([*local, "--depth", 6])  # five more queries, and four more documents for each
    lines = lines_path(workdir / "qrels.tsv").read_text().splitlines()
    assert len(lines) == 120
    assert set(before) <= set(lines)
    assert len(read) == len(set(read)) == 120, "no pair is read twice"
    run([*local, "--depth", 6, "--overwrite"])
    assert (lines_path(workdir / "qrels.tsv").read_text().splitlines(), len(read)) == (lines, 240)
    (workdir / "tiny.yaml").write_text('form: "{document} {query} Grade: {grade}"\n', encoding="utf-8")
    run(local)
    assert len(read) == 240 + 80, "another prompt, other grades"
    kept = workdir / "qrels.tsv.grades.jsonl"
    kept.write_text(kept.read_text() + '{"pair": "torn')
    run([*local, "--max-pairs", 7])
    assert len(read) == 240 + 80
    kept.write_text("{}\n")
    assert "qrels.tsv.grades.jsonl" in run([*local, "--max-pairs", 8], code=1)[1]


@pytest.fixture
def judged(workdir, run):
    """Judgements by a server that agrees with everybody."""
    with FakeApi(tokens=tokens_of) as api:
        yield lambda *more, code=0: run(asking(api, "--json", *more, depth=3), code)


def typing(monkeypatch, text):
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def test_a_person_judges_a_sample_and_goes_on_later(workdir, judged, monkeypatch):
    typing(monkeypatch, "3\nnonsense\n9\n2\ns\nq\n")
    out, err = judged("--sample", 8)
    assert err.count("query: ") == 4, "two answered, one skipped, one at which it stopped"
    assert "'nonsense'" in err
    answers = read_qrels(workdir / "qrels.tsv.person.jsonl")
    assert sum(map(len, answers.values())) == 2
    assert json.loads(out)["agreement"][0]["pairs"] == 2
    prompts = err.split("query: ")[1:]
    typing(monkeypatch, "")  # nobody is there
    _, err = judged("--sample", 8)
    assert err.count("query: ") == 1
    assert err.split("query: ")[1].split("grade (")[0] == prompts[2].split("grade (")[0], "the one that was skipped"
    right = "".join(f"{grade_of(int(doc))}\n" for doc in sampled(judged, monkeypatch))
    typing(monkeypatch, right)
    out, err = judged("--sample", 8)
    found = json.loads(out)["agreement"][0]
    assert (found["pairs"], found["reference"], found["of_sample"]) == (8, "you", True)
    assert origin_of(workdir / "qrels.tsv").agreement["pairs"] == 8
    _, err = judged("--sample", 8)
    assert "query: " not in err, "all are answered"


def sampled(judged, monkeypatch):
    """Numbers of the documents that are still to be shown, in their order; each is skipped."""
    typing(monkeypatch, "s\n" * 8)
    _, err = judged("--sample", 8)
    return [part.split("number ")[1].split()[0] for part in err.split("query: ")[1:]]


def test_agreement_with_judgements_that_are_named(workdir, judged):
    people = {
        query_id: {doc_id: grade_of(int(doc_id[1:])) for doc_id in scores} for query_id, scores in RUNS["up"].items()
    }
    write_qrels(workdir / "people.tsv", people)
    values = json.loads(judged("--qrels", "people.tsv")[0])
    (found,), (order,) = values["agreement"], values["systems"]
    assert (found["kappa"], found["weighted_kappa"], found["same"], found["reference"]) == (1, 1, 1, "people.tsv")
    assert order["metric"] == "nDCG@10"
    assert set(order["values"]) == {"up", "down"}
    assert order["tau"] in (1.0, -1.0)
    assert values["warnings"] == []
    assert origin_of(workdir / "qrels.tsv").agreement["with"] == "people.tsv"
    write_qrels(
        workdir / "people.tsv", {q: dict.fromkeys(grades, 1) for q, grades in people.items()} | {"q0": {"d0": 3}}
    )
    (warning,) = json.loads(judged("--qrels", "people.tsv")[0])["warnings"]
    assert "people.tsv" in warning
    assert "arXiv" in warning


def test_another_model_is_no_person(workdir, judged, run):
    judged()
    with FakeApi(tokens=tokens_of) as api:
        arguments = asking(api, "--json", "--qrels", "qrels.tsv", depth=3, output="other.tsv")
        values = json.loads(run(arguments)[0])
    assert values["agreement"][0]["reference"] == "qrels.tsv (judged by fake)"
    assert "--sample" in values["warnings"][0]
    assert origin_of(workdir / "other.tsv").agreement == {}


def test_evaluate_says_that_a_model_judged(workdir, judged, run):
    judged()
    flags = ["--queries", "queries.jsonl", "--qrels", "qrels.tsv", "--run", "up.trec", "--run", "down.trec"]
    out, _ = run(["evaluate", *flags, "--output", "m.json", "--report", "page.html"])
    assert out.startswith("judged by fake")
    assert json.loads((workdir / "m.json").read_text())["judged_by"]["model"] == "fake"
    assert (workdir / "page.html").read_text().lower().count("judged by fake") >= 2
    origin_path(workdir / "qrels.tsv").unlink()
    out, _ = run(["evaluate", *flags, "--json"])
    assert "judged_by" not in json.loads(out)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--metric", "nDCG@10 AP"), "--metric"),
        (("--prompt", "inpars"), "relevance"),
        (("--max-usd", "1"), "--max-usd"),
        (("--run", "nothing.trec"), "nothing.trec"),
        (("--qrels", "queries.jsonl"), "queries.jsonl"),
    ],
)
def test_what_cannot_be_is_one_line(run, more, message):
    assert message in next(line for line in run(command(*more), code=1)[1].splitlines() if line.startswith("inpars: "))


def test_ids_that_nobody_knows_are_named(workdir, run):
    write_run(workdir / "up.trec", {"q77": {"d1": 1.0}}, "up")
    assert "'q77'" in run(command(), code=1)[1]
    write_run(workdir / "up.trec", {"q1": {"d7777": 1.0}}, "up")
    assert "'d7777'" in run(command(), code=1)[1]
