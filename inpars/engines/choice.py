"""OpenVINO's form of an encoder or classifier, where it is wanted, can be had, agrees with torch, and is faster."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from inpars.engines import MIN_PARAMETERS, has_openvino, trial
from inpars.errors import ConfigError
from inpars.models.engine_backend import EngineName, engine
from inpars.models.networks import UNFIT

if TYPE_CHECKING:
    from inpars.engines.openvino_network import OpenVinoNetwork, Output
    from inpars.models.dtypes import DtypeName

PROBE_TEXTS, PROBE_TOKENS = 16, 200  # whose reading is timed; about what documents have
# what `auto` may choose; 8-bit weights are to be named, until nDCG@10 is shown to keep on more collections
TRIED: tuple[EngineName, ...] = ("openvino",)
UNUSED_POSITIONS = 2  # RoBERTa's, which it counts among its positions
TIMED = 3  # times, the fastest of which counts
# of the outputs' deviation: rounding stays far below, another architecture far above
TOLERANCE: Mapping[EngineName, float] = {"openvino": 0.05, "openvino-int8": 0.2}

Read = Callable[[Mapping[str, Tensor]], Any]


def openvino_form(
    network: Any,  # noqa: ANN401 - a transformers network
    output: Output,
    dtype: DtypeName,
    time_torch: Callable[[Callable[[Read], float]], float],
) -> OpenVinoNetwork | None:
    """The form to compute with; None where torch does it.

    `time_torch` is given a stop-watch, and calls it with what reads inputs as torch would as shipped; it leaves the
    network as it was. Raises ConfigError where OpenVINO was named and cannot compute the network.
    """
    wanted = engine()
    if network is None or wanted == "torch" or network.device.type != "cpu":
        return None
    if wanted != "auto":
        return _named(network, output, wanted, dtype)
    many = sum(weight.numel() for weight in network.parameters()) >= MIN_PARAMETERS
    if dtype != "auto" or not many or not has_openvino():
        return None
    return _tried(network, output, time_torch)


def _named(network: Any, output: Output, wanted: EngineName, dtype: DtypeName) -> OpenVinoNetwork:  # noqa: ANN401
    from inpars.engines.openvino_network import computes_in

    kind = type(network).__name__
    if not computes_in(dtype):
        problem = f"--engine-backend {wanted}: OpenVINO does not compute in {dtype} here; leave one of the two out"
        raise ConfigError(problem)
    try:
        found = _form(network, output, wanted, dtype)
    except UNFIT as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        problem = f"--engine-backend {wanted}: OpenVINO cannot compute a {kind} ({reason}); leave it out"
        raise ConfigError(problem) from error
    if found is None:
        raise ConfigError(f"--engine-backend {wanted}: OpenVINO and torch disagree on this {kind}; leave it out")
    return found


def _tried(
    network: Any,  # noqa: ANN401
    output: Output,
    time_torch: Callable[[Callable[[Read], float]], float],
) -> OpenVinoNetwork | None:
    from inpars.engines.fingerprints import weights_fingerprint
    from inpars.engines.openvino_network import probe

    forms: dict[str, OpenVinoNetwork | None] = {}
    positions = getattr(network.config, "max_position_embeddings", PROBE_TOKENS) - UNUSED_POSITIONS
    inputs = probe(network, PROBE_TEXTS, min(PROBE_TOKENS, positions))

    def stop_watch(read: Read) -> float:
        return _seconds(read, inputs)

    def time_openvino(name: EngineName) -> float | None:
        forms[name] = _form_if_any(network, output, name)
        form = forms[name]
        return None if form is None else stop_watch(lambda given: form(**given))

    trials: dict[str, trial.Trial] = {"torch": lambda: time_torch(stop_watch)}
    trials |= {name: lambda name=name: time_openvino(name) for name in TRIED}  # type: ignore[misc]
    best = trial.fastest(f"{output}\0{weights_fingerprint(network)}\0{torch.get_num_threads()}", trials)
    if best == "torch":
        return None
    return forms[best] if best in forms else _form_if_any(network, output, best)  # type: ignore[arg-type]


def _form(
    network: Any,  # noqa: ANN401
    output: Output,
    name: EngineName,
    dtype: DtypeName = "auto",
) -> OpenVinoNetwork | None:
    """The network's form; None where it gives something else. Raises one of UNFIT where it cannot be converted."""
    from inpars.engines.openvino_network import OpenVinoNetwork, agrees

    form = OpenVinoNetwork(network, output, int8=name == "openvino-int8", dtype=dtype)
    return form if agrees(network, form, output, TOLERANCE[name]) else None


def _form_if_any(network: Any, output: Output, name: EngineName) -> OpenVinoNetwork | None:  # noqa: ANN401
    """As `_form`; None where it cannot be converted too: torch computes all networks."""
    try:
        return _form(network, output, name)
    except UNFIT:
        return None


def _seconds(read: Read, inputs: Mapping[str, Tensor]) -> float:
    """Processor time of reading the inputs."""
    found = []
    for _ in range(TIMED + 1):  # the first warms up
        start = time.process_time()
        with torch.inference_mode():
            read(inputs)
        found.append(time.process_time() - start)
    return min(found[1:])
