"""An OpenAI-compatible server on loopback whose every reply is a file of the case, and the commands that ask it.

`reply.json` is the body, `head.json` status and headers; in answers of the Batch API the word CUSTOM_ID stands for the
id that was asked.
"""

from __future__ import annotations

import gzip
import json
import re
import socket
import threading
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

from fuzzing.checks import BrokenPromiseError, finite, run, same, strict_lines
from fuzzing.document_seeds import CSV, HTML
from fuzzing.seeds import BREAD, RISE, Seed, jsonl, pretty
from fuzzing.state_seeds import SITEMAP
from inpars.errors import InparsError
from inpars.io import formats

HEAD = {"status": 200, "headers": {"Content-Type": "application/json"}}
USAGE = {"prompt_tokens": 30, "completion_tokens": 4, "total_tokens": 34}
TOKENS, VALUES = [" why", " does", " bread", " rise", "\n"], [-0.5, -0.25, -0.125, -1.0, -0.1]
COMPLETION = {
    "id": "x",
    "object": "text_completion",
    "created": 1,
    "model": "m",
    "usage": USAGE,
    "choices": [
        {"index": 0, "finish_reason": "stop", "text": f" {RISE}"}
        | {
            "logprobs": {
                "tokens": TOKENS,
                "token_logprobs": VALUES,
                "text_offset": [0, 4, 9, 15, 20],
                "top_logprobs": None,
            }
        }
    ],
}
CHAT = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "usage": USAGE,
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": RISE, "refusal": None}}
        | {
            "logprobs": {
                "content": [
                    {"token": t.strip(), "bytes": list(t.encode()), "logprob": v, "top_logprobs": []}
                    for t, v in zip(["why", *TOKENS[1:4]], VALUES[:4], strict=True)
                ]
            }
        }
    ],
}
ERROR = {"error": {"message": "Rate limit reached", "type": "requests", "param": None, "code": "rate_limit_exceeded"}}
UPLOADED = {"id": "f", "object": "file", "bytes": 1, "created_at": 0, "filename": "x", "purpose": "batch"}
CHUNK = json.dumps(
    {"id": "x", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": RISE}}]}
)
SSE = f"data: {CHUNK}\n\ndata: [DONE]\n\n"


def _reply(body: bytes, **head: Any) -> Seed:  # noqa: ANN401
    return Seed("reply.json", lambda: {"reply.json": body, "head.json": pretty(HEAD | head)})


PAGES: dict[str, Seed] = {
    "html": _reply(HTML.encode(), headers={"Content-Type": "text/html; charset=utf-8", "ETag": '"a"'}),
    "sitemap": _reply(SITEMAP.encode(), headers={"Content-Type": "application/xml"}),
    "packed": _reply(
        gzip.compress(HTML.encode(), 1, mtime=0), headers={"Content-Type": "text/html", "Content-Encoding": "gzip"}
    ),
    "csv": _reply(CSV.encode(), headers={"Content-Type": "text/csv"}),
}
REPLIES: dict[str, Seed] = {
    "chat": _reply(pretty(CHAT)),
    "completions": _reply(pretty(COMPLETION)),
    "error": _reply(pretty(ERROR), status=429, headers={"Content-Type": "application/json", "Retry-After": "1"}),
    "sse": _reply(SSE.encode(), headers={"Content-Type": "text/event-stream"}),
    "html": _reply(b"<html><body>Sign in</body></html>", headers={"Content-Type": "text/html"}),
    "batch": _reply(jsonl({"custom_id": "CUSTOM_ID", "response": {"status_code": 200, "body": CHAT}, "error": None})),
}


class _Handler(BaseHTTPRequestHandler):
    """Answers with the files; a batch is done as soon as it is sent."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        """A completion, an upload, a batch."""
        asked = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.endswith("/files"):
            self.server.ids = re.findall(rb'"custom_id": "([^"]*)"', asked)
            self._json(UPLOADED)
        elif self.path.endswith("/batches"):
            self._json(self._batch())
        else:
            self._case()

    def do_GET(self) -> None:
        """A batch, the list of them, or what it came to."""
        if self.path.endswith("/content") or self.path.startswith("/page"):
            self._case()
        elif self.path == "/robots.txt":
            self._send(404, {}, b"")
        elif "/batches/" in self.path:
            self._json(self._batch())
        else:
            self._json({"object": "list", "data": [], "has_more": False})

    def _batch(self) -> dict[str, Any]:
        return {
            "id": "b",
            "object": "batch",
            "created_at": 0,
            "status": "completed",
            "completion_window": "24h",
            "endpoint": "/v1/chat/completions",
            "input_file_id": "f",
            "output_file_id": "out",
            "metadata": {},
        }

    def _json(self, value: dict[str, Any]) -> None:
        self._send(200, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def _case(self) -> None:
        body = self.server.body.replace(b"CUSTOM_ID", self.server.ids[0] if self.server.ids else b"")
        self._send(self.server.status, self.server.head, body)

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        length = "" if "content-length" in lines.lower() else f"Content-Length: {len(body)}\r\n"
        head = f"HTTP/1.1 {status} X\r\n{lines}{length}Connection: close\r\n\r\n".encode("latin-1", "replace")
        self.close_connection = True
        self.wfile.write(head + body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    status, head, body, ids = 200, {"Content-Type": "application/json"}, b"", list[bytes]()

    def handle_error(self, *_: object) -> None:
        """Clients hang up when they have read enough."""


@cache
def _server() -> _Server:
    server = _Server(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


def _serve(main: Path) -> str:
    """Let the server give the case's reply; its address."""
    server = _server()
    server.body, server.ids = main.read_bytes(), []
    try:
        head = json.loads(main.with_name("head.json").read_bytes())
        status = int(head["status"])
        server.status = status if 200 <= status <= 599 and status not in (204, 304) else 200
        server.head = {_plain(name): _plain(value) for name, value in head["headers"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        server.status, server.head = 200, HEAD["headers"]  # type: ignore[assignment]
    return f"http://127.0.0.1:{server.server_port}/v1"


def _plain(value: object) -> str:
    return re.sub(r"[\r\n]", " ", str(value))[:200]


def generating(backend: str, *flags: str) -> Any:  # noqa: ANN401
    """`generate` for one document; what is written is read again."""

    def read(folder: Path, main: Path) -> None:
        url = _serve(main)
        (folder / "own.jsonl").write_bytes(jsonl({"_id": "d1", "text": BREAD}))
        output = folder / "out.jsonl"
        asked = ("--backend", backend, "--model", "m", "--base-url", url, "--retries", 0, "--timeout-seconds", 5)
        made = run(
            "generate",
            "--corpus",
            folder / "own.jsonl",
            "--output",
            output,
            "--json",
            "--concurrency",
            1,
            *asked,
            *flags,
        )
        same("queries", made.values["queries"], len(strict_lines(output)))
        try:
            for query in formats.read_synthetic_queries(output):
                finite(query.token_log_probs, "log-probability")
        except InparsError as error:
            raise BrokenPromiseError(f"generate wrote what is refused: {error}") from error

    return read


def chat(folder: Path, main: Path) -> None:
    """A written answer."""
    from inpars.apps.qa.remote_chat import RemoteChat

    chat = RemoteChat("m", _serve(main), timeout_seconds=5, retries=0)
    try:
        chat.reply([{"role": "user", "content": "x"}], 16).encode()
    finally:
        chat.close()


def page(folder: Path, main: Path) -> None:
    """`ingest --urls` of one page or sitemap; no other server is asked."""
    url = _serve(main).removesuffix("/v1") + "/page/a"
    output = folder / "out.jsonl"
    flags = ("--url-delay", "0", "--url-timeout", "5", "--max-urls", "2", "--tokenizer", "words", "--json")
    with mock.patch.object(socket, "getaddrinfo", _loopback_alone):
        made = run("ingest", "--urls", url, "--output", output, *flags)
    same("documents ingested", made.values["documents"], len(strict_lines(output)))


_looked_up = socket.getaddrinfo


def _loopback_alone(host: Any, *others: Any, **named: Any) -> Any:  # noqa: ANN401
    """Addresses of this machine; a fuzzer asks no other one."""
    if host != "127.0.0.1":
        raise socket.gaierror(socket.EAI_NONAME, "no network here")
    return _looked_up(host, *others, **named)
