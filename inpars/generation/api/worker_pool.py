"""Many requests at a time: every answer goes to the journal first, failures are noted and told at the end.

Knows nothing of documents.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass

from inpars.errors import BackendError
from inpars.generation.api.budget import Budget, CapReachedError, Price, RateLimits
from inpars.generation.api.client import FilteredError, NoAnswerError, RefusedError, Server
from inpars.generation.api.formats import FILTERED
from inpars.generation.api.journal import AnswerJournal
from inpars.generation.api.requests import REFUSED, Answer, ApiRequest, Wording, refusal

REFUSED_AT_FIRST = 20  # refusals without one answer after which the fault is not with the documents
FAILED_IN_A_ROW = 20  # requests; no more are tried then
MESSAGE_REASONS = 3


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
        self.failures: dict[str, tuple[str, str]] = {}  # request -> kind of failure, and the failure in full
        self.refusals: Counter[str] = Counter()  # the server's reasons
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
        example = dict(self.failures.values())
        reasons = Counter(kind for kind, _ in self.failures.values()).most_common(MESSAGE_REASONS)
        why = "; ".join(f"{count} times {example[kind]}" for kind, count in reasons)
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
                self._wording.endpoint,
                request.body,
                lambda payload, remarks: self._wording.read(payload, remarks, request=request),
                gate,
            )
            self._note_answer(request, answer, usd)
        except _StoppedError:
            return
        except NoAnswerError as error:
            self._note_failure(request, error)
        except FilteredError as error:
            self._keep_refusals([(request, str(error))], remarks=(FILTERED,))
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

    def _keep_refusals(self, refused: Sequence[tuple[ApiRequest, str]], remarks: tuple[str, ...] = ()) -> None:
        answer = Answer(refusal(), 0, 0, remarks or (REFUSED,))
        self._journal.add_all((request.query_id, request.digest, answer, 0.0) for request, _ in refused)
        with self._lock:
            self._in_a_row = 0
            self.refusals.update(reason for _, reason in refused)

    def _note_failure(self, request: ApiRequest, error: NoAnswerError) -> None:
        with self._lock:
            self.failures[request.digest] = (error.kind, str(error))
            self._in_a_row += 1
            if self._in_a_row >= self._patience:
                self._stopped.set()

    def _usd(self, input_tokens: int, output_tokens: int) -> float:
        return self._price.usd(input_tokens, output_tokens) if self._price else 0.0


def _all_refused(url: str, refused: Sequence[tuple[ApiRequest, str]]) -> BackendError:
    return all_refused(url, f"{len(refused)} so far; {refused[0][1]}")


def all_refused(url: str, reason: str) -> BackendError:
    """The error for a server that answers nothing; the reason may name the flag that helps already."""
    return BackendError(f"{url} refuses every request ({reason}); check --model, --backend and the token limits")
