"""Add queries by people to a run's own, or take synthetic queries made earlier instead of writing any.

Queries by people are used for training only, never to choose or measure a system.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from inpars.errors import ConfigError, StaleInputError
from inpars.io.formats import read_synthetic_queries, read_synthetic_records
from inpars.io.manifest import Manifest, stamp, stamp_text
from inpars.io.storage import write_jsonl
from inpars.options import flag_name
from inpars.pipeline.options import PipelineOptions
from inpars.pipeline.system_runs import SYNTHETIC, RunContext
from inpars.stages.stage import Outcome, Stage
from inpars.text.words import query_key

JOINED, WRITTEN = "queries.with_pairs.jsonl", "queries.written.jsonl"
GENERATION_SETTINGS = ("model", "max_documents", "max_doc_tokens", "max_new_tokens", "budget")


def join_pairs(run: RunContext, queries: Path, manifests: dict[str, Manifest]) -> Path:
    """Append the queries by people, if given, and add their manifest to `manifests`.

    Dropped are synthetic queries with the same words as a query by people, and queries by people with the words of a
    test or dev query.
    """
    pairs = run.evidence.pairs
    if pairs is None:
        return queries
    output = run.path(JOINED)
    judged = {"test queries": run.topics, "dev queries": run.evidence.judged}
    held_out = {name: topics for name, topics in judged.items() if topics is not None}

    def work() -> Outcome:
        unfit = {query_key(text) for topics in held_out.values() for text in topics.queries.values()}
        known = {query_key(query.text) for query, _ in read_synthetic_records(pairs)} - unfit
        counts = Counter[str]()

        def rows() -> Iterator[dict[str, Any]]:
            for path, keys, reason, name in (
                (queries, known, "words_of_a_pair", "written"),
                (pairs, unfit, "words_of_a_judged_query", "pairs"),
            ):
                for query, record in read_synthetic_records(path):
                    is_dropped = query_key(query.text) in keys
                    counts[reason if is_dropped else name] += 1
                    if not is_dropped:
                        yield {**record, "query_id": query.query_id}

        count = write_jsonl(output, rows())
        dropped = {reason: counts[reason] for reason in ("words_of_a_pair", "words_of_a_judged_query")}
        if left_out := dropped["words_of_a_judged_query"]:
            run.progress.note(f"{left_out} queries of {pairs} are also test or dev queries; leaving them out")
        return Outcome(count, dropped, {name: counts[name] for name in ("written", "pairs")})

    inputs = {"queries": stamp(queries), "pairs": stamp(pairs)}
    inputs |= {name: topics.query_stamp for name, topics in held_out.items()}
    manifests["pairs"] = Stage("pairs", {}, output, inputs, **run.stage_kwargs).run(work)
    run.commands.say(f"{JOINED}: the queries of {queries.name} that have not the words of a pair, then {pairs}")
    return output


def written_alone(run: RunContext, queries: Path) -> Path:
    """The queries without those by people, to choose the system by."""
    if run.evidence.pairs is None:
        return queries
    output = run.path(WRITTEN)

    def work() -> Outcome:
        rows = (record for query, record in read_synthetic_records(queries) if not query.by_people)
        return Outcome(write_jsonl(output, rows))

    Stage("written", {}, output, {"queries": stamp(queries)}, **run.stage_kwargs).run(work)
    run.commands.say(f"{WRITTEN}: the queries of {queries.name} that a model wrote")
    return output


def with_generated(options: PipelineOptions, path: Path, named: Collection[str]) -> PipelineOptions:
    """Set the model and the number of documents from synthetic queries.

    Raises ConfigError for generation settings, and for queries without log-probs to filter by.
    """
    if given := [flag_name(name) for name in GENERATION_SETTINGS if name in named]:
        raise ConfigError(
            f"{', '.join(given)}: only for queries that the run writes itself; drop these flags or --generated"
        )
    models, documents = set[str](), set[str]()
    for query in read_synthetic_queries(path):
        if query.by_people:
            raise ConfigError(f"{path}: {query.query_id} is a query of people; give these with --pairs")
        if query.log_prob_kind == "absent" and query.finish_reason != "error":
            raise ConfigError(
                f"{path}: {query.query_id} has no log-probs, by which a run keeps the best; have a local model score "
                f"them (inpars score --input {path}) and give its output"
            )
        models.add(query.model)
        documents.add(query.doc_id)
    if not documents:
        raise ConfigError(f"{path}: no queries in this file; give the output of `inpars generate`")
    return replace(options, model=", ".join(sorted(models)) or "a model", max_documents=len(documents))


def take_generated(run: RunContext, path: Path) -> Manifest:
    """Copy synthetic queries in place of the run's own. Raises StaleInputError for those of another corpus."""
    output, corpus = run.path(SYNTHETIC), run.dataset.corpus
    prompts, documents = set[str](), set[str]()

    def rows() -> Iterator[dict[str, Any]]:
        for query, record in read_synthetic_records(path):
            if query.doc_id not in corpus:
                raise StaleInputError(
                    f"{path}: {query.query_id} is about document {query.doc_id!r}, which {run.dataset.name} lacks; "
                    "give the documents that it was generated for"
                )
            prompts.add(query.prompt)
            documents.add(query.doc_id)
            yield {**record, "query_id": query.query_id}

    def work() -> Outcome:
        count = write_jsonl(output, rows())
        return Outcome(count, {}, {"documents": len(documents), "prompts": ", ".join(sorted(prompts))})

    inputs = {"queries": stamp(path), "corpus": run.dataset.corpus_stamp}
    inputs["prompt"] = stamp_text(run.prompt.name, run.prompt.text)  # filter and reranker use its examples
    manifest = Stage("generated", {}, output, inputs, **run.stage_kwargs).run(work)
    run.progress.note(f"{manifest.output.records} queries of {run.options.model} from {path}")
    run.commands.say(f"{SYNTHETIC}: the queries of {path}")
    return manifest
