"""The pairs stage: headings, FAQs, search logs and votes in, training queries out.

The output has the format of synthetic queries without log-probs, so every later stage accepts it; `prompt` is the kind
of each pair. Queries pass the checks of the filter and stay in input order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from inpars.errors import ConfigError
from inpars.filtering.checks import FilterContext, FilterOptions
from inpars.filtering.filters import NO_CONTEXT, choose
from inpars.filtering.query_table import QueryTableBuilder
from inpars.io.corpus import Corpus
from inpars.io.formats import synthetic_query_record, write_documents
from inpars.io.manifest import FileStamp, Manifest, stamp
from inpars.io.storage import write_jsonl
from inpars.options import SHARE, option
from inpars.pairs.clicks import click_pairs, vote_pairs
from inpars.pairs.faq import QuestionAnswer, match_answers, read_faq
from inpars.pairs.headings import heading_pairs
from inpars.pairs.records import Pair, united
from inpars.records import Document, SyntheticQuery
from inpars.stages.filter import BY_PROMPT, RESEMBLING, query_stamps
from inpars.stages.stage import Outcome, Running, Stage, dropped_line
from inpars.text.hashing import hex_key
from inpars.text.words import words

STAGE = "pairs"


@dataclass(frozen=True, slots=True, kw_only=True)
class PairsOptions:
    """Which pairs to extract."""

    headings: bool = option(False, help="titles and headings of the corpus, each with the first passage of its section")
    min_clicks: int = option(1, help="minimum clicks on a document for a query", minimum=1)
    min_click_rate: float = option(0.0, help="minimum clicks per impression of a document", bounds=SHARE)
    min_words: int = option(2, help="minimum words per query", minimum=0)
    max_words: int | None = option(32, help="maximum words per query", minimum=1)
    languages: str | None = option(None, metavar="en,de", help="drop queries in other languages; needs py3langid")
    drop_copied: bool = option(True, help="drop queries that their document contains word for word")
    drop_near_duplicates: bool = option(False, help="keep only one of queries with nearly the same words")

    @property
    def filtering(self) -> FilterOptions:
        return FilterOptions(
            min_words=self.min_words,
            max_words=self.max_words,
            languages=self.languages,
            drop_copied=self.drop_copied,
            drop_near_duplicates=self.drop_near_duplicates,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PairFiles:
    """The input files with queries of people."""

    faq: Sequence[Path] = ()
    clicks: Sequence[Path] = ()
    votes: Sequence[Path] = ()

    def stamps(self) -> dict[str, FileStamp]:
        named = (("faq", self.faq), ("clicks", self.clicks), ("votes", self.votes))
        return {f"{name} {number}": stamp(path) for name, paths in named for number, path in enumerate(paths, start=1)}


def answers_path(output: Path) -> Path:
    """The corpus of the answers of FAQs: `pairs.corpus.jsonl` for `pairs.jsonl`."""
    return output.with_name(f"{output.name.removesuffix('.gz').removesuffix('.jsonl')}.corpus.jsonl")


def write_pairs_file(
    files: PairFiles,
    options: PairsOptions,
    *,
    output: Path,
    corpus: Corpus | None = None,
    context: FilterContext = NO_CONTEXT,
    **running: Unpack[Running],
) -> Manifest:
    """Write the pairs to `output`; without a corpus, write the answers of the FAQs as a corpus next to it."""
    _check(files, options, corpus)
    inputs = files.stamps() | ({} if corpus is None else {"corpus": corpus.stamp})
    inputs |= query_stamps(context)
    sides = [answers_path(output)] if corpus is None else []
    stage = Stage(STAGE, options, output, inputs, sides, **running)

    def work() -> Outcome:
        dropped: Counter[str] = Counter()
        documents: dict[str, Document] = {}
        pairs = united(_all_pairs(files, options, corpus, documents, dropped), dropped)
        document_of: Callable[[str], Document] = documents.__getitem__ if corpus is None else corpus.__getitem__
        candidates = [(pair, pair.query(), _for_model(pair, document_of)) for pair in pairs]
        builder = QueryTableBuilder(options.filtering, context)
        for _, query, document in candidates:
            builder.add(query, document.full_text)
        table = builder.pool()
        positions = np.sort(choose(table, options.filtering))
        dropped += table.dropped()
        if not len(positions):
            raise ConfigError(f"no pair is left ({dropped_line(dropped)}); give other files or looser limits")
        count = write_jsonl(output, (_record(*candidates[position]) for position in positions.tolist()))
        if corpus is None:
            write_documents(answers_path(output), documents.values())
        resembling = {RESEMBLING: table.resembling_own} if context.own_queries else {}
        results = {"read": len(pairs) + dropped["duplicate"], BY_PROMPT: table.by_prompt(), **resembling}
        return Outcome(count, dict(+dropped), results)

    return stage.run(work)


def _check(files: PairFiles, options: PairsOptions, corpus: Corpus | None) -> None:
    if not (options.headings or files.faq or files.clicks or files.votes):
        raise ConfigError("nothing to make pairs of: give --headings, --faq FILE, --clicks FILE or --votes FILE")
    if corpus is None and (options.headings or files.clicks or files.votes):
        flag = "--headings" if options.headings else "--clicks" if files.clicks else "--votes"
        raise ConfigError(f"{flag} is about documents of a corpus; give --dataset NAME or --corpus FILE")


def _all_pairs(
    files: PairFiles,
    options: PairsOptions,
    corpus: Corpus | None,
    documents: dict[str, Document],
    dropped: Counter[str],
) -> Iterator[Pair]:
    """All pairs whose documents exist, the most reliable kind first; without a corpus, adds answers to `documents`."""
    voted = vote_pairs(list(files.votes), dropped)
    yield from (one for pair in voted for one in _present(pair, corpus, dropped))
    clicked = click_pairs(
        list(files.clicks), min_clicks=options.min_clicks, min_click_rate=options.min_click_rate, dropped=dropped
    )
    yield from (one for pair in clicked for one in _present(pair, corpus, dropped))
    faqs = [pair for path in files.faq for pair in read_faq(path, dropped)]
    if corpus is None:
        yield from _with_answers(faqs, documents)
    elif faqs:
        yield from _in_corpus(faqs, corpus, dropped)
    if options.headings and corpus is not None:
        yield from heading_pairs(corpus, dropped)


def _present(pair: Pair, corpus: Corpus | None, dropped: Counter[str]) -> Iterator[Pair]:
    grades = {doc_id: grade for doc_id, grade in pair.grades.items() if corpus is not None and doc_id in corpus}
    dropped["document_not_in_corpus"] += len(pair.grades) - len(grades)
    if grades:
        yield replace(pair, grades=grades)


def _with_answers(faqs: Sequence[QuestionAnswer], documents: dict[str, Document]) -> Iterator[Pair]:
    for one in faqs:
        doc_id = one.doc_id or f"answer-{hex_key(' '.join(words(one.answer)))}"
        if words(documents.setdefault(doc_id, Document(doc_id, one.answer)).text) != words(one.answer):
            raise ConfigError(
                f"{one.source}: document {doc_id!r} has another answer above; give the documents with --corpus, or "
                "each answer an id of its own"
            )
        yield Pair(one.question, "faq", {doc_id: 1}, {"source": one.source})


def _in_corpus(faqs: Sequence[QuestionAnswer], corpus: Corpus, dropped: Counter[str]) -> Iterator[Pair]:
    """Pairs with the documents that the files name, or with those that equal the answer or a part of it."""
    unnamed = [one for one in faqs if one.doc_id is None]
    matched = iter(match_answers([one.answer for one in unnamed], corpus) if unnamed else ())
    for one in faqs:
        if one.doc_id is not None:
            yield from _present(Pair(one.question, "faq", {one.doc_id: 1}, {"source": one.source}), corpus, dropped)
        elif grades := next(matched):
            yield Pair(one.question, "faq", grades, {"source": one.source})
        else:
            dropped["answer_not_in_corpus"] += 1


def _for_model(pair: Pair, document_of: Callable[[str], Document]) -> Document:
    """The best document for a model to read; without its title if the query may be one of its headings."""
    query = pair.query()
    document = document_of(query.doc_id)
    return replace(document, title="") if query.may_stand_above else document


def _record(pair: Pair, query: SyntheticQuery, document: Document) -> dict[str, Any]:
    record = synthetic_query_record(query, document)
    text = record.pop("text")
    return {**record, **pair.about, "text": text}
