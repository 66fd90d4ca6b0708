"""Bad requests, overload, wrong keys, timeouts and shutdown, on a real server process."""

import asyncio
import json
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import psutil
import pytest
from processes import small_server

MEBIBYTE = 1024 * 1024
BAD_BODIES = [
    b"",
    b"[",
    b"NaN",
    b"null",
    b'"text"',
    b"[" * 200_000,
    b'{"query": ' + b"9" * 5000 + b"}",
    b"\xff\xfe\x00",
    b'{"query": "\\ud800"}',
    {},
    {"query": ""},
    {"query": "   "},
    {"query": 5},
    {"query": ["amber"]},
    {"query": "amber", "k": 0},
    {"query": "amber", "k": 10**30},
    {"query": "amber", "k": "10"},
    {"query": "amber", "k": True},
    {"query": "amber", "system": "nowhere"},
    {"query": "amber", "system": 5},
    {"query": "amber", "filters": {"source": 5}},
    {"query": "amber", "filters": {"sorce": "stones.pdf"}},
    {"query": "amber", "filters": {str(n): "x" for n in range(9)}},
    {"query": "x" * 4001},
]


@pytest.mark.parametrize("body", BAD_BODIES, ids=lambda body: str(body)[:30])
def test_bad_searches_are_refused_in_one_shape(server, body):
    status, headers, answer = server.post("/search", body)
    assert 400 <= status < 500
    assert set(answer["error"]) == {"message", "type", "code", "param"}
    assert answer["error"]["message"]
    assert headers["cache-control"] == "no-store"


BAD_MODEL_REQUESTS = [
    ("/v1/embeddings", {"input": []}),
    ("/v1/embeddings", {"input": ""}),
    ("/v1/embeddings", {"input": [1, 2, 3]}),
    ("/v1/embeddings", {"input": [[1, 2]]}),
    ("/v1/embeddings", {"input": "x", "model": "text-embedding-3-small"}),
    ("/v1/embeddings", {"input": "x", "encoding_format": "hex"}),
    ("/v1/embeddings", {"input": "x", "dimensions": 0}),
    ("/v1/embeddings", {"input": ["x"] * 257}),
    ("/v1/rerank", {"query": "x"}),
    ("/v1/rerank", {"query": "x", "documents": []}),
    ("/v1/rerank", {"query": "x", "documents": [5]}),
    ("/v1/rerank", {"query": "x", "documents": ["y"], "top_n": 0}),
    ("/v1/rerank", {"query": "x", "documents": ["y"], "model": "rerank-v3.5"}),
    ("/v1/rerank", {"query": "x", "documents": ["y"] * 257}),
    ("/ask", {"question": ""}),
    ("/ask", {"question": "x", "kind": "guess"}),
    ("/ask", {"question": "x", "k": 21}),
]


@pytest.mark.parametrize(("path", "body"), BAD_MODEL_REQUESTS, ids=lambda value: str(value)[:40])
def test_bad_model_requests_are_refused(server, path, body):
    status, _, answer = server.post(path, body)
    assert 400 <= status < 500
    assert answer["error"]["message"]


@pytest.mark.parametrize("given", [[1, 2, 3], [[1, 2]]])
def test_token_ids_are_refused_by_name(server, given):
    message = server.post("/v1/embeddings", {"input": given})[2]["error"]["message"]
    assert message == "body.input: token ids are another model's; send the texts themselves"


def test_a_field_that_no_document_has_is_no_filter(server):
    status, _, answer = server.post("/search", {"query": "amber", "filters": {"sorce": "stones.pdf"}})
    assert (status, "did you mean 'source'" in answer["error"]["message"]) == (404, True)


def test_unicode_of_every_kind_is_searched(server):
    for query in ("火山 über", "\U0001f30b", "a\u0000b", "\u202e\u200d\ufeff", "e\u0301" * 900, "'; DROP TABLE"):
        assert server.post("/search", {"query": query})[0] == 200


def test_strange_addresses_are_refused(server):
    assert server.get("/search?q=%ff%fe")[0] == 200  # what is no UTF-8 is replaced
    assert server.get("/search?q=x&k=ten")[0] == 422
    assert server.get("/search?q=x&k=0")[0] == 422
    assert server.get("/search")[0] == 422
    assert server.get("/page/../../../etc/passwd")[0] == 404
    assert server.get("/page/..%2f..%2fserver.py")[0] == 404
    assert server.get("/nowhere")[0] == 404
    assert server.ask("DELETE", "/search")[0] == 405


def test_what_is_not_json_is_refused_so_that_other_sites_forms_cannot_post(server):
    status, _, _ = server.post("/search", b'{"query": "amber"}', headers={"Content-Type": "text/plain"})
    assert status == 415


def test_other_host_names_are_refused_against_rebinding(server):
    assert server.get("/search?q=amber", headers={"Host": "evil.example"})[0] == 421
    assert server.get("/search?q=amber", headers={"Host": "localhost:1"})[0] == 200
    assert server.get("/search?q=amber", headers={"Host": "docs.example"})[0] == 200


@pytest.mark.parametrize("size", [2 * MEBIBYTE, 10 * 1000 * 1000])
def test_large_bodies_are_refused_and_forgotten(server, size):
    body = b'{"query": "' + b"x" * size + b'"}'
    status, _, answer = server.post("/search", body)
    assert (status, answer["error"]["code"]) == (413, "body_too_large")


def test_a_failure_inside_is_told_without_its_words():
    with small_server() as server:
        status, _, answer = server.post("/search", {"query": "private words", "system": "broken"})
        assert (status, answer["error"]["type"]) == (500, "server_error")
        assert "secret" not in json.dumps(answer)
        assert server.post("/search", {"query": "amber"})[0] == 200
        code, stderr = server.stop()
    assert code == 0
    assert "RuntimeError" in stderr
    assert "private words" not in stderr


