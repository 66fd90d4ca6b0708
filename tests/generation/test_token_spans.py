"""Every token of the query has its log-probability, or the query has none; whatever way the tokens are written."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inpars.generation.token_spans import UnusableError, keep, read_tokens

CATS, START = "what do cats eat", [-0.5, -0.25, -0.125, -1.0]


def legacy(tokens, values=None):
    return {"tokens": tokens, "token_logprobs": START[: len(tokens)] if values is None else values}


def content(*pairs, **more):
    return {"content": [{"token": token, "logprob": value, **more} for token, value in pairs]}


def kept(log_probs, text=CATS, query=CATS, last=False):
    start = text.rfind(query)
    return keep(read_tokens(log_probs), text, start, start + len(query), last=last)


@pytest.mark.parametrize(
    "tokens",
    [
        ["what", " do", " cats", " eat"],
        ["what", "Ġdo", "Ġcats", "Ġeat"],  # byte-level BPE, the first without a mark
        ["Ġwhat", "Ġdo", "Ġcats", "Ġeat"],
        ["what", "▁do", "▁cats", "▁eat"],  # SentencePiece
        ["▁what", "▁do", "▁cats", "▁eat"],
        ["what", "do", "cats", "eat"],  # blanks left out
        ["what do", " ", "cats ", "eat"],
    ],
)
def test_blanks_may_be_written_in_any_way(tokens):
    assert kept(legacy(tokens)) == (tuple(START), None)


def test_bytes_of_marks_are_no_bytes_of_the_text():
    """InternLM/lmdeploy#2802: the bytes are those of the sign Ġ."""
    pairs = [(token, value) for token, value in zip(["what", "Ġdo", "Ġcats", "Ġeat"], START, strict=True)]
    entries = [{"token": token, "logprob": value, "bytes": list(token.encode())} for token, value in pairs]
    assert kept({"content": entries}) == (tuple(START), None)


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (["caf", "Ã", "©", "Ċ"], "café"),  # é is the bytes C3 A9; Ċ is a line break
        (["caf", "<0xC3>", "<0xA9>", "<0x0A>"], "café"),
        (["caf", "bytes:\\xc3", "bytes:\\xa9", "\n"], "café"),
        (["caf", "�", "�", "\n"], "café"),
        (["ĠÐ", "°", "Ð±", "Ċ"], "аб"),  # noqa: RUF001 - Cyrillic: D0 B0 D0 B1
    ],
)
def test_letters_of_several_tokens(tokens, text):
    assert kept(legacy(tokens), text, text) == (tuple(START[:3]), START[3])


def test_tokens_of_thoughts_and_of_the_end_are_not_the_querys():
    tokens = ["what", " do", " cats", " eat", "?", "</think>", "what", " do", " cats", " eat", "<|im_end|>"]
    values = [-9.0] * 6 + START + [-0.75]
    assert kept(legacy(tokens, values), last=True) == (tuple(START), -0.75)
    assert kept(legacy(["<think>", "cats", "</think>", *tokens[6:]], [-9.0] * 3 + values[6:])) == (tuple(START), -0.75)


def test_marks_around_the_query_are_not_its_tokens():
    tokens, values = ["**", "what", " do", " cats", " eat", "**"], [-9.0, *START, -0.75]
    assert kept(legacy(tokens, values), f"**{CATS}**") == (tuple(START), -0.75)


@pytest.mark.parametrize(
    ("log_probs", "reason"),
    [
        (None, "none"),
        ({}, "none"),
        ([], "none"),
        ({"content": []}, "none"),
        ({"content": None, "refusal": None}, "none"),
        ({"tokens": [], "token_logprobs": []}, "none"),
        (START, "form"),  # abetlen/llama-cpp-python#2: a bare list
        (legacy([1, 2, 3, 4]), "form"),
        ("-0.5 -0.25", "form"),
        (7, "form"),
        ({"content": [{"content": "what", "probs": [{"tok_str": "what", "prob": 0.5}]}]}, "form"),
        ({"content": "what"}, "form"),
        ({"values": START}, "form"),
        (legacy(["what", " do", " cats", " eat"], START[:3]), "length"),
        (legacy(["what", " do", " cats"]), "text"),  # a part of it
        (legacy([" cats", " eat"]), "text"),
        (legacy(["what", " do", " eat"]), "text"),
        (legacy(["token_id:1", "token_id:2", "token_id:3", "token_id:4"]), "text"),
        (legacy(["something", " else", " al", "together"]), "text"),
        (legacy(["what", " do", " cats", " eat"], ["-0.5", "-0.25", "-0.125", "-1"]), "value"),
        (legacy(["what", " do", " cats", " eat"], [None, *START[1:]]), "value"),
        (legacy(["what", " do", " cats", " eat"], [math.nan, *START[1:]]), "value"),
        (legacy(["what", " do", " cats", " eat"], [-math.inf, *START[1:]]), "value"),
        (legacy(["what", " do", " cats", " eat"], [True, *START[1:]]), "value"),
        (legacy(["what", " do", " cats", " eat"], [0.6, 0.8, 0.9, 0.4]), "value"),  # probabilities
        (content(("what", -0.5), (" do", None), (" cats", -1), (" eat", -1)), "value"),
        ({"content": [{"token": "what do cats eat"}]}, "value"),
    ],
)
def test_anything_less_is_none(log_probs, reason):
    with pytest.raises(UnusableError, match=f"^log_probs_{reason}$"):
        kept(log_probs)


def test_what_is_no_number_behind_the_query_does_not_matter():
    tokens = ["what", " do", " cats", " eat", "\n", "Example"]
    assert kept(legacy(tokens, [*START, None, None]), f"{CATS}\nExample") == (tuple(START), None)
    assert kept(legacy(tokens, [*START, "x", math.nan])) == (tuple(START), None)


def test_rounding_above_zero_is_zero():
    values, _ = kept(legacy(["what", " do", " cats", " eat"], [0.0, 1e-7, -0.0, -1]))
    assert values == (0.0, 0.0, 0.0, -1.0)


def test_a_list_of_entries_and_both_forms():
    pairs = list(zip(["what", " do", " cats", " eat"], START, strict=True))
    assert kept(content(*pairs)["content"]) == (tuple(START), None)
    assert kept(content(*pairs, bytes=None)) == (tuple(START), None)
    assert kept(content(*pairs, bytes=["x"])) == (tuple(START), None)


def test_an_empty_query_has_what_stopped_it():
    tokens = read_tokens(legacy(["\n", "what"]))
    assert keep(tokens, "\nwhat", 0, 0) == ((), -0.5)
    assert keep(tokens, "\nwhat", 5, 5) == ((), None)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4), min_size=1, max_size=9))
def test_any_subset_of_tokens_is_all_of_them_or_none(tokens):
    """A token left out must not go unnoticed, unless the others hold all that is no blank."""
    tokens = [token for token in tokens if not token.startswith("bytes:")]
    text = "".join(tokens)
    query = text.strip()
    if not query:
        return
    start = text.find(query)
    whole = keep(read_tokens(legacy(tokens, [-1.0] * len(tokens))), text, start, start + len(query))
    assert 1 <= len(whole.values) <= len(tokens)
    for left_out in range(len(tokens)):
        some = tokens[:left_out] + tokens[left_out + 1 :]
        if not some or not tokens[left_out].strip() or "\ufffd" in text:
            continue
        try:
            found = keep(read_tokens(legacy(some, [-1.0] * len(some))), text, start, start + len(query))
        except UnusableError:
            continue
        joined = "".join("".join(some).split())
        assert "".join(query.split()) in joined, (tokens, some, found)
