"""Makes this folder's helpers importable, and skips its tests without the serve extra."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest.importorskip("fastapi", reason="the serve extra is not installed")
pytest.importorskip("uvicorn", reason="the serve extra is not installed")


@pytest.fixture(scope="module")
def server():
    from processes import small_server

    with small_server() as running:
        yield running
