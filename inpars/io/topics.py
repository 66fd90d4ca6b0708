"""Queries and judgements of one split of a collection."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice

from inpars.errors import DataFormatError
from inpars.io.manifest import FileStamp, stamp_text
from inpars.io.model_judgements import Origin
from inpars.io.storage import to_json_line
from inpars.progress import Progress
from inpars.records import Qrels, Query

DEFAULT_SPLIT = "test"


@dataclass(frozen=True, slots=True)
class Topics:
    """The queries of one split and their judgements; without judgements `qrels` is empty."""

    split: str
    queries: dict[str, str]  # query_id -> text
    qrels: Qrels
    remarks: tuple[str, ...] = ()  # what to say wherever the judgements are used
    origin: Origin | None = None  # the model that judged; None for people or unknown judges

    @property
    def stamp(self) -> FileStamp:
        """Queries and judgements by content."""
        origin = {} if self.origin is None else {"origin": str(self.origin)}
        values = {"queries": self.queries, "qrels": self.qrels, **origin}
        return stamp_text(f"{self.split} topics", to_json_line(values))

    @property
    def query_stamp(self) -> FileStamp:
        """The queries alone by content."""
        return stamp_text(f"{self.split} queries", to_json_line(self.queries))

    def first(self, limit: int | None) -> Topics:
        """The first queries alone, with their judgements; all of them where the limit is None."""
        queries = dict(islice(self.queries.items(), limit))
        qrels = {query_id: self.qrels[query_id] for query_id in queries if query_id in self.qrels}
        return replace(self, queries=queries, qrels=qrels)

    def say_remarks(self, progress: Progress) -> None:
        """Print the remarks about the judgements; called by every stage that uses them."""
        for remark in self.remarks:
            progress.note(remark)

    def as_queries(self) -> list[Query]:
        """The queries as records."""
        return [Query(query_id, text) for query_id, text in self.queries.items()]


def joined(split: str, texts: dict[str, str], qrels: Qrels, where: str, origin: Origin | None = None) -> Topics:
    """The judged queries; all queries where nothing is judged. Raises DataFormatError where one has no text."""
    unknown = [query_id for query_id in qrels if query_id not in texts]
    if unknown:
        raise DataFormatError(f"{len(unknown)} judged queries have no text here, {unknown[0]!r} first", path=where)
    judged = {query_id: text for query_id, text in texts.items() if not qrels or query_id in qrels}
    return Topics(split, judged, qrels, origin=origin)
