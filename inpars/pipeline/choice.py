"""Choose the gate and the first stages, and rebuild the evidence of a finished choice: the content of `choice.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from inpars.fusion.gate import PRIOR, QueryFeatures, findings
from inpars.fusion.matching import matched_weights, traits_of
from inpars.fusion.stage_choice import choose_stages, headroom
from inpars.fusion.system import BM25, FirstStage, SearchSystem
from inpars.io.corpus import Corpus
from inpars.io.formats import read_queries, read_run
from inpars.io.runs import cut
from inpars.io.topics import Topics
from inpars.pipeline.evidence import UNLABELLED
from inpars.pipeline.measurement import QUERIES
from inpars.pipeline.system_runs import FUSION_DEPTH
from inpars.records import Run
from inpars.retrieval.bm25 import bm25_index

WRITTEN, JUDGED = "written", "judged"
UNTOLD = "synthetic queries cannot tell what a reranker is worth: the model that it starts from wrote them"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceEvidence:
    """The first-stage runs of the choosing queries, and of unjudged real queries if there are any."""

    topics: Topics
    runs: Mapping[str, Run]
    judged: bool = False
    unlabelled: Topics | None = None
    unlabelled_runs: Mapping[str, Run] | None = None
    match: bool = False


def lines_about(choice: Mapping[str, Any]) -> list[str]:
    """Describe the choice: its queries, the headroom for reranking, and the stages in and out of the system."""
    shares = choice["headroom"]
    lines = [
        f"chosen by {choice['queries']} {choice['by']} queries; the mix has the answer of {shares['first_10']:.0%} in "
        f"its first 10 documents, of {shares['first_100']:.0%} further down in its first 100, which reranking can gain"
    ]
    for trial in choice["trials"]:
        is_in = "in" if trial["taken"] else "out"
        lines.append(
            f"{trial['name']}: {is_in} ({trial['difference']:+.4f}, standard error {trial['standard_error']:.4f})"
        )
    if (match := choice.get("match")) is not None:
        pairs = ", ".join(
            f"{name} {match['before'][name]:.2f} of {value:.2f}" for name, value in match["target"].items()
        )
        lines.append(f"synthetic queries compared with {match['target_queries']} real ones: {pairs}")
    return lines


def choice_of(
    corpus: Corpus, evidence: ChoiceEvidence, bm25: Mapping[str, Any], *, threads: int | None = None
) -> dict[str, Any]:
    """The content of `choice.json`: gate, stages, their trials, headroom, and how synthetic queries match real ones."""
    coverage = bm25_index(corpus, **bm25, threads=threads).coverage()

    def features_for(topics: Topics, runs: Mapping[str, Run]) -> dict[str, QueryFeatures]:
        first = next(name for name in runs if name != BM25)
        return findings(topics.queries, runs[BM25], runs[first], coverage, lambda doc_id: corpus[doc_id].full_text)

    topics, runs = evidence.topics, evidence.runs
    features, lexical = features_for(topics, runs), runs[BM25]
    dense = {name: run for name, run in runs.items() if name != BM25}
    weights = dict.fromkeys(topics.queries, 1.0) if evidence.judged else None
    match = None
    if evidence.unlabelled is not None and evidence.unlabelled_runs is not None and features:
        real = traits_of(evidence.unlabelled.queries, features_for(evidence.unlabelled, evidence.unlabelled_runs))
        traits = traits_of(topics.queries, features)
        tilted, match = matched_weights(list(traits.values()), list(real.values()))
        if evidence.match and not evidence.judged:
            weights = dict(zip(traits, tilted, strict=True))
    choice, names, trials = choose_stages(PRIOR, features, lexical, dense, topics.qrels, FUSION_DEPTH, weights)
    system = _mix(names, choice.gate.offset, bm25)
    shares = {query_id: system.gate.share(one) for query_id, one in features.items()} if system.gate else None
    mix = system.fuse(runs, FUSION_DEPTH, shares)
    weighing = "alike" if evidence.judged else "matched" if weights else "easy ones a quarter"
    return {
        **asdict(choice),
        "by": JUDGED if evidence.judged else WRITTEN,
        "weighing": weighing,
        "stages": list(names),
        "trials": [asdict(trial) for trial in trials],
        "headroom": asdict(headroom(mix, topics.qrels)),
        "match": None if match is None else asdict(match),
        "reranker": "reranking.json" if evidence.judged else f"default weight and depth: {UNTOLD}",
    }


def _mix(names: Sequence[str], offset: float, bm25: Mapping[str, Any]) -> SearchSystem:
    """The system that fuses these stages' runs; fusing does not need their models."""
    stages = (FirstStage(name=BM25, retriever=BM25), *(FirstStage(name=name, retriever=name) for name in names))
    return SearchSystem(stages=stages, gate=PRIOR.moved(offset), fusion_depth=FUSION_DEPTH, **bm25)


def evidenced(topics: Topics, folder: Path, names: Sequence[str], arguments: Mapping[str, Any]) -> ChoiceEvidence:
    """Read the evidence of a finished choice from its folder, by its manifest's input names and arguments."""
    run_names = [name for name in names if name != "queries" and not name.startswith(UNLABELLED)]
    real = [name.removeprefix(f"{UNLABELLED} ") for name in names if name.startswith(f"{UNLABELLED} ")]
    unlabelled = None
    if real:
        queries = read_queries(folder / UNLABELLED / "topics" / QUERIES)
        unlabelled = Topics(UNLABELLED, {query.query_id: query.text for query in queries}, {})
    return ChoiceEvidence(
        topics=topics,
        runs=read_lists({name: folder / f"{name}.trec" for name in run_names}),
        judged=arguments.get("by", WRITTEN) == JUDGED,
        unlabelled=unlabelled,
        unlabelled_runs=read_lists({name: folder / UNLABELLED / f"{name}.trec" for name in real}),
        match=bool(arguments.get("match", False)),
    )


def read_lists(paths: Mapping[str, Path]) -> dict[str, Run]:
    """Read runs, cut to the fusion depth."""
    return {name: cut(read_run(path), FUSION_DEPTH) for name, path in paths.items()}
