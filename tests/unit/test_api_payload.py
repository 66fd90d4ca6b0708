"""An answer's bytes, whichever way they are packed, as one object; and what is said where there is none."""

import json

import pytest

from inpars.generation.api.faults import FaultError, OddReplyError
from inpars.generation.api.formats import read_payload, read_reply

CATS = "what do cats eat"
CHAT = {"choices": [{"index": 0, "message": {"content": CATS}, "finish_reason": "stop"}]}


def chunk(delta, finish=None, **more):
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish, **more}]}


def stream(*events, end="data: [DONE]\n\n"):
    return ("".join(f"data: {json.dumps(event)}\n\n" for event in events) + end).encode()


def read(content, content_type="application/json"):
    payload, remarks = read_payload(
        content if isinstance(content, bytes) else json.dumps(content).encode(), content_type
    )
    reply = read_reply(payload)
    return reply.text, reply.finish, remarks


@pytest.mark.parametrize(
    "content",
    [
        CHAT,
        [CHAT],
        json.dumps(CHAT),  # JSON in a JSON string
        {"data": CHAT},
        {"result": CHAT, "success": True},
        {**CHAT, "error": None},
        {**CHAT, "error": {"message": "", "code": 0}},
        b"\xef\xbb\xbf" + json.dumps(CHAT).encode(),
        b"\n\n   \n" + json.dumps(CHAT).encode(),  # OpenRouter's way to keep a connection open
    ],
)
def test_an_answer_in_its_wrappings(content):
    assert read(content) == (CATS, "stop", ())


@pytest.mark.parametrize(
    "content",
    [
        stream(chunk({"role": "assistant"}), chunk({"content": "what do"}), chunk({"content": " cats eat"}, "stop")),
        b": PROCESSING\n\n" + stream(chunk({"content": CATS}), chunk({}, "stop"), {"choices": [], "usage": {"a": 1}}),
        stream(chunk({"content": CATS}, "stop"), end=""),
        stream(chunk({"content": CATS})),  # no reason, but [DONE]
        stream(CHAT),
        b"event: message\r\nid: 1\r\ndata: " + json.dumps(CHAT).encode() + b"\r\n\r\n",
        b"\n".join(json.dumps(chunk({"content": word})).encode() for word in ("what", " do cats"))
        + b"\n"
        + json.dumps(chunk({"content": " eat"}, "stop")).encode(),
        stream({"choices": [{"text": "what do"}]}, {"choices": [{"text": " cats eat", "finish_reason": "stop"}]}),
        stream(chunk({"content": "x"}, "stop") | {"choices": [{"index": 1, "delta": {"content": "x"}}]}, CHAT),
    ],
)  # fmt: skip
def test_a_stream_that_nobody_asked_for(content):
    assert read(content, "text/event-stream") == (CATS, "stop", ("stream",))


def test_a_streams_log_probs_and_thoughts_are_joined():
    def of(token, value):
        return {"content": [{"token": token, "logprob": value}]}

    first = chunk({"content": "what", "reasoning_content": "I "}, logprobs=of("what", -0.5))
    second = chunk({"content": " do", "reasoning_content": "think"}, "length", logprobs=of(" do", -0.25))
    payload, _ = read_payload(stream(first, second))
    reply = read_reply(payload)
    assert reply.log_probs == {"content": [*of("what", -0.5)["content"], *of(" do", -0.25)["content"]]}
    assert (reply.text, reply.finish, reply.thoughts) == ("what do", "length", True)
    assert payload["choices"][0]["message"]["reasoning_content"] == "I think"


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
        (stream(chunk({"content": "what"}), end=""), "broke off: what"),
        (stream(3), "something else"),
        (stream()[:-1] + b"x", "broken JSON"),
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
        (stream(chunk({"content": "wha"}), {"error": {"message": "lost", "code": 502}}), 502, "lost"),
        ({"choices": [{"error": {"message": "lost", "code": 502}, "finish_reason": "error"}]}, 502, "lost"),
    ],
)
def test_a_complaint_in_an_answer(content, status, message):
    with pytest.raises(FaultError) as caught:
        read(content)
    assert (caught.value.fault.status, caught.value.fault.message) == (status, message)
    assert not caught.value.fault.filtered


def test_other_encodings():
    answer = json.dumps({"choices": [{"text": "café"}]}, ensure_ascii=False)
    assert read(answer.encode("latin-1"))[::2] == ("café", ("encoding",))
    assert read(answer.encode("utf-16"), "application/json; charset=utf-16")[::2] == ("café", ())
    broken = answer.encode().replace(b"caf", b"\xffcaf")
    assert read(broken)[::2] == ("\ufffdcafé", ("encoding",))
