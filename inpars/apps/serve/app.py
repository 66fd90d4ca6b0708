"""The endpoints: each takes a request of wire.py and calls the service. The gate does everything else.

Bodies are strict JSON; unknown query parameters are refused.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import asynccontextmanager
from importlib import resources
from typing import Annotated, Any, Never

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.responses import Response
from starlette.types import ASGIApp

from inpars import __version__
from inpars.apps.serve import wire
from inpars.apps.serve.admission import Gate
from inpars.apps.serve.dialects import unknown_field
from inpars.apps.serve.error_responses import Json, add_handlers, fault
from inpars.apps.serve.metrics import CONTENT_TYPE
from inpars.apps.serve.service import Service
from inpars.apps.serve.source_files import file_response
from inpars.errors import ConfigError
from inpars.io.json_text import json_error

MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
PAGE_FOLDER = "page"
OTHER = "other"
DESCRIPTION = "Search, answers, embeddings and reranking over one collection of documents."


def create_app(service: Service, *, api_key: str | None = None, hosts: tuple[str, ...] = ()) -> ASGIApp:
    """The whole application behind its gate; its shutdown closes the service."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await service.close()

    app = FastAPI(
        title="inpars", description=DESCRIPTION, version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan
    )
    app.router.route_class = JsonRoute
    add_handlers(app)
    _add_models(app, service)
    _add_search(app, service)
    _add_operations(app, service)
    label = _add_pages(app)
    shared: dict[str, Any] = {"options": service.options, "metrics": service.metrics}
    return Gate(app, **shared, path_label=label, api_key=api_key, hosts=hosts)


_FAULTS: dict[int | str, dict[str, Any]] = {
    code: {"model": wire.Fault, "description": text}
    for code, text in (
        (400, "The request cannot be fulfilled"),
        (401, "The API key is missing or wrong"),
        (404, "No such model, system or document"),
        (413, "The body is too large"),
        (422, "A field is missing or invalid"),
        (429, "Too many concurrent requests; see Retry-After"),
        (503, "The request timed out"),
    )
}


def _add_models(app: FastAPI, service: Service) -> None:
    shared: dict[str, Any] = {"responses": _FAULTS, "tags": ["models"]}

    @app.post("/v1/embeddings", response_model=wire.EmbeddingsResponse, **shared)
    async def embeddings(body: wire.EmbeddingsRequest) -> Response:
        """Embed texts, in OpenAI's shape."""
        return Json(await service.embeddings(body))

    @app.post("/v1/rerank", response_model=wire.RerankResponse, **shared)
    @app.post("/v2/rerank", include_in_schema=False)
    @app.post("/rerank", include_in_schema=False)
    async def rerank(body: wire.RerankRequest) -> Response:
        """Order documents by their relevance to a query, in Jina's and Cohere's shape."""
        return Json(await service.rerank(body))

    @app.get("/v1/models", tags=["models"])
    async def models() -> Response:
        """The loaded models, in OpenAI's shape."""
        rows = [{"id": name, "object": "model", "created": 0, "owned_by": "inpars"} for name in service.models()]
        return Json({"object": "list", "data": rows})


