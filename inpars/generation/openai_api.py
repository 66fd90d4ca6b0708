"""An OpenAI-compatible server as a query generator.

Many requests are under way at a time; every answer goes to the journal first. What failed is said at the end, once
everything else was asked. The Batch API is `api_batch.py`'s matter.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inpars.errors import BackendError
from inpars.generation import GeneratedQuery
from inpars.generation.api_answers import AnswerJournal, journal_path
from inpars.generation.api_batch import Batches, refuse_open_batches, state_path
from inpars.generation.api_client import NoAnswerError, RefusedError, Server
from inpars.generation.api_limits import Budget, CapReachedError, RateLimits
from inpars.generation.api_options import ApiOptions
from inpars.generation.api_prices import Price
from inpars.generation.api_wire import Answer, ApiRequest, Wording, refusal
from inpars.progress import SILENT, Progress
from inpars.records import Document, LogProbKind

CHUNK_DOCUMENTS = 64  # stored as a whole; the answers are in the journal before
REFUSED_AT_FIRST = 20  # refusals without one answer after which the fault is not with the documents
FAILED_IN_A_ROW = 20  # requests; no more are tried then
MESSAGE_REASONS = 3


class ApiGenerator:
    """Writes queries by asking a server for completions or for chat replies."""

    def __init__(
        self, wording: Wording, options: ApiOptions, price: Price | None, output: Path, progress: Progress = SILENT
    ) -> None:
        """Open the journal beside `output`. Raises ConfigError where the key is missing or a batch is under way."""
        self.name, self.device = wording.model, f"server {wording.url}"
        self.log_prob_kind: LogProbKind = options.log_prob_kind
        self._wording, self._price, self._documents = wording, price, list[Document]()
        self._positions: dict[str, int] = {}
        self._made: dict[str, list[ApiRequest]] = {}  # of documents that are asked about and not yet written
        self._ahead = max(CHUNK_DOCUMENTS, 2 * options.concurrency)
        if not options.batch:
            refuse_open_batches(state_path(output), wording.digest)
        stopped = threading.Event()
        self._server = Server(
            wording.url, timeout_seconds=options.timeout_seconds, retries=options.retries, stopped=stopped
        )
        self._journal = AnswerJournal(journal_path(output))
        budget = Budget(options.max_usd, self._journal.spent.usd)
        limits = RateLimits(options.requests_per_minute, options.tokens_per_minute, sleep=stopped.wait)
        self._asker = Asker(self._server, wording, self._journal, limits, budget, price, options.concurrency, stopped)
        self._batches: Batches | None = None
        if options.batch:
            self._batches = Batches(
                self._server, wording, self._journal, price, state_path(output), options.max_usd,
                poll_seconds=options.poll_seconds, wait=stopped.wait, progress=progress,
            )  # fmt: skip

    def plan(self, documents: Sequence[Document]) -> list[list[int]]:
        """Chunks of documents in their order."""
        self._documents = list(documents)
        self._positions = {document.doc_id: position for position, document in enumerate(documents)}
        positions = range(len(documents))
        return [list(positions[start : start + CHUNK_DOCUMENTS]) for start in range(0, len(documents), CHUNK_DOCUMENTS)]

    def generate(self, documents: Sequence[Document]) -> list[list[GeneratedQuery]]:
        """The queries of each document of the chunk; those that follow in the plan are asked for meanwhile.

        Raises BackendError where documents are left without an answer, after everything else was asked.
        """
        wanted = [self._requests_of(document) for document in documents]
        missing = [request for requests in wanted for request in requests if request.digest not in self._journal]
        if missing and self._batches is not None:
            self._batches.run(self._requests(self._rest(documents)))
        elif missing:
            self._ask(documents)
        for document in documents:
            del self._made[document.doc_id]
        return [[self._journal[request.digest] for request in requests] for requests in wanted]

    def status(self) -> str:
        """`$0.0123 spent, 2 failed`; tokens where the price is not known."""
        spent, failed = self._journal.spent, len(self._asker.failures) + self._journal.refused
        cost = (
            f"{spent.input_tokens + spent.output_tokens:,} tokens" if self._price is None else f"${spent.usd:.4f} spent"
        )
        return f"{cost}, {failed} failed"

    def results(self) -> Mapping[str, Any]:
        """What the journal's answers cost, those of earlier runs and other settings included."""
        spent = self._journal.spent
        usd = None if self._price is None else round(spent.usd, 6)
        return {"usd": usd, "input_tokens": spent.input_tokens, "output_tokens": spent.output_tokens}

    def close(self) -> None:
        """Let requests under way come to their end, then close the journal."""
        self._asker.close()
        self._server.close()
        self._journal.close()

    def _ask(self, documents: Sequence[Document]) -> None:
        ahead = self._requests(self._rest(documents)[: len(documents) + self._ahead])
        self._asker.start(ahead)
        if self._asker.finish(self._requests(documents)):
            rest = self._requests(self._rest(documents))
            self._asker.start(rest)
            self._asker.finish(rest)
            raise self._asker.failure(rest)

    def _rest(self, documents: Sequence[Document]) -> list[Document]:
        """The plan from these documents on; only they where they are not of the plan."""
        start = self._positions.get(documents[0].doc_id)
        return list(documents) if start is None else self._documents[start:]

    def _requests(self, documents: Sequence[Document]) -> list[ApiRequest]:
        return [request for document in documents for request in self._requests_of(document)]

    def _requests_of(self, document: Document) -> list[ApiRequest]:
        if document.doc_id not in self._made:
            self._made[document.doc_id] = self._wording.requests(document)
        return self._made[document.doc_id]


