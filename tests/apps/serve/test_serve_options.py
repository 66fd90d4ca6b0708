"""Invalid addresses are refused in one line."""

import pytest

pytest.importorskip("uvicorn")

from inpars.apps.serve.server import listen
from inpars.errors import ConfigError


@pytest.mark.parametrize("port", [80_000, 65_536, -1, 10**30])
def test_a_port_that_there_is_not(port):
    """80000 is 14464 in sixteen bits."""
    with pytest.raises(ConfigError, match=rf"--port is {port}"):
        listen("127.0.0.1", port)


@pytest.mark.parametrize("host", ["a" * 70 + ".example", "\ud800"])
def test_a_host_that_there_is_not(host):
    with pytest.raises(ConfigError, match="cannot listen on"):
        listen(host, 0)
