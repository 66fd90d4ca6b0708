"""In which language a query is written, by py3langid: 140 languages, a few microseconds a query, no download.

Queries are short and full of names, so a query is foreign only where the identifier is sure of another language.
Lui and Baldwin, "langid.py: An Off-the-shelf Language Identification Tool", 2012.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from inpars.errors import MissingDependencyError, UnknownNameError

MIN_CONFIDENCE = 0.5  # of 43 English MS MARCO queries five have another likeliest language, none of them above 0.4


def language_check(languages: Collection[str]) -> Callable[[str], bool]:
    """A function that says whether a text is in none of the languages (ISO 639-1: `en`, `de`)."""
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
