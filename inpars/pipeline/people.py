"""The queries that people wrote, next to those that a run wrote: trained on, and never chosen or measured by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inpars.io.formats import read_synthetic_records
from inpars.io.manifest import Manifest, stamp
from inpars.io.storage import write_jsonl
from inpars.pipeline.system_runs import RunContext
from inpars.stages.stage import Outcome, run_stage
from inpars.text.words import words, words_key

JOINED, WRITTEN = "queries.with_pairs.jsonl", "queries.written.jsonl"


@dataclass(frozen=True, slots=True)
class _NoOptions:
    """The files alone decide."""


def join_pairs(run: RunContext, queries: Path, manifests: dict[str, Manifest]) -> Path:
    """The queries with those of people behind them, and in `manifests` how many; as they are where nobody gave any.

    Of the same words the people's stay.
    """
    pairs = run.evidence.pairs
    if pairs is None:
        return queries
    output = run.path(JOINED)

    def work() -> Outcome:
        known = {_key(query.text) for query, _ in read_synthetic_records(pairs)}
        counts = {"written": 0, "pairs": 0, "words_of_a_pair": 0}

        def rows() -> Iterator[dict[str, Any]]:
            for query, record in read_synthetic_records(queries):
                repeated = _key(query.text) in known
                counts["words_of_a_pair" if repeated else "written"] += 1
                if not repeated:
                    yield {**record, "query_id": query.query_id}
            for query, record in read_synthetic_records(pairs):
                counts["pairs"] += 1
                yield {**record, "query_id": query.query_id}

        count = write_jsonl(output, rows())
        return Outcome(count, {"words_of_a_pair": counts.pop("words_of_a_pair")}, counts)

    inputs = {"queries": stamp(queries), "pairs": stamp(pairs)}
    manifests["pairs"] = run_stage("pairs", _NoOptions(), output=output, inputs=inputs, work=work, **run.stage_kwargs)
    run.commands.say(f"{JOINED}: the queries of {queries.name} that have not the words of a pair, then {pairs}")
    return output


def written_alone(run: RunContext, queries: Path) -> Path:
    """The queries without those of people, for the choice of the system."""
    if run.evidence.pairs is None:
        return queries
    output = run.path(WRITTEN)

    def work() -> Outcome:
        rows = (record for query, record in read_synthetic_records(queries) if not query.by_people)
        return Outcome(write_jsonl(output, rows))

    run_stage("written", _NoOptions(), output=output, inputs={"queries": stamp(queries)}, work=work, **run.stage_kwargs)
    run.commands.say(f"{WRITTEN}: the queries of {queries.name} that a model wrote")
    return output


def _key(text: str) -> int:
    return words_key(words(text) or text.split())
