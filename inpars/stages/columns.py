"""The stage that gives each query one number of another kind than log-probs: a score file to choose by.

Rows are read in a stream, scored in blocks and saved block by block in `<output>.partial`; killed at any moment, the
same command goes on after the last row that was saved.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from inpars.corpus import Corpus
from inpars.filtering.score_files import ID_FIELD
from inpars.formats import read_synthetic_records
from inpars.manifest import FileStamp, Manifest, stamp
from inpars.progress import SILENT, Progress
from inpars.stages.column_scorers import ColumnScorer, Row, load_column
from inpars.stages.log_probs import STAGE, count_rows
from inpars.stages.partial import Partial
from inpars.stages.scoring import ScoreOptions
from inpars.stages.sharding import own_items, shard_results
from inpars.stages.shards import batches_of
from inpars.stages.stage import Outcome, model_stamp, run_stage
from inpars.storage import to_json_line, write_jsonl


def score_column_file(
    source: Path,
    options: ScoreOptions,
    *,
    output: Path,
    corpus: Corpus | None = None,
    corpus_stamp: FileStamp | None = None,
    make_scorer: Callable[[], ColumnScorer] | None = None,
    progress: Progress = SILENT,
    overwrite: bool = False,
) -> Manifest:
    """Write `{"query_id", NAME: number}` for every query; the scorer is made only where something is left to score."""
    inputs = column_inputs(source, options, corpus_stamp)
    make = make_scorer or (lambda: load_column(source, options, corpus, progress))

    def work() -> Outcome:
        partial = Partial.of(STAGE, options, inputs, output, progress)
        total = count_rows(source, options.limit)
        own = own_items(total, options.part)
        done = partial.kept()
        if done:
            partial.note_done(done, len(own), "queries ")
        if done < len(own):
            scorer = make()
            left = range(own.start + done, own.stop)
            with partial.append(done) as lines:
                blocks = _scored(read_synthetic_records(source), scorer, left, total, progress, done)
                for block in blocks:
                    lines.append(map(to_json_line, block))
        tally = Tally()
        rows_done = (row for _, row in partial.records()) if own else iter(())
        count = write_jsonl(output, tally.watched(rows_done))
        told = shard_results(options.part, total, ((place, 1) for place in own))
        return Outcome(count, {}, tally.results() | told)

    return run_stage(STAGE, options, output=output, inputs=inputs, work=work, progress=progress, overwrite=overwrite)


class Tally:
    """Counts what goes into the first column of a score file."""

    def __init__(self) -> None:
        self._total, self._known = 0.0, 0
        self._missing: int = 0

    def watched(self, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Pass the rows on."""
        for row in rows:
            value = next((value for name, value in row.items() if name != ID_FIELD), None)
            if value is None:
                self._missing += 1
            else:
                self._known, self._total = self._known + 1, self._total + value
            yield row

    def results(self) -> dict[str, Any]:
        """What the manifest says."""
        return {"missing": self._missing, "mean": self._total / self._known if self._known else None}


def column_inputs(source: Path, options: ScoreOptions, corpus_stamp: FileStamp | None) -> dict[str, FileStamp]:
    """Stamps of all that decides the scores."""
    inputs = {"queries": stamp(source)}
    if options.kind != "bm25-rank":
        inputs["model"] = model_stamp(options.model_name)
    if corpus_stamp is not None:
        inputs["corpus"] = corpus_stamp
    return inputs


def _scored(
    rows: Iterator[Row], scorer: ColumnScorer, own: range, total: int, progress: Progress, done: int
) -> Iterator[list[dict[str, Any]]]:
    """Block by block as the whole file is cut; those across a border are scored whole and kept in part."""
    batches = batches_of(own, scorer.block, total)
    place = 0
    for batch in progress.track(
        batches, total=done + len(own), description=f"score {scorer.name}", unit="queries", done=done
    ):
        block = list(itertools.islice(rows, batch.start - place, batch.stop - place))
        place = batch.stop
        values = scorer.score(block)
        scored = [{ID_FIELD: query.query_id, **value} for (query, _), value in zip(block, values, strict=True)]
        yield scored[max(own.start - batch.start, 0) : own.stop - batch.start]
        progress.advance(min(own.stop, batch.stop) - max(own.start, batch.start))
