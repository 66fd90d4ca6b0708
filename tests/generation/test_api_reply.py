"""What an answer says: its text in any form, how it ended in any words, refusals, and what it took."""

import pytest

from inpars.generation.api.formats import OddReplyError, fault_in, fault_of_status, read_reply, tokens_used

CATS = "what do cats eat"


def chat(content=CATS, finish="stop", **message):
    return {"choices": [{"index": 0, "message": {"content": content, **message}, "finish_reason": finish}]}


@pytest.mark.parametrize(
    ("payload", "thoughts"),
    [
        (chat(), False),
        (chat(reasoning_content="cats"), True),
        (chat(reasoning="cats"), True),
        (chat(reasoning_content=""), False),
        (chat([{"type": "text", "text": CATS}]), False),
        (chat([{"type": "text", "text": "what do"}, {"type": "output_text", "text": " cats eat"}]), False),
        (chat([{"type": "thinking", "thinking": [{"text": "a"}]}, {"type": "text", "text": CATS}]), True),
        (chat([{"text": "a", "thought": True}, {"text": CATS}]), True),
        (chat(["what do", " cats eat"]), False),
        (chat({"type": "text", "text": {"value": CATS}}), False),
        ({"choices": [{"text": CATS, "finish_reason": "stop"}]}, False),
        ({"choices": [{"message": CATS, "finish_reason": "stop"}]}, False),
        ({"choices": [{"index": 1, "text": "x"}, {"index": 0, "text": CATS, "finish_reason": "stop"}]}, False),
    ],
)  # fmt: skip
def test_the_text_of_an_answer(payload, thoughts):
    reply = read_reply(payload)
    assert (reply.text, reply.finish, reply.thoughts, reply.remarks) == (CATS, "stop", thoughts, ())


@pytest.mark.parametrize("content", [None, "", []])
def test_no_content_is_an_empty_text(content):
    assert read_reply(chat(content)).text == ""
    assert read_reply({"choices": [{"message": {"role": "assistant"}, "finish_reason": "stop"}]}).text == ""


def test_parts_that_are_no_text_are_told():
    assert read_reply(chat([{"type": "image"}, {"type": "text", "text": CATS}])).remarks == ("parts",)
    with pytest.raises(OddReplyError, match=r"no text: .*image"):
        read_reply(chat([{"type": "image"}]))


@pytest.mark.parametrize(
    ("word", "finish"),
    [
        *((word, "stop") for word in ("stop", "STOP", "eos", "eos_token", "end_turn", "stop_sequence", "END_TURN")),
        *((word, "stop") for word in ("FinishReason.STOP", "FINISH_REASON_STOP", {"type": "stop", "matched": 2})),
        *((word, "length") for word in ("length", "max_tokens", "MAX_TOKENS", "model_length", "token_limit")),
        *((word, "length") for word in ("max-tokens", "Max Tokens", "max_output_tokens", "FinishReason.MAX_TOKENS")),
        *((word, "length") for word in ({"type": "length", "length": 64}, "incomplete")),
        *((word, "error") for word in ("content_filter", "SAFETY", "safety", "RECITATION", "blocked", "BLOCKLIST")),
        *((word, "error") for word in ("PROHIBITED_CONTENT", "SPII", "refusal", "guardrail_intervened")),
    ],
)
def test_reasons_to_finish_in_all_spellings(word, finish):
    reply = read_reply(chat(finish=word))
    assert (reply.finish, reply.remarks) == (finish, ("filtered",) if finish == "error" else ())


@pytest.mark.parametrize(
    ("word", "tokens", "finish", "remark"),
    [
        (None, 4, "stop", "no_finish_reason"),
        ("", 4, "stop", "no_finish_reason"),
        (None, 64, "length", "no_finish_reason"),
        ("tool_calls", 4, "stop", "finish_reason:tool_calls"),
        ("whatever", 64, "length", "finish_reason:whatever"),
        (7, 4, "stop", "finish_reason:7"),
    ],
)
def test_unknown_reasons_are_told(word, tokens, finish, remark):
    payload = chat(finish=word) | {"usage": {"completion_tokens": tokens}}
    reply = read_reply(payload, token_limit=64)
    assert (reply.finish, reply.remarks) == (finish, (remark,))


