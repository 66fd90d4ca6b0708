"""An S3 server on this machine (moto's) that fails some of the requests, in the ways that real ones do."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Faults:
    """Every `every`-th request fails: by turns unheard, or done with the answer lost."""

    every: int = 0
    requests: int = 0
    failed: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def wrap(self, app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
        def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            with self.lock:
                self.requests += 1
                fails = bool(self.every) and self.requests % self.every == 0
                self.failed += fails
                unheard = self.failed % 2 == 1
            if not fails:
                return app(environ, start_response)
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            if not unheard:
                list(app({**environ, "wsgi.input": io.BytesIO(body)}, lambda *_: None))
            start_response("503 Slow Down", [("Content-Type", "text/plain"), ("Content-Length", "9")])
            return [b"Slow Down"]

        return answer


@contextmanager
def s3_server() -> Iterator[tuple[str, Faults]]:
    """Its address, and what fails."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Silent(WSGIRequestHandler):
        def log(self, *_: Any) -> None:
            pass

    faults = Faults()
    app = faults.wrap(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Silent)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", faults
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
