"""Only the document is truncated, and training reads the same tokens as scoring."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_models import WORDS

from inpars.rerankers.load import load_pair_model
from inpars.training.examples import Group
from inpars.training.reranker import EncodedGroups, by_length, collate_groups

TEXTS = st.lists(st.sampled_from([*WORDS, "?", "Relevant:", "x"]), max_size=80).map(" ".join)


@pytest.fixture(scope="module")
def model(tiny):
    return load_pair_model(tiny("t5"), kind="monot5", device="cpu", dtype="float32", for_training=True)


@given(TEXTS, TEXTS, st.integers(8, 200))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_limit_never_removes_the_cue(model, query, document, limit):
    model.max_length = limit
    (encoded,) = model.encode([(query, document)])
    cue = model.tokenizer(" Relevant:")["input_ids"]  # with the end token
    assert encoded.ids[-len(cue) :] == cue
    head = model.tokenizer(f"Query: {query} Document:", add_special_tokens=False)["input_ids"]
    text = model.tokenizer(document, add_special_tokens=False)["input_ids"]
    assert len(encoded) == min(limit, len(head) + len(text) + len(cue))
    kept = min(len(head), limit - len(cue))
    assert encoded.ids[:kept] == head[:kept], "the document gives way first"
    assert list(EncodedGroups([Group(query, document, ())], model, None)[0].pairs) == [encoded]


@given(st.lists(st.lists(TEXTS, min_size=2, max_size=4), min_size=1, max_size=5), st.integers(1, 7))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_parts_of_a_batch_hold_every_pair_once_with_its_tokens(model, texts, rows):
    model.max_length = 60
    groups = EncodedGroups([Group("amber", positive, tuple(others)) for positive, *others in texts], model, None)
    encoded = [groups[number] for number in range(len(groups))]
    batch = collate_groups(encoded, pad=0)
    found = {}
    for part in by_length(batch, rows):
        assert len(part["group"]) <= rows
        assert part["attention_mask"].sum(1).max() == part["input_ids"].shape[1], "no column is padding alone"
        for row in range(len(part["group"])):
            ids = part["input_ids"][row][part["attention_mask"][row].bool()].tolist()
            found[part["group"][row].item(), part["column"][row].item()] = ids
    wanted = {(n, place): pair.ids for n, group in enumerate(encoded) for place, pair in enumerate(group.pairs)}
    assert found == wanted
