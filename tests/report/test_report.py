"""The report: everything escaped, everything shown, nothing loaded from elsewhere, the same as JSON."""

import html
import json
import math
import re
from dataclasses import asdict, replace
from html.parser import HTMLParser

import pytest

from inpars.evaluation.measures import Evaluation, evaluate
from inpars.evaluation.significance import Difference, compare
from inpars.filtering.filters import FilterOutcome
from inpars.fusion.choice import OFFSETS, STEPS
from inpars.fusion.system import FirstStage, Reranking, SearchSystem
from inpars.io.topics import Topics
from inpars.records import SyntheticQuery
from inpars.report.charts import BOX_CHARACTERS, Series, Step, diagram
from inpars.report.collect import glance, movement, negatives_of, results_of, shown_queries, written_of
from inpars.report.conclusion import conclusion_of, mix_of
from inpars.report.formatting import MINUS, duration, number
from inpars.report.render import render, write_report
from inpars.report.schema import Conclusion, FunnelRow, Gain, Report, StageFacts, Training

NASTY = [
    "<script>document.title = 'run'</script>",
    "<img src=x onerror=\"document.title = 'run'\">",
    "</style></pre></code></svg><b>",
    "&lt;b&gt; &amp; &notanentity; &#x41 &",
    "\"' onmouseover='1",
    "]]>--><!--",
]
TEXTS = {f"d{number}": f"{text} of document {number} {'x' * 500}" for number, text in enumerate(NASTY)}
QRELS = {f"q{number}": {f"d{number}": 2} for number in range(len(NASTY))}
RUNS = {
    "bm25": {f"q{n}": {f"d{(n + 1) % 6}": 2.0, f"d{n}": 1.0} for n in range(6)},
    NASTY[0]: {f"q{n}": {f"d{n}": 2.0, f"d{(n + 1) % 6}": 1.0} for n in range(5)},
}


def verdict(number, score, reason=None, text="a query"):
    query = SyntheticQuery(f"d{number}-q0", f"d{number}", text, (score,), None, "stop", "raw", "p", "m")
    return FilterOutcome(query, score, reason)


def results(runs=RUNS, metrics=("nDCG@10", "RR@10")):
    evaluations = {name: evaluate(run, QRELS, metrics) for name, run in runs.items()}
    first = next(iter(runs))
    differences = {
        metric: compare(
            evaluations[first].per_query[metric],
            {name: found.per_query[metric] for name, found in evaluations.items() if name != first},
        )
        for metric in metrics
    }
    topics = Topics("test", {f"q{number}": text for number, text in enumerate(NASTY)}, QRELS)
    glances = {name: glance(name, run, QRELS) for name, run in runs.items()}
    return results_of(evaluations, differences, metrics, glances, topics, texts=TEXTS.get, notes=[NASTY[0]])


def negatives(tmp_path, **parts):
    rows = [
        {"query_id": f"d{n}-q0", "positive_doc_id": f"d{n}", "negative_doc_id": f"d{n + 1}", "source": "bm25"}
        | {"rank": n + 1, "score": float(n), "positive_score": 2.0}
        | parts
        for n in range(5)
    ]
    path = tmp_path / "triples.negatives.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return negatives_of(path, {f"d{n}-q0": text for n, text in enumerate(NASTY)}, TEXTS.get)


def report(tmp_path, **parts):
    verdicts = [verdict(n, -n / 10, text=text) for n, text in enumerate(NASTY)]
    verdicts += [verdict(4, -2.0, "copied"), verdict(5, -math.inf, "empty", text="")]
    stage = StageFacts(
        *("generate", NASTY[1], 6, 12.0, 0.25, NASTY[2], "ab" * 32, {NASTY[0]: "cd" * 32}, {"note": NASTY[2]}, {}),
        workers=[{"worker": 1, "node": NASTY[3], "items": 1200, "seconds": 60.0, "items_per_second": 20.0}],
    )
    whole = {
        "title": f"toy {NASTY[0]}",
        "lead": NASTY[3],
        "facts": {NASTY[4]: NASTY[1]},
        "results": results(),
        "funnel": [FunnelRow(NASTY[1], 1107, NASTY[3], left_out=True), FunnelRow("queries kept", 1393, "--top-k")],
        "written": written_of(verdicts, "mean_log_probs", TEXTS.get),
        "negatives": negatives(tmp_path),
        "trainings": [
            Training(NASTY[0], Series("loss", [1, 2, 3], [1.0, 0.5, 0.25]), Series("nDCG@10", [0, 3], [0.1, 0.2]))
        ],
        "stages": [stage],
        "settings": {"seed": 0, "text": NASTY[2]},
        "commands": [f"inpars run --prompt '{NASTY[0]}'", NASTY[5]],
    }
    return Report(**whole | parts)


