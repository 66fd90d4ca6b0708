"""Whom a model's grades are compared with: a person who judged a sample, and judgements that were there before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from inpars.io.model_judgements import origin_of, write_origin
from inpars.judging.agreement import TOP_GRADE, Agreement, compare_with
from inpars.judging.report import summary
from inpars.judging.sample import pairs_of, weights
from inpars.records import Qrels

PERSON, BY_MODEL = "you", " (judged by "


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
