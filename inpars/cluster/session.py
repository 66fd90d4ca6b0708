"""A Ray cluster for as long as a stage works: one that is there, or one on this machine that ends with the command.

Ray reads its environment when it is imported, so this module sets it and imports Ray afterwards.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from inpars.cluster.options import ClusterOptions
from inpars.errors import BackendError, ConfigError
from inpars.progress import Progress

if TYPE_CHECKING:
    from inpars.cluster.engine import Pool

OBJECT_STORE_BYTES = 200 << 20  # nothing large travels; the shards' files carry the results
STARTS = 3  # Ray gives a node half a minute, which a machine that is busy elsewhere may not keep to
QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}
ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # without other machines Ray then listens on 127.0.0.1 alone


@contextmanager
def connected(options: ClusterOptions, progress: Progress) -> Iterator[Pool]:
    """Workers of the cluster that the options name; a cluster that was begun here ends here."""
    address = options.address or os.environ.get("RAY_ADDRESS")
    for name, value in (QUIET if address else QUIET | ALONE).items():
        os.environ.setdefault(name, value)
    import ray

    from inpars.cluster.engine import Pool

    ours = not ray.is_initialized()
    if ours:
        _start(address, options)
    try:
        cluster: Any = ray
        yield Pool(options, _number_of_workers(options, cluster.cluster_resources()), progress)
    finally:
        if ours:
            ray.shutdown()


def _start(address: str | None, options: ClusterOptions) -> None:
    import ray

    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        settings |= {"num_cpus": _cores(options), "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    for left in reversed(range(STARTS)):
        try:
            ray.init(address or "local", **settings)
            return
        except Exception as error:  # Ray raises any kind
            ray.shutdown()
            if address or not left:
                where = f"at {address}" if address else "on this machine"
                raise BackendError(
                    f"no Ray cluster {where} ({_one_line(error)}); check --address, or start one with "
                    "`ray start --head`"
                ) from error


def _cores(options: ClusterOptions) -> int | None:
    """Room for the workers that were asked for, though they be more than the machine has cores."""
    if options.workers is None:
        return None
    return max(os.cpu_count() or 1, math.ceil(options.workers * options.cpus_per_worker))


def _number_of_workers(options: ClusterOptions, resources: Mapping[str, float]) -> int:
    """As asked for, else as many as the cluster has room for now. Raises ConfigError where there is room for none."""
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


def _one_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
