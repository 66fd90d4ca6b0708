"""Thumbs up and down as judgements: one JSON line a vote, which `--qrels` reads, and each query once beside it.

Whatever the file is called it holds JSON lines, and they are what is read.

    feedback.jsonl           {"query_id": ..., "doc_id": ..., "relevance": 1, "query": ..., "system": ..., "rank": ...}
    feedback.queries.jsonl   {"_id": ..., "text": ...}

The last vote of a (query, document) counts; one that was taken back has relevance null. Knows nothing of HTTP.
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
    """Appends votes durably; threads may share it."""

    def __init__(self, path: Path) -> None:
        """Open both files, and cut lines that a loss of power tore. Raises ConfigError for a file of something else."""
        _check(path)
        self.path, self.queries_path = path, path.with_name(f"{path.stem}.queries.jsonl")
        self._lock = Lock()
        self._votes, self._queries = AppendedLines(path), AppendedLines(self.queries_path)
        self._known = {query.query_id for query in read_queries(self.queries_path)}

    def add(self, query: str, doc_id: str, relevance: int | None, *, system: str | None, rank: int | None) -> str:
        """Store one vote and return the query's id; the query is stored first, so that no vote lacks its text."""
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
    """Votes are not added to what is packed or holds other things, judgements in columns for instance."""
    if is_gzip(path):
        raise ConfigError(f"{path}: votes are added one by one, which no packed file takes; leave .gz out of the name")
    first = next(read_lines(path), None) if path.is_file() else None
    if first is not None and not first[1].startswith("{"):
        raise ConfigError(f"{path}: holds something else than votes; choose another --feedback")


def query_id_of(query: str) -> str:
    """The same for the same words, however they are spaced and capitalised."""
    plain = " ".join(query.split()).casefold()
    return hashlib.sha256(plain.encode()).hexdigest()[:QUERY_ID_DIGITS]
