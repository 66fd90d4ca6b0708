"""The loop of scoring: queries with their documents in, log-probabilities out, saved chunk by chunk in a partial file.

The same for all queries of a file, for one of its shards, and for the shards of a cluster's workers. Blocks, plans and
chunks of these are those of one process, and so are the bytes; what travels for a shard are the bytes of the file that
its block's lines begin at, and the queries' ids.
"""

from __future__ import annotations

import functools
import itertools
import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inpars.cache import lasting_name
from inpars.corpus import Corpus, open_corpus
from inpars.errors import ConfigError, DataFormatError
from inpars.formats import LOG_PROB_DIGITS, read_placed_synthetic_records, read_synthetic_records, synthetic_query
from inpars.generation.canary import LATEST_CHARACTERS
from inpars.packing import is_packed
from inpars.progress import SILENT, Progress
from inpars.records import Document, SyntheticQuery
from inpars.stages.partial import CHUNK_END, Partial
from inpars.stages.shard_folder import ShardFolder
from inpars.stages.sharding import own_items
from inpars.stages.shards import Shard, chunks_of, pack_places, places_of, planned_items
from inpars.stages.stage import Outcome
from inpars.stages.workers import WORKERS_RESULT, Workers, do_shards, shard_size, worker_reports
from inpars.storage import read_json_at, read_lines, to_json_line, write_jsonl, write_lines

if TYPE_CHECKING:
    from inpars.generation.teacher_forcing import KnownQuery, QueryScore, TeacherForcing

STAGE = "score"
Row = tuple[SyntheticQuery, dict[str, Any]]


def _document(query: SyntheticQuery, record: Mapping[str, Any], corpus: Corpus | None, source: Path) -> Document:
    if corpus is not None:
        return corpus[query.doc_id]
    text = record.get("text") or record.get("doc_text")
    if not isinstance(text, str):
        raise DataFormatError(
            f"query {query.query_id!r} has no document text; name the documents with --dataset or --corpus", path=source
        )
    return Document(query.doc_id, text)


@dataclass(frozen=True, slots=True)
class ScoreTask:
    """The queries to score with those that are planned together with them, and the shard that is done here."""

    rows: Sequence[Row]
    known: Sequence[KnownQuery]
    first: int  # the place of the first of them in the file
    total: int  # queries in the file
    scorer: TeacherForcing
    shard: Shard | None

    @classmethod
    def of(
        cls,
        rows: Sequence[Row],
        corpus: Corpus | None,
        source: Path,
        scorer: TeacherForcing,
        shard: Shard | None,
        first: int = 0,
        total: int | None = None,
    ) -> ScoreTask:
        """The same from rows alone; they are all there are unless `total` says otherwise."""
        known = [_known(query, _document(query, record, corpus, source), scorer.name) for query, record in rows]
        return cls(rows, known, first, len(rows) if total is None else total, scorer, shard)

    def plan(self, block: range) -> list[list[int]]:
        """A block's chunks."""
        return self.scorer.plan(self.known[block.start - self.first : block.stop - self.first])


def read_task(
    source: Path,
    limit: int | None,
    part: Shard | None,
    corpus: Corpus | None,
    make_scorer: Callable[[], TeacherForcing],
) -> ScoreTask:
    """Read what the shard has to read and no more."""
    total = count_rows(source, limit)
    span = planned_items(own_items(total, part), total)
    rows = list(itertools.islice(read_synthetic_records(source), span.start, span.stop))
    for row in rows:
        _document(*row, corpus, source)  # what is missing is told before a model is loaded
    scorer = make_scorer()
    return ScoreTask.of(rows, corpus, source, scorer, part, span.start, total)


def count_rows(source: Path, limit: int | None) -> int:
    """How many queries there are to score. Raises ConfigError where there are none."""
    total = sum(1 for _ in itertools.islice(read_lines(source), limit))
    if not total:
        raise ConfigError(f"{source}: there are no queries to score")
    return total


def score_task(task: ScoreTask, partial: Partial) -> None:
    """Score what the partial file lacks."""
    own = own_items(task.total, task.shard)
    progress, ends = partial.progress, partial.chunk_ends(len(own))
    done, chunks = chunks_of(task.total, task.plan, task.shard, ends=ends)
    with partial.append(ends[done]) as lines:
        track = progress.track(
            chunks, total=len(own), description=f"score with {task.scorer.name}", unit="queries", done=done
        )
        for chunk in track:
            scores = task.scorer.score([task.known[place - task.first] for place in chunk.places])
            queries = [task.rows[place - task.first][0] for place in chunk.own]
            kept = zip(queries, scores[chunk.first : chunk.stop], strict=True)
            records = [_score_record(query, score) for query, score in kept]
            lines.append(map(to_json_line, [*records, {CHUNK_END: len(records)}]))
            progress.advance(len(records), queries[-1].text[:LATEST_CHARACTERS])


def write_scores(task: ScoreTask, partial: Partial, output: Path, prompt: str) -> tuple[list[int], tuple[int, float]]:
    """The task's rows with their new numbers, as the output: their places, and number and sum of the log-probs."""
    scores = {record["query_id"]: record for _, record in partial.records() if "query_id" in record}
    scored_by = {"model": lasting_name(task.scorer.name), "prompt": prompt}
    places = list(places_of(task.total, task.plan, task.shard))
    rows = (task.rows[place - task.first] for place in places)
    write_jsonl(output, (_scored(*row, scores[row[0].query_id], scored_by) for row in rows))
    values = [value for record in scores.values() for value in record["log_probs"]]
    return places, (len(values), math.fsum(values))


