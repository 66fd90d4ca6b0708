"""The audit stage: a reranker looks for false negatives among triples; the same or better triples out.

Next to `NAME.tsv` it writes `NAME.ids.tsv` and `NAME.negatives.jsonl` if the input has ids, and `NAME.audit.json` with
counts and the worst examples. Every pair of query and document is scored once and saved in `<output>.partial`. Memory
holds a few numbers per triple, no texts.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, Unpack

import numpy as np
import numpy.typing as npt

from inpars.batches import chunks
from inpars.errors import ConfigError
from inpars.io.corpus import Corpus
from inpars.io.manifest import Manifest, stamp
from inpars.io.storage import atomic_writer
from inpars.models.compute_options import ComputingOptions
from inpars.negatives.audit import AuditAction, AuditedTriple, apply_action, tally
from inpars.options import option
from inpars.progress import Progress
from inpars.prompts.templates import Prompt
from inpars.protocols import PairScorer
from inpars.rerankers.kinds import ScorerKind, kind_help
from inpars.stages.partial import ScoreCache
from inpars.stages.rerank import RerankOptions, load_run_scorer
from inpars.stages.stage import Outcome, Running, Stage, input_stamps
from inpars.stages.triple_files import (
    PairKeys,
    TripleRow,
    beside_triples,
    ids_path,
    negatives_path,
    read_triple_rows,
    scan_pairs,
    triple_writer,
)
from inpars.training.examples import TripleTexts

STAGE = "audit"
PAIRS_PER_BATCH = 64  # saved together: a few seconds on a CPU


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditOptions(ComputingOptions):
    """How false negatives are found and treated."""

    action: AuditAction = "keep"  # set by three flags
    model: str = option("smollm2-135m", help="reranker: embedded name, folder or hub id")
    kind: ScorerKind | Literal["auto"] = option("auto", help=kind_help("what the model is"))
    margin: float = option(0.0, help="a negative is false if it scores above its positive minus X", minimum=0)
    examples: int = option(10, help="false negatives to print, worst first", minimum=0)
    max_length: int | None = option(
        None, help="maximum input length in tokens, query and document together (default: the model's limit)", minimum=1
    )
    true_token: str | None = option(None, help="output token that means relevant")
    false_token: str | None = option(None, help="output token that means not relevant")
    batch_tokens: int | None = option(
        None,
        help="padded tokens per batch (default: 1024 on a CPU, 2048 with AMX, 8192 on a GPU)",
        changes_result=False,
        minimum=1,
    )


def load_auditor(options: AuditOptions, prompt: Prompt | None = None) -> PairScorer:
    """The scorer that the options name."""
    names = ("model", "kind", "max_length", "true_token", "false_token", "batch_tokens")
    settings = {name: getattr(options, name) for name in names}
    return load_run_scorer(RerankOptions(**settings, **options.computing), prompt)


def report_path(triples: Path) -> Path:
    """The file of counts and examples: `triples.audit.json` for `triples.tsv`."""
    return beside_triples(triples, "audit.json")


def audit_triples(
    source: Path,
    options: AuditOptions,
    *,
    output: Path,
    make_scorer: Callable[[], PairScorer],
    corpus: Corpus | None = None,
    prompt: Prompt | None = None,
    **running: Unpack[Running],
) -> Manifest:
    """Write the remaining triples. Given a corpus and ids the scorer reads its texts, otherwise the triples'."""
    inputs = {"triples": stamp(source)} | input_stamps(prompt=prompt, corpus=corpus, model=options.model)
    read = {"ids": ids_path(source), "negatives": negatives_path(source)}
    inputs |= {name: stamp(path) for name, path in read.items() if path.exists()}
    sides = [report_path(output), *((ids_path(output), negatives_path(output)) if "ids" in inputs else ())]
    stage = Stage(STAGE, options, output, inputs, sides, **running)

    def work() -> Outcome:
        keys = scan_pairs(source, check_order=options.action == "relabel")
        with ScoreCache(stage.partial, make_scorer) as scorer:
            scores = _score(source, keys, scorer, corpus, stage.progress)
        audited = _write(source, output, scores, options)
        return Outcome(audited.written, {"false_negative": audited.dropped}, audited.results() | {"pairs": keys.pairs})

    return stage.run(work)


