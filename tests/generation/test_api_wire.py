"""What is sent, and which tokens of an answer belong to the query."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inpars.generation.api.options import OPENAI_URL
from inpars.generation.api.requests import RequestFormat
from inpars.generation.settings import DecodingSettings
from inpars.prompts.load import load_prompt
from inpars.prompts.templates import Prompt
from inpars.records import Document

PROMPT = Prompt(name="test", form="Document: {document}\nRelevant Query: {query}", instruction="Write a query.")
DOCUMENT = Document("d1", "a text about nothing")
URL = "http://localhost:1/v1"


def adapter(endpoint="completions", prompt=PROMPT, url=URL, log_probs=True, **settings):
    return RequestFormat(endpoint, "model", prompt, DecodingSettings(**settings), url, log_probs)


def completion(tokens, values=None, text=None, finish="stop"):
    values = values or [-(n + 1) / 8 for n in range(len(tokens))]
    text = "".join(tokens) if text is None else text
    log_probs = {"tokens": tokens, "token_logprobs": values}
    return {"choices": [{"text": text, "finish_reason": finish, "logprobs": log_probs}]}


def chat(tokens, text=None, finish="stop"):
    raw = [token if isinstance(token, bytes) else token.encode() for token in tokens]
    content = [
        {"token": piece.decode("utf-8", "replace"), "bytes": list(piece), "logprob": -(n + 1) / 8}
        for n, piece in enumerate(raw)
    ]
    text = b"".join(raw).decode() if text is None else text
    return {"choices": [{"message": {"content": text}, "finish_reason": finish, "logprobs": {"content": content}}]}


def found(query):
    return query.text, query.token_log_probs, query.stop_log_prob, query.finish_reason, query.log_prob_kind


def test_a_completion_is_the_prompt_continued():
    (request,) = adapter().requests(DOCUMENT)
    assert request.query_id == "d1-q0"
    assert request.body == {
        "model": "model",
        "temperature": 0.0,
        "prompt": PROMPT.render(DOCUMENT.text),
        "max_tokens": 64,
        "stop": ["\n"],
        "logprobs": 1,
    }
    assert request.output_tokens == 64


def test_a_chat_is_the_prompts_turns():
    (request,) = adapter("chat").requests(DOCUMENT)
    assert request.body["messages"] == PROMPT.messages(DOCUMENT.text)
    assert (request.body["logprobs"], request.body["max_tokens"]) == (True, 64)
    assert "stop" not in request.body
    (request,) = adapter("chat", url=OPENAI_URL, log_probs=False).requests(DOCUMENT)
    assert "max_tokens" not in request.body
    assert request.body["max_completion_tokens"] == 64
    assert "logprobs" not in request.body


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
def test_what_all_documents_share_comes_first(endpoint):
    """So that prefix caches hit: all but the last line of the text, all but the last turn."""
    own = adapter(endpoint, load_prompt("inpars"))
    one, other = (own.requests(Document(name, name * 9))[0].body for name in ("ab", "cd"))
    if endpoint == "chat":
        assert len(one["messages"]) > 3
        assert one["messages"][:-1] == other["messages"][:-1]
    else:
        shared = load_prompt("inpars").prefix
        assert len(shared) > 1000
        assert one["prompt"].startswith(shared)
        assert other["prompt"].startswith(shared)


def test_drawn_queries_have_seeds_of_their_own():
    first, second = adapter(num_queries=2, temperature=1.0, top_p=0.9).requests(DOCUMENT)
    assert (first.query_id, second.query_id) == ("d1-q0", "d1-q1")
    assert first.body["seed"] != second.body["seed"]
    assert 0 <= first.body["seed"] < 2**31
    assert first.body["top_p"] == 0.9
    assert first.digest != second.digest


def test_digests_tell_requests_apart():
    digests = {
        adapter(**change).requests(document)[0].digest
        for change in ({}, {"url": "http://other/v1"}, {"max_new_tokens": 9}, {"endpoint": "chat"})
        for document in (DOCUMENT, Document("d2", DOCUMENT.text), Document("d1", "another"))
    }
    assert len(digests) == 12
    assert adapter().requests(DOCUMENT) == adapter().requests(DOCUMENT)
    assert adapter().digest != adapter(max_doc_tokens=9, max_new_tokens=9).digest


@pytest.mark.parametrize(
    ("endpoint", "digest"),
    [
        ("completions", "44bdb2a853dea5d4a05798de562c4ab6d63955cb5479b5d913e312cb61fc30d3"),
        ("chat", "40aea588417770a70b33a3def8e4e51da1b7d453cab70011338b4057bcc370b6"),
    ],
)
def test_answers_of_former_versions_are_found_again(endpoint, digest):
    """As 5ae80e1 wrote them into its journals."""
    assert adapter(endpoint).requests(DOCUMENT)[0].digest == digest


def test_documents_are_cut_and_never_the_cue():
    (request,) = adapter(max_doc_tokens=2).requests(DOCUMENT)
    assert request.body["prompt"].endswith("Document: a text\nRelevant Query:")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        # the server took the stop string's token away: nobody knows what ended the query
        (completion([" what", " now"]), ("what now", (-0.125, -0.25), None, "stop", None)),
        # it left it (vLLM): text without, tokens with
        (completion([" what", " now", "\n"], text=" what now"), ("what now", (-0.125, -0.25), -0.375, "stop", None)),
        # question mark and line break are one token of many vocabularies
        (completion([" what", "?\n"], text=" what?"), ("what?", (-0.125, -0.25), -0.25, "stop", None)),
        # a server that knows no stop strings
        (
            completion([" what", "\n", "Example"], finish="length"),
            ("what", (-0.125,), -0.25, "stop", None),
        ),
        # the limit cut it: the last token counts and nothing stopped it
        (completion([" what", " no"], finish="length"), ("what no", (-0.125, -0.25), None, "length", None)),
        # blanks that are tokens of their own are no part of the query
        (completion([" ", "what", " "]), ("what", (-0.25,), -0.375, "stop", None)),
        (completion(["\n", "what"]), ("", (), -0.125, "stop", None)),
        (completion([], text=""), ("", (), None, "stop", None)),
        # letters of several tokens
        (
            completion([" caf", "bytes:\\xc3", "bytes:\\xa9"], text=" café"),
            ("café", (-0.125, -0.25, -0.375), None, "stop", None),
        ),
        (completion([" caf", "�", "�", "\n"], text=" café"), ("café", (-0.125, -0.25, -0.375), -0.5, "stop", None)),
        # a vocabulary that leaves the blanks out
        (completion(["what", "now"], text=" what now"), ("what now", (-0.125, -0.25), None, "stop", None)),
        (completion(["what", "<end>"], text="what"), ("what", (-0.125,), -0.25, "stop", None)),
        # no number for a token is no number for the query
        (completion(["what", " now"], [None, -1.0]), ("what now", (), None, "stop", "absent")),
        (completion(["what"], [float("nan")]), ("what", (), None, "stop", "absent")),
    ],
)  # fmt: skip
def test_which_tokens_a_completion_keeps(answer, expected):
    assert found(adapter().read(answer).query) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (chat(["what", " now"]), ("what now", (-0.125, -0.25), None, "stop", None)),
        (
            chat(["\n", "\n", "what", " now", "<|end|>"], text="\n\nwhat now"),
            ("what now", (-0.375, -0.5), -0.625, "stop", None),
        ),
        (chat(["Relevant", " Query:", " \"", "what", "\""]), ("what", (-0.5,), -0.625, "stop", None)),
        (chat(["Relevant Query: relevant", " query"]), ("relevant query", (-0.125, -0.25), None, "stop", None)),
        (chat(["what\n", "why", "?"]), ("what", (-0.125,), -0.125, "stop", None)),
        (
            chat(["caf", b"\xc3", b"\xa9", b"\xf0\x9f", b"\x92\xa1"]),
            ("café💡", (-0.125, -0.25, -0.375, -0.5, -0.625), None, "stop", None),
        ),
        (chat(["what", " no"], finish="length"), ("what no", (-0.125, -0.25), None, "length", None)),
        (chat([], text=""), ("", (), None, "stop", None)),
    ],
)  # fmt: skip
def test_which_tokens_a_reply_keeps(answer, expected):
    assert found(adapter("chat").read(answer).query) == expected


def test_llama_cpps_completions_have_the_chats_log_probs():
    answer = chat([" what", " now"])
    answer["choices"][0] |= {"text": " what now"}
    assert found(adapter().read(answer).query) == ("what now", (-0.125, -0.25), None, "stop", None)


@pytest.mark.parametrize("log_probs", [None, {}, {"tokens": [], "token_logprobs": []}, {"content": None}])
def test_a_server_without_log_probs(log_probs):
    answer = {"choices": [{"text": " what", "finish_reason": "stop", "logprobs": log_probs}]}
    assert found(adapter().read(answer).query) == ("what", (), None, "stop", "absent")


def test_usage_is_what_the_server_says_and_else_the_estimate():
    (request,) = adapter().requests(DOCUMENT)
    answer = adapter().read(
        {**completion([" a"]), "usage": {"prompt_tokens": 7, "completion_tokens": 3}}, request=request
    )
    assert (answer.input_tokens, answer.output_tokens) == (7, 3)
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 99}  # Gemini and Grok: 89 of reasoning
    assert adapter().read({**completion([" a"]), "usage": usage}, request=request).output_tokens == 92
    answer = adapter().read(completion([" a"]), request=request)
    assert (answer.input_tokens, answer.output_tokens) == (request.input_tokens, 64)


def test_what_a_content_filter_took_is_an_error():
    assert found(adapter().read(completion([" a"], finish="content_filter")).query) == ("", (), None, "error", None)


@pytest.mark.parametrize(
    "payload",
    [
        None,
        [],
        {},
        {"choices": []},
        {"choices": [{}]},
        {"choices": [{"text": 3}]},
    ],
)
def test_what_is_no_answer_raises(payload):
    with pytest.raises((KeyError, IndexError, TypeError, ValueError, AttributeError)):
        adapter().read(payload)


def test_half_a_letter_in_json_does_not_end_the_run():
    assert adapter().read({"choices": [{"text": "a\ud83d"}]}).query.text == "a\ufffd"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1), st.booleans())
def test_every_letter_of_the_query_has_its_token(tokens, by_chat):
    answer = chat(tokens) if by_chat else completion([token for token in tokens if not token.startswith("bytes:")])
    query = adapter("chat" if by_chat else "completions").read(answer).query
    if query.text:
        assert 1 <= len(query.token_log_probs) <= len(tokens)
        assert query.text in "".join(tokens)
    else:
        assert query.token_log_probs == ()
