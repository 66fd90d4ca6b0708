"""Checks that reject a query whatever its score, from the query and its document alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from inpars.errors import ConfigError, MissingDependencyError, UnknownNameError
from inpars.filtering.selections import parse_selection
from inpars.options import Bounds, check, option
from inpars.records import SyntheticQuery
from inpars.text.words import count_words, is_copied, words

DEFAULT_SCORE = "mean_log_probs"
DEFAULT_TOP_K = 10_000
OPENING = "opening"


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterOptions:
    """How queries are filtered."""

    scoring_function: str | None = option(
        None,
        metavar="NAME",
        help="score to rank by: sum_log_probs, mean_log_probs, mean_probs or a column of --scores "
        f"(default: that of the last --select, else {DEFAULT_SCORE})",
    )
    top_k: int | None = option(
        None,
        help=f"keep the N best by that score, after every --select (default: {DEFAULT_TOP_K}; with --select all)",
        minimum=1,
    )
    select: tuple[str, ...] = option(
        (),
        metavar="NAME:RULE=VALUE",
        help="keep by one more score, bm25_rank:max=20 or reranker:top-k=1000 for instance; RULE is top-k, min, max or "
        "best (a share). Repeat it to apply several in order. For scores that end in _rank lower is better; queries "
        "without the score are dropped",
    )
    spread_over: str | None = option(
        None,
        metavar="opening|NAME",
        help="fill the top k in turn from groups of queries: those with the same first two words, or with the same "
        "value of a score, cluster for instance",
    )
    min_tokens: int = option(3, help="minimum tokens per query", minimum=0, advanced=True)
    max_tokens: int | None = option(None, help="maximum tokens per query", minimum=1, advanced=True)
    min_words: int = option(0, help="minimum words per query", minimum=0, advanced=True)
    max_words: int | None = option(None, help="maximum words per query", minimum=1, advanced=True)
    languages: str | None = option(None, metavar="en,de", help="drop queries in other languages; needs py3langid")
    drop_copied: bool = option(True, help="drop queries that their document contains word for word", advanced=True)
    drop_unstopped: bool = option(True, help="drop queries that the length limit cut off", advanced=True)
    drop_duplicates: bool = option(True, help="keep only the best of queries with the same words", advanced=True)
    drop_near_duplicates: bool = option(False, help="keep only the best of queries with nearly the same words")
    near_duplicates_at: float = option(
        0.8,
        help="Jaccard similarity of words and word pairs from which two queries are near-duplicates",
        bounds=Bounds(minimum=0.1, maximum=1),
        advanced=True,
    )

    @property
    def ranking(self) -> str:
        """Name of the score to rank by."""
        if self.scoring_function is not None:
            return self.scoring_function
        return parse_selection(self.select[-1]).name if self.select else DEFAULT_SCORE

    @property
    def limit(self) -> int | None:
        """Maximum number of queries to keep; None for all."""
        return DEFAULT_TOP_K if self.top_k is None and not self.select else self.top_k


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterContext:
    """What the checks need besides the queries.

    `example_queries` are the prompt's, which small models repeat. Queries nearly equal to `excluded_queries` are
    dropped; those nearly equal to `own_queries` are counted. `document_text` looks up a document's text by id, None if
    unknown; without it the text in the query's record is used.
    """

    example_queries: Collection[str] = ()
    excluded_queries: Collection[str] = ()
    own_queries: Collection[str] = ()
    document_text: Callable[[str], str | None] | None = None


class Guards:
    """Checks each query by itself."""

    def __init__(self, options: FilterOptions, context: FilterContext) -> None:
        """Load the language identifier if needed. Raises ConfigError for unusable options."""
        check(options)
        self._options, self._document_text = options, context.document_text
        self._counts_words = options.min_words > 0 or options.max_words is not None
        self._examples = {words(example) for example in context.example_queries}
        self._is_foreign: Callable[[str], bool] | None = None
        if options.languages is not None:
            names = [name.strip() for name in options.languages.split(",") if name.strip()]
            if not names:
                raise ConfigError("--languages names none; write en or en,de")
            self._is_foreign = language_check(names)

    def reason(self, query: SyntheticQuery, query_words: Sequence[str], record_text: str | None) -> str | None:
        """The first reason to drop a query; `record_text` is the document's text in the query's record."""
        reason = self._cheap_reason(query, query_words)
        if reason is None and self._is_foreign is not None and self._is_foreign(query.text):
            reason = "language"
        if reason is None and self._options.drop_copied and is_copied(query.text, self._document(query, record_text)):
            reason = "copied"
        return reason

    def _cheap_reason(self, query: SyntheticQuery, query_words: Sequence[str]) -> str | None:
        options, tokens = self._options, len(query.token_log_probs)
        counted = query.log_prob_kind != "absent"  # otherwise the number of tokens is unknown
        word_count = count_words(query.text) if self._counts_words else 0
        checks: Iterable[tuple[str, bool]] = (
            ("failed", query.finish_reason == "error"),
            ("empty", not query.text.strip() or (counted and not tokens)),
            ("no_stop", options.drop_unstopped and query.finish_reason == "length"),
            ("too_short", counted and tokens < options.min_tokens),
            ("too_long", counted and options.max_tokens is not None and tokens > options.max_tokens),
            ("too_few_words", word_count < options.min_words),
            ("too_many_words", options.max_words is not None and word_count > options.max_words),
            ("prompt_example", tuple(query_words) in self._examples),
        )
        return next((name for name, holds in checks if holds), None)

    def _document(self, query: SyntheticQuery, record_text: str | None) -> str:
        if query.may_stand_above and record_text:
            return record_text  # without the heading, which may be the query itself
        return (record_text if self._document_text is None else self._document_text(query.doc_id)) or ""


MIN_CONFIDENCE = 0.5  # 5 of 43 English MS MARCO queries are misidentified, none with a confidence above 0.4


def language_check(languages: Collection[str]) -> Callable[[str], bool]:
    """A predicate for texts in none of the languages (ISO 639-1: `en`, `de`), by py3langid.

    Queries are short and full of names, so a query is foreign only if the identifier is confident of another language.
    Lui and Baldwin, "langid.py: An Off-the-shelf Language Identification Tool", 2012.
    """
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise MissingDependencyError("py3langid", "for --languages", "pip install py3langid") from error
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    for name in languages:
        if name not in identifier.labels:
            raise UnknownNameError("language", name, identifier.labels)
    allowed = frozenset(languages)

    def is_foreign(text: str) -> bool:
        name, share = identifier.rank(text)[0]
        return name not in allowed and float(share) > MIN_CONFIDENCE

    return is_foreign
