"""Cleaning of Markdown, reStructuredText and PDF lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inpars.documents.blocks import Headings, clean, placed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("without needing to code\\. The *next* **one**", "without needing to code. The next one"),
        ("see the [pricing page](http://a.example/b/(c)/) now", "see the pricing page now"),
        ("![a picture](x.png) and [a][ref]", "a picture and a"),
        ("a `*not emphasis*` b \\*stars\\*", "a *not emphasis* b *stars*"),
        ("snake_case_name and 2*3*4 stay", "snake_case_name and 2*3*4 stay"),
        ('Canvas<a name="canvas"></a> is<br/>here <!-- no\nthis --> &amp; there', "Canvas ishere & there"),
        ("+ [Are you a first\\-time user?](#first)", "Are you a first-time user?"),
        ("12. > quoted", "> quoted"),
        ("a <script>alert(1)</script> tag", "a <script>alert(1)</script> tag"),
    ],
)
def test_markdown_by_hand(text, expected):
    assert clean(text, "markdown") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Use :class:`~pathlib.Path` and :ref:`the guide <guide>`.", "Use pathlib.Path and the guide."),
        ("``code`` *soft* **loud** `Python <https://a.example>`_", "code soft loud Python"),
        ("- an item", "an item"),
        ("2 * 3 * 4", "2 * 3 * 4"),
    ],
)
def test_restructured_text_by_hand(text, expected):
    assert clean(text, "rst") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("long-\nterm debt", "long-term debt"),  # the hyphen may belong to the word
        ("inter\u00ad\nnational", "international"),  # a soft one does not
        ("1990-\n2000", "1990- 2000"),
        ("one\ntwo", "one two"),
    ],
)
def test_lines_by_hand(text, expected):
    assert clean(text, "lines") == expected


@given(st.text(max_size=60), st.sampled_from(["plain", "lines", "markdown", "rst"]))
def test_cleaning_leaves_one_line_and_never_fails(text, markup):
    made = clean(text, markup)
    assert made == " ".join(made.split())


def test_listings_keep_their_lines():
    assert clean("  if a:\n    b\n", "code") == "  if a:\n    b"


def test_a_heading_ends_its_own_level_and_those_below():
    headings = Headings()
    for level, name in ((1, "A"), (3, "B"), (2, "C"), (2, "D")):
        headings.enter(level, name)
    assert headings.path == ("A", "D")
    headings.enter(1, "")
    assert headings.path == ()


def test_places_of_extracted_texts():
    # "abc" at 0, its newline at 3, "de" at 4
    assert [(block.text, block.start) for block in placed([("abc", {}), ("de", {"page": 2})])] == [
        ("abc", 0),
        ("de", 4),
    ]
