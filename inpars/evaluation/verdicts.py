"""Put measures and tests into plain sentences."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from inpars.evaluation.contamination import Overlap
from inpars.evaluation.measures import Evaluation
from inpars.evaluation.run_files import Order, RunNotes
from inpars.evaluation.significance import FEWEST_QUERIES, WORTHWHILE, Difference
from inpars.records import Qrels

MANY_TIES = 0.1  # share of queries with ties among the first ten
LITTLE_JUDGED = 0.7  # low Judged@10
JUDGED_LESS = 0.1  # Judged@10 this far below the baseline's is low too
NAMED_QUERIES = 3
MIN_SHOWN = 0.0005  # smaller detectable differences would read 0.000
DISAGREEMENTS = {
    "score": ("rank and score disagree", "scores rank here"),
    "file": ("ranks contradict scores or the order of lines", "the order of the file ranks here"),
}


def counted(number: int, noun: str, plural: str = "") -> str:
    """`1 query`, `2 queries`; the default plural adds an s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def queries(number: int) -> str:
    """`1 query`, `2 queries`."""
    return counted(number, "query", "queries")


def in_words(name: str, baseline: str, metric: str, difference: Difference) -> str:
    """`reranked against bm25, nDCG@10: better by 0.0312 (...)`, or that the difference is noise or untested."""
    if difference.better == difference.worse == 0:
        return f"{name} against {baseline}, {metric}: the same for all {queries(difference.queries)}"
    same = difference.queries - difference.better - difference.worse
    counts = f"{queries(difference.better)} better, {difference.worse} worse, {same} the same"
    facts = "; ".join(filter(None, [_test_in_words(difference), counts]))
    return f"{name} against {baseline}, {metric}: {_judgement(difference)} ({facts})"


def adjustment_in_words(differences: Collection[Difference]) -> str:
    """How the p-values of several comparisons were adjusted; empty for fewer than two tested ones."""
    tested = [one for one in differences if one.is_tested]
    if len(tested) < 2:
        return ""
    return (
        f"p-values and intervals of differences are adjusted together for {len(tested)} comparisons (Holm): an "
        "interval holds 0 exactly where the difference may be chance"
    )


def power_in_words(metric: str, difference: Difference) -> str:
    """The detectable difference, and how many queries would show a small one; empty if unknown."""
    if difference.detectable is not None and difference.detectable < MIN_SHOWN:
        return ""
    count, needed = difference.queries, difference.queries_needed
    if not difference.is_tested:
        few = f"{queries(count)} {'is' if count == 1 else 'are'} too few for a test: judge at least {FEWEST_QUERIES}"
        more = f", and about {needed:,} that vary like these to see" if needed and needed > FEWEST_QUERIES else ""
        return f"{few}{more} a true difference in {metric} of {WORTHWHILE}" if more else few
    enough = "" if needed is None else f"about {needed:,} would show one of {WORTHWHILE}"
    if difference.detectable is None:
        no_less = f"{queries(count)} that vary like these show no true difference in {metric} reliably"
        return f"{no_less}; {enough}" if enough else no_less
    detectable = (
        f"{queries(count)} that vary like these show a true difference in {metric} of {difference.detectable:.3f} four "
        "times in five; of smaller ones they tell little"
    )
    return f"{detectable}; {enough}" if enough and difference.detectable > WORTHWHILE else detectable


def _test_in_words(difference: Difference) -> str:
    """Interval, p-values and effect size; empty if nothing was tested."""
    if difference.interval is None or difference.adjusted_p_value is None or difference.adjusted_t_p_value is None:
        return ""
    low, high = difference.interval
    kind = "95% interval" if difference.adjusted_p_value == difference.p_value else "adjusted 95% interval"
    size = "" if difference.effect_size is None else f", effect size {difference.effect_size:+.2f}"
    return (
        f"{kind} {low:+.4f} to {high:+.4f}; p {_probability(difference.adjusted_p_value)} by randomisation, "
        f"{_probability(difference.adjusted_t_p_value)} by t-test{size}"
    )


