"""The score stage: a query file in, the same rows with a model's log-probabilities out.

Other kinds of scores are in `query_scores.py`; the options of all kinds are here. `chunk_loop.py` does the work.
"""

from __future__ import annotations

import functools
import itertools
import math
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

from inpars.cache import canonical_name
from inpars.errors import ConfigError, DataFormatError, PromptError
from inpars.generation.degeneration_monitor import LATEST_CHARACTERS
from inpars.io.corpus import Corpus, open_corpus
from inpars.io.formats import LOG_PROB_DIGITS, read_synthetic_records, read_synthetic_with_offsets, synthetic_query
from inpars.io.manifest import Manifest, stamp
from inpars.io.packing import is_packed
from inpars.io.storage import read_json_at, read_lines, write_jsonl
from inpars.options import SEED, option
from inpars.prompts.mixture import PromptSource, prompt_named
from inpars.records import Document, SyntheticQuery
from inpars.rerankers.kinds import ScorerKind
from inpars.stages.chunk_loop import Computed, work_elsewhere, work_here
from inpars.stages.partial import Partial
from inpars.stages.score_kinds import DEFAULT_MODELS, LOG_PROBS, Row, ScoreKind, kind_help, model_help
from inpars.stages.shards import BLOCK_ITEMS, Chunk, Plan, Shard, own_items, planned_items, positions_of
from inpars.stages.stage import Outcome, Running, Stage, input_stamps
from inpars.stages.workers import Bm25Options, ShardedOptions, Workers, check_engine

if TYPE_CHECKING:
    from inpars.generation.teacher_forcing import QueryScore, TeacherForcing

STAGE = "score"


@dataclass(frozen=True, slots=True)
class Source:
    """A file of queries, and the corpus of their documents; without a corpus the rows hold the texts."""

    path: Path
    corpus: Corpus | None = None

    def count(self, limit: int | None) -> int:
        """Number of queries to score. Raises ConfigError if there are none."""
        total = sum(1 for _ in itertools.islice(read_lines(self.path), limit))
        if not total:
            raise ConfigError(f"{self.path}: there are no queries to score")
        return total

    def document(self, query: SyntheticQuery, record: Mapping[str, Any]) -> Document:
        """A query's document. Raises DataFormatError if neither the corpus nor the row has its text."""
        if self.corpus is not None:
            return self.corpus[query.doc_id]
        text = record.get("text") or record.get("doc_text")
        if not isinstance(text, str):
            problem = f"query {query.query_id!r} has no document text; name the documents with --dataset or --corpus"
            raise DataFormatError(problem, path=self.path)
        return Document(query.doc_id, text)

    def prompt(self, prompt: PromptSource, query: SyntheticQuery) -> str:
        """Name of the prompt to score a query with. Raises DataFormatError if a mixture lacks it."""
        try:
            return prompt_named(prompt, query.prompt).name
        except PromptError as error:
            raise DataFormatError(f"query {query.query_id!r}: {error}", path=self.path) from None

    def location(self) -> tuple[Path, tuple[Path, str] | None]:
        """Paths to send to a worker. Raises ConfigError for packed queries."""
        if is_packed(self.path):
            raise ConfigError(f"{self.path}: workers read from the middle of a file; unpack it for --engine ray")
        corpus = None if self.corpus is None else (self.corpus.path.absolute(), self.corpus.sha256)
        return self.path.absolute(), corpus


