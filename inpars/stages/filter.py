"""The filter stage: synthetic queries in, those worth training on out, best first.

Reads the file twice: once as a stream, for numbers and ids, then only the kept rows. A million queries take about half
a gigabyte of memory.
"""

from __future__ import annotations

import shutil
import tempfile
from array import array
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from inpars.errors import ConfigError, DataFormatError
from inpars.filtering.checks import FilterContext, FilterOptions
from inpars.filtering.filters import NO_CONTEXT, choose
from inpars.filtering.query_table import QueryTable, QueryTableBuilder
from inpars.filtering.score_files import read_scores
from inpars.filtering.selections import Positions, parse_selection
from inpars.io.corpus import Corpus
from inpars.io.formats import read_synthetic_with_offsets
from inpars.io.manifest import FileStamp, Manifest, stamp, stamp_text
from inpars.io.packing import is_packed
from inpars.io.storage import open_lines, read_json_at, storage_errors, write_jsonl
from inpars.progress import SILENT, Progress
from inpars.stages.stage import Outcome, Running, Stage

STAGE = "filter"
RESEMBLING = "resembling_the_datasets_queries"
BY_PROMPT = "by_prompt"


@dataclass(frozen=True, slots=True)
class FilteredFile:
    """A file of queries as columns, the byte offset of each row, and the kept positions, best first."""

    path: Path
    pool: QueryTable
    starts: Positions
    kept: Positions

    def records(self, positions: Sequence[int] | Positions) -> Iterator[dict[str, Any]]:
        """The original rows in the order of the positions, each with its query_id."""
        rows = read_json_at(self.path, (int(self.starts[position]) for position in positions))
        for position, row in zip(positions, rows, strict=True):
            yield row if row.get("query_id") else {**row, "query_id": self.pool.query_ids[position]}


def filter_file(
    source: Path,
    options: FilterOptions,
    *,
    output: Path,
    scores: Sequence[Path] = (),
    context: FilterContext = NO_CONTEXT,
    corpus: Corpus | None = None,
    **running: Unpack[Running],
) -> Manifest:
    """Write the kept records, unchanged, from the best score down."""
    for text in options.select:
        parse_selection(text)  # raise early
    context = with_documents(context, corpus)
    stage = Stage(STAGE, options, output, filter_inputs(source, context, scores, corpus), **running)

    def work() -> Outcome:
        with plain_file(source, output.parent) as plain:
            pool, starts = gather_file(plain, options, context, scores, progress=stage.progress, named=source)
            judged = FilteredFile(plain, pool, starts, choose(pool, options))
            dropped = pool.dropped()
            if not len(judged.kept):
                reasons = ", ".join(f"{reason} {count}" for reason, count in dropped.most_common())
                raise ConfigError(f"{source}: no query passes the filter ({reasons}); loosen it")
            count = write_jsonl(output, judged.records(judged.kept))
        lowest = float(pool.column(options.ranking)[judged.kept[-1]])
        results = {"read": len(pool), "ranked_by": options.ranking, "lowest_kept_score": lowest}
        resembling = {RESEMBLING: pool.resembling_own} if context.own_queries else {}
        kinds = {BY_PROMPT: pool.by_prompt()} if len(pool.prompt_names) > 1 else {}
        return Outcome(count, dict(dropped), results | resembling | kinds)

    return stage.run(work)


def with_documents(context: FilterContext, corpus: Corpus | None) -> FilterContext:
    """The context with the corpus' texts; without a corpus the checks read the text in each row."""
    return context if corpus is None else replace(context, document_text=lambda doc_id: corpus[doc_id].full_text)


def filter_inputs(
    source: Path, context: FilterContext, scores: Sequence[Path], corpus: Corpus | None
) -> dict[str, FileStamp]:
    """Stamps of all inputs of the filter."""
    inputs = {"queries": stamp(source), "examples": stamp_lines("examples", context.example_queries)}
    inputs |= {f"scores {number}": stamp(path) for number, path in enumerate(scores, start=1)}
    return inputs | query_stamps(context) | ({} if corpus is None else {"corpus": corpus.stamp})


def gather_file(
    source: Path,
    options: FilterOptions,
    context: FilterContext,
    scores: Sequence[Path] = (),
    *,
    progress: Progress = SILENT,
    named: Path | None = None,
) -> tuple[QueryTable, Positions]:
    """The columns of a file and of its score files, and the byte offset of each row."""
    builder, starts = QueryTableBuilder(options, context), array("q")
    rows = progress.track(read_synthetic_with_offsets(source), total=None, description="read queries", unit="queries")
    for query, record, start in rows:
        text = record.get("text") or record.get("doc_text")
        builder.add(query, text if isinstance(text, str) else None)
        starts.append(start)
    if not starts:
        raise ConfigError(f"{named or source}: there are no queries to filter; generate some first")
    pool = builder.pool()
    positions = {query_id: position for position, query_id in enumerate(pool.query_ids)} if scores else {}
    for path in scores:
        pool.scores |= read_scores(path, positions, tuple(pool.scores))
    return pool, np.frombuffer(starts, dtype=np.int64)


@contextmanager
def plain_file(source: Path, folder: Path) -> Iterator[Path]:
    """The file itself, or a temporary unpacked copy in the folder."""
    if not is_packed(source):
        yield source
        return
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=f".{source.stem}.", suffix=".tmp") as unpacked:
            with open_lines(source) as packed:
                shutil.copyfileobj(packed, unpacked)
            unpacked.flush()
            if is_packed(Path(unpacked.name)):
                raise DataFormatError("compressed twice; decompress it once first", path=source)
            yield Path(unpacked.name)


def query_stamps(context: FilterContext) -> dict[str, FileStamp]:
    """Stamps of the excluded and the counted queries, if any."""
    named = {"excluded queries": context.excluded_queries, "own queries": context.own_queries}
    return {name: stamp_lines(name, texts) for name, texts in named.items() if texts}


def stamp_lines(name: str, lines: Collection[str]) -> FileStamp:
    """A stamp that does not depend on the order of the lines."""
    return stamp_text(name, "\n".join(sorted(lines)))
