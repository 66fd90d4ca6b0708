"""Runs the shards of a stage on a Ray cluster, with actors that load the stage's model once.

Stages do not depend on Ray: `stages/workers.py` defines a worker, `stages/shard_folder.py` the shards' files. A worker
has at most one shard, so nothing queues up in the cluster. If a worker or its node dies, the next free worker continues
the shard's partial file. An InparsError ends the work at once, as does a shard or worker that fails too often.

`ray.util.ActorPool` may give a shard to an actor that has not started; if its node was lost, the shard would wait
forever.
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

MAX_ATTEMPTS = 5  # per shard, and per start of a worker
PATIENCE_SECONDS = 30.0  # without any worker, before a note that the cluster may have no room
OBJECT_STORE_BYTES = 200 << 20  # small: results are in the shards' files
STARTS = 3  # Ray allows a node 30 seconds to start, which a busy machine may exceed
QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}
ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # a local cluster then listens on 127.0.0.1 only


def workers_of(options: ClusterOptions) -> RayWorkers | None:
    """The workers for a stage's shards; None if this process does the work."""
    return RayWorkers(options) if options.on_ray else None


class RayWorkers:
    """Workers on the cluster of the options; implements `stages.workers.Workers`."""

    def __init__(self, options: ClusterOptions) -> None:
        self._options, self.on_gpus = options, bool(options.gpus_per_worker)

    def work(
        self, make: MakeWorker, folder: ShardFolder, shards: Sequence[int], payload: Payload, progress: Progress
    ) -> Generator[int, None, None]:
        """Process the shards; yields each once complete, in any order. Raises MissingDependencyError without Ray."""
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
        """Load the model; not in the constructor, because Ray wraps its errors."""
        self._folder, self._worker = folder, make()

    def do(self, shard: int, payload: Any) -> None:  # noqa: ANN401
        """Process a shard unless it is done: a driver that died may have given it to another worker."""
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
    """A worker: its current actor and shard."""

    number: int
    actor: Any
    shard: int | None = None

    @property
    def name(self) -> str:
        return f"worker {self.number}"


class _Pool:
    """The remaining shards and the running calls, one per worker."""

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
        """Start a worker; it gets a shard once it has loaded its model."""
        actor = self._actor.remote(number)
        self.busy[actor.load.remote(self._make, self._folder)] = _Slot(number, actor)

    def ended(self, call: Any) -> int | None:  # noqa: ANN401 - a reference of Ray's
        """Handle a finished call; returns the completed shard, if any."""
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
        self._deaths.pop(slot.name, None)
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
        """Replace a worker that died. Raises its InparsError, or BackendError after too many attempts."""
        import ray

        cause = getattr(error, "cause", None)  # the worker's exception in a RayTaskError
        if isinstance(cause, InparsError):
            raise cause
        subject = slot.name if shard is None else f"shard {shard + 1} of {self._folder.count}"
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


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


@contextmanager
def connected(options: ClusterOptions) -> Iterator[int]:
    """Connect to the cluster of the options, or start a local one for the block; yields the number of workers.

    Ray reads its environment when it is imported, so nothing may import it earlier.
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
    """CPU slots for all requested workers, even if the machine has fewer cores."""
    if options.workers is None:
        return None
    return max(os.cpu_count() or 1, math.ceil(options.workers * options.cpus_per_worker))


def _number_of_workers(options: ClusterOptions, resources: Mapping[str, float]) -> int:
    """The requested number, else as many as fit. Raises ConfigError if none fits."""
    if options.workers is not None:
        return options.workers
    needed = {"CPU": options.cpus_per_worker, "GPU": options.gpus_per_worker}
    workers = min((int(resources.get(name, 0) / each) for name, each in needed.items() if each), default=1)
    if not workers:
        raise ConfigError(
            f"the cluster has {resources.get('CPU', 0):g} cores and {resources.get('GPU', 0):g} GPUs, too few for one "
            f"worker of {needed['CPU']:g} and {needed['GPU']:g}; lower --cpus-per-worker or --gpus-per-worker"
        )
    return workers
