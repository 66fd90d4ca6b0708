"""One request against a server that fails in every way: what is repeated, what is not, and what is never shown."""

import json
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace

import openai
import pytest
from fake_api import KEY, FakeApi, document, query_of

from inpars.errors import BackendError, ConfigError
from inpars.generation.api import client as api_client
from inpars.generation.api.client import (
    FilteredError,
    NoAnswerError,
    RateLimiter,
    RefusedError,
    Server,
    _delay,
    _retry_after,
    _wait_in,
)
from inpars.generation.api.options import LITELLM, OPENAI_URL
from inpars.generation.api.requests import RequestFormat
from inpars.generation.settings import DecodingSettings
from inpars.prompts.templates import Prompt

PROMPT = Prompt(name="test", form="Document: {document}\nRelevant Query: {query}")


class CountingLimiter(RateLimiter):
    """Counts attempts, the lost ones and the pauses."""

    def __init__(self):
        self.entered, self.lost, self.free, self.pauses = 0, 0, 0, []

    def acquire(self):
        self.entered += 1

    def release(self, *, lost):
        self.lost += lost
        self.free += not lost

    def pause(self, seconds):
        self.pauses.append(seconds)


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(api_client, "FIRST_DELAY_SECONDS", 0.01)


def ask(api, limiter=None, *, retries=3, timeout=5.0, stopped=None, chat=False, url=None):
    adapter = RequestFormat("chat" if chat else "completions", "fake", PROMPT, DecodingSettings(), api.url)
    (request,) = adapter.requests(document(7))
    stopped = stopped or threading.Event()
    server = Server(url or api.url, timeout_seconds=timeout, retries=retries, stopped=stopped)
    try:
        return server.ask(adapter.endpoint, request.body, adapter.read, limiter or RateLimiter()).query.text
    finally:
        server.close()


def faults(*names):
    """These faults, one an attempt, then answers."""
    return lambda number, attempt: names[attempt] if attempt < len(names) else None


@pytest.mark.parametrize("chat", [False, True])
def test_an_answer(chat):
    with FakeApi() as api:
        assert ask(api, chat=chat) == query_of(7)
        assert api.keys == {f"Bearer {KEY}"}


@pytest.mark.parametrize(
    ("fault", "lost"),
    [
        ("limit", 0),
        ("500", 0),
        ((503, "busy"), 0),
        ((409, "conflict"), 0),
        ((424, "Request failed during generation"), 0),  # TGI
        ((499, "The operation was cancelled."), 0),  # Google
        ("broken", 1),  # perhaps paid for
        ("empty", 1),
        ("cut", 1),
    ],
)
def test_what_passes_is_repeated(fault, lost):
    limiter = CountingLimiter()
    with FakeApi(faults(fault, fault)) as api:
        assert ask(api, limiter) == query_of(7)
        assert (api.asked[7], api.answered[7]) == (3, 1)
    # three attempts, of which two came to nothing and the last one is left to settle
    assert (limiter.entered, limiter.lost, limiter.free) == (3, 2 * lost, 2 - 2 * lost)


def test_a_timeout_is_repeated():
    limiter = CountingLimiter()
    with FakeApi(faults("slow"), slow=1.0) as api:
        assert ask(api, limiter, timeout=0.3) == query_of(7)
    assert limiter.lost == 1


def test_a_server_that_never_recovers():
    with FakeApi(lambda *_: "500") as api:
        with pytest.raises(NoAnswerError, match=r"^status 500: oops$"):
            ask(api, retries=2)
        assert api.asked[7] == 3


def test_nobody_there():
    limiter = CountingLimiter()
    with FakeApi() as api:
        url = api.url
    with pytest.raises(NoAnswerError, match="no connection"):
        ask(api, limiter, retries=1, url=url)
    assert (limiter.entered, limiter.lost) == (2, 0), "what never arrived was not paid for"


@pytest.mark.parametrize("status", [400, 413, 422])
def test_what_is_refused_is_not_repeated(status):
    with FakeApi(faults((status, "too long"))) as api:
        with pytest.raises(RefusedError, match=f"status {status}: too long"):
            ask(api)
        assert api.asked[7] == 1


