"""Answers from an OpenAI-compatible server about items: documents to write queries for, or pairs to grade.

Answers are stored in a journal next to the output and never requested twice. `worker_pool.py` sends single requests,
`batch.py` batches.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from inpars.batches import slices
from inpars.generation import GeneratedQuery
from inpars.generation.api.batch import Batches, refuse_open_batches, state_path
from inpars.generation.api.budget import Price
from inpars.generation.api.client import Server
from inpars.generation.api.journal import AnswerJournal, journal_path
from inpars.generation.api.options import ApiOptions
from inpars.generation.api.requests import ApiRequest, RequestAdapter, remark_lines
from inpars.generation.api.worker_pool import RequestPool
from inpars.progress import SILENT, Progress
from inpars.records import LogProbKind

Item = TypeVar("Item")
CHUNK_ITEMS = 64  # stored in the output as a whole; the journal has each answer earlier


class ApiGenerator(Generic[Item]):
    """Requests completions or chat replies; with documents as items it is a `QueryGenerator`."""

    def __init__(
        self,
        adapter: RequestAdapter[Item],
        options: ApiOptions,
        price: Price | None,
        output: Path,
        progress: Progress = SILENT,
    ) -> None:
        """Open the journal next to `output`. Raises ConfigError if the key is missing or a batch is unfinished."""
        self.name, self.device = adapter.model, f"server {adapter.url}"
        self.log_prob_kind: LogProbKind = options.log_prob_kind
        self._adapter, self._priced, self._items = adapter, price is not None, list[Item]()
        self._positions: dict[str, int] = {}
        self._remarks, self._answers = Counter[str](), 0  # of the answers returned so far
        self._open_requests: dict[str, list[ApiRequest]] = {}  # by item, until its answers are returned
        self._lookahead = max(CHUNK_ITEMS, 2 * options.concurrency)
        state, stopped = state_path(output), threading.Event()
        if not options.batch:
            refuse_open_batches(state, adapter.digest)
        self._server = Server(
            adapter.url, timeout_seconds=options.timeout_seconds, retries=options.retries, stopped=stopped
        )
        self._journal = AnswerJournal(journal_path(output), price)
        self._request_pool = RequestPool(self._server, adapter, self._journal, options, stopped)
        self._batches = Batches(self._server, adapter, self._journal, options, state, progress)
        self._in_batches = options.batch

    def plan(self, items: Sequence[Item]) -> list[list[int]]:
        self._items = list(items)
        self._positions = {self._adapter.key(item): position for position, item in enumerate(items)}
        return [list(chunk) for chunk in slices(range(len(items)), CHUNK_ITEMS)]

    def generate(self, items: Sequence[Item]) -> list[list[GeneratedQuery]]:
        """The answers for each item of the chunk; requests for the next items of the plan are sent meanwhile.

        Raises BackendError if items remain without an answer, after all others were requested.
        """
        requests_per_item = [self._requests_of(item) for item in items]
        missing = [
            request for requests in requests_per_item for request in requests if request.digest not in self._journal
        ]
        if missing and self._in_batches:
            self._batches.run(self._requests(self._rest(items)))
        elif missing:
            self._ask(items)
        for item in items:
            del self._open_requests[self._adapter.key(item)]
        self._count(request for requests in requests_per_item for request in requests)
        return [[self._journal[request.digest] for request in requests] for requests in requests_per_item]

    def status(self) -> str:
        """`$0.0123 spent, 2 failed`; the number of tokens if the price is unknown."""
        spent, failed = self._journal.spent, len(self._request_pool.failures) + self._journal.refused
        tokens = spent.input_tokens + spent.output_tokens
        cost = f"${spent.usd:.4f} spent" if self._priced else f"{tokens:,} tokens"
        return f"{cost}, {failed} failed"

    def results(self) -> Mapping[str, Any]:
        """Cost of all answers in the journal, including earlier runs and other settings, and counts of remarks."""
        spent = self._journal.spent
        usd = round(spent.usd, 6) if self._priced else None
        remarks = {"remarks": dict(sorted(self._remarks.items()))} if self._remarks else {}
        return {"usd": usd, "input_tokens": spent.input_tokens, "output_tokens": spent.output_tokens, **remarks}

    def notes(self) -> list[str]:
        """Remarks on the answers in the output, one line per kind."""
        reasons = self._request_pool.refusals.most_common(1)
        example = [f"the server's reason, {reasons[0][1]} times: {reasons[0][0]}"] if reasons else []
        return [
            *remark_lines(self._remarks, self._answers, self._adapter.sentences),
            *example,
            *self._server.spelling.notes,
        ]

    def close(self) -> None:
        """Wait for running requests, then close the journal."""
        self._request_pool.close()
        self._server.close()
        self._journal.close()

    def skipped(self, items: Sequence[Item]) -> None:
        """Count the remarks on answers that an interrupted run already stored."""
        self._count(request for item in items for request in self._adapter.requests(item))

    def _count(self, requests: Iterable[ApiRequest]) -> None:
        for request in requests:
            self._answers += 1
            self._remarks.update(self._journal.remarks(request.digest))

    def _ask(self, items: Sequence[Item]) -> None:
        self._request_pool.start(self._requests(self._rest(items, len(items) + self._lookahead)))
        if self._request_pool.finish(self._requests(items)):
            rest = self._requests(self._rest(items))
            self._request_pool.start(rest)
            self._request_pool.finish(rest)
            raise self._request_pool.failure(rest)

    def _rest(self, items: Sequence[Item], count: int | None = None) -> list[Item]:
        """The plan, or `count` items of it, starting with these items; just these items if they are not planned."""
        start = self._positions.get(self._adapter.key(items[0]))
        if start is None:
            return list(items)
        return self._items[start : None if count is None else start + count]

    def _requests(self, items: Sequence[Item]) -> list[ApiRequest]:
        return [request for item in items for request in self._requests_of(item)]

    def _requests_of(self, item: Item) -> list[ApiRequest]:
        key = self._adapter.key(item)
        if key not in self._open_requests:
            self._open_requests[key] = self._adapter.requests(item)
        return self._open_requests[key]
