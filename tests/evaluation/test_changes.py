"""Queries that gained and lost most, and what is shown of them."""

from inpars.evaluation.run_diff import Change, most_changed, show

BEFORE = {"q1": 0.5, "q2": 0.0, "q3": 1.0, "q4": 0.2, "q5": 0.4}
AFTER = {"q1": 0.75, "q2": 0.5, "q3": 0.5, "q4": 0.2, "q5": 0.65}


def test_gains_and_losses_largest_first():
    gains, losses = most_changed(BEFORE, AFTER, 2)
    assert [(change.query_id, change.difference) for change in gains] == [
        ("q2", 0.5),
        ("q1", 0.25),
    ]  # not q5
    assert [(change.query_id, change.difference) for change in losses] == [("q3", -0.5)]


def test_other_orders_give_the_same():
    backwards = dict(reversed(BEFORE.items()))
    assert most_changed(backwards, AFTER, 9) == most_changed(BEFORE, AFTER, 9)


def test_nobody_moved():
    assert most_changed(BEFORE, BEFORE, 3) == ([], [])


def test_texts_and_judgements_stand_beside_them():
    firsts = ({"q2": ["a", "b"]}, {})  # the system found nothing
    (shown,) = show(
        [Change("q2", 0.0, 0.5)], firsts, {"q2": {"b": 0}}, {"q2": "what?"}.get, lambda doc_id: doc_id * 1_000
    )
    assert shown.query == "what?"
    assert [(document.doc_id, document.relevance) for document in shown.baseline_first] == [("a", None), ("b", 0)]
    assert {len(document.text) for document in shown.baseline_first} == {300}
    assert shown.system_first == ()
