"""How bodies and addresses are read: strict JSON, whatever is sent, and no parameter that is passed over unsaid."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Coroutine
from typing import Any, Never

from fastapi import HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.responses import Response

from inpars.apps.serve.dialects import unknown_field
from inpars.io.json_text import json_error


class JsonRequest(Request):
    """A request whose body is refused in one sentence where it is no JSON, or JSON that cannot be held."""

    async def json(self) -> Any:  # noqa: ANN401  JSON values
        """The body's value."""
        try:
            text = (await self.body()).decode("utf-8-sig")
            value = json.loads(text, parse_constant=_refuse_constant)
            if "\\ud" in text.lower():  # what parse_json would replace is refused here: who sent it can still mend it
                json.dumps(value, ensure_ascii=False).encode()
            return value
        except UnicodeEncodeError:
            raise HTTPException(400, "body: half of a surrogate pair, which is no character") from None
        except (ValueError, RecursionError) as error:
            raise HTTPException(400, f"body: {json_error(error)}") from None


class JsonRoute(APIRoute):
    """A route that reads bodies so."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The framework's, over our kind of request."""
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            return await handle(JsonRequest(request.scope, request.receive))

        return handled


def check_parameters(request: Request, known: Collection[str]) -> None:
    """Raise RequestValidationError for a parameter of an address that is not known, or given twice."""
    for name in request.query_params:
        if name not in known:
            raise _invalid(name, unknown_field(name, known))
        if len(request.query_params.getlist(name)) > 1:
            raise _invalid(name, "given more than once; give it once")


def _invalid(name: str, message: str) -> RequestValidationError:
    return RequestValidationError([{"type": "value_error", "loc": ("query", name), "msg": message}])


def _refuse_constant(name: str) -> Never:
    raise ValueError(f"{name} is no number in JSON")
