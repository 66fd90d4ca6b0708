"""What more training data would bring: the bi-encoder trained on parts of the triples too, each judged inside the mix.

The parts are the first triples of the file, whose queries are the likeliest. The queries that judge are those that
choose the system.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from inpars.fusion.choice import judged_mix
from inpars.fusion.gate import PRIOR, findings
from inpars.fusion.stage_choice import TUNED, paired
from inpars.fusion.system import BM25, FirstStage
from inpars.io.manifest import Manifest, stamp
from inpars.io.storage import write_json
from inpars.io.topics import Topics
from inpars.pipeline.choice import read_lists
from inpars.pipeline.system_runs import FUSION_DEPTH, RunContext, search_stage
from inpars.pipeline.trainings import TRIPLES, retriever_options
from inpars.retrieval.bm25 import bm25_index
from inpars.stages.stage import Outcome, Stage
from inpars.stages.train import train_retriever_from_file

OUTPUT = "choice/learning-curve.json"
PARTS = {"quarter": 0.25, "half": 0.5}
UNTUNED, ALL = "untuned", "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """A bi-encoder trained on so many triples, beside the untuned ones in the mix."""

    name: str
    triples: int
    value: float  # nDCG@10
    difference: float  # from the mix without it
    standard_error: float


def learning_curve(run: RunContext, topics: Topics, paths: Mapping[str, Path], triples: Manifest) -> Manifest:
    """Train, search and judge; `paths` are the runs of the first stages for the queries, the tuned one's among them."""
    total, output = triples.output.records or 0, run.path(OUTPUT)
    sizes = {name: max(1, round(share * total)) for name, share in PARTS.items()}
    tuned = {name: _searched(run, topics, name, size) for name, size in sizes.items()} | {ALL: paths[TUNED]}
    untuned = {name: path for name, path in paths.items() if name != TUNED}

    def work() -> Outcome:
        points = _points(run, topics, untuned, tuned, sizes | {ALL: total})
        values = {"points": [asdict(point) for point in points]}
        write_json(output, {"queries": len(topics.queries), **values})
        run.progress.note("\n".join(table(points)))
        return Outcome(len(points), {}, values)

    inputs = {"queries": topics.stamp, **{name: stamp(path) for name, path in (untuned | tuned).items()}}
    settings = {"depth": FUSION_DEPTH, "judged": run.evidence.judged is not None}
    return Stage("learning curve", settings, output, inputs, **run.stage_kwargs).run(work)


def table(points: list[CurvePoint]) -> list[str]:
    """A line per point."""
    lines = [f"{'trained on':10} {'triples':>8} {'nDCG@10':>8} {'gain':>8} {'s.e.':>7}"]
    for point in points:
        numbers = f"{point.value:8.4f} {point.difference:+8.4f} {point.standard_error:7.4f}"
        lines.append(f"{point.name:10} {point.triples:8,} {numbers}")
    return lines


def _searched(run: RunContext, topics: Topics, name: str, triples: int) -> Path:
    model = run.path(f"choice/curve-{name}")
    options = replace(retriever_options(run), limit=triples)
    train_retriever_from_file(run.path(TRIPLES), options, output=model, **run.stage_kwargs)
    windows = run.options.window_tokens or None
    stage = FirstStage(name=f"curve-{name}", retriever=str(model), window_tokens=windows)
    return search_stage(run, topics, f"choice/curve-{name}-run", stage, k=FUSION_DEPTH, shown=False)


def _points(
    run: RunContext, topics: Topics, untuned: Mapping[str, Path], tuned: Mapping[str, Path], sizes: Mapping[str, int]
) -> list[CurvePoint]:
    corpus, runs, more = run.dataset.corpus, read_lists(untuned), read_lists(tuned)
    dense = [features for name, features in runs.items() if name != BM25]
    coverage = bm25_index(corpus, threads=run.options.threads).coverage()
    features = findings(topics.queries, runs[BM25], dense[0], coverage, lambda doc_id: corpus[doc_id].full_text)
    weights = dict.fromkeys(features, 1.0) if run.evidence.judged is not None else None
    mix_options = (topics.qrels, FUSION_DEPTH, weights)
    base = judged_mix(PRIOR, features, runs[BM25], dense, *mix_options)
    points = [CurvePoint(name=UNTUNED, triples=0, value=base.choice.chosen, difference=0.0, standard_error=0.0)]
    for name, tuned_run in more.items():
        mix = judged_mix(PRIOR, features, runs[BM25], [*dense, tuned_run], *mix_options)
        difference, error = paired(mix.values, base.values, base.weights)
        value = mix.choice.chosen
        points.append(
            CurvePoint(name=name, triples=sizes[name], value=value, difference=difference, standard_error=error)
        )
    return points
