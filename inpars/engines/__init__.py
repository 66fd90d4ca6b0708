"""Faster ways to run a network on this machine.

All are optional: results stay within a stated tolerance of torch's. On a CPU, OpenVINO replaces torch if a short trial,
remembered by `trial.py`, shows that it is faster and that its outputs agree.
"""

from importlib.util import find_spec

MIN_PARAMETERS = 5_000_000  # smaller networks are not worth converting


def has_openvino(*, decoders: bool = False, int8: bool = False) -> bool:
    """Whether OpenVINO is installed; with `decoders` also OpenVINO GenAI, with `int8` also NNCF."""
    needed = {"openvino": True, "openvino_genai": decoders, "nncf": int8}
    return all(find_spec(name) is not None for name, is_needed in needed.items() if is_needed)
