"""One small Ray cluster on this machine for the tests of this folder; they are skipped where Ray is absent."""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items):
    if find_spec("ray") is None:
        absent = pytest.mark.skip(reason="ray is not installed (the cluster extra)")
        for item in items:
            if {"ray_here", "ray_set"} & set(item.fixturenames):
                item.add_marker(absent)


@pytest.fixture(scope="session")
def ray_set():
    """The environment that Ray reads: quiet, on 127.0.0.1 alone, and where workers find the package and the fakes."""
    from inpars.distributed import ALONE, QUIET

    here = [str(Path(__file__).parents[2]), str(Path(__file__).parent), str(Path(__file__).parents[1])]
    os.environ.update(QUIET | ALONE, PYTHONPATH=os.pathsep.join(here))
    os.environ.pop("RAY_ADDRESS", None)


@pytest.fixture(scope="session")
def ray_here(ray_set):
    """Ray with room for several workers on however few cores."""
    from inpars.distributed import connected
    from inpars.stages.workers import ClusterOptions

    with connected(ClusterOptions(engine="ray", workers=8)):
        yield
