"""Choosing documents: uniform, seeded, independent of order."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import sentence

from inpars.documents.selection import choose_documents
from inpars.errors import ConfigError
from inpars.io.corpus import Corpus
from inpars.io.formats import write_documents
from inpars.records import Document

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


TWINS = [Document(f"t{n}", sentence(n // 2, 30) + (" again" if n % 2 else "")) for n in range(40)]  # twenty pairs


@given(st.permutations(TWINS), st.sampled_from([None, 5, 20, 25]), st.integers(0, 3))
@settings(max_examples=20)
def test_of_near_duplicates_one_stays_in_any_order(shuffled, maximum, seed):
    chosen = choose_documents(shuffled, maximum=maximum, seed=seed, skip_near_duplicates=True)
    again = choose_documents(TWINS, maximum=maximum, seed=seed, skip_near_duplicates=True)
    assert set(ids(chosen.documents)) == set(ids(again.documents))
    assert chosen.dropped == again.dropped
    pairs = {int(doc_id[1:]) // 2 for doc_id in ids(chosen.documents)}
    assert len(pairs) == len(chosen.documents) == min(20, maximum or 20)
    assert len(chosen.documents) + chosen.dropped.total() == 40


def test_many_near_duplicates_do_not_make_the_sample_smaller():
    # 4 texts, 25 times each: to find all 4 more than the first 8 by key have to be looked at
    crowd = [Document(f"c{n}", sentence(n % 4, 30)) for n in range(100)]
    found = [choose_documents(crowd, maximum=4, seed=seed, skip_near_duplicates=True) for seed in range(20)]
    assert all({document.text for document in chosen.documents} == {d.text for d in crowd[:4]} for chosen in found)
    assert all(chosen.dropped.total() == 96 for chosen in found)
    # by the first eight keys alone all four would be found in less than half of all cases
    assert len({tuple(ids(chosen.documents)) for chosen in found}) > 10


def test_near_duplicates_are_counted():
    assert choose_documents(TWINS, maximum=None, skip_near_duplicates=True).dropped == Counter(near_duplicate=20)
    few = choose_documents(TWINS, maximum=3, skip_near_duplicates=True).dropped
    assert few["near_duplicate"] + few["not_sampled"] == 37


def test_without_near_duplicates_the_sample_is_the_same():
    documents = [Document(f"d{n}", sentence(n, 20)) for n in range(30)]
    plain = choose_documents(documents, maximum=7, seed=2)
    skipping = choose_documents(documents, maximum=7, seed=2, skip_near_duplicates=True)
    assert (list(skipping.documents), skipping.dropped) == (list(plain.documents), plain.dropped)


def test_documents_by_a_list_of_ids():
    chosen = choose_documents(CORPUS, maximum=None, doc_ids=["d7", "d3", "d7"])
    assert ids(chosen.documents) == ["d3", "d7"]
    assert chosen.dropped == Counter(not_listed=38)
    with pytest.raises(ConfigError, match=r"2 of 4 ids of --doc-ids .*'x'"):
        choose_documents(CORPUS, maximum=None, doc_ids=["d1", "x", "d2", "a"])


def test_documents_of_the_prompts_examples_are_never_chosen():
    chosen = choose_documents(CORPUS, maximum=None, doc_ids=["d1", "d2"], examples={"d2", "d5"})
    assert (ids(chosen.documents), chosen.dropped["prompt_example"]) == (["d1"], 1)


def test_documents_of_a_corpus_on_disk_are_read_when_asked_for(tmp_path, monkeypatch):
    """A sample of all of MS MARCO must not keep its documents in memory."""
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    write_documents(tmp_path / "corpus.jsonl", CORPUS)
    for given_settings in ({"maximum": 7}, {"maximum": None}, {"maximum": 7, "skip_near_duplicates": True}):
        from_disk = choose_documents(Corpus(tmp_path / "corpus.jsonl"), seed=3, **given_settings)
        from_list = choose_documents(list(CORPUS), seed=3, **given_settings)
        assert list(from_disk.documents) == list(from_list.documents)
        assert from_disk.dropped == from_list.dropped
        assert from_disk.documents[-1] == list(from_list.documents)[-1]
        assert list(from_disk.documents[2:4]) == list(from_list.documents)[2:4]
