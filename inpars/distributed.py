"""The workers of a Ray cluster: actors that load a stage's model once and do one of its shards at a time.

Stands above the stages, which know nothing of Ray: they say what a worker is (`stages/workers.py`), where its shards
lie (`stages/shard_folder.py`) and how these are merged. A worker has never more than one shard, so nothing queues up in
the cluster. A shard whose worker died, with its node or without, goes to the next one that is free, and what its
partial file has is kept. Errors that were raised on purpose end the work at once, with their own message; a shard that
ends several workers does so too.

`ray.util.ActorPool` gives a shard to an actor that is still to be started; where a node was lost, and with it the room
for that actor, the shard would wait for ever.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import time
from collections import Counter, deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from inpars.errors import BackendError, ConfigError, InparsError, MissingDependencyError, pip_line, reason_of
from inpars.extras import EXTRAS
from inpars.models.processor import keep_freed_memory
from inpars.progress import Progress
from inpars.stages.shard_folder import ShardFolder
from inpars.stages.workers import ClusterOptions, MakeWorker, Payload, Worker

MAX_ATTEMPTS = 5  # of a shard, or of starting a worker, each of which died or failed
PATIENCE_SECONDS = 30.0  # without any worker, before it is said that the cluster has no room
OBJECT_STORE_BYTES = 200 << 20  # nothing large travels; the shards' files carry the results
STARTS = 3  # Ray gives a node half a minute, which a machine that is busy elsewhere may not keep to
QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}
ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # without other machines Ray then listens on 127.0.0.1 alone


def workers_of(options: ClusterOptions) -> RayWorkers | None:
    """Who does a stage's shards; None where this process does its work."""
    return RayWorkers(options) if options.on_ray else None


class RayWorkers:
    """Workers on the cluster that the options name, for as long as a stage works; see `stages.workers.Workers`."""

    def __init__(self, options: ClusterOptions) -> None:
        self._options, self.on_gpus = options, bool(options.gpus_per_worker)

    def work(
        self, make: MakeWorker, folder: ShardFolder, shards: Sequence[int], payload: Payload, progress: Progress
    ) -> Generator[int, None, None]:
        """Have the shards done; each is yielded when it is whole, in any order.

        Raises MissingDependencyError without Ray.
        """
        if find_spec("ray") is None:
            line = EXTRAS["cluster"].install_line() or pip_line(["ray"])
            raise MissingDependencyError("ray", "for --engine ray", line)
        import ray

        with connected(self._options) as workers:
            pool = _Pool(make, folder, shards, payload, self._options)
            try:
                for number in range(1, min(workers, len(shards)) + 1):
                    pool.start(number)
                while pool.unfinished:
                    ended, _ = ray.wait(list(pool.busy), timeout=PATIENCE_SECONDS)
                    if not ended and not pool.seen:
                        cpus, gpus = self._options.cpus_per_worker, self._options.gpus_per_worker
                        progress.note(
                            f"no worker has loaded its model yet, or the cluster has no room: {workers} of {cpus:g} "
                            f"cores and {gpus:g} GPUs are wanted"
                        )
                    yield from (shard for call in ended if (shard := pool.ended(call)) is not None)
            finally:
                pool.stop()


class _Actor:
    _folder: ShardFolder
    _worker: Worker

    def __init__(self, number: int) -> None:
        self._number = number
        keep_freed_memory()

    def load(self, make: MakeWorker, folder: ShardFolder) -> None:
        """Begin; not in the constructor, whose errors Ray does not pass on as they are."""
        self._folder, self._worker = folder, make()

    def do(self, shard: int, payload: Any) -> None:  # noqa: ANN401
        """Do a shard unless it is done: a driver that died may have given it to another worker."""
        folder = self._folder
        with folder.begun(shard) as partial:
            if folder.mark(shard) is not None:
                return
            started, clock = time.time(), time.monotonic()
            results = self._worker.write(payload, partial, folder.file(shard))
            mark = {"items": len(folder.items(shard)), "worker": self._number, "node": socket.gethostname()}
            times = {"started": round(started, 3), "seconds": round(time.monotonic() - clock, 6)}
            folder.finish(shard, {**mark, "device": self._worker.device, **times, **results})


@dataclass(slots=True)
class _Slot:
    """A worker's place: the actor that has it now, and its shard."""

    number: int
    actor: Any
    shard: int | None = None


