"""Results of a finished run are not replaced by those of other settings unless that is asked for."""

import json
from dataclasses import asdict, replace

import pytest

from inpars.cli import main as cli
from inpars.errors import ConfigError, DataFormatError
from inpars.io.topics import Topics
from inpars.pipeline.leftovers import changes, refuse_to_replace, settings_of
from inpars.pipeline.options import PipelineOptions
from inpars.prompts.load import load_prompt
from inpars.stages.ingest import IngestOptions

OPTIONS = PipelineOptions(max_documents=50)
PROMPT = load_prompt("inpars")
TOPICS = Topics("test", {"q1": "one", "q2": "two"}, {"q1": {"d1": 1}})


def settings(options=OPTIONS, prompt=PROMPT, *more, split="test", metrics=("nDCG@10",), topics=TOPICS):
    return settings_of(options, prompt, *more, split=split, metrics=metrics, topics=topics)


@pytest.fixture
def finished(tmp_path):
    (tmp_path / "metrics.json").write_text("{}")
    (tmp_path / "run.json").write_text(json.dumps({"dataset": "toy", "finished": settings()}))
    return tmp_path


@pytest.mark.parametrize(
    ("now", "named"),
    [
        (settings(replace(OPTIONS, limit=2)), "--limit was not given, is 2"),
        (settings(replace(OPTIONS, max_documents=4)), "--max-documents was 50, is 4"),
        (settings(replace(OPTIONS, rerank_depth=5)), "--rerank-depth was 20, is 5"),
        (settings(prompt=load_prompt("inpars-gbq")), "--prompt was inpars "),
        (settings(split="dev"), "--split was test, is dev"),
        (settings(metrics=("nDCG@10", "AP")), "--metrics was nDCG@10, is nDCG@10 AP"),
        (settings(topics=replace(TOPICS, qrels={"q2": {"d1": 1}})), "--queries and --qrels"),
    ],
)
def test_each_setting_that_decides_results_is_refused_by_name_with_two_ways_out(finished, now, named):
    with pytest.raises(ConfigError) as caught:
        refuse_to_replace(finished, now, overwrite=False)
    for fragment in (named, "--overwrite", "--output", str(finished)):
        assert fragment in str(caught.value)


def test_the_same_settings_go_on_and_speed_is_no_setting(finished):
    assert refuse_to_replace(finished, settings(replace(OPTIONS, threads=2, device="cpu")), overwrite=False) is False


def test_overwrite_redoes_what_a_change_touches_and_without_a_change_everything(finished):
    assert refuse_to_replace(finished, settings(replace(OPTIONS, limit=2)), overwrite=True) is False
    assert refuse_to_replace(finished, settings(), overwrite=True) is True


def test_what_is_not_finished_goes_on_with_any_settings(finished):
    (finished / "metrics.json").unlink()
    assert changes(finished, settings(replace(OPTIONS, limit=2))) == []
    (finished / "report.html").write_text("")  # of a run that nothing was measured in
    assert changes(finished, settings(replace(OPTIONS, limit=2))) == ["--limit was not given, is 2"]


def test_a_setting_that_the_finished_run_did_not_know_stood_at_its_default(finished):
    known = settings()
    del known["--window-tokens"], known["--queries and --qrels"]
    (finished / "run.json").write_text(json.dumps({"finished": known}))
    assert changes(finished, settings()) == []
    assert changes(finished, settings(replace(OPTIONS, window_tokens=32))) == ["--window-tokens was 96, is 32"]


def test_a_run_from_before_trainings_could_be_skipped_measured_other_systems(finished):
    known = settings()
    del known["--training"]
    (finished / "run.json").write_text(json.dumps({"finished": known}))
    for training in ("auto", "always", "never"):
        now = settings(replace(OPTIONS, training=training))
        assert changes(finished, now) == [f"--training was not given, is {training}"]


def test_of_a_run_that_did_not_say_its_settings_the_report_does(finished):
    (finished / "run.json").write_text(json.dumps({"dataset": "toy"}))
    assert changes(finished, settings(replace(OPTIONS, limit=2))) == []  # nobody can tell
    values = {"options": asdict(OPTIONS), "prompt": "inpars", "prompt_sha256": settings()["--prompt"].split()[1] + "ff"}
    (finished / "report.json").write_text(json.dumps({"settings": values}))
    assert changes(finished, settings()) == []
    assert changes(finished, settings(replace(OPTIONS, limit=2))) == ["--limit was not given, is 2"]
    (finished / "report.json").write_text("[]")
    with pytest.raises(DataFormatError):
        changes(finished, settings())


def test_how_documents_are_read_counts_and_does_not_hide_the_limit_of_queries():
    found = settings(replace(OPTIONS, limit=3), PROMPT, IngestOptions(max_tokens=40))
    assert (found["--limit"], found["--max-tokens"]) == (3, 40)


def test_by_the_command_line_before_any_document_is_read(finished, tmp_path, capsys):
    """The folder of documents is absent, which would be said as soon as it was read."""
    arguments = ["run", "--documents", str(tmp_path / "gone"), "--limit", "2", "--output", str(finished)]
    assert cli.main(arguments) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "--limit was not given, is 2" in err