class Reader(HTMLParser):
    """Tags, headings and text of a page, as a browser would take them."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.headings, self.ids, self.text = [], [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        self.ids += [value for name, value in attrs if name == "id"]
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_data(self, data):
        self.text += data


def test_no_text_becomes_markup(tmp_path):
    read = Reader(render(report(tmp_path)))
    assert not {"script", "img", "b", "link", "iframe", "object", "form"} & set(read.tags)
    assert not [name for name in read.attributes if name.startswith("on") or name in ("src", "srcset", "action")]
    for text in NASTY:
        assert text in read.text, "shown as it is"


def test_the_page_forbids_scripts_and_loads_nothing(tmp_path):
    shown = render(report(tmp_path))
    assert "default-src 'none'; style-src 'unsafe-inline'" in shown
    links = re.findall(r"<a href=(\S+?)>", shown)
    assert links
    assert {link.removeprefix("#") for link in links} <= set(Reader(shown).ids)
    assert not re.search(r"url\s*\(|@import|<link|<iframe", re.sub(r"&lt;.*?&gt;", "", shown))


def test_headings_do_not_skip_a_level_and_ids_are_single(tmp_path):
    read = Reader(render(report(tmp_path)))
    assert read.headings[0] == 1
    assert read.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(read.headings, read.headings[1:], strict=False))
    assert len(read.ids) == len(set(read.ids))


def test_all_sections_are_there(tmp_path):
    text = Reader(render(report(tmp_path))).text
    for part in (
        *("Results", "Queries that moved", "Wins", "Losses", "Synthetic queries", "Keep-curve", "Hard negatives"),
        *("Suspected false negatives", "Training", "Time and cost", "Reproduce", "Settings and hashes", "copied"),
        *("ab" * 32, "cd" * 6, "0.2500", "12 s", "From documents to training", f"{MINUS}1,107", "1,393", "--top-k"),
    ):
        assert part in text, part


def test_what_each_worker_did_is_shown_where_there_were_any(tmp_path):
    text = Reader(render(report(tmp_path))).text
    assert "items a second" in text
    assert "1,200" in text
    assert "20.00" in text
    alone = replace(report(tmp_path).stages[0], workers=())
    assert "items a second" not in Reader(render(report(tmp_path, stages=[alone]))).text


def test_a_report_without_a_funnel_has_no_section_of_it(tmp_path):
    assert "From documents to training" not in render(report(tmp_path, funnel=()))


def test_the_json_is_the_same_and_strict(tmp_path):
    path = tmp_path / "report.html"
    write_report(report(tmp_path), path)
    values = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    assert values["title"] == f"toy {NASTY[0]}"
    kept = {"what": "queries kept", "count": 1393, "changed_by": "--top-k", "left_out": False}
    assert values["funnel"][1] == kept
    assert values["written"]["dropped_examples"][-1]["score"] is None, "infinite has no JSON"
    assert values["results"]["systems"][0]["means"] == {"nDCG@10": pytest.approx(0.6309, abs=1e-4), "RR@10": 0.5}
    assert path.read_text() == render(report(tmp_path))


def test_the_best_system_stands_out_and_the_baseline_has_no_difference():
    shown = render(Report("t", "l", {}, results()))
    rows = re.findall(r"<tr( class=best)?><th scope=row>(.*?)</th>", shown)
    assert rows[0] == ("", "bm25")
    assert rows[1][0] == " class=best"
    assert shown.count("baseline</td>") == 1


@pytest.mark.parametrize(
    ("p_value", "mean", "word"), [(0.01, 0.2, "better"), (0.01, -0.2, "worse"), (0.2, 0.2, "may be chance")]
)
def test_a_difference_that_may_be_chance_is_called_so(p_value, mean, word):
    found = results()
    given = {"nDCG@10": {NASTY[0]: Difference(mean, -0.1, 0.4, p_value, 6, p_value)}}
    changed = type(found)(**{name: getattr(found, name) for name in found.__slots__} | {"differences": given})
    shown = Reader(render(Report("t", "l", {}, changed))).text
    assert f"{word}, p = {p_value:.3f}" in shown
    assert ("cannot tell this difference from chance" in shown) == (word == "may be chance")


def test_six_queries_are_not_tested():
    found = results()
    shown = Reader(render(Report("t", "l", {}, found))).text
    assert "6 queries are too few for a test" in shown
    assert "differences are not tested" in shown
    assert "may be chance" not in shown
    assert "Difference from bm25" not in shown, "no chart of intervals that nobody has"
    assert [moved.better for moved in found.movements] == [5]
    assert "better on 5 queries, worse on 1, the same on 0" in shown
    values = json.loads(json.dumps(asdict(found), allow_nan=False))["differences"]["nDCG@10"][NASTY[0]]
    assert values["adjusted_p_value"] is values["low"] is values["detectable"] is None
    assert values["queries_needed"] > 10


def test_one_query_is_no_queries():
    runs = {"bm25": {"q0": {"d1": 2.0, "d0": 1.0}}, "other": {"q0": {"d0": 2.0, "d1": 1.0}}}
    assert "better on 1 query, worse on 0, the same on 5" in Reader(render(Report("t", "l", {}, results(runs)))).text


def test_how_tests_and_intervals_go_together_is_said():
    found = results()
    given = {"nDCG@10": {NASTY[0]: Difference(0.1, -0.1, 0.3, 0.03, 12, 0.09)}}
    changed = type(found)(**{name: getattr(found, name) for name in found.__slots__} | {"differences": given})
    shown = Reader(render(Report("t", "l", {}, changed))).text
    assert "adjusted together (Holm)" in shown
    assert "an interval holds 0 exactly where the difference may be chance" in shown


def gain(mean, p_value, against="bm25", queries=129):
    found = Difference(mean, mean - 0.05, mean + 0.05, p_value, queries, p_value, better=80, worse=20)
    return Gain(against, f"what {against} is", 0.4, found)


def conclusion(**parts):
    whole = {
        "system": f"mix {NASTY[0]}",
        "description": "0.30 bm25 + 0.70 minilm",
        "metric": "nDCG@10",
        "value": 0.4743,
        "queries": 129,
        "gains": [gain(0.1965, 0.0005), gain(0.0442, 0.012, NASTY[1]), gain(0.0407, 0.2, "fusion")],
        "reranker": gain(0.025, 0.04, "mix"),
        "seconds_per_query": 3.25,
        "seconds_without_reranker": 0.05,
        "device": "cpu",
        "weight_bytes": {"minilm": 91_000_000},
        "steps": [Step("two stages"), Step(NASTY[1], "the first 20 reordered")],
        "peak_bytes": 1_930_000_000,
        "advice": ["Judge more."],
        "commands": ["inpars serve --run runs/x"],
    }
    return Conclusion(**whole | parts)


def test_the_report_opens_with_what_to_deploy_and_how_sure():
    read = Reader(render(Report("t", "How it was made.", {}, results(), conclusion())))
    text = " ".join(read.text.split())
    opening = text[: text.index("How it was made.")]
    for part in (
        *(f"mix {NASTY[0]}", "0.4743", "129 judged queries", "+0.1965", "+0.1465 to +0.2465", "better, p < 0.001"),
        *("better, p = 0.012", "may be chance, p = 0.200", NASTY[1], "what fusion is", "3.2 s", "50 ms", "+0.0250"),
        *("minilm 91 MB", "at most 1.9 GB", "the first 20 reordered", "Judge more.", "inpars serve --run runs/x"),
        f"By 129 judged queries it is better than bm25 (+0.1965) and {NASTY[1]} (+0.0442), not shown to differ from "
        "fusion (+0.0407).",
    ):
        assert part in opening, part
    assert "deploy it instead" not in opening


def test_the_next_command_comes_before_the_table():
    text = Reader(render(Report("t", "l", {}, results(), conclusion()))).text
    assert text.index("it is better than") < text.index("inpars serve --run runs/x") < text.index("compared with")


def test_too_few_queries_tell_nothing():
    untested = Gain("bm25", "words", 0.3, Difference(0.2, None, None, None, 3, None))
    text = Reader(render(Report("t", "l", {}, results(), conclusion(queries=3, gains=[untested])))).text
    assert "3 judged queries are too few to tell it from simpler systems." in text


def test_a_system_without_others_was_measured_all_the_same():
    text = Reader(render(Report("t", "l", {}, results(), conclusion(gains=[], reranker=None)))).text
    assert "Measured on 129 judged queries" in text
    assert "Nothing was measured" not in text
    system = SearchSystem(stages=(FirstStage(name="bm25", retriever="bm25"),), k1=1, b=1, language="en")
    found = {"bm25": Evaluation({"nDCG@10": 0.5}, {"nDCG@10": {"q": 0.5}}, 1, 0)}
    rest = {"unreranked": "bm25", "search": None, "search_unreranked": None, "weight_bytes": {}, "commands": []}
    assert conclusion_of("bm25", system, found, {}, "nDCG@10", skipped={}, **rest).advice == []


def test_a_diagram_breaks_long_lines_and_says_all_in_its_name():
    drawn = diagram([Step("1,107 documents"), Step("written", f"by {NASTY[0]} {'word ' * 20}")], "What this run did")
    assert "<script>" not in drawn
    lines = re.findall(r"<text[^>]*>(.*?)</text>", drawn)
    assert "1,107 documents" in lines
    assert max(len(html.unescape(line)) for line in lines) <= BOX_CHARACTERS
    assert 'aria-label="What this run did: 1,107 documents; written: by ' in drawn


def test_a_simpler_system_that_is_better_is_named():
    worse = conclusion(gains=[gain(-0.1, 0.01, "fusion")])
    assert "fusion (what fusion is) is better" in Reader(render(Report("t", "l", {}, results(), worse))).text


def test_a_conclusion_without_measures_names_the_system_alone():
    nothing = conclusion(value=None, queries=0, gains=[], reranker=None, seconds_per_query=None)
    text = Reader(render(Report("t", "l", {}, None, nothing))).text
    assert "0.30 bm25 + 0.70 minilm" in text
    assert "Nothing was measured" in text
    assert "per query on" not in text


def test_what_a_system_gains_over_the_others_is_tested_together():
    values = {"bm25": 0.1, "minilm": 0.4, "mix": 0.5, "mix + reranker": 0.6}
    found = {
        name: Evaluation({"nDCG@10": mean}, {"nDCG@10": {f"q{n}": mean + n / 1000 for n in range(20)}}, 20, 0)
        for name, mean in values.items()
    }
    stages = (FirstStage(name="bm25", retriever="bm25"), FirstStage(name="whole", retriever="minilm"))
    system = SearchSystem(stages=stages, reranking=Reranking(model="r", depth=7), k1=1, b=1, language="en")
    rest = {"unreranked": "mix", "search": None, "search_unreranked": None, "weight_bytes": {}, "commands": []}
    others = {"bm25": "words", "minilm": "vectors", "absent": "x"}
    made = conclusion_of("mix + reranker", system, found, others, "nDCG@10", skipped={"retriever": "few"}, **rest)
    assert [(one.against, one.meaning) for one in made.gains] == [("bm25", "words"), ("minilm", "vectors")]
    # each query moves alike: 0.6 - 0.1, 0.6 - 0.4, 0.6 - 0.5, and three tests are adjusted together
    assert [one.difference.mean for one in (*made.gains, made.reranker)] == pytest.approx([0.5, 0.2, 0.1])
    assert made.reranker.difference.adjusted_p_value == pytest.approx(3 * made.reranker.difference.p_value)
    assert (made.value, made.queries, made.steps[-2]) == (0.6, 20, Step("The first 7 reordered", "by r"))
    assert any("few" in line for line in made.advice)


def test_the_mix_is_drawn_with_what_was_chosen_and_equal_weights():
    gate, curve = {"offset": 0.5}, [0.4 + step / 100 for step in range(STEPS + 1)]
    chosen = {"queries": 30, "easy": 10, "gate": gate, "curve": curve, "chosen": 0.55, "before": 0.52, "equal": 0.5}
    old = mix_of(chosen)
    new = mix_of(chosen | {"offsets": [0.5 + step / 1000 for step in range(len(OFFSETS))]})
    assert (list(new.shares.ys), list(new.offsets.xs)) == (curve, list(OFFSETS))
    pages = [render(Report("t", "l", {}, None, mix=mix)) for mix in (old, new)]
    assert [page.count("<polyline") for page in pages] == [1, 2], "runs before have no curve of offsets"
    for part in ("30 synthetic queries", "+0.50", "0.5500", "0.5200", "0.5000", "+0.0200"):
        assert all(part in page for page in pages), part
    judged = render(Report("t", "l", {}, None, mix=mix_of(chosen | {"by": "judged", "weighing": "alike"})))
    assert "30 judged dev queries" in judged
    assert "synthetic queries" not in judged
    assert mix_of({"queries": 0}) is None


def test_without_judgements_nothing_is_claimed():
    shown = render(Report("t", "l", {}, None))
    assert "nothing was measured" in shown
    assert "paired test" not in shown


def test_movements_count_every_query():
    before = {"a": 0.5, "b": 0.5, "c": 0.5, "d": 0.0}
    after = {"a": 1.0, "b": 0.25, "c": 0.5, "d": 0.75}
    moved = movement("s", before, after)
    assert (moved.better, moved.worse, moved.same) == (2, 1, 1)
    assert list(moved.differences) == [0.75, 0.5, 0.0, -0.25]


def test_wins_show_what_was_wanted_and_what_either_system_put_first():
    found = results()
    assert {moved.query_id for moved in found.wins} == {f"q{n}" for n in range(5)}
    assert [moved.query_id for moved in found.losses] == ["q5"], "the second run lacks it"
    first = next(moved for moved in found.wins if moved.query_id == "q0")
    assert (first.relevant.doc_id, first.relevant.relevance) == ("d0", 2)
    assert (first.first_of_baseline.doc_id, first.first_of_baseline.relevance) == ("d1", None)
    assert first.first_of_system.doc_id == "d0"
    assert found.losses[0].first_of_system is None


def test_shown_queries_are_spread_over_scores_and_reasons():
    kept = [verdict(number, -number / 10) for number in range(40)]
    dropped = [verdict(100 + n, -1.0, "duplicate") for n in range(30)] + [verdict(200, -3.0, "empty")]
    best, left_out = shown_queries([*dropped, *kept], 10)
    # every fourth of 40: scores 0, -0.4, -0.8, ... -3.6
    assert [round(v.score, 1) for v in best] == [-n * 4 / 10 for n in range(10)]
    assert len(left_out) == 10
    assert {v.reason for v in left_out} == {"duplicate", "empty"}


def test_the_keep_curve_holds_what_passed_the_checks_and_no_more():
    verdicts = [verdict(1, -0.1), verdict(2, -0.2), verdict(3, -0.3, "below_top_k"), verdict(4, -0.05, "copied")]
    written = written_of(verdicts, "mean_log_probs", TEXTS.get)
    assert list(written.keep_curve.ys) == [-0.1, -0.2, -0.3]
    assert (written.count, written.kept, written.lowest_kept) == (4, 2, -0.2)
    assert written.dropped == {"below_top_k": 1, "copied": 1}


def test_suspects_are_the_negatives_nearest_to_their_positives(tmp_path):
    found = negatives(tmp_path)
    # scores 0, 1, 2, 3, 4 against 2: from the fifth down, and three are at least as high
    assert [one.query_id for one in found.suspects] == ["d4-q0", "d3-q0", "d2-q0", "d1-q0", "d0-q0"]
    assert found.at_least_positive == 3
    assert "audit" in found.suspects_from


def test_rerankers_scores_decide_on_suspects_where_there_are_any(tmp_path):
    found = negatives(tmp_path, reranker_score=-1.0, positive_reranker_score=-3.0)
    assert found.at_least_positive == 5
    assert (found.suspects[0].score, found.suspects[0].positive_score) == (-1.0, -3.0)
    assert found.suspects[0].scored_by == "reranker"


def test_negatives_without_scores_have_no_suspects(tmp_path):
    found = negatives(tmp_path, rank=None, score=None, positive_score=None)
    assert (found.suspects, found.shares, found.ranks) == ([], None, None)
    assert "Suspected" not in render(Report("t", "l", {}, None, negatives=found))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "40 ms"),
        (0.0, "0.0 s"),
        (None, "-"),
        (9.9, "9.9 s"),
        (59.6, "1 min 0 s"),
        (185, "3 min 5 s"),
        (7440, "2 h 4 min"),
    ],
)
def test_durations_are_read_at_a_glance(seconds, text):
    assert duration(seconds) == text


def test_numbers_have_a_minus_sign():
    assert number(-0.5, "+.2f") == f"{MINUS}0.50"
    assert number(None) == "-"
