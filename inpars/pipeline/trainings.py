"""The trainings of a whole run, each looked at before: one that would teach nothing is skipped, and why is said.

A share of the queries is held out for the choice of the system, by document: what was trained on cannot tell whether
the tuned bi-encoder is better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

from inpars.errors import ConfigError
from inpars.fusion.system import BM25
from inpars.io.manifest import Manifest
from inpars.pipeline.given_queries import written_alone
from inpars.pipeline.held_out import choice_files
from inpars.pipeline.system_runs import RunContext
from inpars.stages.split import SplitOptions, split_file
from inpars.stages.train import train_reranker_from_file, train_retriever_from_file
from inpars.stages.triples import TriplesOptions, write_triples
from inpars.training.options import RerankerOptions, RetrieverOptions
from inpars.training.signal import reranker_signal, retriever_signal

CHOICE_SHARE = 0.25  # of the queries
RERANKER_BATCH = 8  # queries per step of the reranker's training
RERANKER_PASSES = 2  # that a step's queries go through the network in: a decoder needs 4.1 GB for 6.5 in as much time
OF_THE_AUTHOR = (
    "it wrote the queries itself and tells their documents from others already; another --reranker, or a teacher, "
    "would have something to learn"
)
TRIPLES = "triples.tsv"


def train_models(run: RunContext, queries: Path) -> tuple[dict[str, Manifest], dict[str, str]]:
    """Manifests of what was done (`triples`, `retriever`, `reranker`), and why each other training was not."""
    options = run.options
    needed = {"retriever": options.retriever != BM25, "reranker": options.reranker_epochs > 0}
    never = (
        "--training never was given"
        if options.budget is None
        else f"--training never, by the plan for {options.budget}"
    )
    skipped = dict.fromkeys([name for name in needed if options.training == "never"], never)
    if options.training == "auto" and options.reranker == options.model and needed["reranker"]:
        skipped["reranker"] = OF_THE_AUTHOR
    remaining = [name for name, want in needed.items() if want and name not in skipped]
    done: dict[str, Manifest] = {}
    if remaining:
        done["triples"] = _mine_triples(run, _to_train_on(run, queries))
    trainings: dict[str, Callable[[], Manifest | str]] = {
        "retriever": lambda: _train_retriever(run, done["triples"]),
        "reranker": lambda: _train_reranker(run, done["triples"]),
    }
    for name in remaining:
        outcome = trainings[name]()
        if isinstance(outcome, Manifest):
            done[name] = outcome
        else:
            skipped[name] = outcome
    for name, reason in skipped.items():
        if needed[name]:
            run.progress.note(f"the {name} is not trained: {reason}")
    return done, skipped


def choice_queries(run: RunContext, queries: Path, done: Mapping[str, Manifest]) -> Path:
    """What the system is chosen by: the queries held out from the training, all of them where there was none."""
    files = choice_files(run.folder)
    if "retriever" in done and files.train in run.progress.outputs:
        return files.dev
    return written_alone(run, queries)


def _to_train_on(run: RunContext, queries: Path) -> Path:
    """The queries without those that are held out; all of them where they are too few to hold any out."""
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
        seed=run_options.seed,
        threads=run_options.threads,
    )
    source = ["--input", queries, *run.commands.documents, "--no-judgements"]
    run.commands.add("triples", source, run.path(TRIPLES), options)
    return write_triples(queries, run.dataset.corpus, options, output=run.path(TRIPLES), **run.stage_kwargs)


def retriever_options(run: RunContext) -> RetrieverOptions:
    """How a run trains its bi-encoder."""
    options = run.options
    return RetrieverOptions(
        model=options.retriever, epochs=options.retriever_epochs, seed=options.seed, **options.computing
    )


def _train_retriever(run: RunContext, triples: Manifest) -> Manifest | str:
    """The training's manifest, or why there was none."""
    run.progress.begin("train retriever")
    options = retriever_options(run)
    if run.options.training == "auto":
        reason = retriever_signal(run.path(TRIPLES), options, records=triples.output.records)
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
        reason := reranker_signal(run.path(TRIPLES), options, prompt=run.example_prompt)
    ):
        return reason
    output = run.path("models") / "reranker"
    run.commands.add("train reranker", ["--triples", run.path(TRIPLES), *run.example_flags], output, options)
    return train_reranker_from_file(
        run.path(TRIPLES), options, output=output, prompt=run.example_prompt, **run.stage_kwargs
    )