def test_a_reason_may_have_another_name():
    payload = chat(finish=None)
    payload["choices"][0]["stop_reason"] = "max_tokens"
    assert read_reply(payload).finish == "length"


@pytest.mark.parametrize("word", ["error", "abort", "cancelled"])
def test_an_answer_that_failed_is_none(word):
    with pytest.raises(OddReplyError, match=word):
        read_reply(chat(finish=word))


FILTERED = {"hate": {"filtered": True, "severity": "high"}, "violence": {"filtered": False}}


@pytest.mark.parametrize(
    "payload",
    [
        chat(None, "content_filter"),
        {"choices": [{"finish_reason": "content_filter", "message": {"role": "assistant"}}]},  # langchain#3861
        {"choices": [{"finish_reason": "content_filter"}]},
        {"choices": [], "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": FILTERED}]},
        {"choices": None, "promptFeedback": {"blockReason": "SAFETY"}},
        chat(None, refusal="I'm sorry, I can't help with that."),
        chat("", refusal="No."),
        {"choices": [{"message": {"content": ""}, "finish_reason": "stop", "content_filter_results": FILTERED}]},
    ],
)
def test_a_refusal_in_any_form_is_an_answer(payload):
    reply = read_reply(payload)
    assert (reply.text, reply.finish, reply.remarks) == ("", "error", ("filtered",))


def test_what_a_filter_let_pass_is_no_refusal():
    passed = {"hate": {"filtered": False, "severity": "safe"}}
    payload = chat(refusal=None)
    payload["choices"][0]["content_filter_results"] = passed
    assert read_reply(payload | {"prompt_filter_results": [passed]}).text == CATS
    with pytest.raises(OddReplyError, match="empty"):
        read_reply({"choices": [], "prompt_filter_results": [{"content_filter_results": passed}]})


@pytest.mark.parametrize(
    ("body", "message", "filtered"),
    [
        (b'{"error": {"message": "bad", "code": "content_filter"}}', "bad", True),
        (b'{"error": {"message": "x", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}', "x", True),
        (b'{"error": {"message": "Your input was flagged", "code": 403}}', "Your input was flagged", True),
        (b'{"error": {"message": "too long", "type": "invalid_request_error"}}', "too long", False),
        (b'{"error": "plain"}', "plain", False),
        (b'{"error": {"message": "Provider error", "metadata": {"raw": "full"}}}', "Provider error (full)", False),
        (b'{"detail": "Not Found"}', "Not Found", False),
        (b'{"detail": [{"loc": ["body", "seed"], "msg": "extra"}]}', "body.seed: extra", False),
        (b'[{"error": {"message": "google"}}]', "google", False),
        (b'"just text"', "just text", False),
        (b"just text", "just text", False),
        (b"<html><title>404</title><body>nginx</body></html>", "404 nginx", False),
        (b"", "no reason given", False),
        (b"{}", "no reason given", False),
        (b"\xff\xfe", "\ufffd\ufffd", False),
    ],
)
def test_the_words_of_an_http_error(body, message, filtered):
    fault = fault_of_status(418, body)
    assert (fault.status, fault.message, fault.filtered) == (418, message, filtered)


def test_an_answer_is_no_fault():
    assert fault_in(chat()) is None
    assert fault_in({"error": None, "message": ""}) is None


@pytest.mark.parametrize(
    ("value", "count"),
    [(5, 5), (5.0, 5), ("5", 5), (0, 0), (None, 9), ("many", 9), (float("nan"), 9), (-1, 9), (True, 9), ([5], 9)],
)
def test_counts_of_tokens(value, count):
    assert tokens_used({"n": value}, "n", 9) == count
    assert tokens_used({}, "n", 9) == 9
