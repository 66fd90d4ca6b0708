"""Errors in OpenAI's shape: one sentence, which never repeats the client's text.

{"error": {"message": ..., "type": "invalid_request_error", "code": ..., "param": ...}}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from inpars.errors import BackendError, ConfigError, InparsError, UnknownNameError
from inpars.io.json_text import to_json

STATUS: Mapping[type[InparsError], int] = {ConfigError: 400, UnknownNameError: 404, BackendError: 502}
JSON = "application/json"
SHOWN_PROBLEMS = 3


class Json(Response):
    """Valid JSON for any document: unpaired surrogates are replaced, NaN and infinities are null."""

    media_type = JSON

    def render(self, content: Any) -> bytes:  # noqa: ANN401
        return to_json(content).encode()


def fault(
    status: int,
    message: str,
    code: str,
    *,
    param: str | None = None,
    retry_after: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> Json:
    """An error response; `retry_after` in seconds."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    retry = {} if retry_after is None else {"Retry-After": str(retry_after)}
    body = {"error": {"message": message, "type": kind, "code": code, "param": param}}
    return Json(body, status_code=status, headers={**(headers or {}), **retry})


def add_handlers(app: FastAPI) -> None:
    """Answer every error of this package and of FastAPI in this shape."""

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        problems = error.errors()
        message = "; ".join(f"{_location(problem)}: {problem['msg']}" for problem in problems[:SHOWN_PROBLEMS])
        more = f"; and {len(problems) - SHOWN_PROBLEMS} more" if len(problems) > SHOWN_PROBLEMS else ""
        return fault(422, message + more, "invalid_value", param=_location(problems[0]) if problems else None)

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> Response:
        return fault(error.status_code, str(error.detail), "http_error", headers=error.headers)

    @app.exception_handler(Exception)
    async def broken(_: Request, __: Exception) -> Response:  # Starlette re-raises the error, and the gate logs it
        return fault(500, "the server failed; its log says where", "server_error")

    @app.exception_handler(InparsError)
    async def failed(_: Request, error: InparsError) -> Response:
        status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
        message = str(error) if status < 500 or isinstance(error, BackendError) else "the server failed"
        return fault(status, message, type(error).__name__)


def _location(problem: Mapping[str, Any]) -> str:
    """`body.documents.3`; long names, which the client chose, are cut."""
    return ".".join(str(part)[:40] for part in problem["loc"][:6]) or "request"
