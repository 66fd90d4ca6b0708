"""The workers: Ray actors that load the model once and do one shard at a time, replaced where they die.

A worker has never more than one shard, so nothing queues up in the cluster. A shard whose worker died, with its node or
without, goes to the next one that is free, and what its partial file has is kept. Errors that were raised on purpose
end the work at once, with their own message; a shard that ends several workers does so too.
"""

from __future__ import annotations

import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from inpars.cluster.options import ClusterOptions
from inpars.cluster.shard_folder import ShardFolder
from inpars.cluster.work import Job, Worker
from inpars.errors import BackendError, InparsError
from inpars.models.processor import keep_freed_memory
from inpars.progress import Progress

MOST_ATTEMPTS = 5  # of a shard, or of starting a worker, each of which died or failed
PATIENCE_SECONDS = 30.0  # without any worker, before it is said that the cluster has no room

Payload = Callable[[int], Any]


class _Actor:
    """One worker's process."""

    _folder: ShardFolder
    _worker: Worker

    def __init__(self, number: int) -> None:
        self._number = number
        keep_freed_memory()

    def load(self, job: Job, folder: ShardFolder) -> None:
        """Begin; not in the constructor, whose errors Ray does not pass on as they are."""
        self._folder, self._worker = folder, job.open()

    def do(self, shard: int, payload: Any) -> None:  # noqa: ANN401
        """Do a shard, unless somebody has: a driver that died may have given it to another."""
        folder = self._folder
        with folder.begun(shard) as partial:
            if folder.mark(shard) is not None:
                return
            started, clock = time.time(), time.monotonic()
            said = self._worker.write(payload, partial, folder.file(shard))
            mark = {"items": len(folder.items(shard)), "worker": self._number, "node": socket.gethostname()}
            times = {"started": round(started, 3), "seconds": round(time.monotonic() - clock, 6)}
            folder.finish(shard, {**mark, "device": self._worker.device, **times, **said})


@dataclass(slots=True)
class _Slot:
    """A worker's place: the actor that has it now, and its shard."""

    number: int
    actor: Any
    shard: int | None = None


class Pool:
    """So many workers on the cluster that this process is connected to."""

    def __init__(self, options: ClusterOptions, workers: int, progress: Progress) -> None:
        self._options, self._workers, self._progress = options, workers, progress

    def work(self, job: Job, folder: ShardFolder, shards: Iterable[int], payload: Payload) -> Iterator[int]:
        """Have the shards done; each is yielded when it is whole, in any order."""
        left = deque(shards)
        pending = _Pending(job, folder, left, payload, self._options)
        try:
            for number in range(1, min(self._workers, len(left)) + 1):
                pending.start(number)
            while pending.unfinished:
                ended, _ = ray.wait(list(pending.busy), timeout=PATIENCE_SECONDS)
                if not ended and not pending.seen:
                    self._progress.note(self._no_worker_yet())
                for call in ended:
                    done = pending.ended(call)
                    if done is not None:
                        yield done
        finally:
            pending.stop()

    def _no_worker_yet(self) -> str:
        cpus, gpus = self._options.cpus_per_worker, self._options.gpus_per_worker
        return (
            f"no worker has loaded its model yet, or the cluster has no room: {self._workers} of {cpus:g} cores and "
            f"{gpus:g} GPUs are wanted"
        )


class _Pending:
    """The shards that are left and the calls that are under way, one a worker."""

    def __init__(
        self, job: Job, folder: ShardFolder, left: deque[int], payload: Payload, options: ClusterOptions
    ) -> None:
        self._job, self._folder, self._left, self._payload = job, folder, left, payload
        remote: Any = ray.remote(_Actor)
        self._actor = remote.options(
            num_cpus=options.cpus_per_worker, num_gpus=options.gpus_per_worker, scheduling_strategy="SPREAD"
        )
        self.busy: dict[Any, _Slot] = {}
        self._idle: list[_Slot] = []
        self.seen = False  # whether any worker has loaded its model
        self.unfinished = len(left)
        self._deaths: Counter[str] = Counter()

    def start(self, number: int) -> None:
        """A worker at this place; it gets a shard once it has loaded its model."""
        actor = self._actor.remote(number)
        self.busy[actor.load.remote(self._job, self._folder)] = _Slot(number, actor)

    def ended(self, call: Any) -> int | None:  # noqa: ANN401 - a reference of Ray's
        """A call came to an end: the shard that is done now, if it was one."""
        slot = self.busy.pop(call)
        shard, slot.shard = slot.shard, None
        try:
            ray.get(call)
        except RayError as error:
            self._replace(slot, shard, error)
            return None
        self.seen = True
        self._deaths.pop(_name_of(slot), None)
        self._idle.append(slot)
        self._hand_out()
        if shard is not None:
            self.unfinished -= 1
        return shard

    def stop(self) -> None:
        """End all workers; what they have begun stays in the folder."""
        for slot in [*self.busy.values(), *self._idle]:
            ray.kill(slot.actor)

    def _hand_out(self) -> None:
        while self._idle and self._left:
            slot = self._idle.pop()
            slot.shard = self._left.popleft()
            self.busy[slot.actor.do.remote(slot.shard, self._payload(slot.shard))] = slot

    def _replace(self, slot: _Slot, shard: int | None, error: RayError) -> None:
        """Put another worker in the place of one that died; raise what was raised on purpose, or too often."""
        cause = error.cause if isinstance(error, RayTaskError) else None
        if isinstance(cause, InparsError):
            raise cause
        what = _name_of(slot) if shard is None else f"shard {shard + 1} of {self._folder.count}"
        self._deaths[what] += 1
        if self._deaths[what] == MOST_ATTEMPTS:
            raise BackendError(
                f"{what} failed {MOST_ATTEMPTS} times, last with {_told(cause or error)}; run the same command again "
                "once that is mended, what is done is kept"
            ) from error
        ray.kill(slot.actor)
        if shard is not None:
            self._left.appendleft(shard)
            self._hand_out()
        self.start(slot.number)


def _name_of(slot: _Slot) -> str:
    return f"worker {slot.number}"


def _told(error: BaseException) -> str:
    """The kind of an error and its first line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
