"""Generating and scoring by the command line with tiny models; the InPars toolkit's own command."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from inpars import generate
from inpars.cli import main as cli
from inpars.documents.datasets import load_dataset
from inpars.io.formats import read_synthetic_queries
from inpars.pipeline import run as pipeline
from inpars.pipeline.options import PipelineOptions
from inpars.prompts.load import load_prompt, read_examples

TOY = Path(__file__).parents[1] / "data" / "toy"
BEIR = TOY / "beir"
FORM = "Document: {document}\nQuery: {query}\n"
SMALL = ["--max-doc-tokens", "32", "--max-new-tokens", "8", "--dtype", "float32", "--device", "cpu", "--quiet"]


@pytest.fixture(autouse=True)
def workdir(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    examples = [{"document": "bread and dough", "query": "bread", "doc_id": "d01", "query_id": "q1"}]
    examples += [{"document": f"a river of amber {n}", "query": f"amber {n}"} for n in range(3)]
    Path("form.txt").write_text(FORM, encoding="utf-8")
    Path("examples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in examples), encoding="utf-8")


@pytest.fixture
def run(capsys):
    """Runs a command that must succeed; returns its stdout and stderr."""

    def call(*arguments, command=cli.main):
        capsys.readouterr()
        assert command([str(argument) for argument in arguments]) == 0
        return capsys.readouterr()

    return call


def rows(path):
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("choice", ["all", "random", "nearest"])
def test_generated_queries_score_as_they_were_written(run, tiny, choice):
    prompt = ["--prompt", "form.txt", "--examples", "examples.jsonl", "--examples-choice", choice, "--num-examples", 2]
    common = ["--dataset", BEIR, "--model", tiny("llama"), *prompt]
    out, _ = run("generate", *common, *SMALL, "--output", "q.jsonl")
    assert out == "q.jsonl: 29 queries (1 dropped: prompt_example 1)\n"
    assert Path("q.jsonl.example_query_ids.txt").read_text(encoding="utf-8") == "q1\n"
    scoring = [flag for flag in SMALL if flag not in ("--max-new-tokens", "8")]
    out, _ = run("score", *common, *scoring, "--input", "q.jsonl", "--output", "s.jsonl")
    assert out.startswith(f"s.jsonl: 29 queries scored with {tiny('llama')}, mean log-probability per token -")
    for written, scored in zip(rows("q.jsonl"), rows("s.jsonl"), strict=True):
        assert scored["log_probs"] == pytest.approx(written["log_probs"], abs=1e-3)
        assert scored["scored_by"] == {"model": tiny("llama"), "prompt": written["prompt"]}
        assert {**scored, "log_probs": 0, "stop_log_prob": 0, "scored_by": 0} == {
            **written,
            "log_probs": 0,
            "stop_log_prob": 0,
            "scored_by": 0,
        }


@pytest.mark.parametrize("form", ["", ".v1", ".v2"])
def test_queries_of_every_form_are_scored_without_their_corpus(run, tiny, form):
    source = TOY / f"queries.synthetic{form}.jsonl"
    common = ["--model", tiny("gpt2"), "--prompt", "form.txt", "--max-doc-tokens", 64, "--device", "cpu", "--quiet"]
    values = json.loads(run("score", *common, "--input", source, "--output", "s.jsonl", "--json").out)
    assert values["queries"] == 6
    scored = list(read_synthetic_queries(Path("s.jsonl")))
    assert [query.text for query in scored] == [query.text for query in read_synthetic_queries(source)]
    assert all(query.token_log_probs and query.log_prob_kind == "raw" for query in scored)
    assert run("filter", "--input", "s.jsonl", "--output", "kept.jsonl").out.startswith("kept.jsonl: ")


def test_the_filter_leaves_out_queries_of_the_examples(run):
    source = TOY / "queries.synthetic.jsonl"
    first = rows(source)[0]["query"]
    Path("shown.jsonl").write_text(json.dumps({"document": "x", "query": first}) + "\n", encoding="utf-8")
    out = run("filter", "--input", source, "--output", "kept.jsonl", "--examples", "shown.jsonl").out
    assert "prompt_example 1" in out
    assert first not in [row["query"] for row in rows("kept.jsonl")]


def test_the_filter_reads_the_examples_as_generate_does(run):
    """Those of a file stand in place of the prompt's own, so --num-examples counts them."""
    source = TOY / "queries.synthetic.jsonl"
    shown = [{"document": "x", "query": rows(source)[number]["query"]} for number in range(2)]
    Path("shown.jsonl").write_text("".join(json.dumps(row) + "\n" for row in shown), encoding="utf-8")
    flags = ["--prompt", "inpars", "--examples", "shown.jsonl", "--num-examples", "1"]
    out = run("filter", "--input", source, "--output", "kept.jsonl", *flags).out
    assert "prompt_example 1" in out


