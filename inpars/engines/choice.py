"""Chooses the engine of a network: another than torch if it is named, or if it agrees with torch and is faster."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from inpars.engines import MIN_PARAMETERS, has_openvino, trial
from inpars.engines.int8_products import with_int8_products
from inpars.engines.openvino_network import (
    UNUSED_POSITIONS,
    OpenVinoNetwork,
    Output,
    agrees,
    computes_in,
    probe,
    weights_fingerprint,
)
from inpars.errors import ConfigError
from inpars.models.compute_options import DtypeName, EngineName, engine
from inpars.models.networks import UNFIT

PROBE_TEXTS, PROBE_TOKENS = 8, 200  # timed input, about the length of documents
# Candidates of `auto`. 8-bit weights lower nDCG@10 of MiniLM by at most .0007, of a cross-encoder and a T5 by at most
# .0018 (six collections or more: EXPERIMENTS). Their effect on decoders was not measured, so there they must be named.
TRIED: tuple[EngineName, ...] = ("openvino", "openvino-int8")
# RMS error as a share of the outputs' standard deviation: rounding is far below, a wrong conversion far above
TOLERANCE: Mapping[EngineName, float] = {"openvino": 0.05, "openvino-int8": 0.2, "torch-int8": 0.3}
MAX_UNNAMED_INT8 = 0.1  # stricter tolerance for 8-bit weights of encoders chosen by `auto`; MiniLM has .07

Read = Callable[[Mapping[str, Tensor]], Any]
Form = TypeVar("Form")


def tolerance(name: EngineName, max_unnamed_int8: float) -> float:
    """The error allowed to an engine, as a share of the outputs' standard deviation; less to 8 bits not named."""
    return max_unnamed_int8 if name == "openvino-int8" and engine() != name else TOLERANCE[name]


@dataclass(frozen=True)
class Forms(Generic[Form]):
    """How a network's form for another engine is made, checked and timed."""

    make: Callable[[EngineName], Form]  # raises one of UNFIT if the engine cannot compute the network
    agrees: Callable[[Form, EngineName], bool]  # whether its outputs match torch's
    seconds: Callable[[Form], float]  # CPU time for a fixed amount of work
    seconds_of_torch: Callable[[], float]  # for the same work
    tried: Sequence[EngineName] = TRIED  # candidates of `auto`

    def agreeing(self, name: EngineName) -> Form | None:
        """The form; None if its outputs differ from torch's."""
        form = self.make(name)
        return form if self.agrees(form, name) else None


def openvino_form(
    network: Any, output: Output, dtype: DtypeName, time_torch: Callable[[Callable[[Read], float]], float], model: str
) -> OpenVinoNetwork | None:
    """The form of an encoder to use; None for torch.

    `time_torch` receives a stop-watch and calls it with a function that runs torch as in production; it must leave the
    network unchanged. `model` is the name shown to users. Raises ConfigError if the named engine cannot compute it.
    """
    if network is None:
        return None
    positions = getattr(network.config, "max_position_embeddings", PROBE_TOKENS) - UNUSED_POSITIONS

    def make(name: EngineName) -> Any:
        if name == "torch-int8":
            return with_int8_products(network)
        return OpenVinoNetwork(network, output, int8=name == "openvino-int8", dtype=dtype)

    def agreeing(form: Any, name: EngineName) -> bool:
        return agrees(network, form, output, tolerance(name, MAX_UNNAMED_INT8))

    def stop_watch(read: Read) -> float:
        inputs = probe(network, PROBE_TEXTS, min(PROBE_TOKENS, positions))
        return processor_seconds(lambda: read(inputs))

    forms = Forms(
        make,
        agreeing,
        seconds=lambda form: stop_watch(lambda inputs: form(**inputs)),
        seconds_of_torch=lambda: time_torch(stop_watch),
    )
    return chosen_form(network, output, dtype, forms, model)


def chosen_form(network: Any, subject: str, dtype: DtypeName, forms: Forms[Form], model: str) -> Form | None:
    """The form to use, named by the user or found by a remembered trial; None for torch.

    `subject` identifies the computed output in the trial's key. Raises ConfigError if the named engine cannot compute
    the network.
    """
    name = engine()
    if name == "torch" or network.device.type != "cpu":
        return None
    if name != "auto":
        return _named_form(network, name, dtype, forms)
    is_large = sum(weight.numel() for weight in network.parameters()) >= MIN_PARAMETERS
    tried = [name for name in forms.tried if name == "torch-int8" or has_openvino(int8=name == "openvino-int8")]
    if dtype != "auto" or not is_large or not tried:
        return None
    return _tried(network, subject, forms, tried, model)


def _named_form(network: Any, name: EngineName, dtype: DtypeName, forms: Forms[Form]) -> Form:
    kind, library = type(network).__name__, "torch" if name == "torch-int8" else "OpenVINO"
    if not (dtype in ("auto", "float32") if name == "torch-int8" else computes_in(dtype)):
        raise ConfigError(
            f"--engine-backend {name}: {library} does not compute in {dtype} here; leave one of the two out"
        )
    try:
        form = forms.agreeing(name)
    except UNFIT as error:
        reason = trial.last_line(error)
        problem = f"--engine-backend {name}: {library} cannot compute a {kind} ({reason}); leave it out"
        raise ConfigError(problem) from error
    if form is None:
        raise ConfigError(f"--engine-backend {name}: it and torch disagree on this {kind}; leave it out")
    return form


def _tried(network: Any, subject: str, forms: Forms[Form], names: Sequence[EngineName], model: str) -> Form | None:
    loaded_forms: dict[str, Form | None] = {}

    def time_openvino(name: EngineName) -> float | None:
        if name not in loaded_forms:
            loaded_forms[name] = _form_if_any(forms, name)
        form = loaded_forms[name]
        return None if form is None else forms.seconds(form)

    trials: dict[str, trial.Trial] = {"torch": forms.seconds_of_torch}
    trials |= {name: partial(time_openvino, name) for name in names}
    best = trial.fastest(model, f"{subject}\0{weights_fingerprint(network)}\0{torch.get_num_threads()}", trials)
    if best == "torch":
        return None
    return loaded_forms[best] if best in loaded_forms else _form_if_any(forms, best)  # type: ignore[arg-type]


def _form_if_any(forms: Forms[Form], name: EngineName) -> Form | None:
    """The form; None if it cannot be made or its outputs differ."""
    try:
        return forms.agreeing(name)
    except UNFIT:
        return None


def processor_seconds(work: Callable[[], Any]) -> float:
    """CPU time of `work` after a warm-up."""
    with torch.inference_mode():
        work()
        start = time.process_time()
        work()
        return time.process_time() - start
