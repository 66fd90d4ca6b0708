"""The stage that pairs queries with hard negatives: queries in, triples of texts and of ids out, block by block.

Beside `NAME.tsv` lie `NAME.ids.tsv`, `NAME.negatives.jsonl` with each negative's source, rank and scores, line for line
the same, and the runs that negatives were drawn from: `negatives.trec` of BM25, `negatives.dense.trec` of a bi-encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from inpars.corpus import Corpus
from inpars.errors import ConfigError, StaleInputError
from inpars.fields import one_line
from inpars.formats import read_synthetic_queries, run_lines, triple_id_lines
from inpars.manifest import FileStamp, Manifest, stamp
from inpars.mining.negatives import Judged, ScoreRule, Source
from inpars.mining.triples import (
    Asked,
    Draw,
    Mined,
    Miner,
    NegativesMode,
    Pair,
    Search,
    in_blocks,
    parse_ranks,
    rank_problems,
)
from inpars.options import POSITIVE, SEED, SHARE, option
from inpars.progress import SILENT, Progress
from inpars.protocols import PairScorer
from inpars.records import Query, Run
from inpars.retrieval.bm25 import DEFAULT_B, DEFAULT_K1, DEFAULT_LANGUAGE, bm25_index
from inpars.stages.engine_options import ClusterOptions
from inpars.stages.partial import Partial
from inpars.stages.remembered import RememberedScores
from inpars.stages.reranking import RerankOptions, load_run_scorer
from inpars.stages.retrieving import SearchOptions, encode_by, load_encoder, own_documents
from inpars.stages.stage import Outcome, dropped_line, model_stamp, refuse_to_overwrite, run_stage
from inpars.stages.workers import Workers
from inpars.storage import atomic_writer, to_json_line
from inpars.topics import Topics

STAGE = "triples"
QUERIES_PER_BLOCK = 500
QUERIES_PER_RESCORED_BLOCK = 8  # a block's scores are saved together


@dataclass(frozen=True, slots=True, kw_only=True)
class TriplesOptions(ClusterOptions):
    """How negatives are drawn."""

    negatives: NegativesMode = option(
        "bm25", help="where negatives come from; both: by turns, random: the whole corpus"
    )
    ranks: str = option("1-100", help="ranks that negatives are drawn from, of each retriever", metavar="FIRST-LAST")
    per_query: int = option(1, help="negatives of each positive of a query", minimum=1)
    positive_within: int | None = option(
        None,
        help="leave out queries whose own document BM25 does not find among its first N; 0: keep them all",
        minimum=0,
    )
    retriever: str = option("minilm", help="bi-encoder of --negatives dense and both: embedded name, folder or hub id")
    margin: float | None = option(None, help="a negative's score must be at least X below its positive's", minimum=0)
    max_score_share: float | None = option(
        None, help="a negative's score may be at most this share of its positive's, 0.95 for instance", bounds=POSITIVE
    )
    rescore: str | None = option(
        None, help="reranker that scores drawn candidates anew; the two rules above are then held against its scores"
    )
    rescore_candidates: int = option(10, help="candidates of each positive that --rescore scores", minimum=1)
    k1: float = option(DEFAULT_K1, help="BM25's k1", minimum=0)
    b: float = option(DEFAULT_B, help="BM25's b", bounds=SHARE)
    language: str = option(DEFAULT_LANGUAGE, help="language of BM25's analyser")
    seed: int = option(0, help="seed of the draw", bounds=SEED)

    def problems(self) -> Iterator[str]:
        """What the ranks cannot give."""
        yield from rank_problems(self.ranks, 1 if self.negatives == "random" else self.per_query)

    @property
    def draw(self) -> Draw:
        """The same for the miner. Raises ConfigError for what does not go together."""
        rule = ScoreRule(self.margin, self.max_score_share)
        if rule and self.negatives == "random" and self.rescore is None:
            raise ConfigError("random negatives have no scores to hold --margin against; add --rescore MODEL")
        ranks = parse_ranks(self.ranks)
        return Draw(
            self.negatives,
            ranks,
            self.per_query,
            self.positive_within or None,
            rule,
            self.rescore_candidates,
            self.seed,
        )


def ids_path(triples: Path) -> Path:
    """Where the ids of a file of triples lie: `triples.tsv` has `triples.ids.tsv`."""
    return _beside(triples, ".ids.tsv")


def negatives_path(triples: Path) -> Path:
    """Where the sources and scores of the negatives lie: `triples.tsv` has `triples.negatives.jsonl`."""
    return _beside(triples, ".negatives.jsonl")


def _beside(triples: Path, ending: str) -> Path:
    return triples.with_name(triples.name.removesuffix(".gz").removesuffix(".tsv") + ending)


def write_triples(
    source: Path | Topics,
    corpus: Corpus,
    corpus_stamp: FileStamp,
    options: TriplesOptions,
    *,
    output: Path,
    judgements: Sequence[Topics] = (),
    make_scorer: Callable[[], PairScorer] | None = None,
    workers: Workers | None = None,
    progress: Progress = SILENT,
    overwrite: bool = False,
) -> Manifest:
    """Write the triples' texts to `output`, and beside it their ids, their negatives' origins and the runs.

    `source` is a file of synthetic queries, or judged queries whose relevant documents are the positives.
    `judgements` are splits whose relevant documents are no negatives of queries with the same id or words.
    `make_scorer` loads what `--rescore` names; its scores are kept in `<output>.partial` until the stage is done.
    `workers` embed where `--retriever` has no index yet.
    """
    draw = options.draw
    inputs = {"queries": stamp(source) if isinstance(source, Path) else source.stamp, "corpus": corpus_stamp}
    inputs |= {f"judgements {topics.split}": topics.stamp for topics in judgements}
    if "dense" in draw.searched:
        inputs["retriever"] = model_stamp(options.retriever)
    if options.rescore is not None:
        inputs["rescore"] = model_stamp(options.rescore)
    files = _Files.of(output, draw.searched)
    refuse_to_overwrite(files.sides, [source] if isinstance(source, Path) else [])

    def work() -> Outcome:
        queries = _count(source, corpus)
        load = make_scorer or (lambda: load_rescorer(options))
        with ExitStack() as stack:
            scorer = None
            if options.rescore is not None:
                saved = Partial.of(STAGE, options, inputs, output, progress)
                scorer = stack.enter_context(RememberedScores(saved, load))
            miner = Miner(
                corpus,
                draw,
                {name: _search(name, corpus, options, workers, progress) for name in draw.searched},
                judged=_judged([*judgements, *([source] if isinstance(source, Topics) else [])], progress),
                scorer=scorer,
                own_documents=lambda texts: own_documents(texts, corpus),
            )
            count = _write(files, miner, _asked(source, corpus, miner), queries, corpus, progress)
        return Outcome(count, dict(miner.counts.dropped), _results(miner))

    redo = overwrite or (output.exists() and not all(side.exists() for side in files.sides))
    return run_stage(STAGE, options, output=output, inputs=inputs, work=work, progress=progress, overwrite=redo)


def load_rescorer(options: TriplesOptions) -> PairScorer:
    """The scorer that `--rescore` names."""
    return load_run_scorer(RerankOptions(model=str(options.rescore), **options.computing))


@dataclass(frozen=True, slots=True)
class _Files:
    """All that the stage writes."""

    output: Path
    ids: Path
    negatives: Path
    runs: Mapping[Source, Path]

    @classmethod
    def of(cls, output: Path, searched: Sequence[Source]) -> _Files:
        names: Mapping[Source, str] = {"bm25": "negatives.trec", "dense": "negatives.dense.trec"}
        runs = {source: output.with_name(names[source]) for source in searched}
        return cls(output, ids_path(output), negatives_path(output), runs)

    @property
    def sides(self) -> list[Path]:
        return [self.ids, self.negatives, *self.runs.values()]


def _count(source: Path | Topics, corpus: Corpus) -> int:
    """The number of queries. Raises StaleInputError where they are about documents of another corpus."""
    if isinstance(source, Topics):
        if not source.qrels:
            raise ConfigError(f"split {source.split!r} has no judgements to take positives from; give --input FILE")
        return len(source.queries)
    count, unknown, first = 0, 0, ""
    for query in read_synthetic_queries(source):
        count += 1
        if query.doc_id not in corpus:
            unknown, first = unknown + 1, first or query.doc_id
    if unknown:
        raise StaleInputError(
            f"{source}: {unknown} of {count} queries are about documents this corpus lacks, "
            f"{first!r} first; give the corpus they were written for"
        )
    return count


def _asked(source: Path | Topics, corpus: Corpus, miner: Miner) -> Iterator[Asked]:
    if isinstance(source, Path):
        for query in read_synthetic_queries(source):
            yield Asked(Query(query.query_id, query.text), (query.doc_id,))
        return
    for query_id, text in source.queries.items():
        relevant = [doc_id for doc_id, relevance in source.qrels.get(query_id, {}).items() if relevance > 0]
        positives = tuple(doc_id for doc_id in relevant if doc_id in corpus)
        if len(positives) < len(relevant):
            miner.counts.dropped["positive_not_in_corpus"] += len(relevant) - len(positives)
        yield Asked(Query(query_id, text), positives)


def _judged(splits: Sequence[Topics], progress: Progress) -> Judged:
    judged = Judged()
    for topics in splits:
        topics.say_remarks(progress)
        judged.add(topics.queries, topics.qrels)
    return judged


def _search(
    source: Source, corpus: Corpus, options: TriplesOptions, workers: Workers | None, progress: Progress
) -> Search:
    """One retriever as the miner asks it."""
    if source == "bm25":
        index = bm25_index(
            corpus, k1=options.k1, b=options.b, language=options.language, threads=options.threads, progress=progress
        )

        def search(queries: Sequence[Query], depth: int, pairs: Sequence[Pair]) -> tuple[Run, Mapping[Pair, float]]:
            run = index.search(queries, depth, threads=options.threads)
            return run, {(q, positive): run[q][positive] for q, positive in pairs if positive in run[q]}

        return search
    from inpars.retrieval.dense import dense_index  # torch, only where a bi-encoder is asked for

    searching = SearchOptions(**options.clustered)
    encoder, fill = load_encoder(options.retriever, searching), encode_by(workers, options.retriever, searching)
    return dense_index(corpus, encoder, fill=fill, progress=progress).search_beside


def _write(
    files: _Files, miner: Miner, asked: Iterator[Asked], queries: int, corpus: Corpus, progress: Progress
) -> int:
    """All files in one pass; none of them appears where it fails. Returns the number of triples."""
    count = 0
    with ExitStack() as stack:
        texts, ids, negatives = (
            stack.enter_context(atomic_writer(path)) for path in (files.output, files.ids, files.negatives)
        )
        runs = {source: stack.enter_context(atomic_writer(path)) for source, path in files.runs.items()}
        size = QUERIES_PER_BLOCK if miner.scores_are_the_retrievers else QUERIES_PER_RESCORED_BLOCK
        tracked = progress.track(in_blocks(asked, size), total=queries, description="mine negatives", unit="queries")
        for block in tracked:
            mined, found = miner.mine(block)
            for source, run in found.items():
                _write_lines(runs[source], run_lines(run, source))
            for one in mined:
                _write_lines(texts, _text_lines(one, corpus))
                _write_lines(ids, triple_id_lines(one.triples))
                pair = (one.query.query_id, one.positive.doc_id)
                _write_lines(negatives, (to_json_line(negative.record(*pair)) for negative in one.negatives))
                count += len(one.negatives)
            progress.advance(len(block))
        if not count:
            raise ConfigError(
                f"no negative is found for any of {miner.counts.queries} queries "
                f"({dropped_line(miner.counts.dropped)}); give other --ranks or a looser rule"
            )
    return count


def _text_lines(mined: Mined, corpus: Corpus) -> Iterator[str]:
    query, positive = one_line(mined.query.text), one_line(mined.positive.full_text)
    for negative in mined.negatives:
        yield f"{query}\t{positive}\t{one_line(corpus[negative.doc_id].full_text)}"


def _write_lines(stream: IO[str], lines: Iterator[str]) -> None:
    stream.writelines(line + "\n" for line in lines)


def _results(miner: Miner) -> dict[str, object]:
    counts = miner.counts
    return {
        "queries": counts.queries,
        "positives": counts.pairs,
        "positive_not_retrieved": counts.not_retrieved,
        "sources": dict(counts.sources),
        "passed_over": dict(counts.passed_over),
    }
