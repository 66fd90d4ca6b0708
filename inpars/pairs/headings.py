"""Titles and headings as queries for the passages below them.

A section that was cut into several passages is represented by the first one, which says what the section is about. A
heading shared by several sections ("Prerequisites") is prefixed with its page's title; if it is still shared, it is
dropped as `ambiguous`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from inpars.pairs.records import Pair, PairKind
from inpars.records import Document
from inpars.text.words import count_words, query_key, words

MIN_WORDS = 8  # per passage; shorter ones are usually another heading or a link


@dataclass(frozen=True, slots=True)
class _Section:
    """A heading with its first passage."""

    kind: PairKind
    heading: str
    page: str  # title of its page; empty if the heading is that title
    doc_id: str

    @property
    def qualified(self) -> str:
        """The heading after its page's title, unless it already holds the title's words."""
        if set(words(self.heading)) >= set(words(self.page)):
            return self.heading
        return f"{self.page} {self.heading}"


def heading_pairs(documents: Iterable[Document], dropped: Counter[str]) -> Iterator[Pair]:
    """One query per title and per section, in document order."""
    sections = list(_sections(documents, dropped))
    counts = Counter(query_key(section.heading) for section in sections)
    texts = [section.heading if counts[query_key(section.heading)] == 1 else section.qualified for section in sections]
    uses = Counter(map(query_key, texts))
    for section, text in zip(sections, texts, strict=True):
        if uses[query_key(text)] > 1:
            dropped["ambiguous"] += 1
        else:
            yield Pair(text, section.kind, {section.doc_id: 1})


def headings_of(document: Document) -> list[str]:
    """The document's title; for passages cut from a file also the file's title and the headings above, outer first."""
    names = (document.title, str(document.metadata.get("title") or ""), *_heading_path(document))
    return list(dict.fromkeys(name for name in names if name))


def name_in(query: str, document: Document) -> str | None:
    """The innermost heading of the document whose words all occur in the query, or None."""
    query_words = set(words(query))
    named = [name for name in headings_of(document) if words(name) and query_words.issuperset(words(name))]
    return named[-1] if named else None


def _heading_path(document: Document) -> tuple[str, ...]:
    path = document.metadata.get("headings")
    return tuple(map(str, path)) if isinstance(path, list) else ()


def _sections(documents: Iterable[Document], dropped: Counter[str]) -> Iterator[_Section]:
    """Each title and heading once, with its first passage of at least `MIN_WORDS` words."""
    seen: set[tuple[object, ...]] = set()
    for document in documents:
        metadata, path = document.metadata, _heading_path(document)
        page = str(metadata.get("title") or "") or (path[0] if path else document.title)
        file = metadata.get("source"), metadata.get("record")
        names: list[tuple[PairKind, str, tuple[object, ...]]] = [("title", page, (*file, page))]
        if path and path[-1] != page:
            names.append(("heading", path[-1], (*file, path)))
        new = [(kind, name, key) for kind, name, key in names if name.strip() and key not in seen]
        if not new:
            continue
        if count_words(document.text) < MIN_WORDS:
            dropped["short_passage"] += len(new)
            continue
        for kind, name, key in new:
            seen.add(key)
            yield _Section(kind, name, page if kind == "heading" else "", document.doc_id)
