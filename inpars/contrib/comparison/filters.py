"""The filter laboratory as a stage: one file of queries in; a page, its numbers and each filter's queries out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Unpack

from inpars.contrib.comparison.filters_page import DOCUMENT_CHARACTERS, render_laboratory, slugs
from inpars.filtering.checks import DEFAULT_SCORE, FilterContext, FilterOptions
from inpars.filtering.filter_comparison import Comparison, Kept, compare
from inpars.io.corpus import Corpus
from inpars.io.manifest import Manifest, read_manifest
from inpars.io.storage import atomic_writer, to_json_line, write_jsonl
from inpars.options import SEED, option, result_settings
from inpars.reports.formatting import shorten
from inpars.stages.filter import FilteredFile, filter_inputs, gather_file, plain_file, with_documents
from inpars.stages.stage import Outcome, Running, Stage

STAGE = "compare"


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOptions:
    """What the laboratory compares."""

    compare_top_k: int = option(1000, help="queries kept by each filter of --compare", minimum=1)
    seed: int = option(0, help="seed of --compare's random filter", bounds=SEED)


@dataclass(frozen=True, slots=True)
class _Settings:
    """Both together, as the manifest has them."""

    compare_top_k: int = option(help="", minimum=1)
    seed: int = option(help="")
    filters: tuple[str, ...] = option(help="")
    guards: dict[str, Any] = option(help="")
    write_kept: str = option(help="")


def compare_file(
    source: Path,
    options: FilterOptions,
    compared: CompareOptions,
    *,
    output: Path,
    scores: Sequence[Path] = (),
    context: FilterContext,
    corpus: Corpus | None = None,
    write_kept: Path | None = None,
    **running: Unpack[Running],
) -> Manifest:
    """Write the page to `output`, its numbers beside it as JSON, and into `write_kept` what each filter keeps."""
    context = with_documents(context, corpus)
    inputs = filter_inputs(source, context, scores, corpus)
    guards = {name: value for name, value in result_settings(options).items() if name not in ("select", "top_k")}
    settings = _Settings(compared.compare_top_k, compared.seed, options.select, guards, str(write_kept or ""))
    alone = replace(options, select=(), scoring_function=options.scoring_function or DEFAULT_SCORE)
    stage = Stage(STAGE, settings, output, inputs, _sides(output, write_kept), **running)

    def work() -> Outcome:
        with plain_file(source, output.parent) as plain:
            pool, starts = gather_file(plain, alone, context, scores, progress=stage.progress, named=source)
            comparison = compare(pool, alone, options.select, compared.compare_top_k, compared.seed)
            judged = FilteredFile(plain, pool, starts, pool.alive)
            results = _results(comparison, judged, corpus)
            if write_kept is not None:
                names = slugs([kept_queries.spec.name for kept_queries in comparison.kept])
                for kept_queries in comparison.kept:
                    path = write_kept / f"{names[kept_queries.spec.name]}.jsonl"
                    write_jsonl(path, judged.records(kept_queries.positions))
        with atomic_writer(json_path(output)) as stream:
            stream.write(to_json_line(results) + "\n")
        with atomic_writer(output) as stream:
            stream.write(render_laboratory(f"Filters of {source.name} compared", results))
        return Outcome(None, dict(comparison.dropped), summary(results))

    return stage.run(work)


def json_path(output: Path) -> Path:
    """The JSON file with a page's numbers."""
    return output.with_suffix(".json")


def summary(results: dict[str, Any]) -> dict[str, Any]:
    """The numbers of the tables, without curves and samples."""
    filters = {
        name: {key: value for key, value in measures.items() if key not in ("curve", "above", "below")}
        for name, measures in results["filters"].items()
    }
    return {**results, "filters": filters}


def _sides(output: Path, write_kept: Path | None) -> list[Path]:
    """The numbers, and what an earlier run of this stage kept."""
    manifest = read_manifest(output) if write_kept is not None else None
    names = slugs(list(manifest.results.get("filters", ()))).values() if manifest is not None else ()
    return [json_path(output), *(write_kept / f"{name}.jsonl" for name in names if write_kept)]


def _results(comparison: Comparison, judged: FilteredFile, corpus: Corpus | None) -> dict[str, Any]:
    names = [kept_queries.spec.name for kept_queries in comparison.kept]
    return {
        "read": len(judged.pool),
        "k": comparison.k,
        "dropped": dict(comparison.dropped),
        "pool": asdict(comparison.pool),
        "filters": {
            kept_queries.spec.name: _of_filter(kept_queries, judged, corpus) for kept_queries in comparison.kept
        },
        "overlap": {
            name: dict(zip(names, row, strict=True)) for name, row in zip(names, comparison.overlap, strict=True)
        },
    }


def _of_filter(kept_queries: Kept, judged: FilteredFile, corpus: Corpus | None) -> dict[str, Any]:
    ranks, scores = kept_queries.curve
    return {
        **asdict(kept_queries.measures),
        "curve": {"ranks": ranks, "scores": scores},
        "above": _samples(kept_queries.above, judged, corpus),
        "below": _samples(kept_queries.below, judged, corpus),
    }


def _samples(
    scored_positions: Sequence[tuple[int, float]], judged: FilteredFile, corpus: Corpus | None
) -> list[dict[str, Any]]:
    samples = []
    for (_, score), record in zip(
        scored_positions, judged.records([position for position, _ in scored_positions]), strict=True
    ):
        doc_id = str(record["doc_id"])
        text = corpus[doc_id].full_text if corpus is not None else record.get("text") or record.get("doc_text") or ""
        query = record.get("query") or record.get("question") or ""
        samples.append(
            {
                "query_id": record["query_id"],
                "query": query,
                "score": score if math.isfinite(score) else None,
                "doc_id": doc_id,
                "document": shorten(str(text), DOCUMENT_CHARACTERS),
            }
        )
    return samples
