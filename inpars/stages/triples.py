"""The triples stage: queries in, triples of query, positive and hard negative out.

Next to `NAME.tsv` it writes, line by line, `NAME.ids.tsv` and `NAME.negatives.jsonl` with each negative's source, rank
and scores, and the runs that negatives were drawn from: `negatives.trec` (BM25), `negatives.dense.trec` (bi-encoder).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Unpack

from inpars.batches import chunks
from inpars.errors import ConfigError, StaleInputError
from inpars.fusion.system import BM25
from inpars.io.corpus import Corpus
from inpars.io.fields import one_line
from inpars.io.formats import read_synthetic_queries, run_lines
from inpars.io.manifest import Manifest, stamp
from inpars.io.storage import atomic_writer
from inpars.io.topics import Topics
from inpars.negatives.miner import (
    MinedQuery,
    MiningConfig,
    NegativeMiner,
    NegativesMode,
    PositiveChooser,
    QueryWithPositives,
    parse_ranks,
    rank_problems,
)
from inpars.negatives.rules import MarginRule, RelevantDocuments, Source
from inpars.options import POSITIVE, SEED, option
from inpars.progress import Progress
from inpars.protocols import PairScorer
from inpars.records import Query
from inpars.stages.partial import ScoreCache
from inpars.stages.rerank import RerankOptions, load_run_scorer
from inpars.stages.search import SearchOptions, own_documents, search_with_scores
from inpars.stages.stage import Outcome, Running, Stage, dropped_line, input_stamps
from inpars.stages.triple_files import TripleRow, ids_path, negatives_path, triple_writer
from inpars.stages.workers import Bm25Options, ClusterOptions, Workers
from inpars.training.examples import TripleTexts

STAGE = "triples"
REPLACED = "replaced_positives"
ABOVE_WINDOW = "negatives_above_ranks"
RUNS: Mapping[Source, str] = {"bm25": "negatives.trec", "dense": "negatives.dense.trec"}
QUERIES_PER_BLOCK = 500
QUERIES_PER_RESCORED_BLOCK = 8  # a block's scores are saved together


@dataclass(frozen=True, slots=True, kw_only=True)
class TriplesOptions(ClusterOptions, Bm25Options):
    """How negatives are drawn."""

    negatives: NegativesMode = option("bm25", help="source of negatives; both: alternating; random: the whole corpus")
    ranks: str = option("1-100", help="ranks that negatives are drawn from", metavar="FIRST-LAST")
    per_query: int = option(1, help="negatives per positive", minimum=1)
    positive_within: int | None = option(
        None,
        help="drop queries whose document is not in the top N of BM25, or with --negatives dense of the bi-encoder; 0: "
        "keep all",
        minimum=0,
    )
    retriever: str = option("minilm", help="bi-encoder for --negatives dense and both: embedded name, folder or hub id")
    margin: float | None = option(
        None, help="minimum difference between the scores of positive and negative", minimum=0
    )
    max_score_share: float | None = option(
        None, help="maximum ratio of a negative's score to its positive's, 0.95 for instance", bounds=POSITIVE
    )
    rescore: str | None = option(
        None, help="reranker to rescore candidates with; the two rules above then use its scores"
    )
    rescore_candidates: int = option(10, help="candidates per positive for --rescore", minimum=1)
    seed: int = option(0, help="random seed", bounds=SEED)
    positives: Literal["source", "best"] = option(
        "source",
        help="positive of a synthetic query; source: the document it was written for; best: what --rescore scores "
        "highest among that one and the --rescore-candidates found for the query",
        changes_result="unless default",
    )
    graded: bool = option(
        False,
        help="keep the grades of positives, for train reranker to rank all positives of a query in one list",
        changes_result="unless default",
    )

    def problems(self) -> Iterator[str]:
        if self.positives == "best" and self.rescore is None:
            yield "--positives best needs a reranker; give --rescore MODEL"
        yield from rank_problems(self.ranks, 1 if self.negatives == "random" else self.per_query)

    @property
    def mining_config(self) -> MiningConfig:
        """The miner's configuration. Raises ConfigError for incompatible options."""
        rule = MarginRule(self.margin, self.max_score_share)
        if rule and self.negatives == "random" and self.rescore is None:
            flag = "--margin" if self.margin is not None else "--max-score-share"
            raise ConfigError(f"random negatives have no scores to compare with {flag}; add --rescore MODEL")
        ranks = parse_ranks(self.ranks)
        return MiningConfig(
            self.negatives,
            ranks,
            self.per_query,
            self.positive_within or None,
            rule,
            self.rescore_candidates,
            self.seed,
            self.positives == "best",
        )


