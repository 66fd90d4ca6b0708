"""Sentences, highlighting, formatting and answer metrics: pure functions on texts."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inpars.apps.qa.formatting import WIDTH, answer_lines, around, excerpt, hit_lines, plain
from inpars.apps.qa.records import Answer, Hit, Span
from inpars.apps.qa.sentences import (
    LONGEST,
    content_stems,
    missing_names,
    names_of,
    only_points,
    query_spans,
    sentence_spans,
    snippet,
)
from inpars.evaluation.squad_metrics import exact_match, f1
from inpars.records import Document


def marked(query, text):
    return [span.of(text) for span in query_spans(query, text)]


def test_the_words_of_a_query_are_marked_whatever_their_ending():
    assert marked("what is duck typing", "Duck typing types ducks; the duckling is not a duck-type.") == [
        *("Duck", "typing", "types", "ducks", "duck", "type")
    ]
    assert marked("what is it", "It is.") == ["It", "is"]  # nothing but grammar
    assert marked("", "It is.") == []


def test_words_of_grammar_count_only_where_there_are_no_others():
    assert content_stems("what is the sea") == {"sea"}


@given(st.text(max_size=40), st.text(max_size=80))
def test_spans_are_in_order_and_apart(query, text):
    spans = query_spans(query, text)
    assert all(0 <= span.start < span.end <= len(text) for span in spans)
    assert all(one.end <= other.start for one, other in pairwise(spans))


@pytest.mark.parametrize(
    ("question", "names"),
    [
        ("Which river does Paris lie on?", ["Paris"]),  # the first word has a capital anyway
        ("Paris lies on which river?", []),
        ("in 1998 or the 2nd round", ["1998", "2nd"]),
        ("What Is The Refund Policy", []),  # written as a title
        ("How many parts did I send to The Hague", ["Hague"]),  # words of grammar are no names
    ],
)
def test_names_and_numbers_of_a_question(question, names):
    assert names_of(question) == names


def test_what_of_them_a_text_lacks_whatever_its_ending():
    text = "The Normans came in 1066."
    assert missing_names("When did a Norman come before 1065 to Rome, in Rome?", text) == ["1065", "Rome"]
    assert missing_names("When did they come", text) == []


def test_sentences_end_where_they_should():
    text = "Dr. Who lives, e.g. in A. Then he left!  \n\nHeading\n- one item\n- two 3.5 items. "
    text += "東京です。はい。 In 1980.[3][4] Then."
    assert [span.of(text) for span in sentence_spans(text)] == [
        *("Dr. Who lives, e.g. in A. Then he left!", "Heading", "- one item", "- two 3.5 items."),
        *("東京です。", "はい。", "In 1980.[3][4]", "Then."),
    ]


def test_short_lines_stand_for_themselves_and_printed_lines_do_not():
    menu = "Type systems\nGeneral concepts\nDuck typing looks at what an object does.\n"
    printed = "A paragraph that was printed in a wide column goes on in its next\nLine, with a capital and\n"
    assert [span.of(menu + printed + "ends.") for span in sentence_spans(menu + printed + "ends.")] == [
        *("Type systems", "General concepts", "Duck typing looks at what an object does."),
        printed + "ends.",
    ]


@given(st.text(alphabet="abA .!?\n", max_size=200))
def test_sentences_hold_every_letter_once(text):
    spans = sentence_spans(text)
    assert "".join("".join(span.of(text).split()) for span in spans) == "".join(text.split())
    assert all(one.end <= other.start for one, other in pairwise(spans))


def test_a_sentence_without_end_is_cut_at_a_blank():
    assert all(span.end - span.start <= LONGEST for span in sentence_spans("word " * 1000))
    assert max(span.end for span in sentence_spans("x" * 1500)) == 1500


def test_judging_by_hand():
    assert exact_match("The  Rollo!", ["rollo", "other"]) == 1.0
    assert exact_match("Rollo of Normandy", ["rollo"]) == 0.0
    # said {rollo, of, normandy}, right {rollo}: precision 1/3, recall 1, F1 = 2 * 1/3 / (4/3) = 0.5
    assert f1("Rollo of Normandy", ["rollo", "king charles"]) == pytest.approx(0.5)
    assert f1("", []) == exact_match("", []) == 1.0  # rightly refused
    assert f1("Rollo", []) == exact_match("Rollo", []) == f1("", ["Rollo"]) == 0.0


HIT = Hit(
    Document(
        "d1", "The Seine is in France. It is long.", "Rivers", {"source": "a.pdf", "page": 3, "headings": ["A", "B"]}
    ),
    2.0,
    {"bm25": 1.5},
    (Span(4, 9),),
    {"bm25": 2},
)


def test_a_hit_says_where_it_comes_from():
    assert hit_lines(1, HIT) == [
        " 1. Rivers",
        "    The »Seine« is in France. It is long.",
        "    [d1], a.pdf, A, B, page 3 · score 2.000 (rank: bm25 2)",
    ]
    assert hit_lines(2, Hit(Document("d2", "text"), 1.0)) == [" 2. d2", "    text", "    score 1.000"]


def test_a_hit_names_its_title_and_source_once_and_fits_a_terminal():
    title = "Python (programming language) / Languages influenced by Python and by what came before it, at length"
    metadata = {"source": "html/Python.html", "headings": title.split(" / ")}
    hit = Hit(
        Document("html/Python.html#72", "Its design philosophy emphasizes code readability. " * 9, title, metadata), 2.0
    )
    lines = hit_lines(10, hit)
    assert max(map(len, lines)) <= WIDTH == 80
    shown = " ".join(line.strip() for line in lines)
    assert [shown.count(part) for part in ("Languages influenced", "Python.html", "language)")] == [1, 1, 1]


def test_an_answer_is_marked_in_its_sentence():
    answer = Answer("?", "extractive", True, "France", "m", 0.5, Span(16, 22), (1,), (HIT,))
    assert around(answer) == "The Seine is in »France«. It is long."
    assert list(answer_lines(answer))[:3] == ["The Seine is in »France«. It is long.", "(score 0.500, m)", "Sources:"]
    assert answer.source is HIT


def test_no_answer_says_why_and_what_was_nearest():
    answer = Answer("?", "extractive", False, "", "m", 0.1, sources=(HIT,), reason="too low")
    assert list(answer_lines(answer))[:3] == ["No answer: too low. (m)", "Nearest sources:", "[1] Rivers"]
    assert answer.source is None


def test_documents_cannot_steer_the_terminal():
    text = "\x1b[31mred\x1b]0;title\x07 \u202eback\nnew\x00line"
    assert plain(text) == "[31mred]0;title back newline"
    shown = "".join(hit_lines(1, Hit(Document("d\x1b[2J", text, "t\x9b"), 1.0, {}, ())))
    assert all(sign.isprintable() for sign in shown)


@given(st.text(max_size=900), st.lists(st.integers(0, 900), max_size=8))
def test_an_excerpt_never_fails_and_stays_short(text, places):
    starts = sorted({place for place in places if place < len(text)})
    shown = excerpt(text, [Span(place, place + 1) for place in starts])
    assert len(shown) <= LONGEST + 2 * len(starts)


def test_a_snippet_is_of_whole_sentences_with_most_of_the_words():
    text = "One two three. Four amber five. Amber beads and amber rings. Six seven."
    amber = query_spans("amber", text)
    assert snippet(text, amber, 30).of(text) == "Amber beads and amber rings."  # 28 characters, 2 of the words
    assert snippet(text, amber, 50).of(text) == "Four amber five. Amber beads and amber rings."  # 45, all 3
    assert snippet(text, (), 35).of(text) == "One two three. Four amber five."  # 31: the beginning
    assert snippet("", (), 30) == Span(0, 0)


@pytest.mark.parametrize(
    ("sentence", "points"),
    [
        ("^ Pemberton, Steven (2012-02-22).", True),
        ("Retrieved 11 May 2013.", True),
        ("For more information, see Step 4: Train a Model.", True),
        ("See Step 4.", True),
        ("Common Lisp Drill, Academic Press, 1988, ISBN 0-12-774861-X.", True),
        ("All threads refer to the same binding.", False),
        ("See what happens.", False),
    ],
)
def test_sentences_that_only_point_elsewhere(sentence, points):
    assert only_points(sentence) is points
    text = f"{sentence} Amber is a resin.\n"
    assert (snippet(text, query_spans("amber", text), 400).of(text) == "Amber is a resin.") is points
