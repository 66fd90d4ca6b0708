"""Texts to documents: blocks of whole paragraphs, ids that are one word, files that are left out by reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inpars.documents.ingest import NOT_TEXT, NOT_YET, blocks, find_files, first_heading, read_file, relative_name
from inpars.errors import DataFormatError


def written(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "max_words", "expected"),
    [
        ("one two\n\nthree\n\nfour five", 3, ["one two\nthree", "four five"]),
        ("one two\nthree", 9, ["one two three"]),  # a line's end is no paragraph's
        ("one\r\n \t\r\ntwo", 1, ["one", "two"]),
        ("A b c. D e f! G h.", 4, ["A b c.", "D e f!", "G h."]),  # 3 + 3 words are more than 4
        ("A b. C d. E f.", 4, ["A b. C d.", "E f."]),
        ("a b c d e f g", 3, ["a b c", "d e f", "g"]),  # no sentence ends
        ("x\n\na b c d. e", 3, ["x", "a b c", "d. e"]),
        ("", 3, []),
        (" \n\n\t\n", 3, []),
    ],
)
def test_blocks_by_hand(text, max_words, expected):
    assert list(blocks(text, max_words)) == expected


@given(st.text(st.sampled_from("ab .!?\n\t"), max_size=200), st.integers(1, 7))
def test_no_word_is_lost_and_no_block_too_long(text, max_words):
    made = list(blocks(text, max_words))
    assert [word for block in made for word in block.split()] == text.split()
    assert all(1 <= len(block.split()) <= max_words for block in made)


@pytest.mark.parametrize(
    ("text", "heading"),
    [
        ("intro\n\n## The *way* ##\n# Later", "The *way*"),
        ("#hashtag\n# Real", "Real"),
        ("plain", None),
        ("", None),
        ('# full\\-text\\_index<a name="full"></a>', "full-text_index"),
        ('# <a id="x"></a>', None),
    ],
)
def test_first_heading(text, heading):
    assert first_heading(text) == heading


def test_markdown_has_its_heading_as_title(tmp_path):
    path = written(tmp_path / "guide.md", "# Making bread\n\nMix flour.\n\nBake it well.\n")
    made = list(read_file(path, "guide.md", 4))
    assert [(d.doc_id, d.title) for d in made] == [
        ("guide.md#1", "Making bread"),
        ("guide.md#2", "Making bread"),
        ("guide.md#3", "Making bread"),
    ]
    assert [d.text for d in made] == ["# Making bread", "Mix flour.", "Bake it well."]


def test_plain_text_has_the_files_name_as_title(tmp_path):
    made = list(read_file(written(tmp_path / "notes.txt", "\ufeff# no heading here\n"), "a/notes.txt"))
    assert [(d.doc_id, d.title, d.text) for d in made] == [("a/notes.txt#1", "notes", "# no heading here")]


def test_records_are_texts_with_titles(tmp_path):
    path = written(
        tmp_path / "r.jsonl", '{"title": "T", "text": "a b c"}\n\n{"contents": "d"}\n{"id": 5, "text": " "}\n'
    )
    made = [(d.doc_id, d.title, d.text) for d in read_file(path, "r.jsonl", 2)]
    assert made == [("r.jsonl#1", "T", "a b"), ("r.jsonl#2", "T", "c"), ("r.jsonl#3", "r", "d")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.jsonl", b'{"text": "a"}\n{"text": \n', r"r\.jsonl:2: broken JSON"),
        ("r.jsonl", b'{"words": "a"}\n', r"r\.jsonl:1: no 'text' field"),
        ("t.txt", b"fine\nf\xfcr\n", r"t\.txt:2: not UTF-8 at byte 1"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataFormatError, match=message):
        list(read_file(tmp_path / name, name))


def test_files_are_found_in_order_and_others_named(tmp_path):
    for name in ("b.txt", "a/z.MD", "a.jsonl", "scan.pdf", "page.HTML", "code.py", ".hidden.txt", ".git/notes.md"):
        written(tmp_path / name, "x")
    mine = written(tmp_path / "corpus.jsonl", "{}")
    found = find_files(tmp_path, leave_out=[mine])
    assert [relative_name(path, tmp_path) for path in found.readable] == ["a.jsonl", "a/z.MD", "b.txt"]
    assert found.skipped == {NOT_TEXT: ["code.py"], NOT_YET: ["page.HTML", "scan.pdf"]}


def test_the_stamp_follows_names_and_contents(tmp_path):
    file = written(tmp_path / "a.txt", "one")
    written(tmp_path / "scan.pdf", "x")
    first = find_files(tmp_path).stamp
    written(tmp_path / "scan.pdf", "other")
    assert find_files(tmp_path).stamp == first
    file.rename(tmp_path / "b.txt")
    renamed = find_files(tmp_path).stamp
    written(tmp_path / "b.txt", "two")
    assert len({first.sha256, renamed.sha256, find_files(tmp_path).stamp.sha256}) == 3


def test_names_become_ids_of_one_word(tmp_path):
    names = ["my notes.txt", "my%20notes.txt", "über/größe.txt"]
    ids = [relative_name(tmp_path / name, tmp_path) for name in names]
    assert ids == ["my%20notes.txt", "my%2520notes.txt", "über/größe.txt"]
    assert relative_name(tmp_path / "f\udcfc.txt", tmp_path) == "f%FC.txt"  # a name that is not UTF-8


def test_folders_without_texts_are_refused(tmp_path):
    with pytest.raises(DataFormatError, match="no such folder of documents; check the path"):
        find_files(tmp_path / "nowhere")
    written(tmp_path / "scan.pdf", "x")
    with pytest.raises(DataFormatError, match=r"no \.txt, \.md, \.jsonl files in this folder, 1 others"):
        find_files(tmp_path)