@pytest.mark.parametrize(
    ("status", "advice"), [(401, "check OPENAI_API_KEY"), (403, "may do"), (404, "--model"), (405, "--base-url")]
)
def test_what_no_request_can_pass_ends_all(status, advice):
    with FakeApi(faults((status, "no"))) as api:
        with pytest.raises(BackendError, match=f"answers with status {status}: no; .*{advice}") as caught:
            ask(api)
        assert not isinstance(caught.value, RefusedError | NoAnswerError)
        assert api.asked[7] == 1


def test_an_empty_account_is_no_rate_limit(monkeypatch):
    def broke(handler, status, message, **headers):
        error = {"message": message, "type": "insufficient_quota", "code": "insufficient_quota"}
        handler.send(status, {"error": error})

    monkeypatch.setattr("fake_api.Handler.send_error_body", broke)
    with FakeApi(faults("limit")) as api:
        with pytest.raises(BackendError, match="the account is empty"):
            ask(api)
        assert api.asked[7] == 1


def test_retry_after_is_waited_for_and_told_to_the_others():
    limiter, began = CountingLimiter(), time.monotonic()
    with FakeApi(faults((429, "slow", {"Retry_After": 0.2}))) as api:
        ask(api, limiter)
    assert time.monotonic() - began >= 0.2
    assert limiter.pauses == [0.2]


def test_a_stop_ends_the_waiting():
    stopped, began = threading.Event(), time.monotonic()
    threading.Timer(0.2, stopped.set).start()
    with FakeApi(lambda *_: (429, "slow", {"Retry_After": 300})) as api, pytest.raises(NoAnswerError):
        ask(api, stopped=stopped)
    assert time.monotonic() - began < 5


def test_delays_double_and_differ():
    longest = [0.01, 0.02, 0.04, 0.08]
    for attempt, most in enumerate(longest):
        found = {_delay(attempt, None) for _ in range(50)}
        assert len(found) > 10
        assert most / 2 <= min(found) <= max(found) <= most
    assert _delay(30, None) <= 60
    assert 3 <= _delay(0, 3) <= 3.3


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "30s"}, 30),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "99999"}, 600),
        ({"retry-after": format_datetime(datetime.now(UTC) - timedelta(hours=1))}, 0),
        ({"retry-after": format_datetime(datetime.now(UTC) + timedelta(hours=9))}, 600),
    ],
)
def test_the_forms_of_retry_after(headers, seconds):
    assert _retry_after(headers) == seconds


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ("You exceeded your quota. Please retry in 53.25s.", 53.25),  # Gemini (googleapis/python-genai#1875)
        ("Limit 30, used 30. Please try again in 1m2.5s. Visit https://x", 62.5),  # OpenAI, Groq
        ("Please try again in 120ms.", 0.12),
        ("exceeded token rate limit. Please retry after 33 seconds. Please go here", 33),  # Azure
        ("Try again in 2 hours", None),  # better told at once
        ("slow down", None),
    ],
)
def test_the_forms_of_a_wait_in_words(message, seconds):
    assert _wait_in(message) == seconds


def test_a_wait_in_words_is_waited_for():
    limiter = CountingLimiter()
    with FakeApi(faults((429, "Please retry in 0.2s."))) as api:
        ask(api, limiter)
    assert limiter.pauses == [0.2]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks://127.0.0.1:1080/"),
        ("ALL_PROXY", "socks5://127.0.0.1:1080"),
        ("HTTPS_PROXY", "http://127.0.0.1:none"),
        ("SSL_CERT_FILE", "/absent/cacert.pem"),
    ],
)
def test_a_proxy_or_certificates_that_cannot_be_used_are_said(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"^https://x/v1: .*{name}"):
        Server("https://x/v1", timeout_seconds=1, retries=0, stopped=threading.Event())