def write_triples(
    source: Path | Topics,
    corpus: Corpus,
    options: TriplesOptions,
    *,
    output: Path,
    judgements: Sequence[Topics] = (),
    make_scorer: Callable[[], PairScorer] | None = None,
    workers: Workers | None = None,
    **running: Unpack[Running],
) -> Manifest:
    """Write the triples' texts to `output` and, next to it, their ids, the origins of the negatives, and the runs.

    `source` is a file of synthetic queries, or judged queries whose relevant documents are the positives. The relevant
    documents of `judgements` are excluded as negatives of queries with the same id or words. `make_scorer` loads the
    `--rescore` model, whose scores are saved in `<output>.partial`. `workers` embed if `--retriever` has no index yet.
    """
    config = options.mining_config
    inputs = {"queries": stamp(source) if isinstance(source, Path) else source.stamp}
    inputs |= {f"judgements {topics.split}": topics.stamp for topics in judgements}
    retriever = options.retriever if "dense" in config.searched else None
    inputs |= input_stamps(corpus=corpus, retriever=retriever, rescore=options.rescore)
    runs = {source: output.with_name(RUNS[source]) for source in config.searched}
    stage = Stage(STAGE, options, output, inputs, [ids_path(output), negatives_path(output), *runs.values()], **running)

    def work() -> Outcome:
        queries, progress = _count(source, corpus), stage.progress
        load = make_scorer or (lambda: load_run_scorer(RerankOptions(model=str(options.rescore), **options.computing)))
        searching = SearchOptions(**options.bm25, **options.clustered)
        retrievers: Mapping[Source, str] = {"bm25": BM25, "dense": options.retriever}
        with ExitStack() as stack:
            scorer = stack.enter_context(ScoreCache(stage.partial, load)) if options.rescore else None
            searches = {
                name: search_with_scores(retrievers[name], corpus, searching, workers, progress)
                for name in config.searched
            }
            judged = _relevant_documents([*judgements, *([source] if isinstance(source, Topics) else [])], progress)
            queries_in_corpus = functools.partial(own_documents, corpus=corpus)
            miner = NegativeMiner(
                corpus, config, searches, judged=judged, scorer=scorer, document_queries=queries_in_corpus
            )
            blocks = chunks(
                _queries_with_positives(source, corpus, miner, graded=options.graded),
                QUERIES_PER_RESCORED_BLOCK if options.rescore else QUERIES_PER_BLOCK,
            )
            chooser = None
            if scorer is not None and options.positives == "best":
                chooser = PositiveChooser(corpus, searches, scorer, options.rescore_candidates)
                blocks = map(chooser.choose, blocks)
            tracked = progress.track(blocks, total=queries, description="mine negatives", unit="queries")
            count = _write(output, runs, miner, tracked, corpus, progress)
        counts = miner.counts
        if counts.above_window:
            stage.note(
                f"{counts.above_window} negatives are the last of rankings that end before --ranks {options.ranks}; "
                "lower ranks would give a choice"
            )
        results = {
            "queries": counts.queries,
            "positives": counts.pairs,
            "positive_not_retrieved": counts.not_retrieved,
            "sources": dict(counts.sources),
            "passed_over": dict(counts.skipped),
            **({} if chooser is None else {REPLACED: chooser.replaced}),
            **({ABOVE_WINDOW: counts.above_window} if counts.above_window else {}),
        }
        return Outcome(count, dict(counts.dropped), results)

    return stage.run(work)


