"""`inpars serve --mcp` as an agent starts it, asked by the client of the official SDK."""

import sys
from pathlib import Path

import pytest
from made_run import QUERIES

from inpars.cli import main as cli

pytest.importorskip("mcp", reason="the mcp extra is not installed")
import anyio
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

QUERY = QUERIES["q0"]
ROOT = Path(__file__).parents[2]


def asked(folder, work):
    """Run the work with a client connected to the server of this folder."""
    command = ["-m", "inpars", "serve", "--mcp", "--run", str(folder), "--device", "cpu", "--dtype", "float32"]
    server = StdioServerParameters(command=sys.executable, args=[*command, "--quiet"], cwd=ROOT)

    async def session():
        with anyio.fail_after(300):
            async with Client(stdio_client(server)) as client:
                return await work(client)

    return anyio.run(session)


def test_the_tools_give_what_the_python_api_gives(run_folder, system, expected):
    texts = ["Copper kettle.", QUERY, "Falcon island."]

    async def work(client):
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        calls = {
            "search": {"query": QUERY, "k": 5},
            "ask": {"question": QUERY},
            "rerank": {"query": QUERY, "texts": texts},
        }
        return tools, {name: await client.call_tool(name, arguments) for name, arguments in calls.items()}

    tools, results = asked(run_folder, work)
    assert {*tools} == {"search", "ask", "rerank"}
    assert "30 documents" in tools["search"].description
    found = {name: result.structured_content for name, result in results.items()}
    hits = [(hit["doc_id"], pytest.approx(hit["score"], abs=1e-5)) for hit in found["search"]["hits"]]
    assert hits == expected["q0"]
    assert (found["ask"]["question"], len(found["ask"]["sources"])) == (QUERY, 5)
    ranked = [(row["index"], pytest.approx(row["score"], abs=1e-5)) for row in found["rerank"]["results"]]
    assert ranked == system.rerank(QUERY, texts)


def test_wrong_arguments_are_explained_and_the_server_goes_on(without_reranker):
    async def work(client):
        names = {tool.name for tool in (await client.list_tools()).tools}
        wrong = [{"query": QUERY, "system": "nothing"}, {"query": "", "k": 3}, {"query": QUERY, "k": 0}]
        refused = [await client.call_tool("search", arguments) for arguments in wrong]
        return names, refused, await client.call_tool("search", {"query": QUERY, "filters": {"source": "1.md"}})

    names, refused, found = asked(without_reranker, work)
    assert names == {"search", "ask"}
    assert [result.is_error for result in refused] == [True] * 3
    assert "measured" in refused[0].content[0].text
    assert {hit["metadata"]["source"] for hit in found.structured_content["hits"]} == {"1.md"}


def test_flags_of_http_are_refused(run_folder, capsys):
    assert cli.main(["serve", "--mcp", "--run", str(run_folder), "--port", "0", "--quiet"]) == 1
    assert "--port" in capsys.readouterr().err