def _score(
    source: Path, keys: PairKeys, scorer: PairScorer, corpus: Corpus | None, progress: Progress
) -> npt.NDArray[np.float64]:
    """Scores of positives and negatives, (triples, 2)."""
    scores = np.empty(keys.pairs, dtype=np.float64)
    done = 0
    batches = progress.track(
        chunks(_pairs(source, keys, corpus), PAIRS_PER_BATCH), total=keys.pairs, description="audit", unit="pairs"
    )
    for batch in batches:
        scores[done : done + len(batch)] = scorer.score(batch)
        done += len(batch)
        progress.advance(len(batch))
    pairs_of_triples: npt.NDArray[np.float64] = scores[keys.number].reshape(-1, 2)
    return pairs_of_triples


def _pairs(source: Path, keys: PairKeys, corpus: Corpus | None) -> Iterator[tuple[str, str]]:
    """Query and document of each pair at its first appearance."""
    for position, row in enumerate(read_triple_rows(source)):
        named = (row.ids.positive_doc_id, row.ids.negative_doc_id) if row.ids else (None, None)
        for offset, text in enumerate((row.texts.positive, row.texts.negative)):
            if keys.first[2 * position + offset]:
                doc_id = named[offset]
                yield row.texts.query, text if corpus is None or doc_id is None else corpus[doc_id].full_text


@dataclass(slots=True)
class _Audit:
    """Counts and worst examples of an audit."""

    examples: int
    written: int = 0
    dropped: int = 0
    relabelled: int = 0
    queries: int = 0
    false: int = 0
    by_source: dict[str, dict[str, int]] = field(default_factory=dict)
    worst: list[tuple[float, int, AuditedTriple]] = field(default_factory=list)  # a heap, the mildest first

    def add(self, before: list[AuditedTriple], after: list[AuditedTriple], margin: float) -> None:
        self.queries += 1
        tally(before, margin, self.by_source)
        self.written += len(after)
        unchanged = set(map(id, before)) & set(map(id, after))
        self.dropped += len(before) - len(unchanged)
        self.relabelled += len(after) - len(unchanged)
        for triple in before:
            if triple.is_false(margin) and self.examples:
                self.false += 1
                heapq.heappush(self.worst, (triple.excess, -self.false, triple))
                if len(self.worst) > self.examples:
                    heapq.heappop(self.worst)

    def results(self) -> dict[str, Any]:
        names = ("triples", "above_positive", "above_margin")
        total = {name: sum(counts[name] for counts in self.by_source.values()) for name in names}
        return {
            "queries": self.queries,
            **total,
            "written": self.written,
            "dropped": self.dropped,
            "relabelled": self.relabelled,
            "by_source": self.by_source,
        }

    def worst_examples(self) -> list[dict[str, Any]]:
        ordered = sorted(self.worst, key=lambda entry: (-entry[0], -entry[1]))
        return [
            {
                **(triple.record() if triple.ids else {}),
                "query": triple.query,
                "positive": triple.positive,
                "negative": triple.negative,
                "reranker_score": triple.negative_score,
                "positive_reranker_score": triple.positive_score,
            }
            for _, _, triple in ordered
        ]


def _write(source: Path, output: Path, scores: npt.NDArray[np.float64], options: AuditOptions) -> _Audit:
    """Write all files atomically in one pass over the triples, query by query."""
    result = _Audit(options.examples)
    audited = (
        AuditedTriple(
            row.texts.query, row.texts.positive, row.texts.negative, float(pair[0]), float(pair[1]), row.ids, row.origin
        )
        for row, pair in zip(read_triple_rows(source), scores, strict=True)
    )
    with triple_writer(output, with_ids=ids_path(source).exists()) as write:
        for _, group in groupby(audited, key=lambda triple: (triple.ids.query_id if triple.ids else "", triple.query)):
            before = list(group)
            after = apply_action(before, options.action, options.margin)
            result.add(before, after, options.margin)
            for triple in after:
                texts = TripleTexts(triple.query, triple.positive, triple.negative)
                write(TripleRow(texts, triple.ids, triple.record()))
        if not result.written:
            raise ConfigError(f"{source}: every negative is called false, no triple is left; audit with another model")
        with atomic_writer(report_path(output)) as report:
            json.dump(result.results() | {"examples": result.worst_examples()}, report, ensure_ascii=False, indent=1)
    return result
