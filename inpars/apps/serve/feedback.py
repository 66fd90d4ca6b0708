"""Thumbs up and down as judgements: one JSON line per vote, which `--qrels` reads, and each query once in another file.

The file holds JSON lines whatever its name is, and is read as such.

    feedback.jsonl           {"query_id": ..., "doc_id": ..., "relevance": 1, "query": ..., "system": ..., "rank": ...}
    feedback.queries.jsonl   {"_id": ..., "text": ...}

The last vote for a (query, document) counts; relevance null takes a vote back.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

from inpars.errors import ConfigError
from inpars.io.formats import read_queries
from inpars.io.storage import AppendedLines, is_gzip, read_lines, to_json_line

QUERY_ID_DIGITS = 16


class Feedback:
    """Appends votes durably; thread-safe."""

    def __init__(self, path: Path) -> None:
        """Open both files and cut incomplete last lines. Raises ConfigError for a file that holds no votes."""
        _check(path)
        self.path, self.queries_path = path, path.with_name(f"{path.stem}.queries.jsonl")
        self._lock = Lock()
        self._votes, self._queries = AppendedLines(path), AppendedLines(self.queries_path)
        self._known = {query.query_id for query in read_queries(self.queries_path)}

    def add(self, query: str, doc_id: str, relevance: int | None, *, system: str | None, rank: int | None) -> str:
        """Store one vote and return the query's id. The query is stored first, so that every vote has its text."""
        query_id = query_id_of(query)
        vote = {
            "query_id": query_id,
            "doc_id": doc_id,
            "relevance": relevance,
            "query": query,
            "system": system,
            "rank": rank,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with self._lock:
            if query_id not in self._known:
                self._queries.append([to_json_line({"_id": query_id, "text": query})])
                self._known.add(query_id)
            self._votes.append([to_json_line(vote)])
        return query_id

    def close(self) -> None:
        self._votes.close()
        self._queries.close()


def _check(path: Path) -> None:
    """Raise ConfigError for a compressed file, or one with other content such as qrels in columns."""
    if is_gzip(path):
        raise ConfigError(f"{path}: votes cannot be appended to a compressed file; leave .gz out of the name")
    first = next(read_lines(path), None) if path.is_file() else None
    if first is not None and not first[1].startswith("{"):
        raise ConfigError(f"{path}: holds something other than votes; choose another --feedback")


def query_id_of(query: str) -> str:
    """A hash of the query's words; spacing and case do not matter."""
    plain = " ".join(query.split()).casefold()
    return hashlib.sha256(plain.encode()).hexdigest()[:QUERY_ID_DIGITS]
