"""How far a model's grades agree with others: Cohen's kappa pair by pair, Kendall's tau over systems.

Kappas are scikit-learn's, tau scipy's. Knows nothing of who judged. Cohen 1960, 1968; Kendall 1938; on judgements by
models both are what UMBRELA reports (arXiv 2406.06519). Said as tables, with how far to trust the grades.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from inpars.evaluation.measures import evaluate
from inpars.io.model_judgements import POOR_KAPPA, origin_of, write_origin
from inpars.judging.sample import Pair, pairs_of, weights
from inpars.records import Qrels, Run

TOP_GRADE = 3
RELEVANT_FROM = 2  # on the scale to 3, as in TREC's Deep Learning tracks; on scales that end below, from 1
FEW_PARAMETERS = 1_000_000_000  # below, nothing published shows agreement beyond chance
FEW_PAIRS = 50  # a kappa over fewer says little
LITERATURE = (
    "published agreement is that of large models: GPT-4o (UMBRELA, arXiv 2406.06519), DeepSeek-V3 as good, "
    "Llama-3.3-70B slightly below and smaller ones further (arXiv 2507.09483)"
)
PERSON, BY_MODEL = "you", " (judged by "


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two judges of the same pairs. A kappa is None where both gave one and the same grade to all."""

    reference: str  # the other judge's name, for people
    pairs: int
    same: float  # share of equal grades
    kappa: float | None
    weighted_kappa: float | None  # quadratic
    relevant_kappa: float | None  # of relevant or not
    relevant_from: int  # of the reference
    grades: Sequence[int]
    table: Sequence[Sequence[int]]  # pairs by the reference's grade (rows) and the model's
    unjudged_as_0: int = 0  # pairs that the reference does not list
    of_sample: bool = False  # whether the kappas weigh pairs by what they stand for

    @property
    def is_poor(self) -> bool:
        """Whether it is hardly better than chance."""
        return self.weighted_kappa is None or self.weighted_kappa <= POOR_KAPPA


@dataclass(frozen=True, slots=True)
class SystemOrder:
    """Systems measured by both; tau is None where there are fewer than two, or one measures all alike."""

    metric: str
    values: Mapping[str, tuple[float, float]]  # system -> by the reference, by the model
    tau: float | None


def compare_with(
    model: Mapping[Pair, int],
    reference: Qrels,
    name: str,
    weights: Mapping[Pair, float] | None = None,
    top: int | None = None,
) -> Agreement | None:
    """Agreement over the pairs that both judged, None where there are none.

    A reference that lists relevant documents alone, as many collections do, says of the others that they are not: those
    of its queries count as 0. `weights` say what pairs of a sample stand for, `top` is the reference's highest possible
    grade (by default the highest that it gave).
    """
    given = {(q, d): reference[q][d] for q, d in model if d in reference.get(q, {})}
    relevant_only = bool(given) and min(grade for judged in reference.values() for grade in judged.values()) > 0
    added = [pair for pair in model if pair not in given and pair[0] in reference] if relevant_only else []
    given |= dict.fromkeys(added, 0)
    if not given:
        return None
    pairs = [pair for pair in model if pair in given]
    theirs, ours = [max(given[pair], 0) for pair in pairs], [model[pair] for pair in pairs]
    highest = max(grade for judged in reference.values() for grade in judged.values()) if top is None else top
    from sklearn.metrics import confusion_matrix

    start = RELEVANT_FROM if highest >= TOP_GRADE else 1
    grades = list(range(max(TOP_GRADE, *theirs) + 1))
    by_weight = None if weights is None else [weights[pair] for pair in pairs]
    relevant = [grade >= start for grade in theirs], [grade >= RELEVANT_FROM for grade in ours]
    return Agreement(
        name,
        len(pairs),
        sum(a == b for a, b in zip(theirs, ours, strict=True)) / len(pairs),
        _kappa(theirs, ours, grades, None, by_weight),
        _kappa(theirs, ours, grades, "quadratic", by_weight),
        _kappa(*relevant, [False, True], None, by_weight),
        start,
        grades,
        confusion_matrix(theirs, ours, labels=grades).tolist(),
        len(added),
        weights is not None,
    )


def order_systems(runs: Mapping[str, Run], reference: Qrels, model: Qrels, metric: str) -> SystemOrder:
    """The systems by both judges, over the queries that both judged."""
    shared = [query_id for query_id in model if query_id in reference]
    by_reference, by_model = ({query_id: qrels[query_id] for query_id in shared} for qrels in (reference, model))
    values = {
        name: (evaluate(run, by_reference, [metric]).means[metric], evaluate(run, by_model, [metric]).means[metric])
        for name, run in (runs.items() if shared else ())
    }
    return SystemOrder(metric, values, tau_of(list(values.values())))


def tau_of(values: Sequence[tuple[float, float]]) -> float | None:
    """Kendall's tau of pairs of values; None for fewer than two, or where one side is all alike."""
    from scipy.stats import kendalltau

    tau = kendalltau(*zip(*values, strict=True)).statistic if len(values) > 1 else math.nan
    return float(tau) if math.isfinite(tau) else None


