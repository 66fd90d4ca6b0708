"""The queries and judgements of one split of a collection."""

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
    """The queries of one split and their judgements, if any."""

    split: str
    queries: dict[str, str]  # query_id -> text
    qrels: Qrels
    remarks: tuple[str, ...] = ()  # to note wherever the judgements are used
    origin: Origin | None = None  # the model that judged, if it is known that one did

    @property
    def stamp(self) -> FileStamp:
        """A stamp of queries and judgements."""
        origin = {} if self.origin is None else {"origin": str(self.origin)}
        values = {"queries": self.queries, "qrels": self.qrels, **origin}
        return stamp_text(f"{self.split} topics", to_json_line(values))

    @property
    def query_stamp(self) -> FileStamp:
        """A stamp of the queries alone."""
        return stamp_text(f"{self.split} queries", to_json_line(self.queries))

    def first(self, limit: int | None) -> Topics:
        """The first `limit` queries with their judgements; all of them if it is None."""
        queries = dict(islice(self.queries.items(), limit))
        qrels = {query_id: self.qrels[query_id] for query_id in queries if query_id in self.qrels}
        return replace(self, queries=queries, qrels=qrels)

    def say_remarks(self, progress: Progress) -> None:
        """Note the remarks; every stage that uses the judgements calls this."""
        for remark in self.remarks:
            progress.note(remark)

    def as_queries(self) -> list[Query]:
        """The queries as records."""
        return [Query(query_id, text) for query_id, text in self.queries.items()]


def joined(split: str, texts: dict[str, str], qrels: Qrels, where: str, origin: Origin | None = None) -> Topics:
    """The judged queries, or all queries if none is judged. Raises DataFormatError if a judged query has no text."""
    unknown = [query_id for query_id in qrels if query_id not in texts]
    if unknown:
        raise DataFormatError(f"{len(unknown)} judged queries have no text here, {unknown[0]!r} first", path=where)
    judged = {query_id: text for query_id, text in texts.items() if not qrels or query_id in qrels}
    return Topics(split, judged, qrels, origin=origin)