def _add_search(app: FastAPI, service: Service) -> None:
    shared: dict[str, Any] = {"responses": _FAULTS, "tags": ["search"]}

    @app.post("/search", response_model=wire.SearchResponse, **shared)
    async def search(body: wire.SearchRequest) -> Response:
        """Search the documents."""
        return Json(await service.search(body))

    @app.get("/search", response_model=wire.SearchResponse, **shared)
    async def search_by_address(
        request: Request,
        q: Annotated[str, Query(description="The query.")],
        k: int = 10,
        system: str | None = None,
        source: str | None = None,
        heading: str | None = None,
    ) -> Response:
        """Search the documents, by query parameters."""
        check_parameters(request, ("q", "k", "system", "source", "heading"))
        filters = {name: value for name, value in (("source", source), ("headings", heading)) if value}
        try:
            body = wire.SearchRequest(query=q, k=k, system=system, filters=filters)
        except ValidationError as error:
            raise RequestValidationError(error.errors()) from None
        return Json(await service.search(body))

    @app.post("/ask", response_model=wire.AnswerOut, **shared)
    async def ask(body: wire.AskRequest) -> Response:
        """Answer a question from the documents alone, with sources, or say that there is no answer."""
        return Json(await service.ask(body))

    @app.get("/v1/collection", response_model=wire.Collection, tags=["search"])
    async def collection() -> Response:
        """Describe the collection: systems, kinds of answers, fields to filter by."""
        return Json(service.collection())

    @app.get("/file", response_class=Response, **shared)
    async def file(request: Request, doc_id: Annotated[str, Query(max_length=1000)]) -> Response:
        """The source file of a document, if the server has its folder."""
        check_parameters(request, ("doc_id",))
        return file_response(await run_in_threadpool(service.source_file, doc_id))

    @app.post("/feedback", status_code=201, **shared)
    async def feedback(vote: wire.Vote) -> Response:
        """Store a judgement of one hit."""
        if service.feedback is None:
            raise ConfigError("this server keeps no judgements; see --feedback")
        service.document(vote.doc_id)
        add = service.feedback.add
        query_id = await run_in_threadpool(
            add, vote.query, vote.doc_id, vote.relevance, system=vote.system, rank=vote.rank
        )
        service.metrics.votes.labels("none" if vote.relevance is None else str(vote.relevance)).inc()
        return Json({"query_id": query_id, "doc_id": vote.doc_id, "relevance": vote.relevance}, status_code=201)


def _add_operations(app: FastAPI, service: Service) -> None:
    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz", tags=["operations"])
    async def healthz() -> Response:
        """Health check."""
        return Json({"status": "ok", "version": __version__, "documents": len(service.engine.documents)})

    @app.get("/metrics", tags=["operations"])
    async def metrics() -> Response:
        """Metrics in Prometheus' text format."""
        return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})


def _add_pages(app: FastAPI) -> Callable[[str], str]:
    """Add the search page, the documentation and their assets; return the label of a path in the metrics."""
    files = {
        file.name: (file.read_bytes(), MEDIA_TYPES[file.name.rpartition(".")[2]])
        for file in resources.files("inpars.apps.serve").joinpath(PAGE_FOLDER).iterdir()
        if file.name.rpartition(".")[2] in MEDIA_TYPES
    }

    def page_file(name: str) -> Response:
        if name not in files:
            return fault(404, "no such file", "not_found")
        content, media_type = files[name]
        return Response(content, headers={"Content-Type": media_type, "Cache-Control": "no-cache"})

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return page_file("index.html")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return page_file("docs.html")

    @app.get("/page/{name}", include_in_schema=False)
    async def asset(name: str) -> Response:
        return page_file(name)

    known = {getattr(route, "path", "") for route in app.routes}

    def label(path: str) -> str:
        return path if path in known else "/page" if path.startswith("/page/") else OTHER

    return label


class JsonRequest(Request):
    """A request that refuses a body that is not valid JSON with one sentence."""

    async def json(self) -> Any:  # noqa: ANN401  JSON values
        try:
            text = (await self.body()).decode("utf-8-sig")
            value = json.loads(text, parse_constant=_refuse_constant)
            if "\\ud" in text.lower():  # parse_json would replace unpaired surrogates, but here the client can fix them
                json.dumps(value, ensure_ascii=False).encode()
            return value
        except UnicodeEncodeError:
            raise HTTPException(400, "body: an unpaired surrogate, which is not a character") from None
        except (ValueError, RecursionError) as error:
            raise HTTPException(400, f"body: {json_error(error)}") from None


class JsonRoute(APIRoute):
    """A route that reads its body as a `JsonRequest`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            return await handle(JsonRequest(request.scope, request.receive))

        return handled


def check_parameters(request: Request, known: Collection[str]) -> None:
    """Raise RequestValidationError for a query parameter that is unknown or given twice."""
    for name in request.query_params:
        if name not in known:
            raise _invalid(name, unknown_field(name, known))
        if len(request.query_params.getlist(name)) > 1:
            raise _invalid(name, "given more than once; give it once")


def _invalid(name: str, message: str) -> RequestValidationError:
    return RequestValidationError([{"type": "value_error", "loc": ("query", name), "msg": message}])


def _refuse_constant(name: str) -> Never:
    raise ValueError(f"{name} is not a JSON number")
