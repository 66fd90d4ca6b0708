"""Run the application on a socket until SIGTERM or Ctrl-C, then finish open requests; a second signal does not wait.

The socket is bound before the server starts, so that the port chosen for port 0 is known.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from inpars.apps.qa.engine import Engine
from inpars.apps.serve.app import create_app
from inpars.apps.serve.feedback import Feedback
from inpars.apps.serve.options import ServeOptions
from inpars.apps.serve.service import CountTokens, Service, metadata_fields
from inpars.apps.serve.source_files import SourceFiles
from inpars.errors import ConfigError
from inpars.models.loading import load_tokenizer

LOOPBACK = ("localhost", "127.0.0.1", "::1")
BACKLOG = 2048
HIGHEST_PORT = 65535
STOPPING = (signal.SIGTERM, signal.SIGINT)


def application(engine: Engine, options: ServeOptions, api_key: str, examples: Sequence[str] = ()) -> ASGIApp:
    """The application with its models warmed up; `examples` are queries to try."""
    service = Service(
        engine,
        options=options,
        feedback=Feedback(options.feedback) if options.feedback else None,
        fields=metadata_fields(engine.documents),
        examples=examples,
        files=SourceFiles(options.files) if options.files else None,
        count_tokens=_token_counter(),
    )
    service.warm()
    hosts = options.allow_host or ((*LOOPBACK, options.host) if is_local(options.host) else ())
    return create_app(service, api_key=api_key or None, hosts=hosts)


def _token_counter() -> CountTokens:
    """Counts tokens with each model's tokenizer: special tokens included, truncated to the model's limit."""
    tokenizer_of: Any = cache(load_tokenizer)

    def count(model: str, texts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in tokenizer_of(model)(list(texts), truncation=True)["input_ids"]]

    return count


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises ConfigError if the address is not available."""
    if not 0 <= port <= HIGHEST_PORT:
        raise ConfigError(f"--port is {port}; it must be from 0 to {HIGHEST_PORT}")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:  # UnicodeError for an invalid host name
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot listen on {host} port {port}: {reason}; choose with --host and --port") from None


def url_of(bound: socket.socket, host: str) -> str:
    """The server's address for a browser."""
    host_text = f"[{host}]" if ":" in host else host
    return f"http://{host_text}:{bound.getsockname()[1]}"


def is_local(host: str) -> bool:
    """Whether only this machine can reach the address."""
    return host in LOOPBACK or host.startswith("127.")


def run(app: ASGIApp, bound: socket.socket, *, grace_seconds: int, started: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGTERM or SIGINT, then wait at most `grace_seconds` for open requests."""
    config = uvicorn.Config(
        app,
        log_level="error",  # the gate logs failures in one line, without the query
        access_log=False,
        server_header=False,
        lifespan="on",
        backlog=BACKLOG,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=grace_seconds,
        ws="none",
    )
    server = _Announcing(config, started)
    before = {number: signal.signal(number, lambda *_: None) for number in STOPPING}  # uvicorn re-raises signals
    try:
        server.run(sockets=[bound])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        bound.close()


class _Announcing(uvicorn.Server):
    """Calls `started` once it accepts connections."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._announce()
