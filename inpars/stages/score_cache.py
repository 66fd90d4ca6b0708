"""A scorer's answers kept on the disk as they come, so that an interrupted stage does not ask for them twice.

The stage asks for the same pairs in the same batches again; answers that lie in `<output>.partial` are given from
there, one batch in memory at a time, and the model is loaded only for what is missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from inpars.errors import DataFormatError
from inpars.io.fields import list_of, number_of
from inpars.io.storage import AppendedLines, to_json_line
from inpars.protocols import PairScorer
from inpars.stages.partial import Partial


class ScoreCache:
    """A `PairScorer` in front of another one, for one output of one stage."""

    def __init__(self, partial: Partial, make_scorer: Callable[[], PairScorer]) -> None:
        """Resume from the partial file of these settings and inputs, if there is one."""
        self.name, self._make_scorer = "remembered", make_scorer
        self._partial, self.path = partial, partial.path
        batches = partial.kept()
        if batches:
            partial.progress.note(f"{partial.stage}: resuming, {batches} batches of scores are stored")
        self._known = self._read(batches)
        self._used = 0
        self._lines: AppendedLines | None = None
        self._scorer: PairScorer | None = None

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        if not pairs:
            return []
        digest = _digest(pairs)
        known = next(self._known, (0, {}))
        if known[1].get("pairs") == digest:
            self._used += 1
            return self._scores(*known, len(pairs))
        self._known.close()  # nothing behind a batch that differs is used
        if self._lines is None:
            self._lines = self._partial.append(self._used)
            self._scorer = self._make_scorer()
        assert self._scorer is not None
        scores = self._scorer.score(pairs)
        self._lines.append([to_json_line({"pairs": digest, "scores": scores})])
        return scores

    def _scores(self, line: int, row: Mapping[str, Any], count: int) -> list[float]:
        """The stored scores of a batch. Raises DataFormatError if they were edited."""
        scores = [number_of(score, "scores", self.path, line) for score in list_of(row, "scores", self.path, line)]
        if len(scores) != count:
            problem = f"{len(scores)} scores for {count} pairs; remove this file to begin again"
            raise DataFormatError(problem, path=self.path, line=line)
        return scores

    def _read(self, batches: int) -> Generator[tuple[int, dict[str, Any]], None, None]:
        if batches:
            yield from self._partial.records()

    def close(self) -> None:
        """Close the partial file; what it holds stays."""
        self._known.close()
        if self._lines is not None:
            self._lines.close()

    def __enter__(self) -> ScoreCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _digest(pairs: Sequence[tuple[str, str]]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for query, document in pairs:
        for text in (query, document):
            digest.update(f"{len(text)}\0{text}".encode())
    return digest.hexdigest()