class _StoppedError(Exception):
    """The request was not made."""


@dataclass(slots=True)
class _Gate:
    """What one request passes on each attempt. Raises _StoppedError once nothing more shall be asked."""

    journal: AnswerJournal
    limits: RateLimits
    budget: Budget
    tokens: int
    usd: float
    stopped: threading.Event

    def enter(self) -> None:
        self.limits.wait(self.tokens)
        self.budget.reserve(self.usd)
        if self.stopped.is_set():
            self.budget.settle(self.usd, 0.0)
            raise _StoppedError

    def leave(self, *, lost: bool) -> None:
        if lost:
            self.journal.add_lost(self.usd)
        self.budget.settle(self.usd, self.usd if lost else 0.0)

    def pause(self, seconds: float) -> None:
        self.limits.pause(seconds)


class Asker:
    """Threads that ask, one request each at a time."""

    def __init__(
        self,
        server: Server,
        wording: Wording,
        journal: AnswerJournal,
        limits: RateLimits,
        budget: Budget,
        price: Price | None,
        concurrency: int,
        stopped: threading.Event,
    ) -> None:
        self.failures: dict[str, str] = {}  # request -> why it has no answer
        self._server, self._wording, self._journal = server, wording, journal
        self._limits, self._budget, self._price, self._stopped = limits, budget, price, stopped
        self._patience = max(FAILED_IN_A_ROW, 2 * concurrency)
        self._in_a_row = 0
        self._refused: list[tuple[ApiRequest, str]] = []  # until an answer shows that the server works
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="ask")
        self._under_way: dict[str, Future[None]] = {}

    def start(self, requests: Sequence[ApiRequest]) -> None:
        """Ask what was not asked yet."""
        for request in requests:
            if request.digest not in self._journal and request.digest not in self._under_way:
                self._under_way[request.digest] = self._pool.submit(self._settle, request)

    def finish(self, requests: Sequence[ApiRequest]) -> bool:
        """Wait for these and say whether one is left without an answer.

        Raises BackendError where no further request can succeed: a wrong key, the cap, a server that refuses all.
        """
        for request in requests:
            if (future := self._under_way.get(request.digest)) is not None:
                try:
                    future.result()
                except CancelledError:
                    continue
                except CapReachedError as error:
                    self._let_others_end()
                    raise BackendError(
                        f"--max-usd: {error}; {len(self._journal)} answers are kept in {self._journal.path}, "
                        "the same command with a higher --max-usd goes on from there"
                    ) from None
                if request.digest in self._journal:
                    del self._under_way[request.digest]
        with self._lock:
            refused = list(self._refused)
        if refused and not self._under_way_count():
            raise _all_refused(self._server.url, refused)
        return any(request.digest not in self._journal for request in requests)

    def failure(self, requests: Sequence[ApiRequest]) -> BackendError:
        """How many are left without an answer, and why."""
        missing = sum(request.digest not in self._journal for request in requests)
        reasons = Counter(self.failures.values()).most_common(MESSAGE_REASONS)
        why = "; ".join(f"{count} times {reason}" for reason, count in reasons)
        unasked = missing - len(self.failures)
        more = f"; {unasked} were not asked any more" if unasked > 0 else ""
        return BackendError(
            f"{missing} of {len(requests)} requests to {self._server.url} have no answer after "
            f"{self._server.retries} retries ({why}{more}); the others are kept in {self._journal.path}, "
            "and the same command asks for these again"
        )

    def close(self) -> None:
        """Begin nothing new and wait for what is under way."""
        self._let_others_end()

    def _let_others_end(self) -> None:
        self._stopped.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _under_way_count(self) -> int:
        return sum(not future.done() for future in self._under_way.values())

    def _settle(self, request: ApiRequest) -> None:
        """Ask for one query; its answer or its failure is noted, only what ends everything is raised."""
        if self._stopped.is_set():
            return
        usd = self._usd(request.input_tokens, request.output_tokens)
        tokens = request.input_tokens + request.output_tokens
        gate = _Gate(self._journal, self._limits, self._budget, tokens, usd, self._stopped)
        try:
            answer = self._server.ask(
                self._wording.endpoint, request.body, lambda payload: self._wording.read(payload, request), gate
            )
            self._note_answer(request, answer, usd)
        except _StoppedError:
            return
        except NoAnswerError as error:
            self._note_failure(request, str(error))
        except RefusedError as error:
            self._note_refusal(request, str(error))
        except BaseException:
            self._stopped.set()
            raise

    def _note_answer(self, request: ApiRequest, answer: Answer, reserved: float) -> None:
        usd = self._usd(answer.input_tokens, answer.output_tokens)
        try:
            self._journal.add(request.query_id, request.digest, answer, usd)
        finally:
            self._budget.settle(reserved, usd)
        with self._lock:
            self._in_a_row = 0
            held, self._refused = self._refused, []
        self._keep_refusals(held)

    def _note_refusal(self, request: ApiRequest, reason: str) -> None:
        with self._lock:
            self._in_a_row = 0
            works = self._journal.written > 0
            if not works:
                self._refused.append((request, reason))
            refused = list(self._refused)
        if works:
            self._keep_refusals([(request, reason)])
        elif len(refused) >= REFUSED_AT_FIRST:
            self._stopped.set()
            raise _all_refused(self._server.url, refused)

    def _keep_refusals(self, refused: Sequence[tuple[ApiRequest, str]]) -> None:
        self._journal.add_all(
            (request.query_id, request.digest, Answer(refusal(), 0, 0), 0.0) for request, _ in refused
        )

    def _note_failure(self, request: ApiRequest, reason: str) -> None:
        with self._lock:
            self.failures[request.digest] = reason
            self._in_a_row += 1
            if self._in_a_row >= self._patience:
                self._stopped.set()

    def _usd(self, input_tokens: int, output_tokens: int) -> float:
        return self._price.usd(input_tokens, output_tokens) if self._price else 0.0


def _all_refused(url: str, refused: Sequence[tuple[ApiRequest, str]]) -> BackendError:
    return BackendError(
        f"{url} refuses every request ({len(refused)} so far; {refused[0][1]}); check --model, --backend, the token "
        "limits, and --log-prob-kind absent where the model gives no log-probs"
    )
