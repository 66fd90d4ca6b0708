"""`inpars serve` in this process: its application over a few documents and models whose answers take no time.

Every endpoint is asked by ASGI, without a socket. A status of 5xx is a fault, and so is a body that is no strict JSON.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fuzzing.checks import BrokenPromiseError, RefusedError, strict
from fuzzing.seeds import Seed, one
from inpars.apps.qa.engine import Engine, System
from inpars.apps.qa.records import Answer, Span
from inpars.records import Document

READS = Callable[[Path, Path], None]
TEXTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "a": ("Amber", "Amber is fossil resin.", {"source": "stones.pdf", "headings": ["Resins"]}),
    "b": ("", "Basalt \U0001f30b naïve \ufffd 火山 covers the <script> floor.", {"source": "x.html", "page": 3}),
}


class Collection(dict[str, Document]):
    """Documents by id, as an engine reads them."""

    sha256 = "of the fuzzer"

    def __iter__(self) -> Iterator[Document]:  # type: ignore[override]
        return iter(self.values())


DOCUMENTS = Collection({name: Document(name, text, title, metadata) for name, (title, text, metadata) in TEXTS.items()})
JSON_HEADERS = [(b"host", b"localhost"), (b"content-type", b"application/json")]
BODIES: dict[str, bytes] = {
    "POST /v1/embeddings": b'{"input": ["abc", "b"], "model": "words", "encoding_format": "base64", "dimensions": 3}',
    "POST /v1/rerank": b'{"query": "a b", "documents": ["a", {"text": "b"}], "top_n": 1, "return_documents": true}',
    "POST /v2/rerank": b'{"query": "a b", "documents": ["a", {"text": "b", "title": "c"}], "model": "words"}',
    "POST /rerank": b'{"query": "a b", "documents": ["a", "b"], "model": "words"}',
    "POST /search": b'{"query": "fossil resin", "k": 2, "system": "words", "filters": {"source": "*.pdf"}}',
    "POST /ask": b'{"question": "what is amber", "kind": "extractive", "k": 2, "filters": {"headings": "Resins"}}',
    "POST /feedback": b'{"query": "amber", "doc_id": "a", "relevance": 1, "system": "words", "rank": 1}',
}
CONTAINER = {
    "container embeds": one(
        "body", b'{"inputs": ["abc", "b"], "model": "words", "encoding_format": "float", "input_type": "query"}'
    ),
    "container reranks": one("body", b'{"query": "a b", "documents": ["a", {"text": "b", "title": "c"}], "top_n": 1}'),
}
QUERIES: dict[str, bytes] = {
    "GET /search": b"q=fossil+resin&k=2&system=words&source=*.pdf&heading=Resins",
    "GET /v1/models": b"a=b",
    "GET /v1/collection": b"",
    "GET /file": b"doc_id=a",
    "GET /healthz": b"",
    "GET /metrics": b"",
    "GET /openapi.json": b"",
    "GET /": b"",
    "GET /docs": b"",
    "GET /page/{name}": b"page.js",
}
HEAD = """POST
/search?q=a
host: localhost
content-type: application/json; charset=utf-8
content-length: 14
authorization: Bearer x
"""
HEADS = {"gate": one("head.txt", HEAD.encode())}
ENDPOINTS: dict[str, Seed] = {name: one("body.json", body) for name, body in BODIES.items()} | {
    name: one("query.txt", query) for name, query in QUERIES.items()
}


class _Words:
    """A first stage, an encoder, a reranker, a reader and a writer in one."""

    name, closest = "words", False

    def search(self, queries: Sequence[Any], k: int, filters: Any) -> Any:  # noqa: ANN401
        return {query.query_id: {name: float(len(name) + n) for n, name in enumerate(TEXTS)} for query in queries}

    def encode_queries(self, texts: Sequence[str]) -> Any:  # noqa: ANN401
        return np.stack([np.array([len(text), text.count("a"), 1, 0], dtype=np.float32) for text in texts])

    encode_documents = encode_queries

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        return [float(len(query.encode()) - len(text.encode())) for query, text in pairs]

    def read(self, question: str, hits: Sequence[Any]) -> Answer:
        if not hits:
            return Answer(question, "extractive", False, "", self.name, 0.1, reason="no source says")
        span = Span(0, min(5, len(hits[0].document.text)))
        text = span.of(hits[0].document.text)
        return Answer(question, "extractive", True, text, self.name, 0.5, span, (1,), tuple(hits))

    def write(self, question: str, hits: Sequence[Any]) -> Answer:
        return Answer(
            question, "generated", bool(hits), question, self.name, cited=(1,) if hits else (), sources=tuple(hits)
        )


class _Encoder:
    """A bi-encoder alone."""

    encode_queries = encode_documents = _Words.encode_queries


class _Pairs:
    """A reranker alone."""

    score = _Words.score


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


LOGGED: list[str] = []


@cache
def _app(folder: Path) -> Any:  # noqa: ANN401 - an ASGI application
    from inpars.apps.serve.app import create_app
    from inpars.apps.serve.feedback import Feedback
    from inpars.apps.serve.options import ServeOptions
    from inpars.apps.serve.server import metadata_fields
    from inpars.apps.serve.service import Service
    from inpars.apps.serve.source_files import SourceFiles

    (folder / "stones.pdf").write_bytes(b"%PDF-1.4")
    words = _Words()
    systems = {"words": System((words,), "words"), "both": System((words,), "reranked", words)}
    engine = Engine(DOCUMENTS, systems, encoders={"words": words}, reranker=words, reader=words, writer=words)
    service = Service(
        engine,
        options=ServeOptions(batch_wait_ms=0.0),
        feedback=Feedback(folder / "feedback.jsonl"),
        fields=metadata_fields(DOCUMENTS),
        files=SourceFiles(folder),
    )
    app = create_app(service, hosts=("localhost",))
    app._log = LOGGED.append  # type: ignore[attr-defined]
    return app


def routes(folder: Path) -> set[str]:
    """All there are, as `POST /search`."""
    inner = _app(folder)._app
    return {f"{method} {route.path}" for route in inner.routes for method in route.methods - {"HEAD"}}


def endpoint(name: str) -> READS:
    """Ask one endpoint with the file's content as body, as query, or as the part of the path that varies."""
    method, path = name.split(" ")

    def read(folder: Path, main: Path) -> None:
        content = main.read_bytes()
        if method == "POST":
            ask(folder, method, path, b"", JSON_HEADERS, content)
        elif "{" in path:
            ask(folder, method, path.partition("{")[0] + content.decode("latin-1"), b"", JSON_HEADERS, b"")
        else:
            ask(folder, method, path, content.replace(b"\n", b""), JSON_HEADERS, b"")

    return read


