"""Runs batches in parallel on a CPU, one thread per batch.

Threads that share each matrix product synchronize after every one: with bfloat16's short products they wait about as
long as they compute, and always for the slowest core. Whole batches need no synchronization.
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

MIN_BATCHES = 2  # per thread; with fewer, sharing each batch among the threads is faster

Item = TypeVar("Item")
Result = TypeVar("Result")

_pool_lock = Lock()
_thread = local()


def map_batches(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    wanted: bool = True,
    planned: int | None = None,
    shareable: bool = True,
) -> Iterator[Result]:
    """Apply `work` to each item, in order, on as many threads as torch has; sequentially if there are few items.

    `planned` is the number of items including those that an interrupted run has finished, so that a resumed run makes
    the same choice. With `shareable=False` (an engine with one thread per call) items run in parallel however few there
    are. `work` must be thread-safe and set torch's modes (inference, autocast) itself.
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
    """Apply `work` to each item, in order, always with one thread per item, however few items there are.

    Results therefore do not depend on the number of threads. Items are consumed lazily. `stop` is called if the caller
    stops early, so that long work can end.
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
    """Whether the caller is one of the pool's threads."""
    return getattr(_thread, "is_worker", False)


def computes_in_bfloat16(network: nn.Module) -> bool:
    """Whether a network runs in bfloat16 on a CPU, where parallel batches pay off; float32 products share well."""
    first = next(network.parameters())
    return first.device.type == "cpu" and first.dtype == torch.bfloat16


def _pool(threads: int) -> ThreadPoolExecutor:
    with _pool_lock:
        return _single_threaded_pool(threads, os.getpid())


@cache
def _single_threaded_pool(count: int, _process: int) -> ThreadPoolExecutor:
    """A pool whose threads compute with one torch thread each; cached per process, because of forks."""
    pool, barrier = ThreadPoolExecutor(count, "inpars-batch"), Barrier(count)

    def use_one_thread(_: int) -> None:
        _thread.is_worker = True
        torch.set_num_threads(1)  # for this thread, and for threads that query their number for the first time later
        torch.get_num_threads()
        barrier.wait()  # so that each call runs on a different thread

    list(pool.map(use_one_thread, range(count)))
    torch.set_num_threads(count)
    return pool
