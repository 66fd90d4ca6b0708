"""Chunks: whole sentences of one origin, within the token limit, with exact offsets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inpars.documents.blocks import Block
from inpars.documents.chunks import Chunk, chunks, token_counter, tokenizer_name
from inpars.errors import ConfigError


def words(texts):
    return [len(text.split()) for text in texts]


def cut(*blocks, max_tokens=6, overlap=0):
    return list(chunks(blocks, words, max_tokens=max_tokens, overlap=overlap))


@pytest.mark.parametrize(
    ("text", "max_tokens", "overlap", "expected"),
    [
        ("A b c. D e f! G h.", 6, 0, ["A b c. D e f!", "G h."]),  # 3 + 3 are 6, 2 more are too many
        ("A b c. D e f! G h.", 6, 3, ["A b c. D e f!", "D e f! G h."]),  # the last 3 words come again
        ("A b c. D e f! G h.", 6, 2, ["A b c. D e f!", "G h."]),  # half a sentence is not shared
        ("A b c. D e f. G h i.", 3, 2, ["A b c.", "D e f.", "G h i."]),
        ("a b c d e f g", 3, 0, ["a b c", "d e f", "g"]),  # no sentence ends
        ("Use e.g. this. Then that.", 3, 0, ["Use e.g. this.", "Then that."]),  # small letters begin no sentence
        ("「はい。」そうです。", 1, 0, ["「はい。」", "そうです。"]),
        (" \n ", 3, 0, []),
    ],
)
def test_by_hand(text, max_tokens, overlap, expected):
    assert [chunk.text for chunk in cut(Block(text, 0), max_tokens=max_tokens, overlap=overlap)] == expected


def test_no_chunk_crosses_a_page_a_heading_or_a_record():
    blocks = [
        Block("One.", 0, page=1),
        Block("Two.", 5, page=1),
        Block("Three.", 0, page=2),
        Block("Four.", 7, ("H",), page=2),
        Block("Five.", 0, record=1, title="R", key="k"),
        Block("Six.", 0, record=2),
    ]
    assert cut(*blocks, overlap=5) == [
        Chunk("One.\nTwo.", 0, 9, page=1),
        Chunk("Three.", 0, 6, page=2),
        Chunk("Four.", 7, 12, ("H",), page=2),
        Chunk("Five.", 0, 5, record=1, title="R", key="k"),
        Chunk("Six.", 0, 4, record=2),
    ]


def test_listings_are_cut_between_lines():
    code = "def f(a):\n    return a\n\n\ndef g(b):\n    return b"
    made = cut(Block(code, 10, markup="code"), max_tokens=4)
    assert [chunk.text for chunk in made] == ["def f(a):\n    return a", "def g(b):\n    return b"]
    assert [code[chunk.start - 10 : chunk.end - 10] for chunk in made] == [chunk.text for chunk in made]


@given(st.text(st.sampled_from("ab. !\n"), max_size=200), st.integers(1, 7), st.integers(0, 6))
def test_every_word_is_there_in_order_and_no_chunk_is_too_long(text, max_tokens, overlap):
    made = cut(Block(text, 3), max_tokens=max_tokens, overlap=min(overlap, max_tokens - 1))
    assert all(1 <= len(chunk.text.split()) <= max_tokens for chunk in made)
    assert all(" ".join(text[chunk.start - 3 : chunk.end - 3].split()) == chunk.text for chunk in made)
    covered = {place for chunk in made for place in range(chunk.start - 3, chunk.end - 3)}
    assert "".join(text[place] for place in sorted(covered)).split() == text.split() or set(text) & set(" \n")
    assert {place for place, letter in enumerate(text) if not letter.isspace()} <= covered


def test_a_word_that_is_too_long_stays_alone():
    text = "short " + "x" * 500 + " end"
    made = list(chunks([Block(text, 0)], lambda texts: [len(text) for text in texts], max_tokens=50, overlap=0))
    assert "".join(chunk.text for chunk in made).replace(" ", "") == text.replace(" ", "")
    assert max(len(chunk.text) for chunk in made) <= 200  # a word is cut into pieces of 200


def test_metadata_say_where_a_document_comes_from():
    chunk = Chunk("Text.", 5, 10, ("Guide", "Part"), page=3)
    document = chunk.as_document("g.pdf#1", "g.pdf", "Guide")
    assert (document.doc_id, document.title, document.text) == ("g.pdf#1", "Guide / Part", "Text.")
    assert document.metadata == {
        "source": "g.pdf",
        "title": "Guide",
        "page": 3,
        "headings": ["Guide", "Part"],
        "start": 5,
        "end": 10,
    }
    record = Chunk("Text.", 0, 5, record=4, title="Own").as_document("r#4", "r.jsonl", "r")
    assert record.title == "Own"
    assert record.metadata == {"source": "r.jsonl", "record": 4, "start": 0, "end": 5}


def test_words_and_punctuation_are_counted_without_a_tokenizer():
    assert token_counter("words")(["Don't stop.", ""]) == [5, 0]  # Don ' t stop .
    assert tokenizer_name("words") == "words"


def test_a_models_tokens_are_counted():
    tokenizers = pytest.importorskip("tokenizers", reason="tokens of a model need tokenizers")
    assert tokenizers
    name = tokenizer_name(None)
    if name == "words":
        pytest.skip("the embedded MiniLM is not installed")
    assert token_counter(name)(["duck typing", "a" * 2000])[0] == 2
    with pytest.raises(ConfigError, match=r"--tokenizer .*: no tokenizer there"):
        token_counter(str(__file__).rpartition("/")[0])
