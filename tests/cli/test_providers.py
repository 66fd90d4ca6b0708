"""The table of servers in docs/models.md: each row's flags, against a server of that shape."""

import re
import shlex
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from fake_api import KEY
from providers import PROVIDERS, QUERY, running

from inpars.cli import main as cli
from inpars.io.formats import read_synthetic_queries, write_documents
from inpars.io.manifest import read_manifest
from inpars.records import Document

MODELS = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| ([\w. ]+) \| `(--[^`]+)` \| (.+) \|$", MODELS, re.MULTILINE)
by_name = pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: provider.name)


@pytest.fixture(autouse=True)
def workdir(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    write_documents(tmp_path / "c.jsonl", [Document("d1", "Cats eat mice."), Document("d2", "Cats eat fish.")])


def command(provider, address, model):
    """The row's flags with the server's host instead of the table's."""
    flags = shlex.split(next(row[1] for row in ROWS if row[0] == provider.name))
    own = [f"{address}/v1"] if "--base-url" not in flags else []
    words = [re.sub(r"^https?://[^/]+", address, word) for word in flags] + ["--base-url"] * bool(own) + own
    return ["generate", *words, "--corpus", "c.jsonl", "--model", model, "--output", "q.jsonl", "--retries", "0"]


def test_the_table_and_the_fixtures_are_the_same_list():
    assert [row[0] for row in ROWS] == [provider.name for provider in PROVIDERS]
    for (_, flags, log_probs), provider in zip(ROWS, PROVIDERS, strict=True):
        if "behind it" not in log_probs:
            assert log_probs.startswith("for every token") == (provider.log_probs is not None)
        address = re.search(r"https?://\S+", flags)
        assert address is None or urlsplit(address[0].strip('"')).hostname


@by_name
def test_the_rows_flags_bring_queries(provider, capsys):
    with running(provider) as (address, requests):
        assert cli.main(command(provider, address, "known")) == 0
    queries = list(read_synthetic_queries(Path("q.jsonl")))
    assert [(query.text, query.finish_reason) for query in queries] == [(QUERY, "stop")] * 2
    expected = (tuple(provider.log_probs or ()), provider.stop_log_prob, "raw" if provider.log_probs else "absent")
    assert {(q.token_log_probs, q.stop_log_prob, q.log_prob_kind) for q in queries} == {expected}
    assert len(requests) == 2
    assert {key for _, key, _ in requests} == {provider.key_header[1]}
    remarks = read_manifest(Path("q.jsonl")).results.get("remarks", {})
    sends_none = provider.log_probs is None and "logprobs" in requests[0][2]
    assert remarks == ({"log_probs_none": 2} if sends_none else {})
    assert KEY not in "".join(capsys.readouterr())


@by_name
def test_its_word_for_an_unknown_model_is_shown_and_not_asked_again(provider, capsys):
    with running(provider) as (address, requests):
        assert cli.main(command(provider, address, "m")) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("inpars: ")]
    assert provider.reason in line
    assert len(requests) <= 2
