"""The journal of a server's answers: each is written to disk before it is used, so that nothing is paid for twice.

It stays next to the output as a receipt. Lines contain answers and their cost, never a key.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inpars.errors import DataFormatError, StorageError
from inpars.generation import GeneratedQuery
from inpars.generation.api.budget import Price
from inpars.generation.api.requests import Answer, ApiRequest
from inpars.io.json_text import JsonError, parse_json
from inpars.io.storage import AppendedLines, broken_json, open_lines, to_json_line

SUFFIX = ".answers.jsonl"


@dataclass(slots=True)
class Spent:
    """Totals of a journal."""

    usd: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0


def journal_path(output: Path) -> Path:
    """The journal of an output: `<output>.answers.jsonl`."""
    return output.with_name(output.name + SUFFIX)


def read_answers(path: Path) -> Iterator[dict[str, Any]]:
    """Records of the journal without an incomplete last line. The file may be missing and is not modified."""
    if not path.exists():
        return
    with open_lines(path) as stream:
        for number, line in enumerate(stream, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                record = parse_json(line)
            except JsonError as error:
                raise broken_json(path, number, error, line.decode("utf-8", "replace")) from None
            if not isinstance(record, dict):
                raise DataFormatError("not a JSON object; remove this line", path=path, line=number)
            yield record


class AnswerJournal:
    """Answers by their request's digest, and their price. Thread-safe."""

    def __init__(self, path: Path, price: Price | None = None) -> None:
        self.path, self.spent, self.refused, self._price = path, Spent(), 0, price
        self._lock, self._broken = threading.Lock(), False
        self._answers: dict[str, GeneratedQuery] = {}
        self._remarks: dict[str, tuple[str, ...]] = {}
        self._lines = AppendedLines(path)
        try:
            for number, record in enumerate(read_answers(path), start=1):
                self._read(record, number)
        except BaseException:
            self._lines.close()
            raise

    def __contains__(self, digest: str) -> bool:
        return digest in self._answers

    def __len__(self) -> int:
        return len(self._answers)

    def __getitem__(self, digest: str) -> GeneratedQuery:
        return self._answers[digest]

    def remarks(self, digest: str) -> tuple[str, ...]:
        """Remarks on an answer."""
        return self._remarks.get(digest, ())

    @property
    def written(self) -> int:
        """Number of answers without refusals."""
        return len(self._answers) - self.refused

    def usd(self, item: ApiRequest | Answer) -> float:
        """Maximum cost of a request or actual cost of an answer in USD; 0 without a price."""
        return self._price.usd(item.input_tokens, item.output_tokens) if self._price else 0.0

    def add(self, answers: Mapping[str, tuple[str, Answer]]) -> None:
        """Write answers (digest -> query_id, answer) to disk, except those already known."""
        with self._lock:
            new = {digest: row for digest, row in answers.items() if digest not in self._answers}
            self._append([_record(digest, *row, self.usd(row[1])) for digest, row in new.items()])

    def add_lost(self, usd: float) -> None:
        """Record the cost of an answer that may have been generated but never arrived."""
        if usd:
            with self._lock:
                self._append([{"lost_usd": usd}])

    def close(self) -> None:
        with self._lock:
            self._lines.close()

    def _append(self, records: list[dict[str, Any]]) -> None:
        if self._broken:  # nothing may follow a possibly incomplete line
            raise StorageError(f"{self.path}: cannot be written any more; make room and run the same command again")
        try:
            if records:
                self._lines.append(map(to_json_line, records))
        except BaseException:
            self._broken = True
            raise
        for record in records:
            self._take(record)

    def _read(self, record: dict[str, Any], number: int) -> None:
        try:
            self._take(record)
            if not math.isfinite(self.spent.usd):
                raise ValueError("more dollars than a number holds")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            problem = f"not an answer ({type(error).__name__}); remove this line"
            raise DataFormatError(problem, path=self.path, line=number) from None

    def _take(self, record: dict[str, Any]) -> None:
        if "lost_usd" in record:
            self.spent.usd += float(record["lost_usd"])
            return
        query = GeneratedQuery(
            record["text"],
            (),
            tuple(map(float, record["log_probs"] or ())),
            record["stop_log_prob"],
            record["finish_reason"],
            "absent" if record["log_probs"] is None else None,
        )
        self._answers[str(record["request"])] = query
        if remarks := record.get("remarks"):
            self._remarks[str(record["request"])] = tuple(map(str, remarks))
        self.refused += query.finish_reason == "error"
        self.spent.usd += float(record["usd"])
        self.spent.input_tokens += int(record["input_tokens"])
        self.spent.output_tokens += int(record["output_tokens"])


def _record(digest: str, query_id: str, answer: Answer, usd: float) -> dict[str, Any]:
    query = answer.query
    return {
        "query_id": query_id,
        "request": digest,
        "text": query.text,
        "log_probs": None if query.log_prob_kind == "absent" else list(query.token_log_probs),
        "stop_log_prob": query.stop_log_prob,
        "finish_reason": query.finish_reason,
        "input_tokens": answer.input_tokens,
        "output_tokens": answer.output_tokens,
        "usd": usd,
        **({"remarks": list(answer.remarks)} if answer.remarks else {}),
    }