def litellm_error(kind, message, status=None):
    """As LiteLLM makes them: its own words, and a response without any."""
    response = SimpleNamespace(content=b"", headers={}, request=None, status_code=status)
    error = kind(message, response=response, body=None) if status else kind(message, request=None, body=None)
    if kind is openai.APIError:
        error.status_code = 503
    return error


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (litellm_error(openai.BadRequestError, "litellm.BadRequestError: too long", 400), RefusedError, "too long"),
        (litellm_error(openai.BadRequestError, "litellm.ContentPolicyViolationError: no", 400), FilteredError, "no"),
        (litellm_error(openai.APIError, "litellm.APIError: overloaded"), NoAnswerError, "status 503: .* overloaded"),
        (openai.APIConnectionError(message="litellm: no boto3", request=None), NoAnswerError, "no boto3"),
    ],
)
def test_litellms_errors_are_told_in_its_words(monkeypatch, error, raised, message):
    def send(*_):
        raise error

    monkeypatch.setattr(Server, "_send", send)
    server = Server(LITELLM, timeout_seconds=1, retries=0, stopped=threading.Event())
    with pytest.raises(raised, match=message):
        server.ask("chat", {}, json.loads, RateLimiter())
    server.close()


@pytest.mark.parametrize("status", [400, 401, 500])
def test_the_key_is_in_no_message(status):
    """Servers repeat the key, or a part of it, in what they answer."""
    said = f"Incorrect API key provided: {KEY}, like sk-test-n**********6789"
    with FakeApi(lambda *_: (status, said)) as api, pytest.raises(BackendError) as caught:
        ask(api, retries=0)
    assert "Incorrect API key provided: [key], like [key]" in str(caught.value)
    assert "sk-test" not in "".join(map(repr, [caught.value, caught.value.args, caught.value.__cause__]))


def test_a_key_of_any_form_is_in_no_message(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "Zz9-opaque/secret")
    with FakeApi(lambda *_: (401, "who is Bearer Zz9-opaque/secret?")) as api, pytest.raises(BackendError) as caught:
        ask(api)
    assert "status 401: who is Bearer [key]?" in str(caught.value)


def test_long_answers_are_cut():
    with FakeApi(lambda *_: (400, "a\nb" * 999)) as api, pytest.raises(RefusedError) as caught:
        ask(api)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


def test_without_a_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with FakeApi() as api:
        assert ask(api) == query_of(7)
        assert api.keys == {"Bearer none"}
    with pytest.raises(ConfigError, match="OPENAI_API_KEY is not set"):
        Server(OPENAI_URL, timeout_seconds=1, retries=0, stopped=threading.Event())