def gate(folder: Path, main: Path) -> None:
    """A whole head: method, path with query, headers."""
    method, _, rest = main.read_bytes().partition(b"\n")
    target, _, lines = rest.partition(b"\n")
    path, _, query = target.partition(b"?")
    headers = [line.partition(b":") for line in lines.split(b"\n") if b":" in line]
    shown = [(name.strip().lower(), value.strip()) for name, _, value in headers]
    ask(
        folder,
        method.decode("latin-1").strip().upper(),
        path.decode("utf-8", "replace"),
        query,
        shown,
        b'{"query": "a"}',
    )


def ask(folder: Path, method: str, path: str, query: bytes, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    """One request. Raises RefusedError for 4xx, BrokenPromiseError for 5xx."""
    sent: list[dict[str, Any]] = []
    received = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        return received.pop() if received else {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("utf-8", "replace"),
        "query_string": query,
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
    }
    LOGGED.clear()
    _loop().run_until_complete(_app(folder.parents[1])(scope, receive, send))
    status = next((message["status"] for message in sent if message["type"] == "http.response.start"), None)
    if status is None or status >= 500:
        raise BrokenPromiseError(f"status {status}: {' '.join(LOGGED)[:300]}")
    kind = dict(sent[0]["headers"]).get(b"content-type", b"")
    content = b"".join(message.get("body", b"") for message in sent[1:])
    if kind.startswith(b"application/json") and method != "HEAD":
        strict(content, f"the answer with status {status}")
    if status >= 400:
        raise RefusedError(f"status {status}: {content[:200]!r}")


def container(folder: Path, main: Path) -> None:
    """A request to a deployed model; ValueError is how that says no."""
    from inpars.contrib.deploy.handler import input_fn, output_fn, predict_fn

    model = _Encoder() if (content := main.read_bytes()).startswith(b'{"in') else _Pairs()
    try:
        found = output_fn(predict_fn(input_fn(content), model))[0]
    except ValueError as error:
        raise RefusedError(" ".join(str(error).split())) from None
    strict(found, "the answer")
