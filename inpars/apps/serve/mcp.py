"""The engine as an agent's tools (search, ask, rerank): the Model Context Protocol over stdin and stdout.

Only tools that the engine supports are offered.
"""

from __future__ import annotations

from typing import Annotated, Any

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from inpars import __version__
from inpars.apps.qa.engine import DEFAULT_K, DEFAULT_SOURCES, Engine
from inpars.apps.serve.wire import MAX_K, QueryText, Row, answer_row, hit_row
from inpars.errors import InparsError

Texts = Annotated[list[str], Field(min_length=1)]
Count = Annotated[int, Field(ge=1, le=MAX_K)]
INSTRUCTIONS = (
    "Search of one collection of documents. Hits are the documents' own words: quote doc_id or source if you use one. "
    "Scores order the hits of one query and cannot be compared across queries."
)


def create_mcp(engine: Engine, max_texts: int) -> MCPServer:
    """A server with the engine's tools; one request reranks at most `max_texts` texts."""
    server = MCPServer("inpars", instructions=INSTRUCTIONS, version=__version__)
    _add_search(server, engine)
    if engine.reader is not None or engine.writer is not None:
        _add_ask(server, engine)
    if engine.reranker is not None:
        _add_rerank(server, engine, max_texts)
    return server


def _add_search(server: MCPServer, engine: Engine) -> None:
    fields = f"{len(engine.documents)} documents; systems, best first: {', '.join(engine.systems)}"

    @server.tool(description=f"The documents that fit a query best ({fields}). `filters` are metadata: field to value.")
    def search(
        query: QueryText, k: Count = DEFAULT_K, system: str | None = None, filters: dict[str, str] | None = None
    ) -> dict[str, Any]:
        try:
            [hits] = engine.search([query], k, system=system, filters=filters or {})
        except InparsError as error:
            raise ToolError(str(error)) from error
        return {"hits": [_hit(hit_row(hit)) for hit in hits]}


def _add_ask(server: MCPServer, engine: Engine) -> None:
    kind: Any = "extractive" if engine.writer is None else "generated"

    @server.tool(description="An answer from the k best documents, with those it cites, or that they hold none.")
    def ask(question: QueryText, k: Count = DEFAULT_SOURCES) -> dict[str, Any]:
        try:
            answer = answer_row(engine.ask(question, kind=kind, k=k))
        except InparsError as error:
            raise ToolError(str(error)) from error
        return answer | {"sources": [_hit(source) for source in answer["sources"]]}


def _add_rerank(server: MCPServer, engine: Engine, max_texts: int) -> None:
    scorer = engine.reranker

    @server.tool(description="Texts of yours in the order of their relevance to a query: index and score, best first.")
    def rerank(query: QueryText, texts: Texts) -> dict[str, Any]:
        if len(texts) > max_texts:
            raise ToolError(f"{len(texts)} texts; at most {max_texts} go in one request")
        assert scorer is not None  # noqa: S101, RUF100 - checked by `create_mcp`
        scores = scorer.score([(query, text) for text in texts])
        order = sorted(range(len(texts)), key=lambda index: (-scores[index], index))
        return {"results": [{"index": index, "score": scores[index]} for index in order]}


def _hit(row: Row) -> Row:
    """A hit as an agent needs it: the whole text, without highlights and scores per part."""
    return {name: value for name, value in row.items() if name not in ("spans", "scores", "ranks", "snippet")}
