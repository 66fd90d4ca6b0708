"""The stage that gives each query the number of its cluster, for a selection that spreads over subjects.

Embeddings are kept in `<output>.partial`, a header line and then rows of float16, until the clusters are known; killed
at any moment, the same command goes on after the last whole row. Memory does not grow with the number of queries.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Protocol

import numpy as np
import numpy.typing as npt

from inpars.errors import ConfigError
from inpars.filtering.score_files import ID_FIELD
from inpars.formats import read_synthetic_queries
from inpars.manifest import Manifest
from inpars.progress import SILENT, Progress
from inpars.stages.columns import column_inputs
from inpars.stages.log_probs import STAGE, count_rows
from inpars.stages.partial import Partial
from inpars.stages.scoring import ScoreOptions
from inpars.stages.stage import Outcome, run_stage
from inpars.storage import storage_errors, write_jsonl

NUMBER = np.dtype("<f2")
BLOCK = 500  # queries embedded and saved together


class QueryEncoder(Protocol):
    """Embeds queries, as `inpars.retrieval.dense.Encoder` does."""

    def encode_queries(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """(queries, width)."""
        ...


def cluster_file(
    source: Path,
    options: ScoreOptions,
    *,
    output: Path,
    make_encoder: Callable[[], QueryEncoder] | None = None,
    progress: Progress = SILENT,
    overwrite: bool = False,
) -> Manifest:
    """Write `{"query_id", "cluster"}` for every query."""
    if options.part is not None:
        raise ConfigError("--kind cluster looks at all queries together; leave --shard out")
    inputs = column_inputs(source, options, None)

    def work() -> Outcome:
        from inpars.filtering.clusters import cluster, default_clusters

        saved, total = Partial.of(STAGE, options, inputs, output, progress), count_rows(source, options.limit)
        partial, header = saved.path, saved.header.encode() + b"\n"
        width = _encode(source, total, make_encoder or (lambda: _load(options)), partial, header, progress)
        embeddings = np.memmap(partial, dtype=NUMBER, mode="r", offset=len(header), shape=(total, width))
        count = options.clusters or default_clusters(total)
        blocks = progress.track(
            cluster(embeddings, count, options.seed, progress.advance),
            total=total,
            description=f"{count} clusters",
            unit="queries",
        )
        sizes = np.zeros(count, dtype=np.int64)

        def rows() -> Iterator[dict[str, object]]:
            labels = (int(label) for block in blocks for label in block)
            for query, label in zip(read_synthetic_queries(source), labels, strict=False):  # --limit may end first
                sizes[label] += 1
                yield {ID_FIELD: query.query_id, "cluster": label}

        written = write_jsonl(output, rows())
        del embeddings
        return Outcome(written, {}, {"clusters": int((sizes > 0).sum()), "largest": int(sizes.max())})

    return run_stage(STAGE, options, output=output, inputs=inputs, work=work, progress=progress, overwrite=overwrite)


def _load(options: ScoreOptions) -> QueryEncoder:
    from inpars.models.hardware import compute_with
    from inpars.retrieval.dense import DEFAULT_BATCH_SIZE, Encoder

    compute_with(options.threads, options.engine_backend)
    return Encoder(
        options.model_name,
        max_length=options.max_length,
        batch_size=options.batch_size or DEFAULT_BATCH_SIZE,
        **options.placement,
    )


def _encode(
    source: Path,
    total: int,
    make_encoder: Callable[[], QueryEncoder],
    partial: Path,
    header: bytes,
    progress: Progress,
) -> int:
    """Bring the partial file to `total` rows; the width of a row."""
    encoder = make_encoder()
    width = int(encoder.encode_queries(["width"]).shape[1])
    row_bytes = width * NUMBER.itemsize
    with storage_errors(partial):
        partial.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("r+b" if partial.exists() else "w+b") as stream:
            done = _rows_done(stream, header, row_bytes, total)
            if done:
                progress.note(f"{STAGE}: going on where the last run stopped, {done} of {total} queries are done")
            texts = (query.text for query in itertools.islice(read_synthetic_queries(source), done, total))
            blocks = iter(lambda: list(itertools.islice(texts, BLOCK)), [])
            for block in progress.track(blocks, total=total, description="embed queries", unit="queries", done=done):
                stream.write(encoder.encode_queries(block).astype(NUMBER).tobytes())
                stream.flush()
                progress.advance(len(block))
    return width


def _rows_done(stream: IO[bytes], header: bytes, row_bytes: int, total: int) -> int:
    """How many whole rows of these settings there are; the stream is left behind the last."""
    if stream.read(len(header)) != header:
        stream.seek(0)
        stream.truncate()
        stream.write(header)
        return 0
    done = min(total, (stream.seek(0, os.SEEK_END) - len(header)) // row_bytes)
    stream.seek(len(header) + done * row_bytes)
    stream.truncate()
    return done
