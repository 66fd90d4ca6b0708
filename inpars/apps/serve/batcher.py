"""Dynamic batching: requests of many clients share one pass through a model.

A batcher computes in one thread. A job that arrives while it is idle waits a few milliseconds for others; jobs that
arrive during a pass share the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Key = TypeVar("Key", bound=Hashable)

SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Batch sizes. On a CPU torch caches what it prepared for every shape: over 500 passes of MiniLM with any size from 1
to 32, memory grew by 500 MiB without levelling off; with these sizes it levelled off at 200 MiB."""


@dataclass(slots=True)
class _Job(Generic[Key, Item, Result]):
    """The items of one request and the future of their results."""

    key: Key
    items: Sequence[Item]
    results: asyncio.Future[Sequence[Result]]


def one_thread(name: str) -> ThreadPoolExecutor:
    """An executor with one thread."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"inpars-{name}")


class Batcher(Generic[Key, Item, Result]):
    """Joins jobs of the same key; `work` returns one result per item, in order."""

    def __init__(
        self,
        name: str,
        work: Callable[[Key, Sequence[Item]], Sequence[Result]],
        *,
        max_items: int = 32,
        wait_seconds: float = 0.004,
        observe: Callable[[str, int], None] = lambda name, items: None,
        thread: ThreadPoolExecutor | None = None,
    ) -> None:
        """A pass takes at most `max_items`, but never splits a job; `observe` receives (name, size) of each pass.

        Batchers that share models must share a `thread` of one worker (default: a new one).
        """
        self.name = name
        self._work, self._max_items, self._wait_seconds, self._observe = work, max_items, wait_seconds, observe
        self._jobs: deque[_Job[Key, Item, Result]] = deque()
        self._arrived, self._full = asyncio.Event(), asyncio.Event()
        self._thread = thread or one_thread(name)
        self._loop: asyncio.Task[None] | None = None

    async def submit(self, key: Key, items: Sequence[Item]) -> Sequence[Result]:
        """The results of these items. Raises what `work` raises for them."""
        if not items:
            return ()
        if self._loop is None:
            self._loop = asyncio.create_task(self._run(), name=f"batcher {self.name}")
        job: _Job[Key, Item, Result] = _Job(key, items, asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        self._arrived.set()
        if self._waiting() >= self._max_items:
            self._full.set()
        return await job.results

    async def close(self) -> None:
        """Stop, and cancel the jobs that still wait."""
        if self._loop is not None:
            self._loop.cancel()
        for job in self._jobs:
            job.results.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _waiting(self) -> int:
        return sum(len(job.items) for job in self._jobs)

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            await self._gather()
            jobs = self._take()
            if jobs:
                self._observe(self.name, sum(len(job.items) for job in jobs))
                await self._compute(jobs)

    async def _gather(self) -> None:
        """Wait `wait_seconds` for more jobs, or until a pass is full."""
        self._full.clear()
        if self._wait_seconds and self._waiting() < self._max_items:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._full.wait(), self._wait_seconds)

    def _take(self) -> list[_Job[Key, Item, Result]]:
        """Jobs of the key that has waited longest; jobs whose client has left are dropped."""
        alive = [job for job in self._jobs if not job.results.done()]
        taken: list[_Job[Key, Item, Result]] = []
        waiting: deque[_Job[Key, Item, Result]] = deque()
        room = self._max_items
        for job in alive:
            if job.key == alive[0].key and (not taken or len(job.items) <= room):
                taken.append(job)
                room -= len(job.items)
            else:
                waiting.append(job)
        spare = _spare(taken)
        waiting.extendleft(reversed(taken[len(taken) - spare :]))
        taken = taken[: len(taken) - spare]
        self._jobs = waiting
        if not waiting:
            self._arrived.clear()
        return taken

    async def _compute(self, jobs: Sequence[_Job[Key, Item, Result]]) -> None:
        """Run one pass; if it fails, run each job alone, so that only the job at fault gets the error."""
        items = [item for job in jobs for item in job.items]
        loop = asyncio.get_running_loop()
        try:
            results = await loop.run_in_executor(self._thread, self._work, jobs[0].key, items)
        except Exception as error:  # noqa: BLE001, RUF100 - any error is passed on to the client
            if len(jobs) > 1:
                for job in jobs:
                    await self._compute([job])
            elif not jobs[0].results.done():
                jobs[0].results.set_exception(error)
            return
        start = 0
        for job in jobs:
            if not job.results.done():
                job.results.set_result(results[start : start + len(job.items)])
            start += len(job.items)


def _spare(jobs: Sequence[_Job[Key, Item, Result]]) -> int:
    """How many of the last jobs to leave for the next pass, so that this one has a size of `SIZES`.

    Only jobs of a single item are left.
    """
    total = sum(len(job.items) for job in jobs)
    spare = total - max((size for size in SIZES if size <= total), default=0)
    return spare if all(len(job.items) == 1 for job in jobs[len(jobs) - spare :]) and spare < len(jobs) else 0
