"""From an application to a listening socket, until SIGTERM or Ctrl-C: then it finishes what it was asked and goes.

A second signal does not wait. The address is bound before the server starts, so that port 0 can be told.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Sequence
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from inpars.apps.qa.engine import Engine
from inpars.apps.serve.app import create_app
from inpars.apps.serve.feedback import Feedback
from inpars.apps.serve.options import ServeOptions
from inpars.apps.serve.service import Service, metadata_fields
from inpars.apps.serve.source_files import SourceFiles
from inpars.errors import ConfigError
from inpars.models.loading import load_tokenizer

LOOPBACK = ("localhost", "127.0.0.1", "::1")
BACKLOG = 2048
HIGHEST_PORT = 65535
STOPPING = (signal.SIGTERM, signal.SIGINT)


def application(engine: Engine, options: ServeOptions, api_key: str, examples: Sequence[str] = ()) -> ASGIApp:
    """The application with all that the options say; its models have computed once. `examples` are queries to try."""
    service = Service(
        engine,
        options=options,
        feedback=Feedback(options.feedback) if options.feedback else None,
        fields=metadata_fields(engine.documents),
        examples=examples,
        files=SourceFiles(options.files) if options.files else None,
        count_tokens=TokenCounter(),
    )
    service.warm()
    hosts = options.allow_host or ((*LOOPBACK, options.host) if is_local(options.host) else ())
    return create_app(service, api_key=api_key or None, hosts=hosts)


class TokenCounter:
    """Counts with each model's own tokenizer, loaded when it is first asked for. One thread at a time."""

    def __init__(self) -> None:
        self._tokenizers: dict[str, Any] = {}

    def __call__(self, model: str, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, special ones too, up to the tokenizer's limit."""
        if model not in self._tokenizers:
            self._tokenizers[model] = load_tokenizer(model)
        ids = self._tokenizers[model](list(texts), truncation=True)["input_ids"]
        return [len(row) for row in ids]


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; raises ConfigError where the address cannot be had."""
    if not 0 <= port <= HIGHEST_PORT:
        raise ConfigError(f"--port is {port}; it must be from 0 to {HIGHEST_PORT}")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:  # the latter for what can be no host's name
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot listen on {host} port {port}: {reason}; choose with --host and --port") from None


def url_of(bound: socket.socket, host: str) -> str:
    """What to type into a browser."""
    host_text = f"[{host}]" if ":" in host else host
    return f"http://{host_text}:{bound.getsockname()[1]}"


def is_local(host: str) -> bool:
    """Whether only this machine can reach it."""
    return host in LOOPBACK or host.startswith("127.")


def run(app: ASGIApp, bound: socket.socket, *, grace_seconds: int, started: Callable[[], None] = lambda: None) -> None:
    """Serve until a signal says stop, then wait at most `grace_seconds` for requests in flight."""
    config = uvicorn.Config(
        app,
        log_level="error",  # the gate says in one line what failed; addresses with queries are in no log
        access_log=False,
        server_header=False,
        lifespan="on",
        backlog=BACKLOG,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=grace_seconds,
        ws="none",
    )
    server = _Announcing(config, started)
    before = {number: signal.signal(number, lambda *_: None) for number in STOPPING}  # uvicorn raises them again
    try:
        server.run(sockets=[bound])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        bound.close()


class _Announcing(uvicorn.Server):
    """Says when it takes connections."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._announce()
