"""A budget's plan: what a time means, what comes first, and that the estimate stays within the budget."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inpars.errors import ConfigError
from inpars.options import check
from inpars.pipeline.budget import PLANNED, SPENT, Rates, Work, plan_run, table
from inpars.pipeline.options import PipelineOptions, as_budget, budget_seconds

RATES = Rates(
    write=0.25, embed=0.03, embed_windows=0.03, rerank=0.2, start_writer=2.0, start_encoder=1.0, start_reranker=3.0
)
WORK = Work(documents=5000, queries=129)
OPTIONS = PipelineOptions(budget="8m")


def planned(budget, *, rates=RATES, work=WORK, options=OPTIONS, named=frozenset(), spent=20.0):
    return plan_run(rates, work, options, frozenset(named), budget=budget, spent=spent)


def order(plan):
    """What comes first in value comes first here."""
    own = plan.settings
    embeddings = 0 if own["retriever"] == "bm25" else 1 + bool(own["window_tokens"])
    late, depth = own["late_interaction_depth"], own["rerank_depth"]
    return embeddings, own["training"] == "auto", own["max_documents"], late, depth


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("8m", 480), ("1h", 3600), ("1h30m", 5400), ("1m30s", 90), ("night", 28800)],
)
def test_times_that_are_understood(text, seconds):
    assert budget_seconds(text) == seconds
    check(PipelineOptions(budget=text))


@pytest.mark.parametrize("text", ["", "8", "0m", "8 m", "-8m", "8min", "m", "30m1h", "1.5h", "Night"])
def test_times_that_are_not_are_one_line(text):
    with pytest.raises(ConfigError, match="--budget") as caught:
        check(PipelineOptions(budget=text))
    assert "\n" not in str(caught.value)


@given(st.floats(1, 1e6))
def test_a_time_that_is_named_is_long_enough(seconds):
    assert budget_seconds(as_budget(seconds)) >= seconds


def test_a_budget_is_for_this_machine():
    with pytest.raises(ConfigError, match="--engine"):
        check(PipelineOptions(budget="8m", engine="ray"))


def test_eight_minutes_worked_by_hand():
    """Within .9 * 480 = 432 s: 20 spent, and with windows 2 * 151 + 10 + 261 are too much.

    Without: 151 to embed, 2 + 32 * .25 = 10 to write, 5 + 3 + (32 + 3 * 129) * .3 * .03 = 11.771 to search and close.
    Of the 239.2 left MaxSim starts in 1 and reads all documents in 150, a reranker starts in 3 and scores 3 * 129 pairs
    in 77.4.
    """
    plan = planned(480)
    assert (plan.settings["retriever"], plan.settings["window_tokens"]) == ("minilm", 0)
    assert (plan.settings["max_documents"], plan.settings["rerank_depth"]) == (32, 3)
    assert plan.settings["late_interaction_depth"] == 50
    assert plan.seconds == pytest.approx(20 + 151 + 10 + 11.771 + 151 + 80.4)
    assert [note.split(":")[0] for note in plan.notes] == ["embedding the documents in windows is left out"]


def test_a_corpus_that_cannot_be_embedded_is_searched_by_bm25_and_reranked():
    plan = planned(480, work=Work(documents=10**6, queries=129))
    assert (plan.settings["retriever"], plan.settings["rerank_depth"]) == ("bm25", 15)  # (432 - 38) / 25.8
    assert "9h17m" in plan.notes[1]  # (30,000 + 43) / .9


def test_more_time_brings_the_mix_before_depth_and_training_last():
    found = [planned(minutes * 60).settings for minutes in (3, 8, 15, 20, 120, 480)]
    assert [own["retriever"] for own in found] == ["bm25", *["minilm"] * 5]
    assert [bool(own["window_tokens"]) for own in found] == [False, False, True, True, True, True]
    assert found[2]["rerank_depth"] >= 10
    assert 20 <= found[3]["rerank_depth"] < found[4]["rerank_depth"]
    assert [own["training"] for own in found] == ["never"] * 4 + ["auto"] * 2
    assert found[-1]["max_documents"] == 5000
    assert found[-1]["top_k"] == 4000


rates = st.builds(
    Rates, **dict.fromkeys(("write", "embed", "embed_windows", "rerank"), st.floats(1e-4, 5)),
    **dict.fromkeys(("start_writer", "start_encoder", "start_reranker"), st.floats(0, 60)),
)  # fmt: skip
works = st.builds(Work, documents=st.integers(1, 10**6), queries=st.none() | st.integers(0, 10**4))
budgets = st.floats(30, 10**5)


@given(rates, works, budgets, budgets)
def test_more_time_never_brings_less(rates, work, one, other):
    less, more = (planned(budget, rates=rates, work=work) for budget in sorted((one, other)))
    assert order(less)[0] <= order(more)[0]
    if order(less)[0] == order(more)[0]:
        assert all(a <= b for a, b in zip(order(less), order(more), strict=True))


@given(rates, works, budgets, st.sets(st.sampled_from(PLANNED)))
def test_the_estimate_is_within_the_budget_or_that_is_said_and_named_flags_stay(rates, work, budget, named):
    own = replace(OPTIONS, max_documents=90, rerank_depth=7, window_tokens=48, training="always", top_k=30)
    plan = planned(budget, rates=rates, work=work, options=own, named=named)
    assert {name: plan.settings[name] for name in named} == {name: getattr(own, name) for name in named}
    exceeded = [note for note in plan.notes if "exceeded" in note]
    assert bool(exceeded) == (plan.seconds > SPENT * budget)
    assert all(math.isfinite(share.seconds) for share in plan.shares)


def test_what_the_cache_holds_costs_nothing():
    held = replace(WORK, embedded=("embed documents", "embed windows"))
    assert planned(600, work=held).settings["window_tokens"] == 96
    assert planned(600).settings["window_tokens"] == 0


def test_without_judged_queries_those_held_out_are_counted():
    plan = planned(3600, work=Work(documents=1000, queries=None))
    (share,) = [share for share in plan.shares if share.part == "rerank"]
    assert share.work.startswith("100 queries")  # a tenth of the 1,000 documents written for


def test_the_table_has_a_line_per_part_and_a_fact_where_it_is_known():
    shares = planned(480).shares
    first, *rows, total = table(shares, {"prepare": 21.0})
    assert first.split() == ["part", "work", "estimate", "fact"]
    assert len(rows) == len(shares)
    assert rows[0].split()[-2:] == ["20", "s"]  # done before the plan, so no estimate that a fact could stand beside
    assert rows[1].endswith("-")
    assert total.endswith("21 s")


def part(plan, name):
    (share,) = [share for share in plan.shares if share.part == name]
    return share


def test_what_the_trial_of_a_prompt_wrote_costs_nothing_more():
    for written, seconds in ((0, 2 + 0.25 * 200), (48, 2 + 0.25 * 152), (200, 0)):
        plan = planned(900, work=replace(WORK, written=written), options=replace(OPTIONS, max_documents=200))
        share = part(plan, "write queries") if plan.settings["max_documents"] == 200 else None
        assert share is not None
        assert share.seconds == pytest.approx(seconds)
        assert (f"{written} of them in the trial" in share.work) == bool(written)


def test_the_model_is_not_loaded_again_for_a_few_documents():
    slow = replace(RATES, start_writer=11.0, write=0.5)
    work = replace(WORK, written=48)
    counts = set()
    for budget in range(300, 900, 2):
        plan = planned(budget, rates=slow, work=work)
        counts.add(plan.settings["max_documents"])
        if plan.settings["max_documents"] == 48:
            assert part(plan, "write queries").seconds == 0
    assert min(counts) == 48  # all of the trial, even where little else fits
    assert max(counts) >= 100
    assert not counts & set(range(49, 48 + 11 * 2))  # 22 documents take as long as the start


def test_dev_queries_are_reranked_too_before_what_is_measured():
    named = {"rerank_depth", "late_interaction_depth", "max_documents", "window_tokens"}
    options = replace(OPTIONS, max_documents=100, window_tokens=0, late_interaction_depth=10)
    without, judged = (
        planned(3600, options=options, named=named, work=replace(WORK, judged=count)) for count in (None, 300)
    )
    late = 1 + 129 * 10 * 0.03, 2 * 1 + (129 + 300) * 10 * 0.03
    assert part(without, "rerank").seconds == pytest.approx(3 + 129 * 20 * 0.2 + late[0])
    assert part(judged, "rerank").seconds == pytest.approx(2 * 3 + (129 + 300) * 20 * 0.2 + late[1])
    more = part(judged, "search and measure").seconds - part(without, "search and measure").seconds
    assert more == pytest.approx((300 - 100) * 0.3 * 0.03)  # searched for in place of the written ones


def test_dev_queries_choose_nothing_where_bm25_is_all():
    options = replace(OPTIONS, retriever="bm25")
    plans = [planned(3600, options=options, work=replace(WORK, judged=count)) for count in (None, 300)]
    assert plans[0].shares == plans[1].shares


def test_a_learning_curve_trains_and_embeds_twice_more():
    named = {"training", "max_documents", "window_tokens", "top_k"}
    options = replace(OPTIONS, training="auto", max_documents=1000, window_tokens=0, top_k=400)
    once, curve = (
        part(planned(36_000, options=replace(options, learning_curve=wanted), named=named), "train")
        for wanted in (False, True)
    )
    step = 400 * 2 * 8 * 0.03  # a training on all triples
    assert once.seconds == pytest.approx(2 + step + 4 + 150)
    assert curve.seconds == pytest.approx(2 + 1.75 * step + 3 * (4 + 150))


def test_a_single_document_is_not_reranked():
    depths = {planned(float(seconds)).settings["rerank_depth"] for seconds in range(200, 480, 2)}
    assert 1 not in depths
    assert {0, 2} <= depths


def test_the_default_keeps_four_fifths_of_many_documents_and_leaves_named_numbers():
    options = PipelineOptions(max_documents=2000)
    assert options.with_default_top_k(frozenset()).top_k == 1600
    assert replace(options, max_documents=500).with_default_top_k(frozenset()).top_k == 400
    assert replace(options, max_documents=60).with_default_top_k(frozenset()).top_k == 400
    assert replace(options, top_k=30).with_default_top_k(frozenset({"top_k"})).top_k == 30
