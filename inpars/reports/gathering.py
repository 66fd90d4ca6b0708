"""What the stages left, as a report's values: written queries, negatives, trainings, facts of the stages.

Files are read in streams, of which a few examples and counts stay. A report therefore holds the same few kilobytes
whether sixty queries were written or a million.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from inpars.filtering.filters import Verdict
from inpars.interchange.triples_source import read_negative_rows
from inpars.manifest import MANIFEST_SUFFIX, Manifest, read_manifest
from inpars.reports.charts import Series, bins_of, evenly
from inpars.reports.content import NegativeExample, Negatives, QueryExample, StageFacts, Training, Written
from inpars.reports.measuring import Texts, passage

EXAMPLES = 8
SUSPECTS = 6
BELOW = "below_top_k"
BY_BM25 = (
    "Negatives that the retriever which found them scores highest beside their positives. That is a weak sign: most "
    "are hard, not false. `inpars audit` has a reranker look at all of them."
)
BY_RERANKER = "Negatives that the reranker scores highest beside their positives."


def written_of(verdicts: Sequence[Verdict], score_name: str, texts: Texts) -> Written:
    """The verdicts on all written queries."""
    kept = [verdict for verdict in verdicts if verdict.reason is None]
    passing = sorted((v.score for v in verdicts if v.reason in (None, BELOW) and math.isfinite(v.score)), reverse=True)
    ranks = [float(rank) for rank in range(1, len(passing) + 1)]
    shown, left_out = shown_queries(verdicts)
    return Written(
        score_name=score_name,
        count=len(verdicts),
        kept=len(kept),
        lowest_kept=min((verdict.score for verdict in kept), default=None),
        bins=bins_of([v.score for v in kept], [v.score for v in verdicts if v.reason is not None]),
        keep_curve=Series("score", evenly(ranks), evenly(passing)),
        dropped=Counter(verdict.reason for verdict in verdicts if verdict.reason is not None),
        kept_examples=[_example(verdict, texts) for verdict in shown],
        dropped_examples=[_example(verdict, texts) for verdict in left_out],
    )


def shown_queries(verdicts: Sequence[Verdict], count: int = EXAMPLES) -> tuple[list[Verdict], list[Verdict]]:
    """Kept and dropped queries to show: spread evenly over the scores, dropped ones over the reasons."""
    kept = sorted((v for v in verdicts if v.reason is None), key=lambda v: -v.score)
    by_reason: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        if verdict.reason is not None:
            by_reason.setdefault(verdict.reason, []).append(verdict)
    queues = [iter(found) for found in by_reason.values()]
    dropped: list[Verdict] = []
    while queues and len(dropped) < count:
        queue = queues.pop(0)
        if (found := next(queue, None)) is not None:
            dropped.append(found)
            queues.append(queue)
    step = max(1, len(kept) // count)
    return kept[::step][:count], dropped


def negatives_of(path: Path, queries: Mapping[str, str], texts: Texts) -> Negatives | None:
    """The file of negatives beside the triples; None where there is none."""
    if not path.exists():
        return None
    rows = list(read_negative_rows(path))
    shares = {position: share for position, row in enumerate(rows) if (share := _share(row)) is not None}
    closest = sorted(shares, key=lambda position: (-shares[position], position))[:SUSPECTS]
    step = max(1, len(rows) // EXAMPLES)
    reranked = any("reranker_score" in row for row in rows)
    return Negatives(
        count=len(rows),
        queries=len({row["query_id"] for row in rows}),
        ranks=bins_of([float(row["rank"]) for row in rows if row.get("rank") is not None]),
        shares=bins_of(list(shares.values())),
        at_least_positive=sum(share >= 1 for share in shares.values()),
        examples=[_negative(row, queries, texts) for row in rows[::step][:EXAMPLES]],
        suspects=[_negative(rows[position], queries, texts) for position in closest],
        suspects_from=BY_RERANKER if reranked else BY_BM25,
    )


def trainings_of(manifests: Mapping[str, Manifest]) -> list[Training]:
    """Curves of the models that were trained, by the name of each."""
    return [_training(name, manifest.results) for name, manifest in manifests.items() if "curve" in manifest.results]


def manifests_in(folder: Path) -> Iterator[tuple[Path, Manifest]]:
    """Every output of a folder that has a manifest, in the order they were begun."""
    outputs = [path.with_name(path.name.removesuffix(MANIFEST_SUFFIX)) for path in folder.rglob(f"*{MANIFEST_SUFFIX}")]
    found = [(output, manifest) for output in sorted(outputs) if (manifest := read_manifest(output)) is not None]
    return iter(sorted(found, key=lambda pair: pair[1].started))


def stages_of(folder: Path) -> list[StageFacts]:
    """The stages as their manifests have them."""
    return [stage_facts(output.relative_to(folder).as_posix(), manifest) for output, manifest in manifests_in(folder)]


def stage_facts(output: str, manifest: Manifest) -> StageFacts:
    """What a report says of one stage; `output` is how its output is called."""
    return StageFacts(
        stage=manifest.stage,
        output=output,
        records=manifest.output.records,
        seconds=manifest.seconds,
        usd=manifest.results.get("usd"),
        device=manifest.device,
        sha256=manifest.output.sha256,
        inputs={name: stamp.sha256 for name, stamp in manifest.inputs.items()},
        arguments=manifest.arguments,
        dropped=manifest.dropped,
        started=manifest.started,
        git_commit=manifest.git_commit,
        workers=manifest.results.get("workers", ()),
    )


def _example(verdict: Verdict, texts: Texts) -> QueryExample:
    query = verdict.query
    return QueryExample(query.query_id, query.text, verdict.score, verdict.reason, passage(query.doc_id, texts))


def _share(row: Mapping[str, Any]) -> float | None:
    """The negative's score as a share of the positive's, by the reranker where there is one; None without both.

    A reranker's margins may be negative: there the share is of their distance, exp(negative - positive).
    """
    score, positive = row.get("reranker_score"), row.get("positive_reranker_score")
    if score is not None and positive is not None:
        return math.exp(min(50.0, float(score) - float(positive)))
    score, positive = row.get("score"), row.get("positive_score")
    if score is None or positive is None or positive <= 0:
        return None
    return float(score) / float(positive)


def _negative(row: Mapping[str, Any], queries: Mapping[str, str], texts: Texts) -> NegativeExample:
    reranked = row.get("reranker_score") is not None
    return NegativeExample(
        query_id=row["query_id"],
        query=queries.get(row["query_id"], row["query_id"]),
        positive=passage(row["positive_doc_id"], texts),
        negative=passage(row["negative_doc_id"], texts),
        source=str(row.get("source")),
        rank=row.get("rank"),
        score=row["reranker_score"] if reranked else row.get("score"),
        positive_score=row.get("positive_reranker_score") if reranked else row.get("positive_score"),
        scored_by="reranker" if reranked else "score",
    )


def _training(name: str, results: Mapping[str, Any]) -> Training:
    curve = results["curve"]
    validations = evenly(curve.get("validations", ())), evenly(curve.get("validation_steps", ()))
    return Training(
        name,
        Series("loss", evenly(curve["steps"]), evenly(curve["losses"])),
        Series("nDCG@10", validations[1], validations[0]),
        str(results.get("validated_by", "")),
        str(results.get("warning", "")),
    )
