"""What hits can be filtered by: metadata that documents share, each value with how many have it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import islice

from inpars.records import Document

MAX_DOCUMENTS = 20_000  # looked at
MAX_VALUES = 200  # of a field
USUAL_FIELDS = ("source", "headings")


def metadata_fields(documents: Iterable[Document]) -> dict[str, dict[str, int]]:
    """Source, headings and other texts that documents share, with their counts; commonest values first."""
    counts: dict[str, Counter[str]] = {}
    for document in islice(documents, MAX_DOCUMENTS):
        for name, value in getattr(document, "metadata", {}).items():
            values = value if isinstance(value, list) else [value]
            counts.setdefault(name, Counter()).update({part for part in values if isinstance(part, str) and part})
    return {
        name: dict(values.most_common(MAX_VALUES))
        for name, values in sorted(counts.items())
        if values and (name in USUAL_FIELDS or len(values) < values.total())
    }
