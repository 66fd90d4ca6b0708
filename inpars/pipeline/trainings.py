"""Train the models of a whole run, skipping trainings whose triples would teach nothing.

A share of the queries is held out, by document, to choose the system: training queries cannot show whether the tuned
bi-encoder is better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from inpars.errors import ConfigError
from inpars.fusion.choice import judged_mix
from inpars.fusion.gate import PRIOR, findings
from inpars.fusion.stage_choice import TUNED, paired
from inpars.fusion.system import BM25, FirstStage
from inpars.io.manifest import Manifest, stamp
from inpars.io.storage import write_json
from inpars.io.topics import Topics
from inpars.pipeline.choice import read_lists
from inpars.pipeline.given_queries import written_alone
from inpars.pipeline.held_out import choice_files
from inpars.pipeline.system_runs import FUSION_DEPTH, RunContext, search_stage
from inpars.retrieval.bm25 import bm25_index
from inpars.stages.split import SplitOptions, split_file
from inpars.stages.stage import Outcome, Stage
from inpars.stages.train import train_reranker_from_file, train_retriever_from_file
from inpars.stages.triples import TriplesOptions, write_triples
from inpars.training.options import RerankerOptions, RetrieverOptions
from inpars.training.signal import reranker_signal, retriever_signal

CHOICE_SHARE = 0.25  # share of the queries to choose the system by
RERANKER_BATCH = 8  # queries per training step of the reranker
RERANKER_PASSES = 2  # passes per step: a decoder needs 4.1 GB instead of 6.5 GB, in the same time
OF_THE_AUTHOR = (
    "it wrote the queries itself and tells their documents from others already; another --reranker, or a teacher, "
    "would have something to learn"
)
TRIPLES = "triples.tsv"
CURVE = "choice/learning-curve.json"
PARTS = {"quarter": 0.25, "half": 0.5}
UNTUNED, ALL = "untuned", "all"


def train_models(run: RunContext, queries: Path) -> tuple[dict[str, Manifest], dict[str, str]]:
    """The manifests of finished work (`triples`, `retriever`, `reranker`), and why other trainings were skipped."""
    options = run.options
    needed = {"retriever": options.retriever != BM25, "reranker": options.trains_reranker}
    never = (
        "--training never was given"
        if options.budget is None
        else f"--training never, by the plan for {options.budget}"
    )
    skipped = dict.fromkeys([name for name in needed if needed[name] and options.training == "never"], never)
    if options.training == "auto" and options.reranker == options.model and needed["reranker"]:
        skipped["reranker"] = OF_THE_AUTHOR
    remaining = [name for name, is_needed in needed.items() if is_needed and name not in skipped]
    done: dict[str, Manifest] = {}
    if remaining:
        try:
            done["triples"] = _mine_triples(run, _to_train_on(run, queries))
        except ConfigError as error:  # no negatives, in a very small collection
            if options.training == "always":
                raise
            run.progress.withdraw(run.path(TRIPLES))
            skipped, remaining = skipped | dict.fromkeys(remaining, str(error)), []
    trainings: dict[str, Callable[[], Manifest | str]] = {
        "retriever": lambda: _train_retriever(run),
        "reranker": lambda: _train_reranker(run, done["triples"]),
    }
    for name in remaining:
        outcome = trainings[name]()
        if isinstance(outcome, Manifest):
            done[name] = outcome
        else:
            skipped[name] = outcome
    for name, reason in skipped.items():
        run.progress.note(f"the {name} is not trained: {reason}")
    return done, skipped


def choice_queries(run: RunContext, queries: Path, done: Mapping[str, Manifest]) -> Path:
    """The queries to choose the system by: those held out from training, else all generated ones."""
    files = choice_files(run.folder)
    if "retriever" in done and files.train in run.progress.outputs:
        return files.dev
    return written_alone(run, queries)


def _to_train_on(run: RunContext, queries: Path) -> Path:
    """Hold out queries for the choice and return the rest; all of them if there are too few."""
    files = choice_files(run.folder)
    options = SplitOptions(dev_share=CHOICE_SHARE, seed=run.options.seed, dev_pairs=run.evidence.pairs is None)
    try:
        split_file(queries, run.dataset.corpus, options, files=files, **run.stage_kwargs)
    except ConfigError as error:
        run.progress.note(f"no queries are held out to choose the system by: {error}")
        run.progress.withdraw(files.train)
        return queries
    sides = ["--output-train", files.train, "--output-dev", files.dev]
    run.commands.add("split", ["--input", queries, *run.commands.documents, *sides], None, options)
    return files.train


def _mine_triples(run: RunContext, queries: Path) -> Manifest:
    run.progress.begin("mine")
    run_options = run.options
    options = TriplesOptions(
        ranks=run_options.ranks,
        per_query=run_options.per_query,
        positive_within=run_options.positive_within,
        language=run_options.language,
        seed=run_options.seed,
        threads=run_options.threads,
    )
    source = ["--input", queries, *run.commands.documents, "--no-judgements"]
    manifest = write_triples(queries, run.dataset.corpus, options, output=run.path(TRIPLES), **run.stage_kwargs)
    run.commands.add("triples", source, run.path(TRIPLES), options)
    return manifest


def retriever_options(run: RunContext) -> RetrieverOptions:
    """The options for training a run's bi-encoder."""
    options = run.options
    return RetrieverOptions(
        model=options.retriever, epochs=options.retriever_epochs, seed=options.seed, **options.computing
    )


