"""The Batch API: requests as a file, answers within a day, at a lower price.

Batches are recorded before and after sending, and each carries a mark, so that after an interruption a batch is found
again rather than sent twice. Answers may come in any order; failed lines are sent again.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from inpars.errors import BackendError, ConfigError, DataFormatError
from inpars.generation.api.client import MissingError, NoAnswerError, Server
from inpars.generation.api.formats import (
    FILTERED,
    FINAL,
    REFUSED,
    Fault,
    FaultError,
    OddReplyError,
    fault_in,
    fault_of_status,
)
from inpars.generation.api.journal import AnswerJournal
from inpars.generation.api.options import ApiOptions
from inpars.generation.api.parameters import Body, advice
from inpars.generation.api.requests import PATHS, Answer, ApiRequest, RequestAdapter, refusal
from inpars.generation.api.requests import REFUSED as REFUSED_REMARK
from inpars.generation.api.worker_pool import all_refused
from inpars.io.json_text import JsonError, parse_json
from inpars.io.storage import write_json
from inpars.progress import SILENT, Progress

if TYPE_CHECKING:
    from openai.types import Batch


def _result_records(content: bytes, requests: Collection[str]) -> tuple[list[dict[str, Any]], int]:
    """The records of these requests in file order, and the number of broken or unrelated lines."""
    lines = [line for line in content.splitlines() if line.strip()]
    records = []
    for line in lines:
        with suppress(JsonError):
            record = parse_json(line)
            if isinstance(record, dict) and str(record.get("custom_id")) in requests:
                records.append(record)
    return records, len(lines) - len(records)


def _response_body(record: dict[str, Any]) -> Any:
    """The answer in a result record. Raises FaultError if the request failed."""
    response = record.get("response")
    if not isinstance(response, dict):
        raise FaultError(fault_in(record) or fault_in(response) or Fault(None, "no response"))
    status, body = response.get("status_code"), response.get("body")
    if status not in (200, "200", None):
        code = int(status) if str(status).isdecimal() else 0
        content = body if isinstance(body, str) else json.dumps(body)
        fault = fault_of_status(code, content.encode("utf-8", "replace")) if body else fault_in(record, code)
        raise FaultError(fault or Fault(code, "no reason given"))
    return body


SUFFIX = ".batches.json"
MARK = "inpars"  # the key of our mark in a batch's metadata
MAX_REQUESTS = 50_000  # per batch; OpenAI's limit
MAX_BYTES = 150_000_000  # per batch file; OpenAI allows 200 MB
MAX_ROUNDS = 4  # batches a request is sent in before it counts as failed
COST_SAFETY_FACTOR = 2.0  # assumed actual over estimated input tokens before the first answers
LATER_COST_SAFETY_FACTOR = 1.25  # on the ratio that earlier answers showed
LISTED = 1000  # latest batches searched for our mark
ENDED = {"completed", "failed", "expired", "cancelled"}


def state_path(output: Path) -> Path:
    """The file that records the batches of an output."""
    return output.with_name(output.name + SUFFIX)


def refuse_open_batches(path: Path, settings: str) -> None:
    """Raise ConfigError if a batch with these settings is unfinished: its requests would be paid for twice."""
    if any(not entry["collected"] for entry in read_state(path) if entry["settings"] == settings):
        raise ConfigError(f"{path} holds a batch that is not collected yet; give --batch, or remove that file")


class _Failure(NamedTuple):
    """Why a request has no answer; `status` is None if another spelling of its parameters may help."""

    reason: str
    status: int | None = None

    @property
    def refused(self) -> bool:
        """Whether retrying is pointless."""
        return self.status in REFUSED | FINAL


class Batches:
    """Sends batches and collects results until the journal has an answer to every request."""

    def __init__(
        self,
        server: Server,
        adapter: RequestAdapter[Any],
        journal: AnswerJournal,
        options: ApiOptions,
        state: Path,
        progress: Progress = SILENT,
    ) -> None:
        self._server, self._adapter, self._journal, self._path = server, adapter, journal, state
        self._max_usd, self._poll_seconds, self._progress = options.max_usd, options.poll_seconds, progress
        self._entries: list[dict[str, Any]] = []
        self._sent: Counter[str] = Counter()  # digest -> times sent by this process
        self._estimated = self._used = 0  # input tokens of the answers so far
        self._failures: dict[str, _Failure] = {}  # digest -> latest failure
        self._sent_as: dict[str, Body] = {}  # digest -> parameters as spelled when sent

    def run(self, requests: Sequence[ApiRequest]) -> None:
        """Fill the journal. Raises BackendError for failed batches, and for requests that failed in every round."""
        known = {request.digest: request for request in requests}
        self._entries = read_state(self._path)
        while True:
            for entry in self._open():
                self._finish(entry, known)
            missing = [request for request in requests if request.digest not in self._journal]
            if not missing:
                return
            failures = [self._failures.get(request.digest) for request in missing]
            if all(failure and failure.refused for failure in failures):
                raise all_refused(self._server.url, next(failure.reason for failure in failures if failure))
            remaining = [request for request in missing if self._sent[request.digest] < MAX_ROUNDS]
            if not remaining:
                raise self._failure(missing, len(requests))
            for part in self._affordable(remaining):
                self._begin(part)

    def _open(self) -> list[dict[str, Any]]:
        digest = self._adapter.digest
        return [entry for entry in self._entries if entry["settings"] == digest and not entry["collected"]]

    def _affordable(self, requests: Sequence[ApiRequest]) -> Iterator[list[ApiRequest]]:
        """Split requests into batches within the API's limits, up to the spending cap."""
        usd_left = float("inf") if self._max_usd is None else self._max_usd - self._journal.spent.usd
        part: list[ApiRequest] = []
        size, fits = 0, False
        factor = LATER_COST_SAFETY_FACTOR * self._used / self._estimated if self._estimated else COST_SAFETY_FACTOR
        for request in requests:
            usd_left -= self._journal.usd(replace(request, input_tokens=math.ceil(factor * request.input_tokens)))
            if usd_left < 0:
                break
            line = len(json.dumps(request.body)) + 200  # plus the surrounding fields
            if part and (len(part) == MAX_REQUESTS or size + line > MAX_BYTES):
                yield part
                part, size = [], 0
            part.append(request)
            size, fits = size + line, True
        if part:
            yield part
        if not fits:
            raise BackendError(
                f"--max-usd: ${self._journal.spent.usd:.4f} of ${self._max_usd} are spent, the next request may cost "
                f"more; {len(self._journal)} answers are kept in {self._journal.path}, the same command with a higher "
                "--max-usd resumes from there"
            )

    def _begin(self, requests: Sequence[ApiRequest]) -> None:
        """Record a batch; `_finish` sends it."""
        number = sum(entry["settings"] == self._adapter.digest for entry in self._entries)
        names = [request.digest for request in requests]
        mark = hashlib.sha256(json.dumps([self._adapter.digest, number, names]).encode()).hexdigest()
        self._entries.append(
            {"mark": mark, "settings": self._adapter.digest, "requests": names, "batch_id": None, "collected": False}
        )
        self._write_state()
        self._progress.note(f"batch {mark[:8]}: {len(requests)} requests")

    def _finish(self, entry: dict[str, Any], known: dict[str, ApiRequest]) -> None:
        """Send a batch unless the server already has it, wait until it ends, and collect its results."""
        if entry["batch_id"] is None:
            requests = [known[name] for name in entry["requests"] if name in known]
            batch_id = self._marked(entry["mark"])
            if batch_id is None and len(requests) < len(entry["requests"]):
                self._entries.remove(entry)  # never sent, and the documents have changed
                self._write_state()
                return
            entry["batch_id"] = batch_id or self._send(entry["mark"], requests)
            self._write_state()
        try:
            batch = self._ended(entry["batch_id"])
            self._collect(batch, entry, known)
        except MissingError as error:
            raise BackendError(
                f"{self._server.url}: {error.reason}; set the key of the project that sent batch {entry['batch_id']}, "
                f"or remove {self._path} to send its requests again"
            ) from None
        self._sent.update(entry["requests"])
        entry["collected"] = True
        self._write_state()
        if batch.status in ("failed", "cancelled"):
            data = batch.errors.data if batch.errors else None
            reason = data[0].message if data and data[0].message else "no reason given"
            raise BackendError(
                f"{self._server.url}: batch {batch.id} {batch.status} ({self._server.scrub(reason)}); "
                "what was answered is kept, and the same command sends the rest again"
            )

    def _marked(self, mark: str) -> str | None:
        """The server's batch with this mark, or None."""

        def find(client: Any) -> str | None:
            listed = islice(client.batches.list(limit=100), LISTED)
            return next((str(batch.id) for batch in listed if (batch.metadata or {}).get(MARK) == mark), None)

        return self._server.call(find)

    def _send(self, mark: str, requests: Sequence[ApiRequest]) -> str:
        """Send once; after a broken connection, look for the batch before sending again."""
        path = PATHS[self._adapter.endpoint]
        self._sent_as |= {request.digest: self._server.spelling.applied(request.body) for request in requests}
        bodies = ((request.digest, self._sent_as[request.digest]) for request in requests)
        content = "".join(
            json.dumps({"custom_id": name, "method": "POST", "url": path, "body": body}) + "\n" for name, body in bodies
        ).encode()
        name = f"{MARK}-{mark[:16]}.jsonl"
        upload = self._server.call(lambda client: client.files.create(file=(name, content), purpose="batch").id)
        attempt = 0
        while True:
            try:
                return self._server.call(
                    lambda client: (
                        client.with_options(max_retries=0)
                        .batches.create(
                            input_file_id=upload,
                            endpoint=path,  # type: ignore[arg-type]
                            completion_window="24h",
                            metadata={MARK: mark},
                        )
                        .id
                    )
                )
            except NoAnswerError:
                self._wait()
                if (batch_id := self._marked(mark)) is not None:
                    return batch_id
                if attempt == self._server.retries:
                    raise
                attempt += 1

    def _ended(self, batch_id: str) -> Batch:
        """Poll until the batch has ended."""
        last_line = ""
        while True:
            batch = self._server.call(lambda client: client.batches.retrieve(batch_id))
            if batch.status in ENDED:
                return batch
            counts = batch.request_counts
            line = f"batch {batch_id}: {batch.status}" + (f", {counts.completed}/{counts.total}" if counts else "")
            if line != last_line:
                self._progress.note(line)
                last_line = line
            self._wait()

    def _wait(self) -> None:
        time.sleep(self._poll_seconds)

    def _collect(self, batch: Batch, entry: dict[str, Any], known: dict[str, ApiRequest]) -> None:
        """Store a batch's answers. Lines may come in any order, more than once, or not at all."""
        lines: list[dict[str, Any]] = []
        for file_id in (batch.output_file_id, batch.error_file_id):
            if file_id:
                content = self._server.call(lambda client, name=file_id: client.files.content(name).content)  # type: ignore[misc]
                records, skipped = _result_records(content, frozenset(entry["requests"]))
                lines += records
                skipped += len(records) - len({record["custom_id"] for record in records})
                if skipped:
                    self._progress.note(f"{file_id}: {skipped} lines are broken, duplicate or belong to no request")
        self._journal.add(self._rows(lines, known))
        refused = [name for name, failure in self._failures.items() if failure.status in REFUSED and name in known]
        if refused and self._journal.written:
            answer = Answer(refusal(), 0, 0, (REFUSED_REMARK,))
            self._journal.add({name: (known[name].query_id, answer) for name in refused})

    def _rows(self, lines: Sequence[dict[str, Any]], known: dict[str, ApiRequest]) -> dict[str, tuple[str, Answer]]:
        """The first answer to each request; failures are recorded."""
        rows: dict[str, tuple[str, Answer]] = {}
        for record in lines:
            name = record["custom_id"]
            request = known.get(name)
            if name in rows:
                continue
            outcome = self._read(record, request)
            if isinstance(outcome, _Failure):
                self._failures[name] = outcome
            else:
                rows[name] = request.query_id if request else "", outcome
        return rows

    def _read(self, record: dict[str, Any], request: ApiRequest | None) -> Answer | _Failure:
        try:
            answer = self._adapter.read(_response_body(record), request)
        except FaultError as error:
            if error.fault.filtered:
                return Answer(refusal(), 0, 0, (FILTERED,))
            return self._classified(error.fault, request)
        except OddReplyError as error:
            return _Failure(self._server.scrub(str(error)))
        self._estimated += request.input_tokens if request else 0
        self._used += answer.input_tokens if request else 0
        return answer

    def _classified(self, fault: Fault, request: ApiRequest | None) -> _Failure:
        """The failure; it is not final if another spelling of the request's parameters may help."""
        reason = self._server.scrub(f"status {fault.status}: {fault.message}" if fault.status else fault.message)
        if request is not None:
            sent = self._sent_as.get(request.digest, request.body)
            if self._server.spelling.learns(fault.message, sent, request.body):
                return _Failure(reason)
        return _Failure(f"{reason}; {flag}" if (flag := advice(fault.message)) else reason, fault.status)

    def _failure(self, missing: Sequence[ApiRequest], total: int) -> BackendError:
        unanswered = _Failure("no line in the results")
        reasons = Counter(self._failures.get(request.digest, unanswered).reason for request in missing)
        why = "; ".join(f"{count} times {reason}" for reason, count in reasons.most_common(3))
        return BackendError(
            f"{len(missing)} of {total} requests have no answer after {MAX_ROUNDS} batches ({why}); the others are "
            f"kept in {self._journal.path}, and the same command asks for these again"
        )

    def _write_state(self) -> None:
        write_json(self._path, {"batches": self._entries})


def read_state(path: Path) -> list[dict[str, Any]]:
    """The recorded batches, oldest first."""
    if not path.exists():
        return []
    try:
        entries = parse_json(path.read_bytes())["batches"]
        return [
            {name: entry[name] for name in ("mark", "settings", "requests", "batch_id", "collected")}
            for entry in entries
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise DataFormatError(
            f"not the list of batches it was ({type(error).__name__}); remove it once no batch is under way", path=path
        ) from None
