"""LiteLLM itself against a server on loopback: queries, grades' log-probs, answers, and what a provider lacks."""

import pytest
from fake_api import KEY, FakeApi, document, log_probs_of, query_of

from inpars.apps.qa.remote_chat import RemoteChat
from inpars.errors import BackendError, ConfigError
from inpars.generation import generate_each
from inpars.generation.api import client as api_client
from inpars.generation.api.options import LITELLM, ApiOptions, check_api
from inpars.generation.settings import DecodingSettings
from inpars.prompts.load import load_prompt
from inpars.stages.generate_by_api import open_server, query_requests

pytestmark = pytest.mark.filterwarnings("default")  # its own


@pytest.fixture
def api(monkeypatch):
    pytest.importorskip("litellm")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(api_client, "FIRST_DELAY_SECONDS", 0.01)
    with FakeApi() as fake:
        monkeypatch.setenv("OPENAI_BASE_URL", fake.url)
        monkeypatch.setenv("OPENAI_API_BASE", fake.url)
        yield fake


def written(folder, model="openai/fake", **options):
    settings = DecodingSettings(max_new_tokens=16)
    asked = ApiOptions(base_url=LITELLM, retries=1, **options)
    generator = open_server(
        query_requests("chat", model, load_prompt("inpars"), settings, asked), asked, folder / "q.jsonl"
    )
    try:
        return [found for (found,) in next(generate_each(generator, [[document(7), document(8)]]))]
    finally:
        generator.close()


def test_queries_with_their_log_probs(api, tmp_path):
    found = written(tmp_path)
    assert [query.text for query in found] == [query_of(7), query_of(8)]
    assert list(found[0].token_log_probs) == pytest.approx(log_probs_of(7))
    assert {body["model"] for body in api.bodies} == {"fake"}
    assert api.keys == {f"Bearer {KEY}"}


def test_what_fails_is_asked_again_by_us_alone(api, tmp_path):
    api.fault = lambda number, attempt: (500, "later") if attempt == 0 else None
    assert [query.text for query in written(tmp_path)] == [query_of(7), query_of(8)]
    assert api.asked == {7: 2, 8: 2}


def test_answers(api):
    api.fault = lambda *_: {"choices": [{"message": {"content": "Mice [1]."}, "finish_reason": "stop"}]}
    assert (
        RemoteChat("openai/fake", LITELLM).reply([{"role": "user", "content": "document number 7"}], 20) == "Mice [1]."
    )


def test_a_provider_without_log_probs_is_said_in_one_line(api, tmp_path):
    with pytest.raises(BackendError, match="add --log-prob-kind absent"):
        written(tmp_path, "anthropic/claude-3-5-haiku-20241022")
    with pytest.raises(BackendError, match="know the provider"):
        written(tmp_path, "fake")
    assert not api.bodies


def test_its_batches_are_refused():
    with pytest.raises(ConfigError, match="--batch"):
        check_api(ApiOptions(base_url=LITELLM, batch=True), asks_server=True)
