"""`inpars generate` against a server that fails in every way, killed in between: nothing lost, nothing paid twice."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from fake_api import KEY, PRICES, FakeApi, document, log_probs_of, query_of, usd_of_one

from inpars.cli import main as cli
from inpars.generation.api import client as api_client
from inpars.io.formats import read_synthetic_queries, write_documents
from inpars.io.manifest import read_manifest

DOCUMENTS, WORKERS, KILLED_AT = 800, 8, (200, 500)
FAULTS = {0: "limit", 1: "500", 2: "broken", 3: "cut", 4: (503, "busy", {"Retry_After": 0.01})}
SLOW = {605, 606, 607}


@pytest.fixture(autouse=True)
def workdir(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(api_client, "FIRST_DELAY_SECONDS", 0.01)
    (tmp_path / "prices.yaml").write_text(PRICES, encoding="utf-8")
    return tmp_path


@pytest.fixture
def command(workdir):
    """The command's arguments for a number of documents and a server."""

    def arguments(api, count, *more, output="q.jsonl", backend="completions"):
        write_documents(workdir / f"{count}.jsonl", map(document, range(count)))
        flags = {
            "--corpus": f"{count}.jsonl",
            "--backend": backend,
            "--base-url": api.url,
            "--model": "fake",
            "--max-new-tokens": "8",
            "--price-file": "prices.yaml",
            "--output": output,
        }
        return ["generate", *(word for pair in flags.items() for word in pair), *more]

    return arguments


@pytest.fixture
def run(capsys):
    def call(arguments, code=0):
        capsys.readouterr()
        assert cli.main(arguments) == code
        out, err = capsys.readouterr()
        assert "sk-test" not in out + err
        return out, err

    return call