def _count(source: Path | Topics, corpus: Corpus) -> int:
    """The number of queries. Raises StaleInputError if the corpus lacks their documents."""
    if isinstance(source, Topics):
        if not source.qrels:
            raise ConfigError(f"split {source.split!r} has no judgements to take positives from; give --input FILE")
        return len(source.queries)
    count, unknown, first = 0, 0, ""
    for query in read_synthetic_queries(source):
        count += 1
        if absent := next((doc_id for doc_id in query.positives if doc_id not in corpus), None):
            unknown, first = unknown + 1, first or absent
    if unknown:
        raise StaleInputError(
            f"{source}: {unknown} of {count} queries are about documents this corpus lacks, "
            f"{first!r} first; give the corpus they were written for"
        )
    return count


def _queries_with_positives(
    source: Path | Topics, corpus: Corpus, miner: NegativeMiner, *, graded: bool
) -> Iterator[QueryWithPositives]:
    """The queries with all documents graded above 0; a single positive of grade 1 keeps no grade."""
    queries: Iterable[tuple[Query, Mapping[str, int], bool, bool]]
    if isinstance(source, Path):
        synthetic = read_synthetic_queries(source)
        queries = ((Query(q.query_id, q.text), q.positives, q.may_stand_above, not q.by_people) for q in synthetic)
    else:
        qrels = source.qrels
        queries = ((Query(name, text), qrels.get(name, {}), False, False) for name, text in source.queries.items())
    for query, judged, may_stand_above, is_generated in queries:
        relevant = {doc_id: grade for doc_id, grade in judged.items() if grade > 0}
        grades = {doc_id: grade for doc_id, grade in relevant.items() if doc_id in corpus}
        if len(grades) < len(relevant):
            miner.counts.dropped["positive_not_in_corpus"] += len(relevant) - len(grades)
        keep_grades = graded and (len(grades) > 1 or any(grade != 1 for grade in grades.values()))
        is_replaceable = is_generated and len(grades) == 1
        yield QueryWithPositives(
            query, tuple(grades), may_stand_above, is_replaceable, None, grades if keep_grades else {}
        )


def _relevant_documents(splits: Sequence[Topics], progress: Progress) -> RelevantDocuments:
    judged = RelevantDocuments()
    for topics in splits:
        topics.say_remarks(progress)
        judged.add(topics.queries, topics.qrels)
    return judged


def _write(
    output: Path,
    runs: Mapping[Source, Path],
    miner: NegativeMiner,
    blocks: Iterable[Sequence[QueryWithPositives]],
    corpus: Corpus,
    progress: Progress,
) -> int:
    """Write all files in one pass, atomically. Returns the number of triples."""
    count = 0
    with triple_writer(output, with_ids=True) as write, ExitStack() as stack:
        streams = {source: stack.enter_context(atomic_writer(path)) for source, path in runs.items()}
        for block in blocks:
            mined, runs_of_block = miner.mine(block)
            for source, run in runs_of_block.items():
                streams[source].writelines(f"{line}\n" for line in run_lines(run, source))
            for row in (row for one in mined for row in _rows(one, corpus)):
                write(row)
                count += 1
            progress.advance(len(block))
        if not count:
            raise ConfigError(
                f"no negative is found for any of {miner.counts.queries} queries "
                f"({dropped_line(miner.counts.dropped)}); give other --ranks or a looser rule"
            )
    return count


def _rows(mined: MinedQuery, corpus: Corpus) -> Iterator[TripleRow]:
    query, positive = one_line(mined.query.text), one_line(mined.text_of(mined.positive))
    for negative, ids in zip(mined.negatives, mined.triples, strict=True):
        texts = TripleTexts(query, positive, one_line(mined.text_of(corpus[negative.doc_id])))
        origin = negative.record(ids.query_id, ids.positive_doc_id, mined.grade)
        origin |= {} if mined.original_positive is None else {"source_doc_id": mined.original_positive}
        yield TripleRow(texts, ids, origin)
