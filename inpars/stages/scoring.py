"""The stage that has queries scored: any query file in, the same rows with one model's log-probabilities out.

Other kinds of scores are `columns.py`'s and `clustering.py`'s; the settings of all stand here.

What is scored lies in `<output>.partial` until all is; killed at any moment, the same command goes on from there.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from inpars.cluster.shard_folder import remove_shards
from inpars.cluster.shards import Shard, chunks_of, places_of, planned_items
from inpars.corpus import Corpus
from inpars.errors import ConfigError, DataFormatError
from inpars.formats import LOG_PROB_DIGITS, read_synthetic_records
from inpars.generation.canary import LATEST_CHARACTERS
from inpars.manifest import FileStamp, Manifest, stamp, stamp_text
from inpars.options import SEED, SHARE, option, result_settings
from inpars.progress import SILENT, Progress
from inpars.prompting.templates import PromptSource
from inpars.records import Document, SyntheticQuery
from inpars.remote.names import lasting_name
from inpars.retrieval.bm25 import DEFAULT_B, DEFAULT_K1, DEFAULT_LANGUAGE
from inpars.scoring import ScorerKind
from inpars.stages.partial import CHUNK_END, chunk_ends, header_line, open_partial, partial_path, remove_partial
from inpars.stages.sharding import ShardedOptions, own_items, shard_results
from inpars.stages.stage import Outcome, model_stamp, run_stage
from inpars.storage import read_jsonl, read_lines, to_json_line, write_jsonl

if TYPE_CHECKING:
    from inpars.generation.teacher_forcing import KnownQuery, QueryScore, TeacherForcing

STAGE = "score"
ScoreKind: TypeAlias = Literal["log-probs", "reranker", "bm25-rank", "dense-rank", "answerability", "cluster"]
DEFAULT_MODELS: Mapping[ScoreKind, str] = {
    "log-probs": "smollm2-135m",
    "reranker": "smollm2-135m",
    "dense-rank": "minilm",
    "cluster": "minilm",
}
Row = tuple[SyntheticQuery, dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreOptions(ShardedOptions):
    """How queries are scored."""

    kind: ScoreKind = option(
        "log-probs",
        help="log-probs: the rows again with a language model's token log-probs; the others write a score file, "
        "query_id and a number: reranker (how well its document answers the query), bm25-rank and dense-rank (the rank "
        "of its document for the query, null below --depth; dense-rank adds dense_score, their similarity), "
        "answerability (extractive question answering), cluster",
    )
    model: str | None = option(
        None,
        help="embedded name, folder or hub id; a causal language model, a reranker of any kind, a bi-encoder for "
        "dense-rank and cluster, a SQuAD 2.0 model for answerability (default: smollm2-135m; minilm for the "
        "bi-encoder; none for answerability)",
    )
    reranker_kind: ScorerKind | Literal["auto"] = option(
        "auto", help="what the reranker is; auto reads its configuration"
    )
    true_token: str | None = option(None, help="what the reranker answers where the document is relevant")
    false_token: str | None = option(None, help="what it answers where it is not")
    max_length: int | None = option(
        None, help="tokens that a reranker, reader or bi-encoder reads (default: the model's limit)", minimum=1
    )
    depth: int = option(100, help="documents a query that the ranks are looked for in", minimum=1)
    k1: float = option(DEFAULT_K1, help="BM25's k1", minimum=0)
    b: float = option(DEFAULT_B, help="BM25's b", bounds=SHARE)
    language: str = option(DEFAULT_LANGUAGE, help="language of BM25's analyser")
    clusters: int | None = option(
        None, help="clusters of queries (default: the square root of their number, at most 1000)", minimum=2
    )
    max_doc_tokens: int = option(256, help="tokens of a document that the model is shown", minimum=1)
    limit: int | None = option(None, help="only the first N queries, to try things out", minimum=1)
    seed: int = option(0, help="seed of examples that are drawn", bounds=SEED)
    batch_size: int | None = option(
        None,
        help="queries read together (default: 32 on a processor, 256 on a GPU; 64 by a bi-encoder)",
        changes_result=False,
        minimum=1,
    )
    batch_tokens: int | None = option(
        None,
        help="padded tokens a reranker reads together (default: 1024 on a processor, 2048 with AMX, 8192 on a GPU)",
        changes_result=False,
        minimum=1,
    )

    @property
    def model_name(self) -> str:
        """The model, or the default of the kind. Raises ConfigError where there is none."""
        name = DEFAULT_MODELS.get(self.kind) if self.model is None else self.model
        if name is None:
            raise ConfigError(f"--kind {self.kind} needs a --model; none of that kind comes with the package")
        return name


def score_file(
    source: Path,
    prompt: PromptSource,
    options: ScoreOptions,
    *,
    output: Path,
    make_scorer: Callable[[], TeacherForcing],
    corpus: Corpus | None = None,
    corpus_stamp: FileStamp | None = None,
    progress: Progress = SILENT,
    overwrite: bool = False,
) -> Manifest:
    """Write the rows with new log-probabilities. Documents come from the corpus, else from the rows' own text.

    With `--engine ray` the scorer is made in each worker: `make_scorer` is pickled, and so must not hold a model.
    """
    inputs = {
        "queries": stamp(source),
        "prompt": stamp_text(prompt.name, prompt.text),
        "model": model_stamp(options.model_name),
    }
    if corpus_stamp is not None:
        inputs["corpus"] = corpus_stamp

    def work() -> Outcome:
        partial, header = partial_path(output), header_line(STAGE, result_settings(options), inputs)
        if options.on_ray:
            from inpars.cluster.scoring import score_on_cluster

            return score_on_cluster(source, corpus, prompt, options, make_scorer, output, header, progress)
        task = _read_task(source, options, corpus, make_scorer)
        score_task(task, partial, header, progress)
        places, (tokens, total) = write_scores(task, partial, output, prompt.name)
        remove_partial(partial)
        told = shard_results(options.part, task.total, ((place, 1) for place in places))
        results = {"tokens": tokens, "mean_log_prob": total / tokens if tokens else None, **told}
        return Outcome(len(places), {}, results, task.scorer.device)

    manifest = run_stage(
        STAGE, options, output=output, inputs=inputs, work=work, progress=progress, overwrite=overwrite
    )
    remove_shards(output)
    return manifest


def scorer_maker(options: ScoreOptions, prompt: PromptSource) -> Callable[[], TeacherForcing]:
    """What loads the scorer, in this process or in the workers of a cluster."""
    return functools.partial(load_query_scorer, options.for_worker(), prompt)


def load_query_scorer(options: ScoreOptions, prompt: PromptSource) -> TeacherForcing:
    """The scorer the options name. Torch is loaded here and not before."""
    from inpars.generation.teacher_forcing import TeacherForcing
    from inpars.models.hardware import compute_with

    compute_with(options.threads, options.engine_backend)
    return TeacherForcing(
        options.model_name,
        prompt,
        max_doc_tokens=options.max_doc_tokens,
        batch_size=options.batch_size,
        device=options.device,
        dtype=options.dtype,
        trust_remote_code=options.trust_remote_code,
    )


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


def _read_task(
    source: Path, options: ScoreOptions, corpus: Corpus | None, make_scorer: Callable[[], TeacherForcing]
) -> ScoreTask:
    """Read what the shard has to read and no more."""
    total = count_rows(source, options.limit)
    span = planned_items(own_items(total, options.part), total)
    rows = list(itertools.islice(read_synthetic_records(source), span.start, span.stop))
    for row in rows:
        _document(*row, corpus, source)  # what is missing is told before a model is loaded
    scorer = make_scorer()
    return ScoreTask.of(rows, corpus, source, scorer, options.part, span.start, total)


def count_rows(source: Path, limit: int | None) -> int:
    """How many queries there are to score. Raises ConfigError where there are none."""
    total = sum(1 for _ in itertools.islice(read_lines(source), limit))
    if not total:
        raise ConfigError(f"{source}: there are no queries to score")
    return total


def score_task(task: ScoreTask, partial: Path, header: str, progress: Progress) -> None:
    """Score what the partial file lacks."""
    own = own_items(task.total, task.shard)
    ends = chunk_ends(STAGE, partial, header, len(own), progress)
    done, chunks = chunks_of(task.total, task.plan, task.shard, ends=ends)
    with open_partial(partial, header, ends[done]) as lines:
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


def write_scores(task: ScoreTask, partial: Path, output: Path, prompt: str) -> tuple[list[int], tuple[int, float]]:
    """The task's rows with their new numbers, as the output: their places, and number and sum of the log-probs."""
    scores = {record["query_id"]: record for _, record in read_jsonl(partial) if "query_id" in record}
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
