"""The filter comparison as a stage: reads a file of queries; writes a page, its numbers and each filter's queries.

`table_lines` shows the same numbers as plain text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Unpack

from inpars.filtering.checks import DEFAULT_SCORE, FilterContext, FilterOptions
from inpars.filtering.filter_comparison import SPREAD, Comparison, Kept, compare
from inpars.io.corpus import Corpus
from inpars.io.manifest import Manifest, read_manifest
from inpars.io.storage import atomic_writer, to_json_line, write_jsonl
from inpars.options import SEED, option, result_settings
from inpars.report.formatting import shorten
from inpars.report.render import json_path, render_page
from inpars.stages.filter import FilteredFile, filter_inputs, gather_file, plain_file, with_documents
from inpars.stages.stage import Outcome, Running, Stage

STAGE = "compare"
DOCUMENT_CHARACTERS = 160
Values = Mapping[str, Any]
COLUMNS = {  # measure -> heading and number format
    "queries": ("queries", "{:d}"),
    "mean_words": ("mean words", "{:.1f}"),
    "openings": ("openings", "{:d}"),
    "bm25_finds": ("BM25 finds", "{:.1%}"),
    "threshold": ("lowest score", "{:.4g}"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOptions:
    """The settings of a comparison of filters."""

    compare_top_k: int = option(1000, help="queries kept by each filter of --compare", minimum=1)
    seed: int = option(0, help="seed of --compare's random filter", bounds=SEED)


@dataclass(frozen=True, slots=True)
class _Settings:
    """The settings in the manifest."""

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
    """Write the page to `output`, its numbers next to it as JSON, and each filter's queries into `write_kept`."""
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
                names = slugs([kept.spec.name for kept in comparison.kept])
                for kept in comparison.kept:
                    write_jsonl(write_kept / f"{names[kept.spec.name]}.jsonl", judged.records(kept.positions))
        with atomic_writer(json_path(output)) as stream:
            stream.write(to_json_line(results) + "\n")
        with atomic_writer(output) as stream:
            stream.write(render_laboratory(f"Filters of {source.name} compared", results))
        return Outcome(None, dict(comparison.dropped), summary(results))

    return stage.run(work)


def summary(results: dict[str, Any]) -> dict[str, Any]:
    """The numbers of the tables, without curves and samples."""
    filters = {
        name: {key: value for key, value in measures.items() if key not in ("curve", "above", "below")}
        for name, measures in results["filters"].items()
    }
    return {**results, "filters": filters}


def _sides(output: Path, write_kept: Path | None) -> list[Path]:
    """The JSON of numbers, and the queries that an earlier run of this stage wrote."""
    manifest = read_manifest(output) if write_kept is not None else None
    names = slugs(list(manifest.results.get("filters", ()))).values() if manifest is not None else ()
    return [json_path(output), *(write_kept / f"{name}.jsonl" for name in names if write_kept)]


def _results(comparison: Comparison, judged: FilteredFile, corpus: Corpus | None) -> dict[str, Any]:
    filters = {kept.spec.name: _filter_results(kept, judged, corpus) for kept in comparison.kept}
    rows = [dict(zip(filters, row, strict=True)) for row in comparison.overlap]
    return {
        "read": len(judged.pool),
        "k": comparison.k,
        "dropped": dict(comparison.dropped),
        "pool": asdict(comparison.pool),
        "filters": filters,
        "overlap": dict(zip(filters, rows, strict=True)),
    }


def _filter_results(kept: Kept, judged: FilteredFile, corpus: Corpus | None) -> dict[str, Any]:
    ranks, scores = kept.curve
    return {
        **asdict(kept.measures),
        "curve": {"ranks": ranks, "scores": scores},
        "above": _samples(kept.above, judged, corpus),
        "below": _samples(kept.below, judged, corpus),
    }


def _samples(
    scored_positions: Sequence[tuple[int, float]], judged: FilteredFile, corpus: Corpus | None
) -> list[dict[str, Any]]:
    samples = []
    records = judged.records([position for position, _ in scored_positions])
    for (_, score), record in zip(scored_positions, records, strict=True):
        doc_id = str(record["doc_id"])
        text = corpus[doc_id].full_text if corpus is not None else record.get("text") or record.get("doc_text") or ""
        samples.append(
            {
                "query_id": record["query_id"],
                "query": record.get("query") or record.get("question") or "",
                "score": score if math.isfinite(score) else None,
                "doc_id": doc_id,
                "document": shorten(str(text), DOCUMENT_CHARACTERS),
            }
        )
    return samples


def table_lines(results: Values) -> list[str]:
    """The filters' measures and overlaps as a text table."""
    rows = [["filter", *(heading for heading, _ in COLUMNS.values())]]
    rows += [[name, *_cells(measures)] for name, measures in _all_rows(results)]
    names = list(results["filters"])
    rows += [[""], ["shared (Jaccard)", *(str(number) for number in range(1, len(names) + 1))]]
    rows += [
        [f"{number} {name}", *(f"{results['overlap'][name][other]:.2f}" for other in names)]
        for number, name in enumerate(names, start=1)
    ]
    first = max(len(row[0]) for row in rows)
    return ["  ".join([row[0].ljust(first), *(cell.rjust(10) for cell in row[1:])]).rstrip() for row in rows]


def render_laboratory(title: str, results: Values) -> str:
    """The comparison as an HTML page."""
    return render_page(
        "laboratory.html",
        title=title,
        lead=_lead(results),
        results=results,
        rows=[(name, _cells(measures)) for name, measures in _all_rows(results)],
        headings=[heading for heading, _ in COLUMNS.values()],
        keeps_best=lambda name: not name.startswith(SPREAD),
        characters=DOCUMENT_CHARACTERS,
    )


def _lead(results: Values) -> str:
    dropped = ", ".join(f"{reason.replace('_', ' ')} {count}" for reason, count in results["dropped"].items())
    return (
        f"{results['read']} queries; {results['pool']['queries']} pass the guards"
        + (f" (left out: {dropped})" if dropped else "")
        + f". Each filter alone keeps at most {results['k']} of them."
    )


def _all_rows(results: Values) -> list[tuple[str, Values]]:
    return [("all that pass the guards", results["pool"]), *results["filters"].items()]


def _cells(measures: Values) -> list[str]:
    return ["-" if measures[key] is None else form.format(measures[key]) for key, (_, form) in COLUMNS.items()]


def slugs(names: Sequence[str]) -> dict[str, str]:
    """Filter name -> file name of letters, digits and `._=-`; repeated file names get a number."""
    file_names: dict[str, str] = {}
    for name in names:
        plain = "".join(letter if letter.isalnum() or letter in "._=-" else "-" for letter in name).strip("-.")
        choices = [plain, *(f"{plain}-{number}" for number in range(2, len(names) + 2))]
        file_names[name] = next(choice for choice in choices if choice not in file_names.values())
    return file_names
