"""The part of a report that says what systems are worth: verdict, table, plots, wins and losses."""

from __future__ import annotations

from html import escape

from inpars.evaluation.significance import FEWEST_QUERIES, Difference, Interval
from inpars.evaluation.wording import counted, queries
from inpars.reports.charts import Range, differences_chart, intervals_chart, legend, line_chart
from inpars.reports.content import DEPTHS, Moved, Movement, Passage, Results
from inpars.reports.page import Cell, cards, figure, figures, heading, number, paragraph, shorten, table

PASSAGE_CHARACTERS = 220
NOTHING = "No judged queries, so nothing was measured."


def results_html(results: Results | None) -> str:
    """The table, who differs from the baseline, and by how much."""
    if results is None:
        return paragraph(NOTHING)
    differences = results.differences.get(results.metrics[0], {})
    return "".join(
        [
            _verdict(results),
            _table(results),
            paragraph(_about_numbers(results), "soft"),
            *(paragraph(note) for note in results.notes),
            figures(
                figure(
                    intervals_chart(
                        [
                            Range(name, d.mean, *d.interval, d.is_believed())
                            for name, d in differences.items()
                            if d.interval is not None
                        ],
                        f"{results.metrics[0]} less {results.baseline}",
                    ),
                    f"Difference from {results.baseline} with its interval; grey where it may be chance.",
                ),
                figure(
                    line_chart(results.depth_curves, "k, documents looked at", "nDCG@k", marks=DEPTHS),
                    "nDCG of the first k documents; equal factors of k are equally far apart.",
                    legend([line.name for line in results.depth_curves]),
                ),
            ),
        ]
    )


def moved_html(results: Results | None) -> str:
    """Per-query differences of every system, and the queries that moved most for the best one."""
    if results is None or not results.movements:
        return ""
    metric, baseline = results.metrics[0], results.baseline
    charts = [
        figure(
            differences_chart(one.differences, one.better + one.worse + one.same, f"difference in {metric}"),
            _movement(one, baseline),
        )
        for one in results.movements
    ]
    sides = []
    for title, found in (("Wins", results.wins), ("Losses", results.losses)):
        shown = cards(_moved(one, results) for one in found) or paragraph("None.")
        sides.append(f"<div>{heading(title)}{shown}</div>")
    other = results.best if results.best != baseline else results.movements[0].name
    return (
        figures(*charts)
        + heading(f"{other} against {baseline}: the queries that moved most")
        + f"<div class=sides>{''.join(sides)}</div>".replace("<h3>", "<h4>").replace("</h3>", "</h4>")
    )


def gain_cells(gain: Difference | None, effect: bool = False) -> list[Cell]:
    """Difference, interval and verdict of one system; that of the baseline itself is empty."""
    if gain is None:
        return [Cell(""), Cell(""), *([Cell("")] if effect else []), Cell("baseline", "soft")]
    word, kind = verdict(gain)
    size = [Cell(number(gain.effect_size, "+.2f"), "n")] if effect else []
    return [
        Cell(number(gain.mean, "+.4f"), f"n {kind}"),
        Cell("" if gain.interval is None else " to ".join(number(end, "+.4f") for end in gain.interval), "s"),
        *size,
        Cell(word + ("" if gain.adjusted_p_value is None else f", p {_p_value(gain.adjusted_p_value)}"), f"s {kind}"),
    ]


def verdict(gain: Difference) -> tuple[str, str]:
    """What is to be said of a difference, and the class it is shown in."""
    if not gain.mean and gain.better == gain.worse == 0:
        return "the same", "noise"
    if not gain.is_tested:
        return "not tested", "noise"
    if not gain.is_believed():
        return "may be chance", "noise"
    return ("better", "better") if gain.mean > 0 else ("worse", "worse")


