"""Long documents in windows: where they are cut, and how scores are combined."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import bert_tokenizer, sentence

from inpars.errors import ConfigError
from inpars.records import Document, FullText
from inpars.rerankers import load_scorer
from inpars.rerankers.windows import NearestWindowScorer, WindowedScorer, default_tokens

TOKENIZER = bert_tokenizer()
TEN = " ".join(["amber", "anchor", "apple", "autumn", "basket", "beacon", "bridge", "candle", "canyon", "cedar"])


class Asked:
    """Scores a text by the worth of its words and records the texts."""

    name = "asked"

    def __init__(self, **worth):
        self.texts, self._worth = [], worth

    def score(self, pairs):
        self.texts += [document for _, document in pairs]
        return [sum(value for word, value in self._worth.items() if word in document.split()) for _, document in pairs]


def windowed(windows, scorer, **settings):
    return WindowedScorer(scorer, TOKENIZER, windows, **settings)


def test_windows_overlap_and_the_last_one_ends_with_the_document():
    # ten words of one token: words 0-3, 3-6, 6-9
    scorer = Asked()
    windowed("maxp", scorer, tokens=4, stride=3).score([("q", TEN)])
    assert scorer.texts == [
        "amber anchor apple autumn",
        "autumn basket beacon bridge",
        "bridge candle canyon cedar",
    ]


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        ("maxp", 5.0),  # the best of the windows' 2, 5 and 3
        ("firstp", 2.0),
        ("mean", 10 / 3),
    ],
)
def test_the_windows_scores_become_one(windows, expected):
    # amber is in the first window of four words, beacon in the second, canyon in the third
    scorer = windowed(windows, Asked(amber=2.0, beacon=5.0, canyon=3.0), tokens=4, stride=3)
    assert scorer.score([("q", TEN), ("q", "canyon")]) == pytest.approx([expected, 3.0])


def test_the_first_window_alone_is_shown_where_no_other_counts():
    scorer = Asked()
    windowed("firstp", scorer, tokens=4).score([("q", TEN)])
    assert scorer.texts == ["amber anchor apple autumn"]


def test_half_a_window_is_the_stride_where_none_is_given():
    scorer = Asked()
    windowed("maxp", scorer, tokens=6).score([("q", TEN)])
    assert [text.split()[0] for text in scorer.texts] == ["amber", "autumn", "bridge"]


def test_gaps_are_refused():
    with pytest.raises(ConfigError, match="windows of 4 tokens every 5 tokens leave gaps; lower --window-stride"):
        windowed("maxp", Asked(), tokens=4, stride=5)


@given(st.integers(0, 40), st.integers(1, 12), st.data())
def test_every_word_is_in_a_window_of_at_most_the_tokens(words, tokens, data):
    stride = data.draw(st.integers(1, tokens))
    text, scorer = sentence(words, words) if words else "", Asked()
    windowed("mean", scorer, tokens=tokens, stride=stride).score([("q", text)])
    assert scorer.texts, "an empty document is shown too"
    whole = TOKENIZER.tokenize(text)
    parts = [TOKENIZER.tokenize(part) for part in scorer.texts]
    assert all(len(part) <= tokens for part in parts)
    assert parts[-1] == (whole[-len(parts[-1]) :] if whole else [])
    for number, part in enumerate(parts):
        assert part == whole[number * stride : number * stride + tokens]


def test_a_short_document_scores_as_without_windows(tiny):
    exact = {"device": "cpu", "dtype": "float32"}
    pairs = [("amber", sentence(n, 9)) for n in range(5)]
    plain = load_scorer(tiny("bert_classifier"), **exact).score(pairs)
    for windows in ("maxp", "firstp", "mean"):
        found = load_scorer(tiny("bert_classifier"), windows=windows, window_tokens=64, **exact).score(pairs)
        assert found == pytest.approx(plain, abs=1e-5)


def test_the_best_window_of_a_long_document_is_found(tiny):
    exact = {"device": "cpu", "dtype": "float32"}
    long = sentence(3, 300)
    scorer = load_scorer(tiny("bert_classifier"), windows="maxp", window_tokens=20, window_stride=20, **exact)
    words = TOKENIZER(long, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    parts = [long[words[n][0] : words[min(n + 20, len(words)) - 1][1]] for n in range(0, len(words), 20)]
    alone = load_scorer(tiny("bert_classifier"), **exact).score([("amber", part) for part in parts])
    assert scorer.score([("amber", long)]) == pytest.approx([max(alone)], abs=1e-4)


def test_nothing_is_an_empty_list_and_windows_must_be_asked_for(tiny):
    assert windowed("maxp", Asked(), tokens=4).score([]) == []
    with pytest.raises(ConfigError, match="give that too"):
        load_scorer(tiny("bert_classifier"), window_tokens=9)
    with pytest.raises(ConfigError, match="--windows nearest; give that too"):
        load_scorer(tiny("bert_classifier"), windows="maxp", window_retriever="minilm")
    assert default_tokens(512) == 384


class Counts:
    """Embeds a text as its counts of three words; a window is one word."""

    def windows_of(self, documents):
        return [document.text.split() or [""] for document in documents]

    def encode_documents(self, texts):
        return np.array([[text.split().count(word) for word in ("amber", "beacon", "canyon")] for text in texts])

    encode_queries = encode_documents


def test_only_the_window_nearest_to_the_query_is_scored():
    scorer = Asked(amber=1.0, beacon=2.0, canyon=3.0)
    pairs = [("beacon", "amber beacon canyon"), ("canyon", "amber beacon canyon"), ("canyon", "amber"), ("cedar", "")]
    assert NearestWindowScorer(scorer, Counts()).score(pairs) == [2.0, 3.0, 1.0, 0.0]
    assert scorer.texts == ["beacon", "canyon", "amber", ""]
    assert NearestWindowScorer(scorer, Counts()).score([]) == []


class Titled(Counts):
    """A window is a word after the title."""

    def windows_of(self, documents):
        return [[f"{document.title} {word}".strip() for word in document.text.split()] for document in documents]


def test_a_window_has_the_title_of_a_document_that_knows_it():
    scorer = Asked()
    text = pickle.loads(pickle.dumps(FullText.of(Document("d", "amber beacon", title="Old cedar"))))
    assert text == "Old cedar amber beacon"
    NearestWindowScorer(scorer, Titled()).score([("beacon", text), ("amber", "amber beacon")])
    assert scorer.texts == ["Old cedar beacon", "amber"]


def test_nearest_windows_want_a_retriever(tiny):
    with pytest.raises(ConfigError, match="--window-retriever"):
        load_scorer(tiny("bert_classifier"), windows="nearest")
    scorer = load_scorer(
        tiny("bert_classifier"), windows="nearest", window_retriever=tiny("sentence_transformer"), window_tokens=8
    )
    assert isinstance(scorer, NearestWindowScorer)
    assert len(scorer.score([("lake", sentence(1, 40)), ("lake", "snow")])) == 2


def test_the_retriever_of_windows_may_come_with_code_too(tiny, monkeypatch):
    given = {}
    monkeypatch.setattr("inpars.retrieval.dense.Encoder", lambda _, **settings: given.update(settings))
    load_scorer(tiny("bert_classifier"), windows="nearest", window_retriever="owner/name", trust_remote_code=True)
    assert given["trust_remote_code"]
