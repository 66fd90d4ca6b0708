"""An answer's bytes, whichever way they are packed, as one object; and what is said where there is none."""

import json

import pytest

from inpars.generation.api.formats import FaultError, OddReplyError, read_payload, read_reply

CATS = "what do cats eat"
CHAT = {"choices": [{"index": 0, "message": {"content": CATS}, "finish_reason": "stop"}]}


def read(content):
    reply = read_reply(read_payload(content if isinstance(content, bytes) else json.dumps(content).encode()))
    return reply.text, reply.finish


@pytest.mark.parametrize(
    "content",
    [
        CHAT,
        {**CHAT, "error": None},
        {**CHAT, "error": {"message": "", "code": 0}},
        b"\xef\xbb\xbf" + json.dumps(CHAT).encode(),
        b"\n\n   \n" + json.dumps(CHAT).encode(),  # OpenRouter's way to keep a connection open
    ],
)
def test_an_answer_in_its_wrappings(content):
    assert read(content) == (CATS, "stop")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "an empty answer"),
        (b"null", "no object"),
        (b"[]", "no object"),
        (b"3", "no object"),
        (b'"hello"', "a text in place of an answer: hello"),
        (b"upstream says hello", "broken JSON.*upstream says hello"),
        (json.dumps(CHAT).encode()[:-9], "broken JSON.*choices"),
        (b"[" * 100_000, "nested"),
        (b"<html><head><style>a</style></head><body>Sign in &amp; go</body></html>", "^not JSON: <html> Sign in & go$"),
        (b'data: {"choices": [{"delta": {"content": "what"}}]}\n\ndata: [DONE]', "broken JSON.*data: .*what"),
        ({"id": "x"}, "no `choices`.*id"),
        ({"choices": []}, "`choices` is empty"),
        ({"choices": None}, "`choices` is empty"),
        ({"choices": ["x"]}, "`choices` is empty"),
        ({"choices": [{}]}, "without a text"),
        ({"choices": [{"text": 3}]}, "no text"),
        ({"choices": [{"message": {"content": {"a": 1}}}]}, "no text"),
        ({"message": {"role": "assistant", "content": "hi"}, "done": True}, "no `choices`"),
    ],
)
def test_what_is_no_answer_is_shown(content, problem):
    with pytest.raises(OddReplyError, match=problem) as caught:
        read(content)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        ({"error": {"message": "no credits", "code": 402}}, 402, "no credits"),  # OpenRouter
        ({"error": {"message": "slow down", "code": "429"}, "choices": None}, 429, "slow down"),
        ({"error": {"message": "x", "type": "rate_limit_error"}}, 429, "x"),
        ({"error": {"message": "x", "status": "RESOURCE_EXHAUSTED"}}, 429, "x"),
        ([{"error": {"code": 400, "message": "bad model", "status": "INVALID_ARGUMENT"}}], 400, "bad model"),  # Google
        ({"error": "model is overloaded"}, 503, "model is overloaded"),
        ({"error": "who knows"}, None, "who knows"),
        ({"errors": [{"message": "unauthorized"}]}, 401, "unauthorized"),
        ({"detail": "Not authenticated"}, 401, "Not authenticated"),
        ({"detail": [{"loc": ["body", "seed"], "msg": "extra fields", "type": "x"}]}, None, "body.seed: extra fields"),
        ({"object": "error", "message": "no such model", "code": 404}, 404, "no such model"),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}, 503, "busy"),
        ({"success": False, "message": "Invalid API key"}, 401, "Invalid API key"),
        ({"choices": [{"error": {"message": "lost", "code": 502}, "finish_reason": "error"}]}, 502, "lost"),
    ],
)
def test_a_complaint_in_an_answer(content, status, message):
    with pytest.raises(FaultError) as caught:
        read(content)
    assert (caught.value.fault.status, caught.value.fault.message) == (status, message)
    assert not caught.value.fault.filtered


def test_letters_that_are_not_utf_8_do_not_end_the_run():
    answer = json.dumps({"choices": [{"text": "café"}]}, ensure_ascii=False)
    assert read(answer.encode("latin-1"))[0] == "caf\ufffd"
