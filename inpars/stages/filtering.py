"""The stage that keeps the queries worth training on: synthetic queries in, the kept ones out, best first."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inpars.corpus import Corpus
from inpars.errors import ConfigError
from inpars.filtering import Filtered, ScoringFunction, filter_queries
from inpars.formats import read_synthetic_records
from inpars.manifest import FileStamp, Manifest, stamp, stamp_text
from inpars.options import option
from inpars.progress import SILENT, Progress
from inpars.records import SyntheticQuery
from inpars.stages.stage import Outcome, run_stage
from inpars.storage import write_jsonl

STAGE = "filter"


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterOptions:
    """Which queries stay."""

    scoring_function: ScoringFunction = option("mean_log_probs", help="how a query's token log-probs become its score")
    top_k: int | None = option(10_000, help="how many of the best queries to keep", minimum=1)
    min_tokens: int = option(3, help="fewest tokens of a query", minimum=0)
    max_tokens: int | None = option(None, help="most tokens of a query", minimum=1)
    drop_copied: bool = option(True, help="leave out queries that stand in their document word for word")
    drop_unstopped: bool = option(True, help="leave out queries that the length limit cut off")
    drop_duplicates: bool = option(True, help="of queries with the same words keep the best alone")


def filter_file(
    source: Path,
    options: FilterOptions,
    *,
    output: Path,
    example_queries: Collection[str] = (),
    corpus: Corpus | None = None,
    corpus_stamp: FileStamp | None = None,
    progress: Progress = SILENT,
    overwrite: bool = False,
) -> Manifest:
    """Write the kept records, as they were read, from the best score down."""
    inputs = {"queries": stamp(source), "examples": stamp_text("examples", "\n".join(sorted(example_queries)))}

    if corpus_stamp is not None:
        inputs["corpus"] = corpus_stamp

    def work() -> Outcome:
        records = {query.query_id: (query, record) for query, record in read_synthetic_records(source)}
        if not records:
            raise ConfigError(f"{source}: there are no queries to filter; generate some first")
        found = apply_filter([query for query, _ in records.values()], options, records, example_queries, corpus)
        if not found.kept:
            reasons = ", ".join(f"{reason} {count}" for reason, count in found.dropped.most_common())
            raise ConfigError(f"{source}: no query passes the filter ({reasons}); loosen it")
        count = write_jsonl(output, (records[verdict.query.query_id][1] for verdict in found.kept))
        threshold = found.kept[-1].score
        return Outcome(count, dict(found.dropped), {"read": len(records), "lowest_kept_score": threshold})

    return run_stage(STAGE, options, output=output, inputs=inputs, work=work, progress=progress, overwrite=overwrite)


def apply_filter(
    queries: list[SyntheticQuery],
    options: FilterOptions,
    records: dict[str, tuple[SyntheticQuery, dict[str, Any]]],
    example_queries: Collection[str] = (),
    corpus: Corpus | None = None,
) -> Filtered:
    """The verdict on every query; a document's text comes from the corpus, else from the query's own record."""
    texts = {query.doc_id: record.get("text") or record.get("doc_text") for query, record in records.values()}

    def document_text(doc_id: str) -> str | None:
        if corpus is not None:
            return corpus[doc_id].full_text
        return texts.get(doc_id)

    return filter_queries(
        queries,
        scoring_function=options.scoring_function,
        top_k=options.top_k,
        min_tokens=options.min_tokens,
        max_tokens=options.max_tokens,
        drop_copied=options.drop_copied,
        drop_unstopped=options.drop_unstopped,
        drop_duplicates=options.drop_duplicates,
        example_queries=example_queries,
        document_text=document_text,
    )
