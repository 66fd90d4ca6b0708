"""The score stage for kinds other than log-probs: a score file with numbers per query.

Rows are read as a stream, scored block by block and saved by `chunk_loop.py`. `--kind cluster` first embeds all queries
and saves float16 embeddings; memory does not grow with the number of queries.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import numpy.typing as npt

from inpars.errors import ConfigError
from inpars.filtering.score_files import ID_FIELD
from inpars.io.corpus import Corpus
from inpars.io.formats import read_synthetic_queries, read_synthetic_records
from inpars.io.manifest import Manifest, stamp, stamp_text
from inpars.io.storage import write_jsonl
from inpars.progress import Progress
from inpars.stages.chunk_loop import Computed, work_here
from inpars.stages.partial import CHUNK_END, Partial
from inpars.stages.query_scorers import search_options
from inpars.stages.score import STAGE, ScoreOptions, Source
from inpars.stages.score_kinds import SCORES, ColumnScorer, Row
from inpars.stages.search import load_encoder
from inpars.stages.shards import Chunk, Plan, Shard, own_items
from inpars.stages.stage import Outcome, Running, Stage, input_stamps

if TYPE_CHECKING:
    from inpars.retrieval.dense import Encoder

NUMBER = np.dtype("<f2")
EMBEDDED_TOGETHER = 500  # queries per saved block
EMBEDDING = "embedding"


def score_column_file(
    source: Path,
    options: ScoreOptions,
    *,
    output: Path,
    corpus: Corpus | None = None,
    make_scorer: Callable[[], ColumnScorer] | None = None,
    **running: Unpack[Running],
) -> Manifest:
    """Write `{"query_id", NAME: number}` for every query; loads the scorer only if work is left."""
    kind = SCORES[options.kind]
    model = options.model_name if kind.reads_model else None
    inputs = {"queries": stamp(source)} | input_stamps(corpus=corpus, model=model)
    stage = Stage(STAGE, options, output, inputs, **running)

    def work() -> Outcome:
        make = make_scorer or (lambda: kind.load(Source(source, corpus), options, stage.progress))
        scoring = ColumnScoring(source, Source(source).count(options.limit), make, options.kind)
        done = work_here(stage, scoring, options.part)
        missing, known = int(done.sums["missing"]), done.lines - int(done.sums["missing"])
        mean = done.sums["total"] / known if known else None
        return Outcome(done.lines, {}, {"missing": missing, "mean": mean, **done.results})

    return stage.run(work)


class ColumnScoring:
    """Queries to score in file order; a block is scored together."""

    unit, device, counted = "queries", "cpu", 0

    def __init__(self, source: Path, total: int, make_scorer: Callable[[], ColumnScorer], kind: str) -> None:
        self.total, self.description, self._source, self._make = total, f"score {kind}", source, make_scorer
        self.sums: dict[str, float] = {}

    @cached_property
    def _scorer(self) -> ColumnScorer:
        return self._make()

    @property
    def block(self) -> int:
        return self._scorer.block

    def plan(self, block: range) -> list[range]:
        return [range(len(block))]

    def compute(self, chunks: Iterator[Chunk], saved: Partial, done: int) -> Computed:
        for chunk, rows in _with_rows(self._source, chunks):
            values = self._scorer.score(rows)
            scored = [{ID_FIELD: query.query_id, **value} for (query, _), value in zip(rows, values, strict=True)]
            yield scored[chunk.first : chunk.stop], ""

    def write(self, part: Shard | None, plan: Plan, saved: Partial, output: Path) -> list[tuple[int, int]]:
        self.sums = {"missing": 0, "total": 0.0}
        write_jsonl(output, self._counted(row for _, row in saved.records() if CHUNK_END not in row))
        return [(position, 1) for position in own_items(self.total, part)]

    def _counted(self, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for row in rows:
            value = next((value for name, value in row.items() if name != ID_FIELD), None)
            self.sums["missing"] += value is None
            self.sums["total"] += value or 0.0
            yield row


def _with_rows(source: Path, chunks: Iterator[Chunk]) -> Iterator[tuple[Chunk, list[Row]]]:
    """Each chunk with its rows, which are adjacent; reads the file once."""
    rows, read = read_synthetic_records(source), 0
    for chunk in chunks:
        start, stop = chunk.positions[0], chunk.positions[-1] + 1
        yield chunk, list(itertools.islice(rows, start - read, stop - read))
        read = stop


def cluster_file(
    source: Path,
    options: ScoreOptions,
    *,
    output: Path,
    make_encoder: Callable[[], Encoder] | None = None,
    **running: Unpack[Running],
) -> Manifest:
    """Write `{"query_id", "cluster"}` for every query."""
    if options.part is not None:
        raise ConfigError("--kind cluster looks at all queries together; leave --shard out")
    inputs = {"queries": stamp(source)} | input_stamps(model=options.model_name)
    stage = Stage(STAGE, options, output, inputs, **running)

    def work() -> Outcome:
        make = make_encoder or (lambda: load_encoder(options.model_name, search_options(options)))
        form = stamp_text("embeddings", EMBEDDING)  # earlier releases saved other lines
        saved = replace(stage, inputs=inputs | {form.path: form})
        done = work_here(saved, Clustering(source, options, make, stage.progress), None)
        return Outcome(done.lines, {}, {name: int(value) for name, value in done.sums.items()})

    return stage.run(work)


class Clustering:
    """Queries to embed and to cluster."""

    unit, device, block, counted, description = "queries", "cpu", EMBEDDED_TOGETHER, 0, "embed queries"

    def __init__(
        self, source: Path, options: ScoreOptions, make_encoder: Callable[[], Encoder], progress: Progress
    ) -> None:
        self.total, self._source, self._options = Source(source).count(options.limit), source, options
        self._make, self._progress = make_encoder, progress
        self.sums: dict[str, float] = {}

    def plan(self, block: range) -> list[range]:
        return [range(len(block))]

    def compute(self, chunks: Iterator[Chunk], saved: Partial, done: int) -> Computed:
        encoder: Encoder | None = None
        for _, rows in _with_rows(self._source, chunks):
            encoder = encoder or self._make()
            embeddings = encoder.encode_queries([query.text for query, _ in rows]).astype(NUMBER)
            yield [{EMBEDDING: base64.b64encode(row.tobytes()).decode()} for row in embeddings], ""

    def write(self, part: Shard | None, plan: Plan, saved: Partial, output: Path) -> list[tuple[int, int]]:
        """Write each query's cluster, and set `sums` to the number of clusters and the size of the largest."""
        from inpars.filtering.clusters import cluster, default_clusters

        def embeddings() -> Iterator[npt.NDArray[np.float16]]:
            rows = (row[EMBEDDING] for _, row in saved.records() if EMBEDDING in row)
            return (np.frombuffer(base64.b64decode(row), dtype=NUMBER) for row in rows)

        count, progress = self._options.clusters or default_clusters(self.total), self._progress
        blocks = progress.track(
            cluster(embeddings, self.total, count, self._options.seed, progress.advance),
            total=self.total,
            description=f"{count} clusters",
            unit="queries",
        )
        sizes = np.zeros(count, dtype=np.int64)

        def rows() -> Iterator[dict[str, object]]:
            labels = (int(label) for block in blocks for label in block)
            queries = itertools.islice(read_synthetic_queries(self._source), self.total)
            for query, label in zip(queries, labels, strict=True):
                sizes[label] += 1
                yield {ID_FIELD: query.query_id, "cluster": label}

        write_jsonl(output, rows())
        self.sums = {"clusters": int((sizes > 0).sum()), "largest": int(sizes.max())}
        return [(position, 1) for position in range(self.total)]
