"""Concurrent requests: each answer goes to the journal at once, failures are collected and reported at the end."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from inpars.errors import BackendError
from inpars.generation.api.budget import Budget, CapReachedError, RateLimits
from inpars.generation.api.client import FilteredError, NoAnswerError, RateLimiter, RefusedError, Server
from inpars.generation.api.formats import FILTERED
from inpars.generation.api.journal import AnswerJournal
from inpars.generation.api.options import ApiOptions
from inpars.generation.api.requests import REFUSED, Answer, ApiRequest, RequestAdapter, refusal

REFUSED_AT_FIRST = 20  # refusals before any answer; more suggest that the documents are not the cause
FAILED_IN_A_ROW = 20  # consecutive failed requests after which no more are sent
MESSAGE_REASONS = 3


class _StoppedError(Exception):
    """The request was not sent."""


class RequestPool:
    """A thread pool that sends requests."""

    def __init__(
        self,
        server: Server,
        adapter: RequestAdapter[Any],
        journal: AnswerJournal,
        options: ApiOptions,
        stopped: threading.Event,
    ) -> None:
        self.failures: dict[str, tuple[str, str]] = {}  # digest -> kind of failure, full message
        self.refusals: Counter[str] = Counter()  # by the server's reason
        self.limits = RateLimits(options.requests_per_minute, options.tokens_per_minute, sleep=stopped.wait)
        self.budget = Budget(options.max_usd, journal.spent.usd)
        self.journal, self.stopped = journal, stopped
        self._server, self._adapter = server, adapter
        self._patience = max(FAILED_IN_A_ROW, 2 * options.concurrency)
        self._in_a_row = 0
        self._refused: dict[str, tuple[ApiRequest, str]] = {}  # held back until the first answer
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(options.concurrency, thread_name_prefix="ask")
        self._running: dict[str, Future[None]] = {}

    def start(self, requests: Sequence[ApiRequest]) -> None:
        """Send the requests that have no answer and are not running."""
        for request in requests:
            if request.digest not in self.journal and request.digest not in self._running:
                self._running[request.digest] = self._pool.submit(self._settle, request)

    def finish(self, requests: Sequence[ApiRequest]) -> bool:
        """Wait for these requests; whether any of them has no answer.

        Raises BackendError if no further request can succeed: wrong key, spending cap, a server that refuses all.
        """
        for request in requests:
            if (future := self._running.get(request.digest)) is not None:
                try:
                    future.result()
                except CancelledError:
                    continue
                except CapReachedError as error:
                    self.close()
                    raise BackendError(
                        f"--max-usd: {error}; {len(self.journal)} answers are kept in {self.journal.path}, "
                        "the same command with a higher --max-usd resumes from there"
                    ) from None
                if request.digest in self.journal:
                    del self._running[request.digest]
        if self._refused and all(future.done() for future in self._running.values()):
            raise self._all_refused([reason for _, reason in self._refused.values()])
        return any(request.digest not in self.journal for request in requests)

    def failure(self, requests: Sequence[ApiRequest]) -> BackendError:
        """The error for requests without an answer, with counts and reasons."""
        missing = sum(request.digest not in self.journal for request in requests)
        example = dict(self.failures.values())
        reasons = Counter(kind for kind, _ in self.failures.values()).most_common(MESSAGE_REASONS)
        why = "; ".join(f"{count} times {example[kind]}" for kind, count in reasons)
        unasked = missing - len(self.failures)
        more = f"; {unasked} were not asked any more" if unasked > 0 else ""
        return BackendError(
            f"{missing} of {len(requests)} requests to {self._server.url} have no answer after "
            f"{self._server.retries} retries ({why}{more}); the others are kept in {self.journal.path}, "
            "and the same command asks for these again"
        )

    def close(self) -> None:
        """Start no more requests and wait for running ones."""
        self.stopped.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _settle(self, request: ApiRequest) -> None:
        """Send one request and record its answer or failure; raises only errors that end the run."""
        if self.stopped.is_set():
            return
        try:
            read = partial(self._adapter.read, request=request)
            answer = self._server.ask(self._adapter.endpoint, request.body, read, _RequestLimiter(self, request))
            self._note_answer(request, answer)
        except _StoppedError:
            return
        except NoAnswerError as error:
            self._note_failure(request, error)
        except FilteredError as error:
            self._keep_refusals({request.digest: (request, str(error))}, FILTERED)
        except RefusedError as error:
            self._note_refusal(request, str(error))
        except BaseException:
            self.stopped.set()
            raise

    def _note_answer(self, request: ApiRequest, answer: Answer) -> None:
        try:
            self.journal.add({request.digest: (request.query_id, answer)})
        finally:
            self.budget.settle(self.journal.usd(request), self.journal.usd(answer))
        with self._lock:
            refused, self._refused = self._refused, {}
        self._keep_refusals(refused)

    def _note_refusal(self, request: ApiRequest, reason: str) -> None:
        with self._lock:
            self._in_a_row = 0
            server_works = self.journal.written > 0
            if not server_works:
                self._refused[request.digest] = request, reason
            reasons = [reason for _, reason in self._refused.values()]
        if server_works:
            self._keep_refusals({request.digest: (request, reason)})
        elif len(reasons) >= REFUSED_AT_FIRST:
            self.stopped.set()
            raise self._all_refused(reasons)

    def _keep_refusals(self, refused: Mapping[str, tuple[ApiRequest, str]], remark: str = REFUSED) -> None:
        answer = Answer(refusal(), 0, 0, (remark,))
        self.journal.add({digest: (request.query_id, answer) for digest, (request, _) in refused.items()})
        with self._lock:
            self._in_a_row = 0
            self.refusals.update(reason for _, reason in refused.values())

    def _note_failure(self, request: ApiRequest, error: NoAnswerError) -> None:
        with self._lock:
            self.failures[request.digest] = (error.kind, str(error))
            self._in_a_row += 1
            if self._in_a_row >= self._patience:
                self.stopped.set()

    def _all_refused(self, reasons: Sequence[str]) -> BackendError:
        return all_refused(self._server.url, f"{len(reasons)} so far; {reasons[0]}")


class _RequestLimiter(RateLimiter):
    """The pool's limits for one request. `acquire` raises _StoppedError once the pool has stopped."""

    def __init__(self, pool: RequestPool, request: ApiRequest) -> None:
        self._pool, self._usd = pool, pool.journal.usd(request)
        self._tokens = request.input_tokens + request.output_tokens

    def acquire(self) -> None:
        self._pool.limits.wait(self._tokens)
        self._pool.budget.reserve(self._usd)
        if self._pool.stopped.is_set():
            self._pool.budget.settle(self._usd, 0.0)
            raise _StoppedError

    def release(self, *, lost: bool) -> None:
        if lost:
            self._pool.journal.add_lost(self._usd)
        self._pool.budget.settle(self._usd, self._usd if lost else 0.0)

    def pause(self, seconds: float) -> None:
        self._pool.limits.pause(seconds)


def all_refused(url: str, reason: str) -> BackendError:
    """The error for a server that refuses every request; `reason` may already name a flag that helps."""
    return BackendError(f"{url} refuses every request ({reason}); check --model, --backend and the token limits")