def _kappa(
    first: Sequence[int | bool],
    second: Sequence[int | bool],
    grades: Sequence[int | bool],
    how: str | None,
    weights: Sequence[float] | None,
) -> float | None:
    if len({*first, *second}) < 2:  # chance alone would agree always
        return None
    from sklearn.metrics import cohen_kappa_score

    return float(cohen_kappa_score(first, second, labels=grades, weights=how, sample_weight=weights))


def agreement_lines(found: Agreement, model: str) -> list[str]:
    """The kappas and the table of grades."""
    poor = f": poor, {POOR_KAPPA} is where agreement begins to be fair" if found.is_poor else ""
    lines = [
        f"agreement of {model} with {found.reference}: {found.pairs} pairs, {found.same:.0%} with the same grade",
        f"  Cohen's kappa {_number(found.kappa)}, quadratically weighted {_number(found.weighted_kappa)}, "
        f"relevant or not {_number(found.relevant_kappa)}{poor}",
    ]
    head = "".join(f"{grade:>7}" for grade in found.grades)
    lines.append(f"  pairs by grade of {found.reference} (rows) and {model} (columns)")
    lines.append(f"  {'':>7}{head}")
    lines += [
        f"  {grade:>7}" + "".join(f"{count:>7}" for count in row)
        for grade, row in zip(found.grades, found.table, strict=True)
    ]
    return lines + [f"  note: {remark}" for remark in _remarks(found)]


def _remarks(found: Agreement) -> Iterator[str]:
    if found.of_sample:
        yield "each pair of the sample counts for as many as it stands for among all pairs of its grade"
    if found.unjudged_as_0:
        yield f"{found.reference} lists relevant documents alone; {found.unjudged_as_0} pairs it lacks count as 0"
    if found.relevant_from != RELEVANT_FROM:
        yield (
            f"its scale ends below {TOP_GRADE}, so that only relevant or not compares like with like (its grades from "
            f"{found.relevant_from}, the model's from {RELEVANT_FROM})"
        )
    if found.pairs < FEW_PAIRS:
        yield f"{found.pairs} pairs are few; judge more before relying on these numbers"


def order_lines(found: SystemOrder, reference: str, model: str) -> list[str]:
    """The systems by both judges, and tau."""
    width = max(map(len, [*found.values, "system"]))
    lines = [f"systems by {found.metric}: {'':{max(0, width - 12)}}{reference:>24}{model:>24}"]
    best = sorted(found.values.items(), key=lambda item: (-item[1][0], item[0]))
    lines += [f"  {name:{width}}{theirs:>{24}.4f}{ours:>24.4f}" for name, (theirs, ours) in best]
    return [*lines, f"  Kendall's tau over {len(found.values)} systems: {_number(found.tau)}"]


def cautions(agreements: Sequence[Agreement], parameters: int | None) -> list[str]:
    """What to be warned of: agreement that is poor or unknown, and models too small to have any."""
    if poor := [found for found in agreements if found.is_poor]:
        return [
            f"these grades are hardly better than chance (weighted kappa {_number(poor[0].weighted_kappa)} with "
            f"{poor[0].reference}); measure nothing by them. Take a larger model: {LITERATURE}"
        ]
    if agreements:
        return []
    if parameters is not None and parameters < FEW_PARAMETERS:
        return [
            f"judgements of a model with {parameters / 1e6:.0f}M parameters are close to chance; take a larger one: "
            f"{LITERATURE}"
        ]
    return ["nobody compared these grades with a person's; --sample 50 asks you, --qrels FILE names somebody's"]


def as_values(agreements: Sequence[Agreement], orders: Sequence[SystemOrder]) -> dict[str, Any]:
    """The same as JSON values."""
    return {"agreement": [asdict(one) for one in agreements], "systems": [asdict(one) for one in orders]}


def summary(found: Agreement) -> dict[str, Any]:
    """What the note beside the qrels says of it."""
    names = ("pairs", "same", "kappa", "weighted_kappa", "relevant_kappa")
    return {"with": found.reference, **{name: getattr(found, name) for name in names}}


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def agreements_with(grades: Qrels, others: Mapping[str, Qrels]) -> list[Agreement]:
    """Agreement with each of the others, by name, that judged some of the pairs."""
    return list(filter(None, (_agreement(grades, name, qrels) for name, qrels in others.items())))


def note_agreement(output: Path, agreements: Sequence[Agreement]) -> None:
    """Record next to the qrels their agreement with the judge of the most pairs."""
    origin = origin_of(output)
    if origin is not None and agreements:
        most = max(agreements, key=lambda one: one.pairs)
        write_origin(output, replace(origin, agreement=summary(most)))


def _agreement(grades: Qrels, name: str, qrels: Qrels) -> Agreement | None:
    model = pairs_of(grades)
    if name != PERSON:
        return compare_with(model, qrels, name)
    answered = [pair for pair in pairs_of(qrels) if pair in model]
    shares = dict(zip(answered, weights(model, answered), strict=True))
    return compare_with({pair: model[pair] for pair in answered}, qrels, name, shares, TOP_GRADE)
