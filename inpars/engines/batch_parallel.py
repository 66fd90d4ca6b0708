"""Batches side by side on a processor, each computed by one thread alone.

Threads that share every product wait for each other after each one: with bfloat16's short products they wait about as
long as they compute, and always for the slowest core. Whole batches they need not share.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from threading import Barrier, Lock, local
from typing import TypeVar

import torch
from torch import nn

MIN_BATCHES = 2  # per thread; with fewer the threads share each batch, which is done sooner

Item = TypeVar("Item")
Result = TypeVar("Result")

_making = Lock()
_thread = local()


def map_batches(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    wanted: bool = True,
    planned: int | None = None,
    shareable: bool = True,
) -> Iterator[Result]:
    """`work` of each item, in order, by as many threads as torch has; one after the other where there are few.

    `planned` is the number of items including those that an interrupted run has done: the choice is that run's.
    Items that threads cannot share (an engine with a thread per call) are distributed however few they are. `work` must
    be safe to call from several threads, and set torch's modes (inference, autocast) itself.
    """
    threads, count = torch.get_num_threads(), len(items) if planned is None else planned
    if not shareable:
        wanted &= threads > 1 and count > 1 and not in_worker_thread()
    elif wanted:
        wanted = should_parallelize(count)
    if not wanted:
        return map(work, items)
    return _pool(threads).map(work, items)


def should_parallelize(items: int) -> bool:
    """Whether there are several threads and enough items for them."""
    threads = torch.get_num_threads()
    return threads > 1 and not in_worker_thread() and items >= MIN_BATCHES * threads


def map_single_threaded(
    work: Callable[[Item], Result], items: Iterable[Item], stop: Callable[[], None]
) -> Iterator[Result]:
    """`work` of each item, in order, as many at once as torch has threads, each by one thread however few there are.

    So what comes out does not depend on the number of threads. Items are taken when there is a thread for them. `stop`
    is called where no more results are wanted, so that long work can end.
    """
    threads = torch.get_num_threads()
    if threads == 1 or in_worker_thread():
        yield from map(work, items)
        return
    pool, waiting, finished = _pool(threads), deque[Future[Result]](), False
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        finished = True
    finally:
        for future in waiting:
            future.cancel()
        if not finished:
            stop()


def in_worker_thread() -> bool:
    """Whether the caller is one of the threads that work side by side."""
    return getattr(_thread, "is_alone", False)


def computes_in_bfloat16(network: nn.Module) -> bool:
    """Whether a network's batches are better computed side by side: float32's long products are shared well."""
    first = next(network.parameters())
    return first.device.type == "cpu" and first.dtype == torch.bfloat16


def _pool(threads: int) -> ThreadPoolExecutor:
    with _making:
        return _lone_threads(threads, os.getpid())


@cache
def _lone_threads(count: int, _process: int) -> ThreadPoolExecutor:
    """A pool of threads that each compute with one torch thread; a forked process makes its own."""
    pool, all_here = ThreadPoolExecutor(count, "inpars-batch"), Barrier(count)

    def alone(_: int) -> None:
        _thread.is_alone = True
        torch.set_num_threads(1)  # of this thread, and of those that ask for their number hereafter the first time
        torch.get_num_threads()
        all_here.wait()  # so that each task meets a thread of its own

    list(pool.map(alone, range(count)))
    torch.set_num_threads(count)
    return pool