class LogProbScoring:
    """Queries to score; `rows` start at position `first` of the file's `total`."""

    unit, block, counted = "queries", BLOCK_ITEMS, 0

    def __init__(
        self, rows: Sequence[Row], source: Source, scorer: TeacherForcing, prompt: PromptSource, first: int, total: int
    ) -> None:
        from inpars.generation.teacher_forcing import KnownQuery

        self._rows, self._first, self._scorer, self.total = rows, first, scorer, total
        self._prompt, self._model = prompt, canonical_name(scorer.name)
        self._known = [
            KnownQuery(
                source.document(query, record),
                query.text,
                query.token_ids if query.model == self._model else (),
                query.prompt,
            )
            for query, record in rows
        ]
        self.description, self.device = f"score with {scorer.name}", scorer.device
        self.sums: dict[str, float] = {}

    @classmethod
    def of_file(
        cls,
        source: Source,
        limit: int | None,
        part: Shard | None,
        make: Callable[[], TeacherForcing],
        prompt: PromptSource,
    ) -> LogProbScoring:
        """Read only the rows that the shard needs."""
        total = source.count(limit)
        span = planned_items(own_items(total, part), total)
        rows = list(itertools.islice(read_synthetic_records(source.path), span.start, span.stop))
        for row in rows:
            source.document(*row)  # report a missing document before a model is loaded
            source.prompt(prompt, row[0])
        return cls(rows, source, make(), prompt, span.start, total)

    def plan(self, block: range) -> list[list[int]]:
        return self._scorer.plan(self._known[block.start - self._first : block.stop - self._first])

    def compute(self, chunks: Iterator[Chunk], saved: Partial, done: int) -> Computed:
        for chunk in chunks:
            scores = self._scorer.score([self._known[position - self._first] for position in chunk.positions])
            queries = [self._rows[position - self._first][0] for position in chunk.shard_positions]
            scored = zip(queries, scores[chunk.first : chunk.stop], strict=True)
            yield [_score_record(*one) for one in scored], queries[-1].text[:LATEST_CHARACTERS]

    def write(self, part: Shard | None, plan: Plan, saved: Partial, output: Path) -> list[tuple[int, int]]:
        """Write the rows with their log-probs, and set `sums` to the number and sum of these."""
        scores = {record["query_id"]: record for _, record in saved.records() if "query_id" in record}
        positions = list(positions_of(self.total, plan, part))
        rows = (self._rows[position - self._first] for position in positions)
        write_jsonl(output, (self._scored(*row, scores[row[0].query_id]) for row in rows))
        values = [value for record in scores.values() for value in record["log_probs"]]
        self.sums = {"tokens": len(values), "log_probs": math.fsum(values)}
        return [(position, 1) for position in positions]

    def _scored(self, query: SyntheticQuery, record: Mapping[str, Any], score: Mapping[str, Any]) -> dict[str, Any]:
        """The row with its log-probs; keeps its token ids only if they are the scored ones."""
        row = {"query_id": "", **record} | {"query_id": query.query_id, "log_probs": score["log_probs"]}
        if list(query.token_ids) != score["token_ids"]:
            row.pop("token_ids", None)
        stop = {"stop_log_prob": score["stop_log_prob"], "log_prob_kind": "raw"}
        scored_by = {"model": self._model, "prompt": prompt_named(self._prompt, query.prompt).name}
        return {**row, **stop, "scored_by": scored_by}


def _score_record(query: SyntheticQuery, score: QueryScore) -> dict[str, Any]:
    """The record in the partial file; a query that the length limit cut off has no stop token."""
    stop = None if query.finish_reason != "stop" or score.stop_log_prob is None else score.stop_log_prob
    return {
        "query_id": query.query_id,
        "log_probs": [round(value, LOG_PROB_DIGITS) for value in score.token_log_probs],
        "token_ids": list(score.token_ids),
        "stop_log_prob": None if stop is None else round(stop, LOG_PROB_DIGITS),
    }


def query_offsets(source: Source, limit: int | None) -> tuple[array[int], list[str]]:
    """The byte offset of each query's line, and the query ids. Raises ConfigError if there are none."""
    starts, query_ids = array("Q"), list[str]()
    for query, _, start in itertools.islice(read_synthetic_with_offsets(source.path), limit):
        starts.append(start)
        query_ids.append(query.query_id)
    if not query_ids:
        raise ConfigError(f"{source.path}: there are no queries to score")
    return starts, query_ids