def _judgement(difference: Difference) -> str:
    if not difference.is_tested:
        return f"{difference.mean:+.4f}, not tested: too few queries"
    if not difference.is_believed():
        if difference.tests_disagree:
            return f"noise, as far as can be told: the tests disagree about {difference.mean:+.4f}"
        return f"noise: {difference.mean:+.4f} is no more than chance gives"
    word = "better" if difference.mean > 0 else "worse"
    doubt = ", though the t-test does not agree" if difference.tests_disagree else ""
    return f"{word} by {abs(difference.mean):.4f}{doubt}"


def p_in_table(value: float | None) -> str:
    """`p=0.004`, seven characters; empty if nothing was tested."""
    if value is None:
        return ""
    return "p<0.001" if value < 0.001 else f"p={value:.3f}"


def _probability(value: float) -> str:
    return "below 0.001" if value < 0.001 else f"{value:.3f}"


def file_remarks(name: str, notes: RunNotes, judged: int, order: Order) -> list[str]:
    """Remarks on the faults of a run file; `judged` is the number of judged queries."""
    remarks = []
    if notes.twice:
        remarks.append(
            f"{name}: {counted(notes.twice, 'result repeats', 'results repeat')} a document of their query; the first "
            "of them counts (trec_eval refuses such a run)"
        )
    if notes.misordered:
        problem, what_ranks = DISAGREEMENTS[order]
        remarks.append(
            f"{name}: {problem} for {len(notes.misordered)} of {queries(judged)}, "
            f"{notes.misordered[0]!r} first; {what_ranks}"
        )
    if order == "score" and notes.tied > MANY_TIES * judged:
        remarks.append(
            f"{name}: {notes.tied} of {queries(judged)} have equal scores among their first ten results, which are "
            "ranked by descending document id then, as by trec_eval"
        )
    if notes.unjudged_queries:
        verb = "has" if notes.unjudged_queries == 1 else "have"
        remarks.append(f"{name}: {notes.unjudged_queries} of its queries {verb} no judgements: not measured")
    return remarks


def judged_remarks(results: Mapping[str, Evaluation], baseline: str, qrels: Qrels) -> list[str]:
    """Remarks where unjudged documents cast doubt on the measures."""
    if not any(grade <= 0 for grades in qrels.values() for grade in grades.values()):
        relevant = sum(map(len, qrels.values())) / len(qrels)
        return [
            f"the judgements name relevant documents only, {relevant:.1f} a query: a good document that nobody judged "
            "counts as a wrong one"
        ]
    remarks, known = [], results[baseline].judged_at_10
    for name, result in results.items():
        share = result.judged_at_10
        if share is None:
            continue
        if known is not None and name != baseline and share < known - JUDGED_LESS:
            remarks.append(
                f"{name}: {share:.0%} of its first ten results are judged, of {baseline}'s {known:.0%}; it may be "
                "better than it measures"
            )
        elif share < LITTLE_JUDGED:
            remarks.append(
                f"{name}: only {share:.0%} of its first ten results are judged, the others count as not relevant; it "
                "may be better than it measures"
            )
    return remarks


def overlap_remark(name: str, overlap: Overlap) -> str:
    """Which test queries were seen before; empty if none were."""
    if not overlap.query_ids:
        return ""
    return (
        f"{name}: {len(overlap.query_ids)} of {overlap.tested} test queries stand in {overlap.source} "
        f"({len(overlap.same)} word for word, {len(overlap.similar)} nearly): {_some(overlap.query_ids)}"
    )


def _some(query_ids: Sequence[str]) -> str:
    more = ", ..." if len(query_ids) > NAMED_QUERIES else ""
    return ", ".join(query_ids[:NAMED_QUERIES]) + more
