"""The stage that pairs queries with hard negatives: kept queries in, triples of texts and of ids out.

Beside `NAME.tsv` lie `NAME.ids.tsv` and `negatives.trec`, the BM25 run the negatives were drawn from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from inpars.bm25 import DEFAULT_B, DEFAULT_K1, DEFAULT_LANGUAGE, bm25_index
from inpars.corpus import Corpus
from inpars.errors import ConfigError, StaleInputError
from inpars.formats import one_line, read_synthetic_queries, triple_id_lines, write_run
from inpars.manifest import FileStamp, Manifest, stamp
from inpars.options import option
from inpars.progress import SILENT, Progress
from inpars.records import Query, SyntheticQuery, Triple
from inpars.stages.stage import Outcome, run_stage
from inpars.storage import write_lines
from inpars.triples import mine_triples, parse_ranks

STAGE = "triples"


@dataclass(frozen=True, slots=True, kw_only=True)
class TriplesOptions:
    """How negatives are drawn."""

    ranks: str = option("1-100", help="BM25 ranks that negatives are drawn from", metavar="FIRST-LAST")
    per_query: int = option(1, help="negatives a query", minimum=1)
    positive_within: int | None = option(
        None, help="leave out queries whose own document BM25 does not find among its first N"
    )
    k1: float = option(DEFAULT_K1, help="BM25's k1")
    b: float = option(DEFAULT_B, help="BM25's b")
    language: str = option(DEFAULT_LANGUAGE, help="language of BM25's analyser")
    seed: int = option(0, help="seed of the draw")
    threads: int | None = option(None, help="search threads (default: one a core)", changes_result=False, minimum=1)


def ids_path(triples: Path) -> Path:
    """Where the ids of a file of triples lie: `triples.tsv` has `triples.ids.tsv`."""
    return triples.with_name(f"{triples.name.removesuffix('.gz').removesuffix('.tsv')}.ids.tsv")


def write_triples(
    source: Path,
    corpus: Corpus,
    corpus_stamp: FileStamp,
    options: TriplesOptions,
    *,
    output: Path,
    progress: Progress = SILENT,
    overwrite: bool = False,
) -> Manifest:
    """Write the triples' texts to `output`, and beside it their ids and the run they come from."""
    inputs = {"queries": stamp(source), "corpus": corpus_stamp}
    sides = (ids_path(output), output.with_name("negatives.trec"))

    def work() -> Outcome:
        first, last = parse_ranks(options.ranks)
        queries = list(read_synthetic_queries(source))
        _check_documents(queries, corpus, source)
        index = bm25_index(corpus, k1=options.k1, b=options.b, language=options.language, progress=progress)
        asked = [Query(query.query_id, query.text) for query in queries]
        run = index.search(
            asked, max(last + 1, options.positive_within or 1), threads=options.threads, progress=progress
        )  # one more for the positive
        mined = mine_triples(
            {query.query_id: query.doc_id for query in queries},
            run,
            lambda doc_id: corpus[doc_id].full_text,
            ranks=(first, last),
            per_query=options.per_query,
            positive_within=options.positive_within,
            seed=options.seed,
        )
        if not mined.triples:
            raise ConfigError(f"{source}: BM25 finds no negative for any of its {len(queries)} queries")
        write_run(sides[1], run, "bm25")
        write_lines(sides[0], triple_id_lines(mined.triples))
        texts = {query.query_id: query.text for query in queries}
        count = write_lines(output, _text_lines(mined.triples, texts, corpus))
        absent = sum(query.doc_id not in run[query.query_id] for query in queries)
        return Outcome(count, dict(mined.dropped), {"queries": len(queries), "positive_not_retrieved": absent})

    redo = overwrite or (output.exists() and not all(side.exists() for side in sides))
    return run_stage(STAGE, options, output=output, inputs=inputs, work=work, progress=progress, overwrite=redo)


def _check_documents(queries: Sequence[SyntheticQuery], corpus: Corpus, source: Path) -> None:
    unknown = [query.doc_id for query in queries if query.doc_id not in corpus]
    if unknown:
        raise StaleInputError(
            f"{source}: {len(unknown)} of {len(queries)} queries are about documents this corpus lacks, "
            f"{unknown[0]!r} first; give the corpus they were written for"
        )


def _text_lines(triples: Sequence[Triple], queries: Mapping[str, str], corpus: Corpus) -> Iterator[str]:
    for triple in triples:
        positive, negative = corpus.texts([triple.positive_doc_id, triple.negative_doc_id])
        yield "\t".join(map(one_line, (queries[triple.query_id], positive, negative)))