def test_examples_are_left_out_of_evaluation(run):
    command = ("evaluate", "--dataset", BEIR, "--run", TOY / "run.trec", "--metrics", "RR@10")
    Path("ids.txt").write_text("q1\nq2\nnever-judged\n", encoding="utf-8")
    out = run(*command, "--leave-out", "ids.txt").out
    assert "6 judged queries" in out.splitlines()
    assert out.splitlines()[-1] == "note: 2 judged queries are left out: the prompt shows them as examples"
    values = json.loads(run(*command, "--leave-out", "ids.txt", "--json").out)
    assert values["left_out"] == 2
    assert not {"q1", "q2"} & set(values["systems"]["run"]["per_query"]["RR@10"])
    assert "left_out" not in json.loads(run(*command, "--json").out)
    err = run(*command, "--leave-out", BEIR / "queries.jsonl").err
    assert "queries.jsonl names none" in err


def test_a_whole_run_leaves_them_out_too(monkeypatch):
    asked = []

    def retrieve(run, topics, *_):
        asked.append(topics)
        return {"bm25": TOY / "run.trec", "fusion": TOY / "run.trec", "mix": TOY / "run.trec"}

    for stage in ("_generate", "check_looks", "_filter", "choice_queries", "report_of"):
        monkeypatch.setattr(pipeline, stage, lambda *_, **__: None)
    monkeypatch.setattr(pipeline, "train_models", lambda *_: ({}, {}))
    monkeypatch.setattr(pipeline, "choose_system", lambda *_: (SimpleNamespace(reranking=None, stages=()), None))
    monkeypatch.setattr(pipeline, "all_runs", retrieve)
    monkeypatch.setattr(pipeline, "with_statements", lambda *_: None)
    monkeypatch.setattr(pipeline, "write_report", lambda *_: None)
    monkeypatch.setattr(pipeline, "add_numbers_of_run", lambda *_: None)
    prompt = load_prompt("form.txt").with_examples(read_examples(Path("examples.jsonl")))
    dataset = load_dataset(str(BEIR))
    finished = pipeline.run_pipeline(dataset, prompt, PipelineOptions(), output=Path("whole"))
    assert set(dataset.topics().queries) - set(asked[0].queries) == {"q1"}
    assert finished.results["bm25"].queries == 7


def test_a_prompt_that_wants_examples_is_refused(capsys):
    Path("t.yaml").write_text("d:\n  mode: dynamic\n  template: '{document} {query}'\n", encoding="utf-8")
    arguments = ["generate", "--corpus", str(TOY / "corpus.tsv"), "--prompt", "t.yaml:d", "--output", "q.jsonl"]
    assert cli.main(arguments) == 1
    assert "give some with --examples FILE" in capsys.readouterr().err


def toolkit(tiny, *more):
    given = ["--dataset", TOY / "corpus.tsv", "--base_model", tiny("llama"), "--prompt", "form.txt"]
    return [*given, "--output", "q.jsonl", "--max_doc_length", 32, "--max_new_tokens", 8, "--device", "cpu", *more]


def test_the_toolkits_command_writes_queries(run, tiny):
    out, err = run(*toolkit(tiny, "--max_generations", 5, "--batch_size", 2), command=generate.main)
    assert out.startswith("q.jsonl: 5 queries")
    assert err.startswith("inpars generate --dataset=")
    assert "--seed=1 --dtype=float32 --device=cpu --batch-size=2 --output=q.jsonl" in err
    assert {"doc_id", "text", "query", "log_probs"} <= set(rows("q.jsonl")[0])


def test_the_toolkits_speed_flags_are_named_in_one_line(run, tiny):
    more = ["--max_generations", 2, "--fp16", "--tf", "--max_prompt_length", 2048, "--dataset_source", "pyserini"]
    _, err = run(*toolkit(tiny, *more, "--n_fewshot_examples", 3, "--unheard_of", 7), command=generate.main)
    first, second = err.splitlines()[:2]
    assert first == (
        "ignored: --tf (PyTorch is used); --fp16 (bfloat16 is used); --max_prompt_length (the model's own limit is "
        "kept); --dataset_source pyserini (documents come from ir_datasets, whose BEIR collections are the same); "
        "--n_fewshot_examples (the prompt's own examples are shown; give a file with --examples); "
        "--unheard_of is not known"
    )
    assert "--dtype=bfloat16" in second


def translated(*flags):
    given = ["--dataset", "scifact", "--output", "q.jsonl", *flags]
    return generate.translate(generate._parser().parse_args(given))


def test_the_toolkits_defaults_and_names():
    assert translated() == [
        *("generate", "--dataset=beir/scifact", "--prompt=inpars", "--model=EleutherAI/gpt-j-6B"),
        *("--max-documents=100000", "--max-doc-tokens=256", "--max-new-tokens=64", "--seed=1", "--dtype=float32"),
        "--output=q.jsonl",
    ]
    assert "--prompt=claim" in translated("--prompt", "promptagator-scifact")
    shown = translated("--examples", "examples.jsonl", "--n_fewshot_examples", "2")
    assert shown[-3:] == ["--examples=examples.jsonl", "--examples-choice=random", "--num-examples=2"]


def test_the_toolkits_revision_is_refused(capsys, tiny):
    assert generate.main([str(flag) for flag in toolkit(tiny, "--revision", "float16")]) == 1
    assert capsys.readouterr().err.startswith("inpars: --revision cannot be chosen here")


def test_every_prompt_of_the_toolkit_has_one_of_ours():
    from inpars.prompts.load import prompt_names

    assert set(generate.PROMPTS.values()) < set(prompt_names())