def test_one_bad_query_does_not_spoil_its_batch():
    with small_server("--slow", 0.2) as server, ThreadPoolExecutor(8) as pool:
        systems = ["tuned", "broken"] * 4
        answers = list(pool.map(lambda s: server.post("/search", {"query": "amber", "system": s})[0], systems))
    assert answers == [200, 500] * 4


def test_requests_of_many_clients_share_a_pass():
    """16 clients with a pass of 0.3 s each take a few passes, not 16."""
    with small_server("--slow", 0.3) as server, ThreadPoolExecutor(16) as pool:
        started = time.perf_counter()
        answers = list(pool.map(lambda n: server.post("/search", {"query": f"amber {n}"})[0], range(16)))
        seconds = time.perf_counter() - started
        text = server.get("/metrics")[2]
    assert answers == [200] * 16
    passes = float(next(line for line in text.splitlines() if line.startswith("inpars_batch_items_count")).split()[-1])
    assert passes <= 6
    assert seconds < 16 * 0.3


def test_joined_answers_equal_single_ones(server):
    queries = [f"amber rock river {'x' * n}" for n in range(24)]
    alone = [server.post("/search", {"query": query, "system": "base"})[2]["hits"] for query in queries]
    with ThreadPoolExecutor(24) as pool:
        joined = list(pool.map(lambda q: server.post("/search", {"query": q, "system": "base"})[2]["hits"], queries))
    assert joined == alone


def test_too_many_at_once_are_told_when_to_come_back():
    with small_server("--slow", 0.5, "--max-concurrent", 4, "--max-items", 1) as server, ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda n: server.post("/search", {"query": "amber"}), range(12)))
        assert server.get("/healthz")[0] == 200
    statuses = sorted(status for status, _, _ in answers)
    assert set(statuses) == {200, 429}
    assert statuses.count(200) >= 4
    refused = next(headers for status, headers, _ in answers if status == 429)
    assert int(refused["retry-after"]) >= 1


def test_slow_work_is_given_up():
    with small_server("--slow", 3, "--timeout", 0.5) as server:
        status, headers, answer = server.post("/search", {"query": "amber"})
    assert (status, answer["error"]["code"]) == (503, "timeout")
    assert int(headers["retry-after"]) >= 1


def test_a_slow_sender_is_given_up():
    with small_server("--timeout", 0.5) as server:
        address = urlsplit(server.url)

        async def dribble():
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            head = f"POST /search HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
            writer.write(f"{head}Content-Length: 100\r\n\r\n{{".encode())
            line = await asyncio.wait_for(reader.readline(), 20)
            writer.close()
            return line

        assert b" 503 " in asyncio.run(dribble())


KEY = "correct horse battery staple"


def test_a_key_is_asked_of_all_that_tells_something_of_the_documents():
    with small_server(INPARS_API_KEY=KEY) as server:
        for path in ("/search?q=amber", "/v1/collection", "/metrics", "/v1/models"):
            status, headers, _ = server.get(path)
            assert (status, headers["www-authenticate"]) == (401, "Bearer")
            assert server.get(path, headers={"Authorization": f"Bearer {KEY}x"})[0] == 401
            assert server.get(path, headers={"Authorization": "Bearer "})[0] == 401
            assert server.get(path, headers={"Authorization": f"Bearer {KEY}"})[0] == 200
            assert server.get(path, headers={"X-API-Key": KEY})[0] == 200
            assert server.get(path, headers={"X-API-Key": KEY, "Authorization": "Basic YTpi"})[0] == 200
            assert server.get(path, headers={"Authorization": f"bearer {KEY}"})[0] == 200
        for path in ("/", "/docs", "/page/page.js", "/healthz"):
            assert server.get(path)[0] == 200
        code, stderr = server.stop()
    assert code == 0
    assert KEY not in stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_what_was_asked_finish(number):
    with small_server("--slow", 1.0) as server:
        answers = []
        client = threading.Thread(target=lambda: answers.append(server.post("/search", {"query": "amber"})[0]))
        client.start()
        time.sleep(0.4)
        code, stderr = server.stop(number)
        client.join()
    assert (answers, code) == ([200], 0)
    assert stderr == "stopped\n"


async def flood(server, count, body):
    """Statuses of requests that are all sent before the first answer is read."""
    address = urlsplit(server.url)

    async def one():
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        head = f"POST /search HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        answer = await reader.read()
        writer.close()
        return int(answer.split(b" ", 2)[1])

    return await asyncio.gather(*(one() for _ in range(count)))


def test_a_thousand_at_once_get_answers_or_429_and_memory_stays_flat():
    with small_server("--slow", 0.02) as server:
        process = psutil.Process(server.pid)
        good, bad = b'{"query": "amber rock"}', b'{"query": 5}'
        asyncio.run(flood(server, 1000, good))  # buffers and threads are made now
        before = process.memory_info().rss
        seen = set()
        for _ in range(5):
            seen |= set(asyncio.run(flood(server, 1000, good)))
            seen |= set(asyncio.run(flood(server, 1000, bad)))
            server.post("/search", b'{"query": "' + b"x" * 10_000_000 + b'"}')
        grown = (process.memory_info().rss - before) / MEBIBYTE
        assert server.get("/healthz")[0] == 200
    assert seen <= {200, 422, 429}
    assert {200, 429} <= seen
    assert grown < 30  # ten thousand requests and fifty megabytes of bodies were forgotten
