"""Batches without false negatives, the same number in every epoch, and every triple once per epoch."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from inpars.training.batch_plan import BatchPlan
from inpars.training.examples import TripleTexts


def all_batches(plan, passes=1):
    return [plan.batch(number) for number in range(passes * plan.batches)]


def texts_of(row, negatives=True):
    return (row.query, row.positive, row.negative) if negatives else (row.query, row.positive)


def is_clean(rows, batch, negatives=True):
    """No text twice, no document that is a known positive of another query's."""
    chosen = [rows[place] for place in batch]
    texts = [text for row in chosen for text in texts_of(row, negatives)]
    if len(set(texts)) < len(texts):
        return False
    answers = {row.query: {other.positive for other in rows if other.query == row.query} for row in chosen}
    return all(
        answers[row.query].isdisjoint(texts_of(other, negatives)[1:])
        for row in chosen
        for other in chosen
        if other != row
    )


triples = st.lists(
    st.builds(
        TripleTexts,
        st.sampled_from(["q1", "q2", "q3", "q4"]),
        st.sampled_from(["d1", "d2", "d3"]),
        st.sampled_from(["n1", "n2", "d4", "d5"]),
    ),
    min_size=1,
    max_size=30,
)


@given(triples, st.integers(1, 8), st.integers(0, 3), st.booleans())
def test_every_batch_is_clean_and_the_first_pass_has_every_triple(rows, size, seed, negatives):
    plan = BatchPlan(rows, size, seed=seed, negatives=negatives)
    passes = all_batches(plan, passes=3)
    assert all(1 <= len(batch) <= size and is_clean(rows, batch, negatives) for batch in passes)
    assert sorted(place for batch in passes[: plan.batches] for place in batch) == list(range(len(rows)))
    for number in range(3):  # and no other pass has one twice
        seen = Counter(place for batch in passes[number * plan.batches :][: plan.batches] for place in batch)
        assert set(seen.values()) == {1}


def test_a_known_positive_of_a_query_is_not_its_negative_in_a_batch():
    # q1 has two positives; q2's positive is one of them: beside (q1, d1), (q2, d2) would make d2 a false negative of q1
    rows = [TripleTexts("q1", "d1", "n1"), TripleTexts("q1", "d2", "n2"), TripleTexts("q2", "d2", "n3")]
    plan = BatchPlan(rows, 3, seed=0)
    assert sorted(map(tuple, all_batches(plan))) == [(0,), (1,), (2,)]


def test_without_negatives_their_texts_do_not_count():
    rows = [TripleTexts("q1", "d1", "same"), TripleTexts("q2", "d2", "same")]
    assert BatchPlan(rows, 2, seed=0).batches == 2
    assert BatchPlan(rows, 2, seed=0, negatives=False).batches == 1


def test_passes_differ_and_the_same_seed_gives_the_same():
    rows = [TripleTexts(f"q{n}", f"d{n}", f"n{n}") for n in range(40)]
    first, second = BatchPlan(rows, 8, seed=1), BatchPlan(rows, 8, seed=1)
    assert first.batches == 5
    assert all_batches(first, 2) == all_batches(second, 2)
    assert all_batches(first)[:5] != all_batches(first, 2)[5:]
    assert second.batch(7) == first.batch(7)  # asked out of order, as after an interruption
    assert all_batches(BatchPlan(rows, 8, seed=2)) != all_batches(first)