def seen(path):
    """Documents whose answers are safely in the journal."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return {int(json.loads(line)["query_id"][1:-3]) for line in lines if b"query_id" in line}


def fault(number, attempt):
    if number in SLOW and attempt == 0:
        return "slow"
    return FAULTS.get(number % 50) if attempt == 0 else None


def test_eight_hundred_documents_killed_twice(workdir, command):
    with FakeApi(fault, delay=0.001, slow=4.5) as api:
        arguments = command(api, DOCUMENTS, "--concurrency", str(WORKERS), "--timeout-seconds", "3", "--max-usd", "50")
        start = [sys.executable, "-m", "inpars", *arguments]
        journal, safe = workdir / "q.jsonl.answers.jsonl", []
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        outputs = []
        for killed_at in (*KILLED_AT, None):
            process = subprocess.Popen(
                start, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            while killed_at and api.answered.total() < killed_at and process.poll() is None:
                time.sleep(0.005)
            if killed_at:
                assert process.poll() is None
                os.kill(process.pid, signal.SIGKILL)
            outputs.append(process.communicate(timeout=60)[0])
            assert process.returncode == (-signal.SIGKILL if killed_at else 0), outputs[-1]
            safe.append((seen(journal), Counter(api.asked)))
        for killed_at, ((kept, asked), (_, later)) in zip(KILLED_AT, itertools.pairwise(safe), strict=True):
            assert len(kept) > killed_at * 2 // 3
            assert all(asked[number] == later[number] for number in kept), "asked again after it was kept"
        # an answer that was on its way while its asker was killed is the only one that may be answered twice
        assert sum(count - 1 for count in api.answered.values()) <= len(KILLED_AT) * WORKERS
        assert set(api.answered) == set(range(DOCUMENTS))

    queries = list(read_synthetic_queries(workdir / "q.jsonl"))
    assert [query.query_id for query in queries] == [f"d{number}-q0" for number in range(DOCUMENTS)]
    assert [query.text for query in queries] == [query_of(number) for number in range(DOCUMENTS)]
    assert [query.token_log_probs for query in queries] == [tuple(log_probs_of(n)) for n in range(DOCUMENTS)]
    lost = [record["lost_usd"] for record in map(json.loads, journal.read_bytes().splitlines()) if "lost_usd" in record]
    # an asker killed before it had noted a broken answer leaves no word of it: one for each worker and kill at most
    assert len(lost) >= 2 * DOCUMENTS // 50 - len(KILLED_AT) * WORKERS, "what was broken or cut was perhaps paid for"
    expected = DOCUMENTS * usd_of_one() + sum(lost)
    assert read_manifest(workdir / "q.jsonl").results["usd"] == pytest.approx(expected, abs=1e-5)
    assert b"sk-test" not in b"".join(path.read_bytes() for path in workdir.rglob("*") if path.is_file())
    assert "sk-test" not in "".join(outputs)


def test_interrupted_or_not_the_file_is_the_same(workdir, command, run):
    with FakeApi() as api:
        run(command(api, 200, output="whole.jsonl"))
        api.fault = lambda number, attempt: "500" if number % 7 == 3 else None
        out, err = run(command(api, 200, "--retries", "0", "--concurrency", "3"), code=1)
        assert out == ""
        assert "have no answer after 0 retries" in err
        assert "the same command asks for these again" in err
        assert not (workdir / "q.jsonl").exists()
        api.fault = lambda number, attempt: None
        out, err = run(command(api, 200, "--json"))
    assert json.loads(out)["queries"] == 200
    assert (workdir / "q.jsonl").read_bytes() == (workdir / "whole.jsonl").read_bytes()


def test_chat(workdir, command, run):
    with FakeApi() as api:
        out, _ = run(command(api, 5, backend="chat"))
        assert out == "q.jsonl: 5 queries (nothing dropped)\n"
        roles = [turn["role"] for turn in api.bodies[0]["messages"]]
        assert roles[:3] == ["system", "user", "assistant"]
        assert roles[-1] == "user"
        manifest = read_manifest(workdir / "q.jsonl")
        assert manifest.results == {
            "documents": 5,
            "usd": round(5 * usd_of_one(), 6),
            "input_tokens": 150,
            "output_tokens": 20,
        }
        assert manifest.device == f"server {api.url}"
        _, err = run(command(api, 5, backend="chat"))
        assert "up to date" in err
        run(command(api, 5, "--overwrite", backend="chat"))
        assert api.asked.total() == 5, "what is in the journal is not asked for again"


def test_batch(workdir, command, run):
    with FakeApi() as api:
        run(command(api, 30, "--batch", "--poll-seconds", "0"))
        assert (len(api.batches), len(list(read_synthetic_queries(workdir / "q.jsonl")))) == (1, 30)


@pytest.mark.parametrize(("given", "kind"), [((), "raw"), (("--log-prob-kind", "processed"), "processed")])
def test_the_kind_of_log_probs_is_recorded(workdir, command, run, given, kind):
    with FakeApi() as api:
        run(command(api, 3, *given))
    assert {query.log_prob_kind for query in read_synthetic_queries(workdir / "q.jsonl")} == {kind}


def test_another_server_writes_anew(workdir, command, run):
    with FakeApi() as api, FakeApi() as other:
        run(command(api, 3))
        _, err = run(command(other, 3))
        assert "rebuilding q.jsonl: input changed: server" in err
        assert (api.asked.total(), other.asked.total()) == (3, 3)
        _, err = run(command(other, 3, "--log-prob-kind", "processed"))
        assert "input changed: server" in err
        assert other.asked.total() == 3, "the same answers, differently named"


def test_a_server_without_log_probs(workdir, command, run):
    with FakeApi(log_probs=None) as api:
        run(command(api, 3))
    assert {query.log_prob_kind for query in read_synthetic_queries(workdir / "q.jsonl")} == {"absent"}


def test_a_refused_document_is_a_row_that_filters_drop(workdir, command, run):
    with FakeApi(lambda number, _: (400, f"filtered for {KEY}") if number == 1 else None) as api:
        run(command(api, 4))
    assert [q.finish_reason for q in read_synthetic_queries(workdir / "q.jsonl")] == ["stop", "error", "stop", "stop"]
    out, _ = run(["filter", "--input", "q.jsonl", "--output", "kept.jsonl"])
    assert out == "kept.jsonl: 3 of 4 queries kept (1 dropped: failed 1)\n"


def test_dry_run_prints_and_writes_nothing(workdir, command, run):
    with FakeApi() as api:
        arguments = command(api, 2000, "--dry-run")
        before = sorted(path for path in workdir.iterdir() if path.name != "cache")
        out, err = run(arguments)
        values = json.loads(run([*arguments, "--json"])[0])
        assert api.asked.total() == 0
    assert sorted(path for path in workdir.iterdir() if path.name != "cache") == before
    assert err == ""
    assert out.startswith("2,000 requests, about ")
    assert (values["requests"], values["output_tokens"], values["as_of"]) == (2000, 16000, "2026-01-01")
    # $10 a million tokens read, $20 a million written
    assert values["usd"] == pytest.approx((values["input_tokens"] * 10 + 16000 * 20) / 1e6)
    assert f"at most ${values['usd']:,.4f} (prices of 2026-01-01)" in out


def test_the_cap_stops_with_a_message_and_the_next_run_goes_on(workdir, command, run):
    cap = 60 * usd_of_one()
    with FakeApi() as api:
        out, err = run(command(api, 300, "--max-usd", str(cap), "--concurrency", "4"), code=1)
        assert out == ""
        assert "inpars: --max-usd: $" in err
        assert "the same command with a higher --max-usd resumes from there" in err
        assert api.usd <= cap + 4 * usd_of_one()
        run(command(api, 300, "--max-usd", "10"))
        assert set(api.answered.values()) == {1}


def test_without_a_key_openai_is_not_asked(monkeypatch, run, command, workdir):
    monkeypatch.delenv("OPENAI_API_KEY")
    write_documents(workdir / "c.jsonl", [document(1)])
    arguments = [
        "generate",
        "--corpus",
        "c.jsonl",
        "--backend",
        "chat",
        "--model",
        "gpt-4o-mini",
        "--output",
        "q.jsonl",
    ]
    _, err = run(arguments, code=1)
    assert err.splitlines()[-1].startswith("inpars: OPENAI_API_KEY is not set; export it")
    assert not (workdir / "q.jsonl.answers.jsonl").exists()


def test_without_the_sdk_the_pip_line_is_given(monkeypatch, run, command):
    monkeypatch.setattr("inpars.stages.generate_by_api.find_spec", lambda name: None)
    with FakeApi() as api:
        _, err = run(command(api, 1), code=1)
    assert "openai is needed for --backend completions and is not installed; install it with: pip install" in err


def test_a_forgotten_backend_is_told(run, workdir):
    write_documents(workdir / "c.jsonl", [document(1)])
    _, err = run(["generate", "--corpus", "c.jsonl", "--base-url", "http://x/v1", "--output", "q.jsonl"], code=1)
    assert err == "inpars: --base-url: no server is asked; give --backend completions or --backend chat as well\n"


def test_progress_shows_money_failures_and_the_latest_query(command, run, monkeypatch):
    monkeypatch.setattr("inpars.console.SECONDS_BETWEEN_LINES", 0.0)
    with FakeApi() as api:
        _, err = run(command(api, 3))
    assert "3/3 documents" in err
    assert f"| ${3 * usd_of_one():.4f} spent, 0 failed, stop 100%, mean log-prob" in err
    assert err.rstrip().endswith(query_of(2))


def test_odd_answers_are_told_with_a_count_though_the_run_was_interrupted(workdir, command, run):
    """Every fifth of 200 replies holds thoughts, that is 40; the first run stops at a document that fails."""

    def thinking(number):
        content = f"<think>Let me see.</think>{query_of(number)}"
        return {"choices": [{"message": {"content": content}, "finish_reason": "stop"}]}

    with FakeApi(lambda number, _: "500" if number == 150 else thinking(number) if number % 5 == 0 else None) as api:
        run(command(api, 200, "--retries", "0", backend="chat"), code=1)
        api.fault = lambda number, _: None if number == 150 else thinking(number) if number % 5 == 0 else None
        _, err = run(command(api, 200, backend="chat"))
    assert (
        "39 of 200 answers held the model's thoughts" in err
    )  # 40 without document 150, which the second run had anew
    assert read_manifest(workdir / "q.jsonl").results["remarks"]["thoughts"] == 39
    assert "queries are empty" not in err
    assert "are the same" not in err


def test_queries_that_are_all_empty_or_all_the_same_are_told(workdir, command, run):
    with FakeApi(lambda *_: {"choices": [{"text": "", "finish_reason": "length"}]}) as api:
        _, err = run(command(api, 3))
        assert "all 3 queries are empty" in err
    with FakeApi(lambda *_: {"choices": [{"text": " one", "finish_reason": "stop"}]}) as api:
        _, err = run(command(api, 3))
        assert "all 3 queries that are not empty are the same: 'one'" in err