class _Pool:
    """The shards that are left and the calls that are under way, one per worker."""

    def __init__(
        self, make: MakeWorker, folder: ShardFolder, shards: Sequence[int], payload: Payload, options: ClusterOptions
    ) -> None:
        import ray

        self._make, self._folder, self._left, self._payload = make, folder, deque(shards), payload
        remote: Any = ray.remote(_Actor)
        self._actor = remote.options(
            num_cpus=options.cpus_per_worker, num_gpus=options.gpus_per_worker, scheduling_strategy="SPREAD"
        )
        self.busy: dict[Any, _Slot] = {}
        self._idle: list[_Slot] = []
        self.seen = False  # whether any worker has loaded its model
        self.unfinished = len(shards)
        self._deaths: Counter[str] = Counter()

    def start(self, number: int) -> None:
        """A worker at this place; it gets a shard once it has loaded its model."""
        actor = self._actor.remote(number)
        self.busy[actor.load.remote(self._make, self._folder)] = _Slot(number, actor)

    def ended(self, call: Any) -> int | None:  # noqa: ANN401 - a reference of Ray's
        """A call came to an end: the shard that is done now, if it was one."""
        import ray
        from ray.exceptions import RayError

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
        import ray

        for slot in [*self.busy.values(), *self._idle]:
            ray.kill(slot.actor)

    def _hand_out(self) -> None:
        while self._idle and self._left:
            slot = self._idle.pop()
            slot.shard = self._left.popleft()
            self.busy[slot.actor.do.remote(slot.shard, self._payload(slot.shard))] = slot

    def _replace(self, slot: _Slot, shard: int | None, error: Exception) -> None:
        """Put another worker in the place of one that died; raise what was raised on purpose, or too often."""
        import ray

        cause = getattr(error, "cause", None)  # of a RayTaskError: what the worker raised
        if isinstance(cause, InparsError):
            raise cause
        subject = _name_of(slot) if shard is None else f"shard {shard + 1} of {self._folder.count}"
        self._deaths[subject] += 1
        if self._deaths[subject] == MAX_ATTEMPTS:
            raise BackendError(
                f"{subject} failed {MAX_ATTEMPTS} times, last with {_first_line(cause or error)}; fix that and run the "
                "same command again, finished work is kept"
            ) from error
        ray.kill(slot.actor)
        if shard is not None:
            self._left.appendleft(shard)
            self._hand_out()
        self.start(slot.number)


def _name_of(slot: _Slot) -> str:
    return f"worker {slot.number}"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


@contextmanager
def connected(options: ClusterOptions) -> Iterator[int]:
    """The cluster that the options name, and how many workers it has; one that was begun here ends here.

    Ray reads its environment when it is imported, so nothing may import it before.
    """
    address = options.address or os.environ.get("RAY_ADDRESS")
    for name, value in (QUIET if address else QUIET | ALONE).items():
        os.environ.setdefault(name, value)
    import ray

    ours = not ray.is_initialized()
    if ours:
        _start(address, options)
    try:
        cluster: Any = ray
        yield _number_of_workers(options, cluster.cluster_resources())
    finally:
        if ours:
            ray.shutdown()


def _start(address: str | None, options: ClusterOptions) -> None:
    import ray

    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        settings |= {"num_cpus": _cores(options), "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    for retries in reversed(range(STARTS)):
        try:
            ray.init(address or "local", **settings)
            return
        except Exception as error:  # Ray raises any kind
            ray.shutdown()
            if address or not retries:
                problem = f"no Ray cluster {f'at {address}' if address else 'on this machine'} ({reason_of(error)})"
                raise BackendError(f"{problem}; check --address, or start one with `ray start --head`") from error


def _cores(options: ClusterOptions) -> int | None:
    """CPU slots for all requested workers, even if there are more than cores."""
    if options.workers is None:
        return None
    return max(os.cpu_count() or 1, math.ceil(options.workers * options.cpus_per_worker))


def _number_of_workers(options: ClusterOptions, resources: Mapping[str, float]) -> int:
    """The requested number, else as many as fit now. Raises ConfigError if not even one fits."""
    if options.workers is not None:
        return options.workers
    needed = {"CPU": options.cpus_per_worker, "GPU": options.gpus_per_worker}
    room = [int(resources.get(name, 0) / each) for name, each in needed.items() if each]
    if not min(room, default=1):
        raise ConfigError(
            f"the cluster has {resources.get('CPU', 0):g} cores and {resources.get('GPU', 0):g} GPUs, too few for one "
            f"worker of {needed['CPU']:g} and {needed['GPU']:g}; lower --cpus-per-worker or --gpus-per-worker"
        )
    return min(room, default=1)
