"""ASGI middleware that checks every request first: host, API key, concurrency, body size, time.

Refusals are counted and cost no model time. The whole body is read here, within the limit, so that one timeout covers
slow senders and slow work.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import sys
import time
import traceback
from collections.abc import Callable, Collection
from typing import TypeAlias

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inpars.apps.serve.error_responses import fault
from inpars.apps.serve.metrics import Metrics
from inpars.apps.serve.options import ServeOptions

DRAINED_BYTES = 64 * 1024 * 1024  # read of a body that is too large, so that its sender gets to read the refusal
LENGTH_DIGITS = 18  # longer content lengths are not parsed
RETRY_SECONDS = 1
UNLIMITED = ("/healthz", "/metrics")  # must answer under load
KEYLESS = ("/healthz", "/", "/docs", "/openapi.json")  # expose nothing of the documents
KEYLESS_FOLDER = "/page/"
BODY_METHODS = ("POST", "PUT", "PATCH")
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

Log: TypeAlias = Callable[[str], None]


class Gate:
    """Passes a request on to the application, or refuses it."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        options: ServeOptions,
        metrics: Metrics,
        path_label: Callable[[str], str],
        api_key: str | None = None,
        hosts: Collection[str] = (),
        log: Log = lambda line: print(line, file=sys.stderr, flush=True),  # noqa: T201
    ) -> None:
        """`hosts` are the accepted host names, any if empty; they protect a local server from DNS rebinding."""
        self._app, self._options, self._metrics, self._path_label, self._log = app, options, metrics, path_label, log
        self._key = _digest(api_key.encode()) if api_key else None
        self._hosts = frozenset(map(_host_name, hosts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        answer = _Answer(send)
        self._metrics.in_flight += 1
        try:
            await self._admit(scope, receive, answer)
        finally:
            self._metrics.in_flight -= 1
            path = self._path_label(scope["path"])
            self._metrics.requests.labels(path, str(answer.status or 499)).inc()
            self._metrics.seconds.labels(path).observe(time.perf_counter() - started)

    async def _admit(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        refusal = self._refusal(scope)
        if refusal is not None:
            reason, response = refusal
            self._metrics.refused.labels(reason).inc()
            await response(scope, receive, answer)
            return
        try:
            async with asyncio.timeout(self._options.request_timeout_seconds):
                await self._answered(scope, receive, answer)
        except TimeoutError:
            self._metrics.refused.labels("timeout").inc()
            message = "the request timed out; try again, or ask for less"
            await answer.instead(fault(503, message, "timeout", retry_after=RETRY_SECONDS), scope, receive)
        except Exception as error:  # noqa: BLE001, RUF100 - the outermost handler
            frame = traceback.extract_tb(error.__traceback__)[-1]
            self._log(f"inpars: {scope['path']}: {type(error).__name__} in {frame.filename}:{frame.lineno}")
            await answer.instead(fault(500, "the server failed; its log says where", "server_error"), scope, receive)

    def _refusal(self, scope: Scope) -> tuple[str, Response] | None:
        headers, path = Headers(scope=scope), scope["path"]
        if self._hosts and _host_name(headers.get("host", "")) not in self._hosts:
            return "host", fault(421, "this server does not answer to that host name; see --allow-host", "unknown_host")
        if self._key is not None and not (path in KEYLESS or path.startswith(KEYLESS_FOLDER)):
            scheme, _, token = headers.get("authorization", "").partition(" ")
            key = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
            if not hmac.compare_digest(_digest(key.encode("utf-8", "replace")), self._key):
                message = "a key is needed: Authorization: Bearer KEY"
                return "key", fault(401, message, "invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
        if path not in UNLIMITED and self._metrics.in_flight > self._options.max_concurrent:
            message = f"{self._options.max_concurrent} requests are being answered; try again in a moment"
            return "concurrency", fault(429, message, "too_many_requests", retry_after=RETRY_SECONDS)
        return None

    async def _answered(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        if scope["method"] not in BODY_METHODS:
            await self._app(scope, receive, answer)
            return
        body = await self._body(scope, receive)
        if body is None:
            self._metrics.refused.labels("size").inc()
            message = f"the body is larger than {self._options.max_body_bytes} bytes; send less at a time"
            await fault(413, message, "body_too_large")(scope, receive, answer)
        elif body and not _is_json(Headers(scope=scope).get("content-type", "")):
            self._metrics.refused.labels("type").inc()
            await fault(415, "send JSON, with Content-Type: application/json", "not_json")(scope, receive, answer)
        else:
            await self._app(scope, _replay(body, receive), answer)

    async def _body(self, scope: Scope, receive: Receive) -> bytes | None:
        """The whole body; None if it is too large, after up to `DRAINED_BYTES` have been read and discarded."""
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and (len(declared) > LENGTH_DIGITS or int(declared) > DRAINED_BYTES):
            return None
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return b"".join(parts)
            chunk = message.get("body", b"")
            size += len(chunk)
            if size <= self._options.max_body_bytes:
                parts.append(chunk)
            elif parts:
                parts.clear()
            if not message.get("more_body", False) or size > DRAINED_BYTES:
                return b"".join(parts) if size <= self._options.max_body_bytes else None


class _Answer:
    """Sends the response: adds the security headers and remembers the status."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "no-store")
        await self._send(message)

    async def instead(self, response: Response, scope: Scope, receive: Receive) -> None:
        """Send this response unless another has started."""
        if self.status is None:
            await response(scope, receive, self)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body again, then continues with the original."""
    replayed = False

    async def replaying() -> Message:
        nonlocal replayed
        if replayed:
            return await receive()
        replayed = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replaying


def _digest(key: bytes) -> bytes:
    """Digests have one length, so that comparing them does not leak the key's."""
    return hashlib.sha256(key).digest()


def _host_name(host: str) -> str:
    """A Host header or an accepted name in lower case, without port and brackets: `[::1]:8000` is `::1`."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.lower() if host.count(":") > 1 else host.partition(":")[0].lower()


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
