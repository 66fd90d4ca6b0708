"""`inpars run --judge`: a folder of documents, no query and no label; a second table by a language model's grades."""

import json
import shlex
from pathlib import Path

import pytest
import small_run
from fake_api import KEY, PRICES, FakeApi

from inpars.cli.main import main
from inpars.generation.api import client as api_client
from inpars.io.formats import read_run
from inpars.io.judgements import read_qrels
from inpars.io.manifest import read_manifest
from inpars.io.model_judgements import origin_of
from inpars.io.runs import rank
from inpars.judging.terminal import answers_path
from inpars.retrieval.java import find_jar, find_java

pytestmark = pytest.mark.skipif(not (find_jar() and find_java()), reason="needs pyserini with a Java")
QUERIES = 6


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path_factory.getbasetemp() / "judged-cache"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(api_client, "FIRST_DELAY_SECONDS", 0.01)
    (tmp_path / "prices.yaml").write_text(PRICES, encoding="utf-8")
    (tmp_path / "judge.yaml").write_text('form: "{query} {document} Grade: {grade}"\n', encoding="utf-8")
    folder = tmp_path / "documents"
    folder.mkdir()
    for n in range(12):
        (folder / f"part{n}.md").write_text(
            f"# Part {n}\n\n{small_run.text(n)} document number {n}\n", encoding="utf-8"
        )
    lines = (json.dumps({"_id": f"q{n}", "text": " ".join(small_run.text(n).split()[:3])}) for n in range(QUERIES))
    (tmp_path / "real.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


@pytest.fixture
def command(tiny, place):
    models = small_run.models(tiny, place)
    small = [*small_run.SMALL, "--dev-share", "0.4", "--training", "never"]
    return ["run", "--documents", "documents", *models, *small, "--output", "run"]


@pytest.fixture
def local(tiny):
    return ["--judge", tiny("llama"), "--judge-prompt", "judge.yaml", "--judge-depth", "4"]


@pytest.fixture
def run(capsys):
    def call(*arguments, code=0):
        capsys.readouterr()
        assert main(list(map(str, arguments))) == code
        out, err = capsys.readouterr()
        assert KEY not in out + err
        return out, err

    return call


def asking(api):
    server = ["--judge-backend", "chat", "--judge-base-url", api.url, "--judge-price-file", "prices.yaml"]
    return ["--judge", "fake", *server, "--judge-depth", "4", "--unlabelled-queries", "real.jsonl"]


def tokens_of(number):
    return ["Grade", ": ", str(number % 4), f"\nIt says n{number}."]


def contents(folder):
    """All files but the mark, the report and what is judged."""
    files = [path for path in Path(folder).rglob("*") if path.is_file() and "judged" not in path.parts]
    return {path: path.read_bytes() for path in files if path.stem not in ("report", "run")}


def test_a_folder_of_documents_ends_with_two_tables(place, run, command, local):
    plain, _ = run(*command)
    before, report = contents("run"), (place / "run" / "report.html").read_text()
    assert "judged" not in json.loads((place / "run" / "report.json").read_text())
    out, err = run(*command, *local)
    assert out.startswith(plain.rstrip("\n")), "the first table stays as it was"
    first, second = out[len(plain.rstrip("\n")) :].strip().splitlines()[-2:]
    assert "synthetic queries" in first
    assert (first.count(". "), second.count(". ")) == (0, 0), "one sentence each"
    assert "nobody compared" in second
    assert "parameters" in second
    assert contents("run") == before, "what was finished is not done again"
    assert "step 7 of 8: measuring" not in err
    assert "step 8 of 8: judging" in err
    qrels, measured = (
        read_qrels(place / "run/judged/qrels.txt"),
        json.loads((place / "run/judged/metrics.json").read_text()),
    )
    runs = [read_run(path) for path in (place / "run" / "runs").glob("*.trec")]
    for query_id, grades in qrels.items():
        assert {doc for one in runs for doc, _ in rank(one[query_id], 4)} >= set(grades)
        assert {doc for doc, _ in rank(read_run(place / "run/runs/mix.trec")[query_id], 4)} <= set(grades)
    assert measured["judged_by"]["model"] == local[1]
    assert list(measured["systems"]) == list(json.loads((place / "run/metrics.json").read_text())["systems"])
    values = json.loads((place / "run" / "report.json").read_text())
    assert values["judged"]["results"]["notes"][-2:] == [first, second]
    page = (place / "run" / "report.html").read_text()
    assert page.count("a language model, not by people") == 2 + report.count("a language model, not by people")
    assert run(*command, *local)[0] == out
    run("verify", "run", "--sample", "3")
    for line in values["commands"][-3:]:  # the grades and measures again, by commands of their own
        if words := shlex.split(line.replace("\\\n", " "), comments=True):
            assert "up to date" in run(*words[1:])[1] or words[1] == "evaluate"
    assert "removed" in run(*command)[1], "its measures go with it"
    assert not (place / "run/judged/metrics.json").exists()
    assert (place / "run/judged/qrels.txt").exists(), "grades may have been paid for"


def test_a_person_who_judged_a_sample_is_named(place, run, command, local):
    run(*command, *local)
    grades = read_qrels(place / "run/judged/qrels.txt")
    lines = [{"query_id": q, "doc_id": d, "relevance": 3 - g} for q, found in grades.items() for d, g in found.items()]
    answers_path(place / "run/judged/qrels.txt").write_text("\n".join(map(json.dumps, lines)) + "\n")
    assert "nobody compared" not in run(*command, *local)[0]
    assert origin_of(place / "run/judged/qrels.txt").agreement["with"] == "you"
    assert "nothing" in run(*command, *local)[0].splitlines()[-1], "the opposite of what the person said"


def test_real_queries_a_cap_and_going_on(place, run, command):
    with FakeApi(tokens=tokens_of) as api:
        _, err = run(*command, *asking(api), "--judge-max-usd", "0.0000001", code=1)
        assert "--max-usd" in err
        assert (place / "run" / "metrics.json").exists(), "all else is done"
        assert not (place / "run" / "judged" / "qrels.txt").exists()
        out, _ = run(*command, *asking(api), "--judge-max-usd", "5", "--json")
        asked = api.asked.total()
        run(*command, *asking(api), "--judge-max-usd", "5")
        assert api.asked.total() == asked, "nothing is asked twice"
    qrels = read_qrels(place / "run/judged/qrels.txt")
    assert set(qrels) == {f"q{n}" for n in range(QUERIES)}
    assert asked == sum(map(len, qrels.values())) == read_manifest(place / "run/judged/qrels.txt").output.records
    graded = [(doc, grade) for grades in qrels.values() for doc, grade in grades.items()]
    assert all(grade == int(doc.partition(".")[0].removeprefix("part")) % 4 for doc, grade in graded)
    values = json.loads(out)
    assert values["judged"]["judged_by"]["model"] == "fake"
    assert next(iter(values["judged"]["systems"].values()))["queries"] == QUERIES
    assert next(iter(values["systems"].values()))["queries"] != QUERIES, "the synthetic ones"
    run("verify", "run", "--sample", "3")


def test_judged_queries_of_people_are_what_it_is_compared_with(place, run, tiny, local):
    data = str(small_run.dataset(place / "data"))
    small = [*small_run.models(tiny, place), *small_run.SMALL, "--training", "never", "--output", "run"]
    out, _ = run("run", "--dataset", data, *small, *local, "--judge-queries", "4")
    assert len(read_qrels(place / "run/judged/qrels.txt")) == 4
    assert origin_of(place / "run/judged/qrels.txt").agreement["pairs"] > 4, "those that they do not list count as 0"
    assert "by people" in out.splitlines()[-2]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--judge-depth", "3"], "--judge-depth"),
        (["--judge", "gpt-4o"], "gpt-4o"),
        (["--judge", "smollm2-135m", "--judge-prompt", "inpars"], "relevance"),
        (["--judge", "smollm2-135m", "--judge-max-usd", "3"], "--max-usd"),
        (["--judge", "nobody", "--judge-backend", "chat", "--judge-max-usd", "3"], "--price-file"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_done(place, run, command, more, said):
    assert said in run(*command, *more, code=1)[1]
    assert not (place / "run").exists()
