"""How a network is computed on this machine.

Everything here may be deleted: the results stay, to within a stated tolerance, and are only slower. `torch` is what the
rest of the package computes with; OpenVINO takes over on processors where a short trial says that it is faster and that
its results agree. The choice is remembered, see `trial.py`.
"""

from importlib.util import find_spec

MIN_PARAMETERS = 5_000_000  # of a network that engines are tried for; a smaller one is read sooner than converted


def has_openvino(*, decoders: bool = False, int8: bool = False) -> bool:
    """Whether OpenVINO is installed; with `decoders`, OpenVINO GenAI as well, with `int8` what makes 8-bit weights."""
    wanted = {"openvino": True, "openvino_genai": decoders, "nncf": int8}
    return all(find_spec(name) is not None for name, needed in wanted.items() if needed)
