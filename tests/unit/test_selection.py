"""Choosing documents: uniform, seeded, independent of order."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from inpars.records import Document
from inpars.selection import choose_documents

CORPUS = [Document(f"d{n}", "some text here", "") for n in range(40)]


def ids(documents):
    return [document.doc_id for document in documents]


def test_all_are_chosen_without_a_maximum():
    assert ids(choose_documents(CORPUS, maximum=None).documents) == ids(CORPUS)


def test_empty_and_short_documents_are_counted_out():
    chosen = choose_documents(
        [Document("a", "", ""), Document("b", "tiny"), Document("c", "long enough")], maximum=None, minimum_characters=8
    )
    assert (ids(chosen.documents), chosen.dropped) == (["c"], Counter(too_short=2))


@given(st.permutations(CORPUS), st.integers(0, 50), st.integers(0, 3))
def test_the_sample_does_not_depend_on_the_order_of_the_corpus(shuffled, maximum, seed):
    expected = set(ids(choose_documents(CORPUS, maximum=maximum, seed=seed).documents))
    chosen = choose_documents(shuffled, maximum=maximum, seed=seed)
    assert set(ids(chosen.documents)) == expected
    assert len(expected) == min(maximum, len(CORPUS))
    assert ids(chosen.documents) == [doc_id for doc_id in ids(shuffled) if doc_id in expected]


def test_the_sample_is_uniform():
    # 400 seeds, 10 of 40 documents each: every document is expected 100 times,
    # standard deviation sqrt(400 * .25 * .75) = 8.7
    counts = Counter(
        doc_id for seed in range(400) for doc_id in ids(choose_documents(CORPUS, maximum=10, seed=seed).documents)
    )
    assert len(counts) == 40
    assert all(abs(count - 100) < 5 * 8.7 for count in counts.values())
