"""How a network is computed on this machine.

Everything here may be deleted: the results stay, to within a stated tolerance, and are only slower. `torch` is what the
rest of the package computes with; OpenVINO takes over on processors where a short trial says that it is faster and that
its results agree. The choice is remembered, see `trial.py`.
"""

from importlib.util import find_spec

MIN_PARAMETERS = 5_000_000  # of a network that engines are tried for; a smaller one is read sooner than converted


def has_openvino(*, decoders: bool = False) -> bool:
    """Whether OpenVINO is installed; with `decoders`, OpenVINO GenAI as well."""
    return find_spec("openvino") is not None and (not decoders or find_spec("openvino_genai") is not None)