class LogProbBlocks:
    """A scorer in a worker's process, for queries by id and byte offset."""

    def __init__(
        self, location: tuple[Path, tuple[Path, str] | None], prompt: PromptSource, make: Callable[[], TeacherForcing]
    ) -> None:
        path, corpus = location
        self._source = Source(path, None if corpus is None else open_corpus(*corpus))
        self._scorer, self._prompt = make(), prompt
        self.device = self._scorer.device

    def __call__(self, items: tuple[array[int], Sequence[str]]) -> LogProbScoring:
        path = self._source.path
        rows = [
            (synthetic_query(record, query_id, str(record["doc_id"]), path), record)
            for query_id, record in zip(items[1], read_json_at(path, items[0]), strict=True)
        ]
        return LogProbScoring(rows, self._source, self._scorer, self._prompt, 0, len(rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreOptions(ShardedOptions, Bm25Options):
    """How queries are scored."""

    kind: ScoreKind = option(LOG_PROBS, help=kind_help())
    model: str | None = option(None, help=model_help())
    reranker_kind: ScorerKind | Literal["auto"] = option("auto", help="kind of reranker; auto: from its configuration")
    true_token: str | None = option(None, help="output token that means relevant", advanced=True)
    false_token: str | None = option(None, help="output token that means not relevant", advanced=True)
    max_length: int | None = option(None, help="maximum input length in tokens (default: the model's limit)", minimum=1)
    depth: int = option(100, help="search depth for the ranks", minimum=1)
    clusters: int | None = option(
        None,
        help="clusters of queries (default: the square root of their number, at most 1000)",
        minimum=2,
        advanced=True,
    )
    max_doc_tokens: int = option(256, help="maximum tokens of a document in the prompt", minimum=1, advanced=True)
    limit: int | None = option(None, help="use only the first N queries, for a quick try", minimum=1)
    seed: int = option(0, help="seed of examples that are drawn", bounds=SEED, advanced=True)
    batch_size: int | None = option(
        None,
        help="queries per batch (default: 32 on a CPU, 256 on a GPU; 64 for a bi-encoder)",
        changes_result=False,
        minimum=1,
        advanced=True,
    )
    batch_tokens: int | None = option(
        None,
        help="padded tokens per batch of a reranker (default: 1024 on a CPU, 2048 with AMX, 8192 on a GPU)",
        changes_result=False,
        minimum=1,
        advanced=True,
    )

    @property
    def model_name(self) -> str:
        """The model or the kind's default. Raises ConfigError if there is none."""
        name = DEFAULT_MODELS.get(self.kind) if self.model is None else self.model
        if name is None:
            raise ConfigError(f"--kind {self.kind} needs a --model; the package contains none")
        return name


def score_file(
    source: Path,
    prompt: PromptSource,
    options: ScoreOptions,
    *,
    output: Path,
    make_scorer: Callable[[], TeacherForcing],
    corpus: Corpus | None = None,
    workers: Workers | None = None,
    **running: Unpack[Running],
) -> Manifest:
    """Write the rows with new log-probabilities. Documents come from the corpus, or from the rows without one.

    With `workers` each of them loads the scorer: `make_scorer` is pickled, so it must not hold a model.
    """
    check_engine(options, workers)
    inputs = {"queries": stamp(source)} | input_stamps(prompt=prompt, corpus=corpus, model=options.model_name)
    stage, queries = Stage(STAGE, options, output, inputs, **running), Source(source, corpus)

    def work() -> Outcome:
        if workers is not None:
            load = functools.partial(LogProbBlocks, queries.location(), prompt, make_scorer)
            starts, query_ids = query_offsets(queries, options.limit)
            done = work_elsewhere(
                *(stage, workers, load, len(query_ids), lambda block: (starts[block], query_ids[block])),
                description=f"score with {options.model_name}",
                unit="queries",
                summed=("tokens", "log_probs"),
            )
        else:
            scoring = LogProbScoring.of_file(queries, options.limit, options.part, make_scorer, prompt)
            done = work_here(stage, scoring, options.part)
        tokens = int(done.sums["tokens"])
        mean = done.sums["log_probs"] / tokens if tokens else None
        results = {"tokens": tokens, "mean_log_prob": mean, **done.results}
        return Outcome(done.lines, {}, results, done.device)

    return stage.run(work)


def scorer_maker(options: ScoreOptions, prompt: PromptSource) -> Callable[[], TeacherForcing]:
    """A function that loads the scorer, here or in a worker."""
    return functools.partial(load_query_scorer, options.for_worker(), prompt)


def load_query_scorer(options: ScoreOptions, prompt: PromptSource) -> TeacherForcing:
    """The scorer that the options name. Imports torch."""
    from inpars.generation.teacher_forcing import TeacherForcing

    where = options.set_up()
    return TeacherForcing(
        options.model_name, prompt, max_doc_tokens=options.max_doc_tokens, batch_size=options.batch_size, **where
    )
