"""Titles and headings as queries for the passages below them.

Of a section that was cut into several passages the first one counts: it says what the section is about. A heading that
stands over several sections ("Prerequisites") is taken together with the title of its page; what is still the same for
several sections says too little, and is dropped as `ambiguous`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from inpars.pairs.records import Pair, PairKind
from inpars.records import Document
from inpars.text.words import query_key, words

MIN_WORDS = 8  # of a passage below a heading; a shorter one is another heading, or a link


@dataclass(frozen=True, slots=True)
class _Section:
    """A heading with its first passage."""

    kind: PairKind
    heading: str
    page: str  # the title above it
    doc_id: str

    @property
    def in_full(self) -> str:
        """With the page's title, where that says something else."""
        says_page = not self.page or set(words(self.heading)) >= set(words(self.page))
        return self.heading if says_page else f"{self.page} {self.heading}"


def heading_pairs(documents: Iterable[Document], dropped: Counter[str]) -> Iterator[Pair]:
    """One query for each title and each section, in the order of the documents."""
    sections = list(_sections(documents, dropped))
    times = Counter(query_key(section.heading) for section in sections)
    texts = [section.heading if times[query_key(section.heading)] == 1 else section.in_full for section in sections]
    uses = Counter(map(query_key, texts))
    for section, text in zip(sections, texts, strict=True):
        if uses[query_key(text)] > 1:
            dropped["ambiguous"] += 1
        else:
            yield Pair(text, section.kind, {section.doc_id: 1})


def headings_of(document: Document) -> list[str]:
    """The title of a document, and of one that was cut out of a file also the file's and each heading above it."""
    metadata = document.metadata
    path = metadata.get("headings")
    above = [str(heading) for heading in path] if isinstance(path, list) else []
    return list(dict.fromkeys(name for name in (document.title, str(metadata.get("title") or ""), *above) if name))


def name_in(query: str, document: Document) -> str | None:
    """The innermost of a document's headings whose words are all in the query; None where there is none."""
    query_words = set(words(query))
    named = [name for name in headings_of(document) if words(name) and query_words.issuperset(words(name))]
    return named[-1] if named else None


def _sections(documents: Iterable[Document], dropped: Counter[str]) -> Iterator[_Section]:
    """Each title and heading once, with the first passage that says something."""
    seen: set[tuple[object, ...]] = set()
    for document in documents:
        metadata = document.metadata
        path = metadata.get("headings")
        path = tuple(map(str, path)) if isinstance(path, list) else ()
        page = str(metadata.get("title") or "") or (path[0] if path else document.title)
        file = metadata.get("source"), metadata.get("record")
        names: list[tuple[PairKind, str, tuple[object, ...]]] = [("title", page, (*file, page))]
        if path and path[-1] != page:
            names.append(("heading", path[-1], (*file, path)))
        new = [(kind, name, key) for kind, name, key in names if name.strip() and key not in seen]
        if not new:
            continue
        if len(words(document.text)) < MIN_WORDS:
            dropped["short_passage"] += len(new)
            continue
        for kind, name, key in new:
            seen.add(key)
            yield _Section(kind, name, page if kind == "heading" else "", document.doc_id)
