"""The Batch API: requests as a file, answers within a day, at a lower price.

What was sent is written down before and after sending, and every batch carries a mark, so that after any interruption
a batch is found again rather than sent twice. Answers may come in any order; failed lines are sent again.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inpars.errors import BackendError, ConfigError, DataFormatError
from inpars.generation.api_answers import AnswerJournal
from inpars.generation.api_client import REFUSED, NoAnswerError, RefusedError, Server
from inpars.generation.api_prices import Price
from inpars.generation.api_wire import PATHS, Answer, ApiRequest, Wording, refusal
from inpars.progress import SILENT, Progress
from inpars.storage import atomic_writer

if TYPE_CHECKING:
    from openai.types import Batch

SUFFIX = ".batches.json"
MARK = "inpars"  # the key of our mark in a batch's metadata
MAX_REQUESTS = 50_000  # of one batch; OpenAI's limit
MAX_BYTES = 150_000_000  # of one batch's file; OpenAI allows 200 MB
MAX_ROUNDS = 4  # times a request is sent before it counts as failed
CAUTION = 2.0  # times the estimate that a batch may cost before any answer shows how good the estimate is
CAUTION_LATER = 1.25  # times what answers came to
LISTED = 1000  # batches that are looked through for our mark
ENDED = {"completed", "failed", "expired", "cancelled"}


def state_path(output: Path) -> Path:
    """Where the batches of an output are written down."""
    return output.with_name(output.name + SUFFIX)


def refuse_open_batches(path: Path, settings: str) -> None:
    """Raise ConfigError where a batch with these settings is under way, whose requests would be paid for twice."""
    if any(not entry["collected"] for entry in read_state(path) if entry["settings"] == settings):
        raise ConfigError(f"{path} holds a batch that is not collected yet; give --batch, or remove that file")


class Batches:
    """Sends, waits and collects until every request has its answer in the journal."""

    def __init__(
        self,
        server: Server,
        wording: Wording,
        journal: AnswerJournal,
        price: Price | None,
        state: Path,
        entries: list[dict[str, Any]],
        max_usd: float | None,
        *,
        poll_seconds: float,
        wait: Callable[[float], object],
        progress: Progress = SILENT,
    ) -> None:
        """`entries` are those of `read_state(state)`."""
        self._server, self._wording, self._journal, self._price = server, wording, journal, price
        self._path, self._max_usd, self._poll_seconds = state, max_usd, poll_seconds
        self._wait, self._progress = wait, progress
        self._entries = entries
        self._sent: Counter[str] = Counter()  # request -> how often it was sent by this process
        self._estimated = self._used = 0  # input tokens of the answers that came
        self._reasons: dict[str, str] = {}
        self._refused: dict[str, str] = {}

    def run(self, requests: Sequence[ApiRequest]) -> None:
        """Fill the journal. Raises BackendError for batches that failed, and for requests that did each time."""
        known = {request.digest: request for request in requests}
        while True:
            for entry in self._open():
                self._finish(entry, known)
            missing = [request for request in requests if request.digest not in self._journal]
            if not missing:
                return
            self._check_refused(missing)
            hopeless = [request for request in missing if self._sent[request.digest] >= MAX_ROUNDS]
            left = [request for request in missing if self._sent[request.digest] < MAX_ROUNDS]
            if not left:
                raise self._failure(hopeless, len(requests))
            for part in self._affordable(left):
                self._begin(part)

    def _open(self) -> list[dict[str, Any]]:
        own = self._wording.digest
        return [entry for entry in self._entries if entry["settings"] == own and not entry["collected"]]

    def _affordable(self, requests: Sequence[ApiRequest]) -> Iterator[list[ApiRequest]]:
        """Parts that keep the API's limits, as many requests as the cap allows for."""
        left = float("inf") if self._max_usd is None else self._max_usd - self._journal.spent.usd
        part: list[ApiRequest] = []
        size, fits = 0, False
        caution = CAUTION_LATER * self._used / self._estimated if self._estimated else CAUTION
        for request in requests:
            left -= self._usd(math.ceil(caution * request.input_tokens), request.output_tokens)
            if left < 0:
                break
            line = len(json.dumps(request.body)) + 200  # with what stands around it
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
                "--max-usd goes on from there"
            )

    def _begin(self, requests: Sequence[ApiRequest]) -> None:
        """Write a batch down, then send it."""
        number = sum(entry["settings"] == self._wording.digest for entry in self._entries)
        names = [request.digest for request in requests]
        mark = hashlib.sha256(json.dumps([self._wording.digest, number, names]).encode()).hexdigest()
        self._entries.append(
            {"mark": mark, "settings": self._wording.digest, "requests": names, "batch_id": None, "collected": False}
        )
        self._write_state()
        self._progress.note(f"batch {mark[:8]}: {len(requests)} requests")

    def _finish(self, entry: dict[str, Any], known: dict[str, ApiRequest]) -> None:
        """Send a batch unless the server has it already, wait for its end, and collect."""
        if entry["batch_id"] is None:
            requests = [known[name] for name in entry["requests"] if name in known]
            found = self._marked(entry["mark"])
            if found is None and len(requests) < len(entry["requests"]):
                self._entries.remove(entry)  # never sent, and now other documents are wanted
                self._write_state()
                return
            entry["batch_id"] = found or self._send(entry["mark"], requests)
            self._write_state()
        batch = self._ended(entry["batch_id"])
        self._collect(batch, known)
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
        """The batch that carries the mark, where the server has one."""

        def look(client: Any) -> str | None:  # noqa: ANN401 - the SDK's client
            for number, batch in enumerate(client.batches.list(limit=100)):
                if (batch.metadata or {}).get(MARK) == mark:
                    return str(batch.id)
                if number >= LISTED:
                    break
            return None

        return self._server.call(look)

    def _send(self, mark: str, requests: Sequence[ApiRequest]) -> str:
        """Send once; after a broken connection look for the batch before sending again."""
        path = PATHS[self._wording.endpoint]
        lines = [
            json.dumps({"custom_id": request.digest, "method": "POST", "url": path, "body": request.body})
            for request in requests
        ]
        content = "".join(line + "\n" for line in lines).encode()
        name = f"{MARK}-{mark[:16]}.jsonl"
        upload = self._server.call(lambda client: client.files.create(file=(name, content), purpose="batch").id)
        for attempt in range(self._server.retries + 1):
            try:
                return self._server.call(
                    lambda client: (
                        client.batches.create(
                            input_file_id=upload,
                            endpoint=path,  # type: ignore[arg-type]
                            completion_window="24h",
                            metadata={MARK: mark},
                        ).id
                    ),
                    retries=0,
                )
            except NoAnswerError:
                self._wait(self._poll_seconds)
                if (found := self._marked(mark)) is not None:
                    return found
                if attempt == self._server.retries:
                    raise
        raise NoAnswerError("never sent")  # a negative number of retries

    def _ended(self, batch_id: str) -> Batch:
        """The batch once the server is through with it."""
        shown = ""
        while True:
            batch = self._server.call(lambda client: client.batches.retrieve(batch_id))
            if batch.status in ENDED:
                return batch
            counts = batch.request_counts
            line = f"batch {batch_id}: {batch.status}" + (f", {counts.completed}/{counts.total}" if counts else "")
            if line != shown:
                self._progress.note(line)
                shown = line
            self._wait(self._poll_seconds)

    def _collect(self, batch: Batch, known: dict[str, ApiRequest]) -> None:
        rows: list[tuple[str, str, Answer, float]] = []
        for file_id in (batch.output_file_id, batch.error_file_id):
            if file_id:
                content = self._server.call(lambda client, name=file_id: client.files.content(name).content)  # type: ignore[misc]
                rows += self._rows(content, known)
        self._journal.add_all(rows)
        if self._refused and self._journal.written:
            self._journal.add_all(
                (known[name].query_id, name, Answer(refusal(), 0, 0), 0.0) for name in self._refused if name in known
            )
            self._refused.clear()

    def _rows(self, content: bytes, known: dict[str, ApiRequest]) -> Iterator[tuple[str, str, Answer, float]]:
        """The answers in a result file; what is broken or failed is left for the next round."""
        for line in content.splitlines():
            try:
                record = json.loads(line)
                name, response = record["custom_id"], record.get("response") or {}
                status = response.get("status_code")
                request = known.get(name)
                if status == 200:
                    answer = self._wording.read(response["body"], request)
                    usd = self._usd(answer.input_tokens, answer.output_tokens)
                    self._estimated += request.input_tokens if request else 0
                    self._used += answer.input_tokens if request else 0
                    yield request.query_id if request else "", name, answer, usd
                else:
                    self._note_failed(name, status, record)
            except (ValueError, KeyError, IndexError, TypeError, AttributeError):
                continue

    def _note_failed(self, name: str, status: int | None, record: dict[str, Any]) -> None:
        body = (record.get("response") or {}).get("body") or {}
        error = record.get("error") or body.get("error") or {}
        reason = self._server.scrub(f"status {status}: {error.get('message', 'no reason given')}")
        self._reasons[name] = reason
        if status in REFUSED:
            self._refused[name] = reason

    def _check_refused(self, missing: Sequence[ApiRequest]) -> None:
        if self._refused and all(request.digest in self._refused for request in missing):
            raise RefusedError(
                f"{self._server.url} refuses every request ({next(iter(self._refused.values()))}); check --model, "
                "--backend, the token limits, and --log-prob-kind absent where the model gives no log-probs"
            )

    def _failure(self, hopeless: Sequence[ApiRequest], total: int) -> BackendError:
        reasons = Counter(self._reasons.get(request.digest, "no line in the results") for request in hopeless)
        why = "; ".join(f"{count} times {reason}" for reason, count in reasons.most_common(3))
        return BackendError(
            f"{len(hopeless)} of {total} requests have no answer after {MAX_ROUNDS} batches ({why}); the others are "
            f"kept in {self._journal.path}, and the same command asks for these again"
        )

    def _usd(self, input_tokens: int, output_tokens: int) -> float:
        return self._price.usd(input_tokens, output_tokens) if self._price else 0.0

    def _write_state(self) -> None:
        with atomic_writer(self._path) as stream:
            json.dump({"batches": self._entries}, stream, indent=1)
            stream.write("\n")


def read_state(path: Path) -> list[dict[str, Any]]:
    """The batches that were written down, oldest first."""
    if not path.exists():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["batches"]
        return [
            {name: entry[name] for name in ("mark", "settings", "requests", "batch_id", "collected")}
            for entry in entries
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise DataFormatError(
            f"not the list of batches it was ({type(error).__name__}); remove it once no batch is under way",
            path=path,
        ) from None
