"""What hits can be filtered by, for the page's menus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import islice

from inpars.records import Document

FIELD_DOCUMENTS = 20_000  # looked at for what one can filter by
FIELD_VALUES = 200
USUAL_FIELDS = ("source", "headings")


def metadata_fields(documents: Iterable[Document]) -> dict[str, list[str]]:
    """What hits can be filtered by: source, headings and other texts that documents share; commonest values first."""
    counts: dict[str, Counter[str]] = {}
    for document in islice(documents, FIELD_DOCUMENTS):
        for name, value in getattr(document, "metadata", {}).items():
            values = value if isinstance(value, list) else [value]
            counts.setdefault(name, Counter()).update(part for part in values if isinstance(part, str) and part)
    return {
        name: [value for value, _ in values.most_common(FIELD_VALUES)]
        for name, values in sorted(counts.items())
        if values and (name in USUAL_FIELDS or len(values) < values.total())
    }
