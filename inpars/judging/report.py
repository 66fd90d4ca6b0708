"""What is said of a model's judgements: agreement with a person or with others as tables, and how far to trust them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from inpars.io.model_judgements import POOR_KAPPA, origin_of, write_origin
from inpars.judging.agreement import RELEVANT_FROM, TOP_GRADE, Agreement, SystemOrder, compare_with
from inpars.judging.sample import pairs_of, weights
from inpars.records import Qrels

FEW_PARAMETERS = 1_000_000_000  # below, nothing published shows agreement beyond chance
FEW_PAIRS = 50  # a kappa over fewer says little
LITERATURE = (
    "published agreement is that of large models: GPT-4o (UMBRELA, arXiv 2406.06519), DeepSeek-V3 as good, "
    "Llama-3.3-70B slightly below and smaller ones further (arXiv 2507.09483)"
)
PERSON, BY_MODEL = "you", " (judged by "


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
