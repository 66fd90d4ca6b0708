"""One small Ray cluster on this machine for the tests of this folder; they are skipped where Ray is absent."""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items):
    if find_spec("ray") is None:
        absent = pytest.mark.skip(reason="ray is not installed (the cluster extra)")
        for item in items:
            if "ray_here" in item.fixturenames:
                item.add_marker(absent)


@pytest.fixture(scope="session")
def ray_here():
    """Ray with room for several workers on however few cores, listening on 127.0.0.1 alone."""
    from inpars.cluster.session import ALONE, OBJECT_STORE_BYTES, QUIET

    here = [str(Path(__file__).parents[2]), str(Path(__file__).parent), str(Path(__file__).parents[1])]
    os.environ.update(QUIET | ALONE, PYTHONPATH=os.pathsep.join(here))  # where workers find the package and the fakes
    import ray

    ray.init(
        "local",
        num_cpus=8,
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield ray
    ray.shutdown()
