"""Handles mined negatives that a reranker scores above the positive.

Such a negative is probably an unjudged relevant document. Its triples are kept, dropped or relabelled: the negative
becomes another positive of its query, as in RLHN (arXiv 2505.16967).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from inpars.records import Triple

AuditAction: TypeAlias = Literal["keep", "drop", "relabel"]


@dataclass(frozen=True, slots=True)
class AuditedTriple:
    """A triple with the reranker's scores, and its ids and the negative's origin if known."""

    query: str
    positive: str
    negative: str
    positive_score: float
    negative_score: float
    ids: Triple | None = None
    origin: Mapping[str, Any] | None = None  # the row of negatives.jsonl

    def is_false(self, margin: float = 0.0) -> bool:
        """Whether the negative scores above the positive's score minus the margin."""
        return self.negative_score > self.positive_score - margin

    @property
    def excess(self) -> float:
        """Negative score minus positive score."""
        return self.negative_score - self.positive_score

    def record(self) -> dict[str, Any]:
        """The row of negatives.jsonl, with the reranker's scores."""
        ids = self.ids or Triple("", "", "")
        known = {"source": None, "rank": None, "score": None, "positive_score": None} | dict(self.origin or {})
        return {
            "query_id": ids.query_id,
            "positive_doc_id": ids.positive_doc_id,
            "negative_doc_id": ids.negative_doc_id,
            **{name: value for name, value in known.items() if not name.endswith("_id")},
            "reranker_score": self.negative_score,
            "positive_reranker_score": self.positive_score,
        }


def apply_action(triples: Sequence[AuditedTriple], action: AuditAction, margin: float = 0.0) -> list[AuditedTriple]:
    """The triples of one query after the action."""
    if action == "keep":
        return list(triples)
    if action == "drop":
        return [triple for triple in triples if not triple.is_false(margin)]
    return _relabelled(triples, margin)


def _relabelled(triples: Sequence[AuditedTriple], margin: float) -> list[AuditedTriple]:
    """The triples of true negatives, then each false negative as a positive with the negatives that score below it."""
    positives = {triple.positive for triple in triples}
    false_negatives = {triple.negative: triple for triple in triples if triple.is_false(margin)}
    remaining = [triple for triple in triples if triple.negative not in false_negatives]
    true_negatives = list({triple.negative: triple for triple in remaining}.values())
    new = (
        _relabelled_triple(false_one, true_one)
        for text, false_one in false_negatives.items()
        if text not in positives
        for true_one in true_negatives
    )
    return [*remaining, *(triple for triple in new if not triple.is_false(margin))]


def _relabelled_triple(false_one: AuditedTriple, true_one: AuditedTriple) -> AuditedTriple:
    """A triple of the false negative as positive and the true negative."""
    ids = origin = None
    if false_one.ids is not None and true_one.ids is not None:
        ids = replace(true_one.ids, positive_doc_id=false_one.ids.negative_doc_id)
    if false_one.origin is not None and true_one.origin is not None:
        same = false_one.origin.get("source") == true_one.origin.get("source")
        score = false_one.origin.get("score") if same else None  # scores of different retrievers are not comparable
        known = {name: value for name, value in true_one.origin.items() if name != "positive_grade"}
        graded = {"positive_grade": 1} if "positive_grade" in true_one.origin else {}  # the new positive has no grade
        origin = {**known, "positive_score": score, "relabelled": True, **graded}
    return AuditedTriple(
        true_one.query,
        false_one.negative,
        true_one.negative,
        false_one.negative_score,
        true_one.negative_score,
        ids,
        origin,
    )


def tally(triples: Iterable[AuditedTriple], margin: float, counts: dict[str, dict[str, int]]) -> None:
    """Count triples, and those whose negative scores too high, by source of the negative."""
    for triple in triples:
        source = str((triple.origin or {}).get("source") or "unknown")
        source_counts = counts.setdefault(source, {"triples": 0, "above_positive": 0, "above_margin": 0})
        source_counts["triples"] += 1
        source_counts["above_positive"] += triple.is_false()
        source_counts["above_margin"] += triple.is_false(margin)