def _train_retriever(run: RunContext) -> Manifest | str:
    """The training's manifest, or the reason for skipping it."""
    run.progress.begin("train retriever")
    options = retriever_options(run)
    if run.options.training == "auto":
        reason = retriever_signal(run.path(TRIPLES), options, progress=run.progress)
        if reason is not None:
            return reason
    output = run.path("models") / "retriever"
    run.commands.add("train retriever", ["--triples", run.path(TRIPLES)], output, options)
    return train_retriever_from_file(run.path(TRIPLES), options, output=output, **run.stage_kwargs)


def _train_reranker(run: RunContext, triples: Manifest) -> Manifest | str:
    run.progress.begin("train reranker")
    run_options = run.options
    batches = (triples.output.records or 0) / run_options.per_query / RERANKER_BATCH
    limit = run_options.reranker_steps or math.inf
    options = RerankerOptions(
        model=run_options.reranker,
        kind=run_options.reranker_kind,
        batch_size=RERANKER_BATCH // RERANKER_PASSES,
        gradient_accumulation=RERANKER_PASSES,
        max_steps=max(1, math.ceil(min(run_options.reranker_epochs * batches, limit))),
        max_length=run_options.reranker_max_length,
        seed=run_options.seed,
        **run_options.computing,
    )
    if run_options.training == "auto" and (
        reason := reranker_signal(run.path(TRIPLES), options, prompt=run.reranker_prompt, progress=run.progress)
    ):
        return reason
    output = run.path("models") / "reranker"
    run.commands.add("train reranker", ["--triples", run.path(TRIPLES), *run.reranker_prompt_flags], output, options)
    return train_reranker_from_file(
        run.path(TRIPLES), options, output=output, prompt=run.reranker_prompt, **run.stage_kwargs
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """The mix with a bi-encoder trained on `triples` triples."""

    name: str
    triples: int
    value: float  # nDCG@10
    difference: float  # from the mix without that bi-encoder
    standard_error: float


def learning_curve(run: RunContext, topics: Topics, paths: Mapping[str, Path], triples: Manifest) -> Manifest:
    """Estimate the value of more training data: train on parts of the triples, and measure each model in the mix.

    A part is the beginning of the file, which has the likeliest queries; `paths` are the first-stage runs for the
    queries that choose the system, including the tuned bi-encoder's.
    """
    total, output = triples.output.records or 0, run.path(CURVE)
    sizes = {name: max(1, round(share * total)) for name, share in PARTS.items()}
    tuned = {name: _train_and_search(run, topics, name, size) for name, size in sizes.items()} | {ALL: paths[TUNED]}
    untuned = {name: path for name, path in paths.items() if name != TUNED}

    def work() -> Outcome:
        points = _points(run, topics, untuned, tuned, sizes | {ALL: total})
        values = {"points": [asdict(point) for point in points]}
        write_json(output, {"queries": len(topics.queries), **values})
        run.progress.note("\n".join(_curve_lines(points)))
        return Outcome(len(points), {}, values)

    inputs = {"queries": topics.stamp, **{name: stamp(path) for name, path in (untuned | tuned).items()}}
    settings = {"depth": FUSION_DEPTH, "judged": run.evidence.judged is not None}
    return Stage("learning curve", settings, output, inputs, **run.stage_kwargs).run(work)


def _curve_lines(points: list[CurvePoint]) -> list[str]:
    lines = [f"{'trained on':10} {'triples':>8} {'nDCG@10':>8} {'gain':>8} {'s.e.':>7}"]
    for point in points:
        numbers = f"{point.value:8.4f} {point.difference:+8.4f} {point.standard_error:7.4f}"
        lines.append(f"{point.name:10} {point.triples:8,} {numbers}")
    return lines


def _train_and_search(run: RunContext, topics: Topics, name: str, triples: int) -> Path:
    model = run.path(f"choice/curve-{name}")
    options = replace(retriever_options(run), limit=triples)
    train_retriever_from_file(run.path(TRIPLES), options, output=model, **run.stage_kwargs)
    windows = run.options.window_tokens or None
    stage = FirstStage(name=f"curve-{name}", retriever=str(model), window_tokens=windows)
    return search_stage(run, topics, f"choice/curve-{name}-run", stage, k=FUSION_DEPTH, shown=False)


def _points(
    run: RunContext, topics: Topics, untuned: Mapping[str, Path], tuned: Mapping[str, Path], sizes: Mapping[str, int]
) -> list[CurvePoint]:
    corpus, runs, tuned_runs = run.dataset.corpus, read_lists(untuned), read_lists(tuned)
    dense = [dense_run for name, dense_run in runs.items() if name != BM25]
    coverage = bm25_index(corpus, **run.options.bm25, threads=run.options.threads).coverage()
    features = findings(topics.queries, runs[BM25], dense[0], coverage, lambda doc_id: corpus[doc_id].full_text)
    weights = dict.fromkeys(features, 1.0) if run.evidence.judged is not None else None
    mix_options = (topics.qrels, FUSION_DEPTH, weights)
    base = judged_mix(PRIOR, features, runs[BM25], dense, *mix_options)
    points = [CurvePoint(name=UNTUNED, triples=0, value=base.choice.chosen, difference=0.0, standard_error=0.0)]
    for name, tuned_run in tuned_runs.items():
        mix = judged_mix(PRIOR, features, runs[BM25], [*dense, tuned_run], *mix_options)
        difference, error = paired(mix.values, base.values, base.weights)
        points.append(
            CurvePoint(
                name=name,
                triples=sizes[name],
                value=mix.choice.chosen,
                difference=difference,
                standard_error=error,
            )
        )
    return points