@pytest.mark.parametrize("key", ["sk-a\nb", "sk-ä"])
def test_what_cannot_be_a_key_is_not_repeated(monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(ConfigError) as caught:
        Server("http://x/v1", timeout_seconds=1, retries=0, stopped=threading.Event())
    assert "sk-" not in str(caught.value)


def test_other_calls_are_repeated_by_the_sdk():
    with FakeApi() as api:
        server = Server(api.url, timeout_seconds=5, retries=1, stopped=threading.Event())
        assert server.call(lambda client: client.max_retries) == 1
        with pytest.raises(NoAnswerError, match=r"^http://127.*a broken answer \(.*; .*to resume"):
            server.call(lambda client: json.loads("{"))
        server.close()


def odd_error(code, message="no", **more):
    return {"error": {"message": message, "code": code, **more}}


@pytest.mark.parametrize("code", [402, 401, 403, 404, "402", "insufficient_credits", "invalid_api_key"])
def test_an_error_within_status_200_ends_all_at_once(code):
    """OpenRouter's way (UKGovernmentBEIS/inspect_ai#1534)."""
    with FakeApi(lambda *_: odd_error(code, f"Insufficient credits for {KEY}")) as api:
        with pytest.raises(BackendError, match=r"status 40\d: Insufficient credits for \[key\]; ") as caught:
            ask(api)
        assert not isinstance(caught.value, RefusedError | NoAnswerError)
        assert api.asked[7] == 1


def test_an_address_that_lm_studio_does_not_know():
    with FakeApi(lambda *_: {"error": "Unexpected endpoint or method. (POST /chat/completions)"}) as api:
        with pytest.raises(BackendError, match=r"status 404: Unexpected endpoint.*; check --base-url"):
            ask(api)
        assert api.asked[7] == 1


@pytest.mark.parametrize("code", [429, 502, "rate_limit_exceeded", None])
def test_a_passing_error_within_status_200_is_repeated(code):
    limiter = CountingLimiter()
    with FakeApi(faults(odd_error(code))) as api:
        assert ask(api, limiter) == query_of(7)
        assert (api.asked[7], limiter.lost) == (2, 0)


def test_a_refused_request_within_status_200_is_not_repeated():
    with FakeApi(lambda *_: odd_error(400, "too long")) as api:
        with pytest.raises(RefusedError, match="status 400: too long"):
            ask(api)
        assert api.asked[7] == 1


@pytest.mark.parametrize(
    "fault",
    [
        (400, "The response was filtered: content management policy"),
        (403, "requires moderation, your input was flagged"),
        odd_error("content_filter"),
    ],
)
def test_a_content_filter_is_told_from_all_else(fault):
    with FakeApi(lambda *_: fault) as api:
        with pytest.raises(FilteredError):
            ask(api)
        assert api.asked[7] == 1


def test_a_web_page_before_any_answer_is_a_wrong_address():
    page = b"<html><body>Sign in</body></html>"
    with FakeApi(lambda *_: page) as api:
        with pytest.raises(BackendError, match=r"not JSON: <html> Sign in; check --base-url") as caught:
            ask(api)
        assert not isinstance(caught.value, NoAnswerError)
        assert api.asked[7] == 1


def test_a_web_page_later_is_an_accident():
    with FakeApi() as api:
        server = Server(api.url, timeout_seconds=5, retries=1, stopped=threading.Event())
        adapter = RequestFormat("chat", "fake", PROMPT, DecodingSettings(), api.url)
        (request,) = adapter.requests(document(7))
        assert server.ask("chat", request.body, adapter.read, RateLimiter()).query.text == query_of(7)
        api.fault = lambda number, attempt: b"<html>busy</html>" if attempt == 1 else None
        assert server.ask("chat", request.body, adapter.read, RateLimiter()).query.text == query_of(7)
        assert api.asked[7] == 3
        server.close()


@pytest.mark.parametrize("answer", [{"choices": []}, {"choices": [{}]}, b"null"])
def test_an_answer_without_a_text_every_time_is_a_refusal(answer):
    """BerriAI/litellm#32221 answers null. A row that says so can be completed; asking for ever cannot."""
    limiter = CountingLimiter()
    with FakeApi(lambda *_: answer) as api:
        with pytest.raises(RefusedError, match="choice"):
            ask(api, limiter, retries=2)
        assert (api.asked[7], limiter.lost) == (3, 3)


def test_a_broken_answer_is_shown():
    broken = b'{"id": "chatcmpl-1", "choi'
    with FakeApi(lambda *_: broken) as api, pytest.raises(NoAnswerError, match=r"broken JSON: .*chatcmpl-1") as caught:
        ask(api, retries=0)
    assert "chatcmpl" not in caught.value.kind


def refusing(check, message, status=400, **error):
    """A server that answers once a request's body passes, and otherwise says so."""

    class Api(FakeApi):
        def answer(self, handler, body, chat, number, fault):
            if check(body):
                super().answer(handler, body, chat, number, fault)
            else:
                handler.send(status, {"error": {"message": message, **error}})

    return Api()


@pytest.mark.parametrize(
    ("check", "message", "changed"),
    [
        (
            lambda body: "max_tokens" not in body,
            "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead.",
            {"max_tokens": None, "max_completion_tokens": 64},
        ),
        (lambda body: "max_tokens" not in body, "Extra inputs are not permitted: max_tokens", {"max_tokens": None}),
        (lambda body: "top_logprobs" in body, "Top logprobs must be set when logprobs is.", {"top_logprobs": 1}),
        (lambda body: "seed" not in body, "unknown field: seed", {"seed": None}),
    ],
)
def test_parameters_of_other_spelling_are_learnt_once(check, message, changed):
    limiter = CountingLimiter()
    with refusing(check, message) as api:
        settings = DecodingSettings(temperature=1.0)
        adapter = RequestFormat("chat", "fake", PROMPT, settings, api.url)
        server = Server(api.url, timeout_seconds=5, retries=0, stopped=threading.Event())
        for number in (7, 8):
            (request,) = adapter.requests(document(number))
            assert server.ask("chat", request.body, adapter.read, limiter).query.text == query_of(number)
        server.close()
        assert (api.asked[7], api.asked[8]) == (2, 1)
        assert (limiter.lost, limiter.free) == (0, 1), "the refused one is not paid for"
        assert {name: api.bodies[-1].get(name) for name in changed} == changed
        assert bool(server.spelling.notes) == ("seed" in changed)


@pytest.mark.parametrize(
    ("message", "flag"),
    [
        ("Unsupported value: 'temperature' does not support 0.0 with this model.", "--temperature 1"),
        ("logprobs are not supported with this model", "--log-prob-kind absent"),
        ("'top_p' is not supported", "--top-p 1"),
        ("This model's maximum context length is 512 tokens", "--max-doc-tokens"),
        ("request (5000 tokens) exceeds the available context size (4096 tokens)", "--max-doc-tokens"),  # llama.cpp
        ("max_tokens is too large: 9000", "--max-new-tokens"),
    ],
)
def test_what_decides_the_answer_is_not_changed_but_named(message, flag):
    with FakeApi(lambda *_: (400, message)) as api:
        with pytest.raises(RefusedError, match=f"give {flag}|lower {flag}|change {flag}"):
            ask(api, chat=True)
        assert api.asked[7] == 1


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "System role not supported"),  # Gemma 2 by vLLM
        (400, "Conversation roles must alternate user/assistant/user/assistant/..."),  # Mistral 7B by vLLM
        (500, "Only user and assistant roles are supported!"),  # by llama.cpp
    ],
)
def test_a_model_without_system_turns_reads_its_text_in_the_first_user_turn(status, message):
    prompt = replace(PROMPT, system="Write one query.")
    with refusing(lambda body: body["messages"][0]["role"] != "system", message, status) as api:
        adapter = RequestFormat("chat", "fake", prompt, DecodingSettings(), api.url)
        server = Server(api.url, timeout_seconds=5, retries=0, stopped=threading.Event())
        for number in (7, 8):
            (request,) = adapter.requests(document(number))
            assert server.ask("chat", request.body, adapter.read, RateLimiter()).query.text == query_of(number)
        server.close()
        assert (api.asked[7], api.asked[8]) == (2, 1)
    (turn,) = api.bodies[-1]["messages"]
    assert (turn["role"], turn["content"].partition("\n\n")[0]) == ("user", "Write one query.")
    assert any("system turn" in note for note in server.spelling.notes)


def test_a_learnt_spelling_leaves_the_digest_alone():
    with FakeApi() as api:
        adapter = RequestFormat("chat", "fake", PROMPT, DecodingSettings(), api.url)
        before = adapter.requests(document(7))[0]
        server = Server(api.url, timeout_seconds=5, retries=0, stopped=threading.Event())
        assert server.spelling.learns("max_tokens unsupported", before.body, before.body)
        assert "max_completion_tokens" in server.spelling.applied(before.body)
        assert adapter.requests(document(7))[0] == before
        server.close()


@pytest.mark.parametrize("path", ["/v1", "/openai/deployments/gpt-4o"])
def test_an_api_version_stays_behind_the_path(path):
    with FakeApi() as api:
        url = api.url.removesuffix("/v1") + f"{path}?api-version=2024-06-01"
        assert ask(api, chat=True, url=url) == query_of(7)
        assert api.paths == [f"{path}/chat/completions?api-version=2024-06-01"]
        assert {name.lower(): value for name, value in api.headers[0].items()}["api-key"] == KEY
        assert ask(api, chat=True) == query_of(7)
        assert "api-key" not in {name.lower() for name in api.headers[1]}, "Azure's header is for Azure alone"