def _about_numbers(results: Results) -> str:
    """What the numbers of the table are, and how differences were tested."""
    judged = counted(results.queries, "judged query", "judged queries")
    means = f"{judged}. Small numbers: 95% intervals of the means by bootstrap over queries."
    found = results.differences.get(results.metrics[0], {})
    if not found:
        return means
    if not any(gain.is_tested for gain in found.values()):
        return f"{means} With fewer than {FEWEST_QUERIES} judged queries differences are not tested."
    return (
        f"{means} Differences: paired randomisation test over queries, whose p-values and intervals are adjusted "
        f"together (Holm) for the number of systems compared with {results.baseline}: an interval holds 0 exactly "
        "where the difference may be chance."
    )


def _p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def _verdict(results: Results) -> str:
    metric = results.metrics[0]
    values = {system.name: system.means[metric] for system in results.systems}
    best, baseline = results.best, results.baseline
    gain = results.differences.get(metric, {}).get(best)
    if gain is None:
        words = f"{baseline}, the baseline, has the highest {metric}: {values[best]:.4f}."
    elif gain.is_believed():
        words = (
            f"{best} is the best on {metric}: {values[best]:.4f} against {values[baseline]:.4f} of {baseline}, "
            f"a difference that chance alone would rarely give."
        )
    else:
        count, verb = queries(results.queries), "is" if results.queries == 1 else "are"
        doubt = "cannot tell this difference from chance" if gain.is_tested else f"{verb} too few for a test"
        words = (
            f"{best} has the highest {metric}, {values[best]:.4f} against {values[baseline]:.4f} of {baseline}, "
            f"but {count} {doubt}."
        )
    return paragraph(words, "verdict" if gain is not None and gain.is_believed() else '"verdict noise"')


def _table(results: Results) -> str:
    metric, found = results.metrics[0], results.differences.get(results.metrics[0], {})
    effect = any(gain.effect_size is not None for gain in found.values())
    missing = any(system.missing for system in results.systems)
    judged = any(system.judged_at_10 is not None for system in results.systems)
    head = [
        Cell("system"),
        *(Cell(name, "n") for name in results.metrics),
        Cell(f"{metric} less {results.baseline}", "n"),
        Cell("interval"),
        *([Cell("effect size", "n")] if effect else []),
        Cell("verdict"),
        *([Cell("Judged@10", "n")] if judged else []),
        *([Cell("queries without result", "n")] if missing else []),
    ]
    rows = []
    for system in results.systems:
        cells = [Cell(system.name)]
        cells += [Cell("", "n", raw=_mean(system.means[name], system.intervals.get(name))) for name in results.metrics]
        cells += gain_cells(found.get(system.name), effect)
        cells += [Cell(number(system.judged_at_10, ".2f"), "n")] if judged else []
        rows.append(cells + ([Cell(str(system.missing), "n")] if missing else []))
    names = [system.name for system in results.systems]
    return table("Results of all systems", head, rows, best=names.index(results.best))


def _mean(mean: float, interval: Interval | None) -> str:
    small = f"<small class=interval>{interval.low:.3f} to {interval.high:.3f}</small>" if interval else ""
    return f"{mean:.4f}{small}"


def _movement(one: Movement, baseline: str) -> str:
    return (
        f"{one.name} against {baseline}: better on {queries(one.better)}, worse on {one.worse:,}, "
        f"the same on {one.same:,}."
    )


def _moved(one: Moved, results: Results) -> str:
    facts = f"{results.metrics[0]} {one.baseline:.2f} → {one.system:.2f}"
    found = [
        f"<p class=query>{escape(one.query or one.query_id)}</p><p class=facts>{escape(facts)}</p>",
        passage("judged relevant", one.relevant),
        passage(f"first of {results.baseline}", one.first_of_baseline),
        passage(f"first of {results.best}", one.first_of_system),
    ]
    return "".join(found)


def passage(label: str, document: Passage | None, characters: int = PASSAGE_CHARACTERS) -> str:
    """A document under a word that says what it is."""
    if document is None:
        return ""
    grade = "" if document.relevance is None else f", relevance {document.relevance}"
    return (
        f"<p class=document><span class=label>{escape(label)}: <span class=mono>{escape(document.doc_id)}</span>"
        f"{grade}</span>{escape(shorten(document.text, characters))}</p>"
    )
