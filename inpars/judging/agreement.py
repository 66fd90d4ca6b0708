"""Agreement of a model's grades with other judges: Cohen's kappa over pairs, Kendall's tau over systems.

Kappa is computed by scikit-learn, tau by scipy. Cohen 1960, 1968; Kendall 1938; UMBRELA (arXiv 2406.06519) reports
both. Also formats the results as tables, with warnings about grades not to trust.
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
RELEVANT_FROM = 2  # on a scale to 3, as in TREC's Deep Learning tracks; 1 on shorter scales
FEW_PARAMETERS = 1_000_000_000  # no published agreement beyond chance for smaller models
FEW_PAIRS = 50  # a kappa over fewer says little
LITERATURE = (
    "published agreement is that of large models: GPT-4o (UMBRELA, arXiv 2406.06519), DeepSeek-V3 as good, "
    "Llama-3.3-70B slightly below and smaller ones further (arXiv 2507.09483)"
)
PERSON, BY_MODEL = "you", " (judged by "


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of a model with a reference on the same pairs. A kappa is None if both gave all pairs one grade."""

    reference: str  # display name
    pairs: int
    same: float  # share of equal grades
    kappa: float | None
    weighted_kappa: float | None  # quadratic
    relevant_kappa: float | None  # on relevant or not
    relevant_from: int  # lowest relevant grade of the reference
    grades: Sequence[int]
    table: Sequence[Sequence[int]]  # pairs by the reference's grade (rows) and the model's (columns)
    unjudged_as_0: int = 0  # pairs missing from the reference and counted as grade 0
    of_sample: bool = False  # whether the kappas are weighted by inverse sampling rate

    @property
    def is_poor(self) -> bool:
        """Whether agreement is hardly better than chance."""
        return self.weighted_kappa is None or self.weighted_kappa <= POOR_KAPPA


@dataclass(frozen=True, slots=True)
class SystemOrder:
    """Systems evaluated on the judgements of both; `tau` as in `tau_of`."""

    metric: str
    values: Mapping[str, tuple[float, float]]  # system -> (value by the reference, value by the model)
    tau: float | None


def compare_with(
    model: Mapping[Pair, int],
    reference: Qrels,
    name: str,
    weights: Mapping[Pair, float] | None = None,
    top: int | None = None,
) -> Agreement | None:
    """Agreement over the pairs that both judged; None if there are none.

    If the reference lists relevant documents only, as in many collections, its queries' other documents count as 0.
    `weights` are the number of pairs that each sampled pair represents, `top` is the highest grade of the reference's
    scale (default: the highest that it gave).
    """
    judged = {(q, d): reference[q][d] for q, d in model if d in reference.get(q, {})}
    if not judged:
        return None
    from sklearn.metrics import confusion_matrix

    given = [grade for grades in reference.values() for grade in grades.values()]
    added = [pair for pair in model if pair not in judged and pair[0] in reference] if min(given) > 0 else []
    judged |= dict.fromkeys(added, 0)
    pairs = [pair for pair in model if pair in judged]
    theirs, ours = [max(judged[pair], 0) for pair in pairs], [model[pair] for pair in pairs]
    start = RELEVANT_FROM if (max(given) if top is None else top) >= TOP_GRADE else 1
    grades = list(range(max(TOP_GRADE, *theirs) + 1))
    sample_weights = None if weights is None else [weights[pair] for pair in pairs]
    relevant = [grade >= start for grade in theirs], [grade >= RELEVANT_FROM for grade in ours]
    return Agreement(
        name,
        len(pairs),
        sum(a == b for a, b in zip(theirs, ours, strict=True)) / len(pairs),
        _kappa(theirs, ours, grades, None, sample_weights),
        _kappa(theirs, ours, grades, "quadratic", sample_weights),
        _kappa(*relevant, [False, True], None, sample_weights),
        start,
        grades,
        confusion_matrix(theirs, ours, labels=grades).tolist(),
        len(added),
        weights is not None,
    )


def order_systems(runs: Mapping[str, Run], reference: Qrels, model: Qrels, metric: str) -> SystemOrder:
    """Evaluate the systems with both sets of judgements, on the queries that both judged."""
    shared = [query_id for query_id in model if query_id in reference]
    by_reference, by_model = ({query_id: qrels[query_id] for query_id in shared} for qrels in (reference, model))
    values = {
        name: (evaluate(run, by_reference, [metric]).means[metric], evaluate(run, by_model, [metric]).means[metric])
        for name, run in (runs.items() if shared else ())
    }
    return SystemOrder(metric, values, tau_of(list(values.values())))


