"""Headers and footers shared by many files: counted per file, kept once, never removed from the middle."""

from hypothesis import given
from hypothesis import strategies as st

from inpars.documents.blocks import Block
from inpars.documents.boilerplate import EDGE_BLOCKS, Edges, repeated, without


def edges_of(*texts, **fields):
    edges = Edges()
    assert [block.text for block in edges.watch(Block(text, 0, **fields) for text in texts)] == list(texts)
    return edges


def left(files):
    """The texts of each file without boilerplate, which the first file keeps."""
    found = repeated(edges_of(*texts).keys for texts in files)
    kept = []
    for number, texts in enumerate(files):
        unwanted = {key for key, first in found.items() if first != number}
        kept.append([block.text for block in without((Block(t, 0) for t in texts), len(texts), unwanted)])
    return kept


def test_what_three_of_three_files_share_stays_once():
    files = [["Home | Shop", f"Text {word}", "Page 1 of 9"] for word in ("one", "two", "three")]
    files[2][0] = "HOME  | shop"
    files[1][2] = "Page 2 of 9"
    assert left(files) == [files[0], ["Text two"], ["Text three"]]


def test_numbers_that_say_something_are_no_boilerplate():
    said = ("Price: {} EUR", "(c) within {} days", "Copyright fee: {} EUR", "The page limit is {}", "{} EUR")
    files = [[*(text.format(number) for text in said), f"© {2020 + number} Acme"] for number in (1, 2, 3)]
    assert left(files) == [files[0], files[1][:-1], files[2][:-1]]


def test_two_of_many_are_no_boilerplate():
    files = [["Same", f"Text {word}"] for word in ("one", "two")] + [[f"Other {c}"] for c in "abc"]
    assert left(files) == files
    # 20 files: 20% are 4, so three of them are too few
    files = [["Same", f"word {chr(97 + n)}"] if n < 3 else [f"word {chr(97 + n)}"] for n in range(20)]
    assert left(files) == files


def test_the_middle_is_left_alone():
    body = [f"line {chr(97 + n)}" for n in range(20)]
    files = [[f"{part}{c}" for part in body] + ["Same"] + [f"{part} {c}" for part in body] for c in "xyz"]
    assert len(files[0]) > 2 * EDGE_BLOCKS
    assert left(files) == files


def test_long_blocks_and_records_do_not_count():
    assert edges_of("x" * 301).keys == []
    assert edges_of("same", record=1).keys == []
    assert len(edges_of("same", "same", "other").keys) == 2


@given(st.lists(st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, max_size=5), max_size=6))
def test_nothing_is_lost_altogether(files):
    kept = left(files)
    assert {text for texts in kept for text in texts} == {text for texts in files for text in texts}
