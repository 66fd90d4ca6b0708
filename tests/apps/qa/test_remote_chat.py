"""The remote chat: the answer without reasoning, or the server's reason why there is none."""

from contextlib import closing

import pytest
from fake_api import KEY, FakeApi

from inpars.apps.qa.remote_chat import RemoteChat
from inpars.errors import BackendError
from inpars.generation.api import client as api_client

ASKED = [{"role": "user", "content": "document number 7"}]


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(api_client, "FIRST_DELAY_SECONDS", 0.01)


def reply(answer):
    with FakeApi(lambda *_: answer) as api:
        reply.api = api
        with closing(RemoteChat("m", api.url, timeout_seconds=5)) as chat:
            return chat.reply(ASKED, 20)


def payload(content, finish="stop", **message):
    return {"choices": [{"message": {"content": content, **message}, "finish_reason": finish}]}


@pytest.mark.parametrize(
    "answer",
    [
        payload("Mice [1].\n\nAnd fish [2]."),
        payload("<think>\nCats.\n</think>\n\nMice [1].\n\nAnd fish [2]."),
        payload([{"type": "thinking", "thinking": "a"}, {"type": "text", "text": "Mice [1].\n\nAnd fish [2]."}]),
        payload("Mice [1].\n\nAnd fish [2].", reasoning_content="Cats."),
    ],
)
def test_all_of_an_answer_is_kept_and_no_thoughts(answer):
    assert reply(answer) == "Mice [1].\n\nAnd fish [2]."


def test_an_empty_answer_is_one():
    assert reply(payload("")) == ""


@pytest.mark.parametrize(
    ("answer", "message", "asked"),
    [
        ({"error": {"message": "Insufficient credits.", "code": 402}}, "Insufficient credits", 1),
        (b"<html>Sign in</html>", "Sign in", 1),
        ((401, "who?"), "status 401: who", 1),
        ((400, "too long"), "status 400: too long", 1),
        ((400, "content management policy"), "content filter refuses", 1),
        (payload(None, "content_filter"), "content filter refuses", 1),
        (payload(None, refusal="No."), "content filter refuses", 1),
        ({"choices": []}, "`choices` is empty", 3),
        (payload("", "length"), "no text in 20 tokens; raise --max-new-tokens", 1),
        (payload("<think>Cats are", "length"), "thoughts and no answer in 20 tokens; raise --max-new-tokens", 1),
        (payload("", "length", reasoning_content="Cats"), "thoughts and no answer", 1),
    ],
)
def test_the_servers_reason_is_given(answer, message, asked):
    with pytest.raises(BackendError, match=message):
        reply(answer)
    assert reply.api.asked[7] == asked


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        ("temperature", "'temperature' does not support 0 with this model; it is unsupported"),
        ("max_tokens", "'max_tokens' is not supported, use 'max_completion_tokens'"),
    ],
)
def test_parameters_that_a_model_does_not_take_are_left_out(monkeypatch, refused, message):
    answer = FakeApi.answer

    def refusing(self, handler, body, chat, number, fault):
        answer(self, handler, body, chat, number, (400, message) if refused in body else payload("Mice."))

    monkeypatch.setattr(FakeApi, "answer", refusing)
    with FakeApi() as api:
        chat = RemoteChat("m", api.url)
        assert [chat.reply(ASKED, 20), chat.reply(ASKED, 20)] == ["Mice.", "Mice."]
        assert api.asked[7] == 3