def tau_of(values: Sequence[tuple[float, float]]) -> float | None:
    """Kendall's tau of pairs of values; None for fewer than two pairs or if one side is constant."""
    from scipy.stats import kendalltau

    tau = kendalltau(*zip(*values, strict=True)).statistic if len(values) > 1 else math.nan
    return float(tau) if math.isfinite(tau) else None


def _kappa(
    first: Sequence[int | bool],
    second: Sequence[int | bool],
    grades: Sequence[int | bool],
    weighting: str | None,
    sample_weights: Sequence[float] | None,
) -> float | None:
    if len({*first, *second}) < 2:  # undefined: expected agreement is 1
        return None
    from sklearn.metrics import cohen_kappa_score

    return float(cohen_kappa_score(first, second, labels=grades, weights=weighting, sample_weight=sample_weights))


def agreement_lines(agreement: Agreement, model: str) -> list[str]:
    """The kappas and the table of grades."""
    poor = f": poor, {POOR_KAPPA} is where agreement begins to be fair" if agreement.is_poor else ""
    lines = [
        f"agreement of {model} with {agreement.reference}: {agreement.pairs} pairs, "
        f"{agreement.same:.0%} with the same grade",
        f"  Cohen's kappa {_number(agreement.kappa)}, quadratically weighted {_number(agreement.weighted_kappa)}, "
        f"relevant or not {_number(agreement.relevant_kappa)}{poor}",
    ]
    head = "".join(f"{grade:>7}" for grade in agreement.grades)
    lines.append(f"  pairs by grade of {agreement.reference} (rows) and {model} (columns)")
    lines.append(f"  {'':>7}{head}")
    lines += [
        f"  {grade:>7}" + "".join(f"{count:>7}" for count in row)
        for grade, row in zip(agreement.grades, agreement.table, strict=True)
    ]
    return lines + [f"  note: {remark}" for remark in _remarks(agreement)]


def _remarks(agreement: Agreement) -> Iterator[str]:
    if agreement.of_sample:
        yield "pairs of the sample are weighted by how many of all pairs with their grade they represent"
    if agreement.unjudged_as_0:
        name, count = agreement.reference, agreement.unjudged_as_0
        yield f"{name} lists relevant documents only; {count} pairs missing from it count as 0"
    if agreement.relevant_from != RELEVANT_FROM:
        yield (
            f"its scale ends below {TOP_GRADE}, so that only relevant or not compares like with like (its grades from "
            f"{agreement.relevant_from}, the model's from {RELEVANT_FROM})"
        )
    if agreement.pairs < FEW_PAIRS:
        yield f"{agreement.pairs} pairs are few; judge more before relying on these numbers"


def order_lines(order: SystemOrder, reference: str, model: str) -> list[str]:
    """The systems' values by both judges, and tau."""
    width = max(map(len, [*order.values, "system"]))
    lines = [f"systems by {order.metric}: {'':{max(0, width - 12)}}{reference:>24}{model:>24}"]
    best = sorted(order.values.items(), key=lambda item: (-item[1][0], item[0]))
    lines += [f"  {name:{width}}{theirs:>{24}.4f}{ours:>24.4f}" for name, (theirs, ours) in best]
    return [*lines, f"  Kendall's tau over {len(order.values)} systems: {_number(order.tau)}"]


def cautions(agreements: Sequence[Agreement], parameters: int | None) -> list[str]:
    """Warnings about poor or unknown agreement, and about models too small to be trusted."""
    if poor := [agreement for agreement in agreements if agreement.is_poor]:
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
    """Agreements and system orders as JSON values."""
    return {"agreement": [asdict(one) for one in agreements], "systems": [asdict(one) for one in orders]}


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def agreements_with(grades: Qrels, others: Mapping[str, Qrels]) -> list[Agreement]:
    """Agreement with each of the other judges (name -> judgements) that judged some of the pairs."""
    return list(filter(None, (_agreement(pairs_of(grades), name, qrels) for name, qrels in others.items())))


def note_agreement(output: Path, agreements: Sequence[Agreement]) -> None:
    """Store next to the qrels their agreement with the judge who shares the most pairs."""
    origin = origin_of(output)
    if origin is not None and agreements:
        largest = max(agreements, key=lambda agreement: agreement.pairs)
        names = ("pairs", "same", "kappa", "weighted_kappa", "relevant_kappa")
        summary = {"with": largest.reference, **{name: getattr(largest, name) for name in names}}
        write_origin(output, replace(origin, agreement=summary))


def _agreement(model: Mapping[Pair, int], name: str, qrels: Qrels) -> Agreement | None:
    if name != PERSON:
        return compare_with(model, qrels, name)
    answered = [pair for pair in pairs_of(qrels) if pair in model]
    shares = dict(zip(answered, weights(model, answered), strict=True))
    return compare_with({pair: model[pair] for pair in answered}, qrels, name, shares, TOP_GRADE)