def _known(query: SyntheticQuery, document: Document, model: str) -> KnownQuery:
    from inpars.generation.teacher_forcing import KnownQuery

    own = query.token_ids if query.model == lasting_name(model) else ()
    return KnownQuery(document, query.text, own)


def _score_record(query: SyntheticQuery, score: QueryScore) -> dict[str, Any]:
    """What a partial file keeps of a query; a query that the length limit cut off has no end."""
    stop = None if query.finish_reason != "stop" or score.stop_log_prob is None else score.stop_log_prob
    return {
        "query_id": query.query_id,
        "log_probs": [round(value, LOG_PROB_DIGITS) for value in score.token_log_probs],
        "token_ids": list(score.token_ids),
        "stop_log_prob": None if stop is None else round(stop, LOG_PROB_DIGITS),
    }


def _scored(
    query: SyntheticQuery, record: Mapping[str, Any], score: Mapping[str, Any], scored_by: Mapping[str, str]
) -> dict[str, Any]:
    """The row with its new numbers. Its token ids stay only where they are those that were scored."""
    row = {"query_id": "", **record} | {"query_id": query.query_id, "log_probs": score["log_probs"]}
    if list(query.token_ids) != score["token_ids"]:
        row.pop("token_ids", None)
    return row | {"stop_log_prob": score["stop_log_prob"], "log_prob_kind": "raw", "scored_by": dict(scored_by)}


def score_by_workers(
    workers: Workers,
    source: Path,
    corpus: Corpus | None,
    prompt: str,
    make_scorer: Callable[[], TeacherForcing],
    output: Path,
    header: str,
    *,
    limit: int | None,
    model: str,
    progress: Progress,
) -> Outcome:
    """Write `output` from shards; they stay until its manifest is there. Raises ConfigError for packed queries."""
    if is_packed(source):
        raise ConfigError(f"{source}: workers read from the middle of a file; unpack it for --engine ray")
    starts, query_ids = _lines(source, limit)
    total = len(query_ids)
    if not total:
        raise ConfigError(f"{source}: there are no queries to score")
    folder = ShardFolder.open(output.absolute(), header, shard_size(total, workers), total, progress)
    documents = None if corpus is None else (corpus.path.absolute(), corpus.sha256)
    make = functools.partial(ScoreWorker, source.absolute(), documents, prompt, make_scorer, header)

    def payload(shard: int) -> ScoreShard:
        block = folder.block(shard)
        own = slice(block.start, block.stop)
        return ScoreShard(block.start, starts[own], query_ids[own], folder.part(shard))

    description = f"score with {model}"
    do_shards(make, folder, payload, workers, description=description, unit="queries", progress=progress)
    count = write_lines(output, folder.merged())
    marks = list(folder.marks())
    tokens, mean = sum(mark["tokens"] for mark in marks), sum(mark["log_probs"] for mark in marks)
    reports = worker_reports(marks)
    results = {"tokens": tokens, "mean_log_prob": mean / tokens if tokens else None, WORKERS_RESULT: reports}
    return Outcome(count, {}, results, reports[0]["device"])


def _lines(source: Path, limit: int | None) -> tuple[array[int], list[str]]:
    """Where each query's line begins, and the queries' ids."""
    starts, query_ids = array("Q"), []
    for query, _, start in itertools.islice(read_placed_synthetic_records(source), limit):
        starts.append(start)
        query_ids.append(query.query_id)
    return starts, query_ids


@dataclass(frozen=True, slots=True)
class ScoreShard:
    """What travels for one shard."""

    block: int  # the first of its queries in the file, which tells it from others
    starts: array[int]
    query_ids: Sequence[str]
    part: Shard


class ScoreWorker:
    """A scorer in a worker's process; it keeps the latest block's queries, since it has several shards of one."""

    def __init__(
        self,
        source: Path,
        corpus: tuple[Path, str] | None,
        prompt: str,
        make_scorer: Callable[[], TeacherForcing],
        header: str,
    ) -> None:
        """`corpus` is a path and a hash; without one the documents are those of the queries' rows."""
        self._source, self._prompt, self._header = source, prompt, header
        self._corpus = None if corpus is None else open_corpus(*corpus)
        self._scorer = make_scorer()
        self._block, self._task = -1, ScoreTask((), (), 0, 0, self._scorer, None)
        self.device = self._scorer.device

    def write(self, shard: ScoreShard, partial: Path, output: Path) -> Mapping[str, Any]:
        """The rows of one shard with their new numbers."""
        task, saved = self._read(shard), Partial(STAGE, partial, self._header, SILENT)
        score_task(task, saved)
        places, (tokens, total) = write_scores(task, saved, output, self._prompt)
        return {"places": pack_places((place, 1) for place in places), "tokens": tokens, "log_probs": total}

    def _read(self, shard: ScoreShard) -> ScoreTask:
        if self._block != shard.block:
            records = zip(shard.query_ids, read_json_at(self._source, shard.starts), strict=True)
            rows = [
                (synthetic_query(record, query_id, str(record["doc_id"]), self._source), record)
                for query_id, record in records
            ]
            self._task = ScoreTask.of(rows, self._corpus, self._source, self._scorer, None)
            self._block = shard.block
        return ScoreTask(self._task.rows, self._task.known, 0, len(self._task.rows), self._scorer, shard.part)
