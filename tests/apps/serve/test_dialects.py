"""Other servers' fields: accepted as synonyms, ignored if they change nothing, else refused."""

import json

import pytest

TEXTS = ["one amber", "two", "amber amber amber"]  # of the query's word: 1, 0 and 3, less 1
ASKED = {"query": "amber", "documents": TEXTS}


def ranked(server, **fields):
    status, _, body = server.post("/v1/rerank", {**ASKED, **fields})
    assert status == 200, body
    return [row["index"] for row in body["results"]]


def refusal(server, path, body):
    status, _, answer = server.post(path, body)
    assert 400 <= status < 500, answer
    assert set(answer["error"]) == {"message", "type", "code", "param"}
    return answer["error"]["message"]


def test_the_best_of_all_are_asked_for_in_two_ways(server):
    """HKUDS/LightRAG#1813: a server that ignores top_k returns all documents."""
    assert ranked(server) == [2, 0, 1]
    assert ranked(server, top_n=1) == ranked(server, top_k=1) == ranked(server, top_k=1, top_n=1) == [2]
    assert ranked(server, top_k=None) == [*ranked(server, top_n=2, top_k=None), 1]
    assert "top_k" in refusal(server, "/v1/rerank", {**ASKED, "top_k": 1, "top_n": 2})


@pytest.mark.parametrize("name", ["documents", "texts", "passages"])
def test_documents_have_three_names(server, name):
    status, _, body = server.post("/v1/rerank", {"query": "amber", name: TEXTS, "return_text": True})
    assert status == 200
    assert body["results"][0] == {
        "index": 2,
        "score": 2.0,
        "relevance_score": pytest.approx(0.880797),  # 1 / (1 + exp(-2))
        "document": {"text": TEXTS[2]},
    }


def test_raw_scores_are_the_margins(server):
    _, _, body = server.post("/rerank", {**ASKED, "raw_scores": True, "top_n": 1})
    assert body["results"] == [{"index": 2, "score": 2.0, "relevance_score": 2.0}]


@pytest.mark.parametrize(
    "fields",
    [
        {"user": "me", "priority": 1, "request_id": "7"},
        {"truncate": True, "truncation_direction": "right"},
        {"truncation": True},
        {"rank_fields": ["text"]},
        {"return_embeddings": False},
        {"max_tokens_per_doc": None, "whatever": None},
    ],
    ids=str,
)
def test_what_asks_for_nothing_else_is_passed_over(server, fields):
    assert ranked(server, **fields) == [2, 0, 1]


@pytest.mark.parametrize(
    "fields",
    [
        {"topn": 1},
        {"top_N": 1},
        {"truncate": False},
        {"truncate": 1},
        {"truncation_direction": "left"},
        {"max_tokens_per_doc": 5},
        {"truncate_prompt_tokens": 5},
        {"rank_fields": ["title"]},
        {"instruction": "x"},
        {"return_embeddings": True},
        {"{reason}": 1},
        {"\ud800": 1},
    ],
    ids=str,
)
def test_what_would_change_the_result_is_refused_by_name(server, fields):
    [name] = fields
    message = refusal(server, "/v1/rerank", {**ASKED, **fields})
    assert name in message or "surrogate" in message


@pytest.mark.parametrize(
    ("path", "body", "name"),
    [
        ("/v1/embeddings", {"input": "a", "task": "retrieval.query"}, "task"),
        ("/v1/embeddings", {"input": "a", "input_type": "classification"}, "input_type"),
        ("/search", {"query": "amber", "filter": {"source": "x"}}, "'filters'"),
        ("/search", {"query": "amber", "k": 1, "top_k": 2}, "top_k"),
        ("/ask", {"question": "amber", "temperature": 1}, "temperature"),
        ("/feedback", {"query": "a", "doc_id": "amber", "relevance": 1, "grade": 2}, "grade"),
    ],
)
def test_other_endpoints_refuse_what_they_do_not_understand(server, path, body, name):
    assert name in refusal(server, path, body)


def test_other_names_of_other_endpoints(server):
    queries = [
        server.post("/v1/embeddings", {"input": "a", "input_type": kind})[2]["data"]
        for kind in ("query", "search_query")
    ]
    assert queries[0] == queries[1]
    assert server.post("/v1/embeddings", {"inputs": ["a"]})[0] == 200
    assert len(server.post("/search", {"q": "rock", "top_k": 1})[2]["hits"]) == 1


def test_parameters_of_addresses_are_not_passed_over(server):
    for address, name in (("q=rock&top_k=1", "top_k"), ("q=rock&k=1&k=2", "k"), ("q=a&q=b", "q")):
        status, _, answer = server.get(f"/search?{address}")
        assert (status, answer["error"]["param"]) == (422, f"query.{name}")


DEEP = b'{"query": "a", "documents": [{"text": "x", "d": %s}], "return_documents": true}'
ODD_BODIES = [
    DEEP % (b"[" * 100_000),
    DEEP % (b"[" * 100_000 + b"]" * 100_000),
    b'{"query": "a", "documents": ["x"], "top_n": ' + b"9" * 5000 + b"}",
    b'{"query": "a", "documents": ["x"], "top_n": NaN}',
    b'{"query": "a", "documents": ["x"], "top_n": 1.0}',
    b'{"query": "a", "documents": ["x"], "top_n": true}',
    b'{"query": "a", "documents": ["x\\ud800"]}',
    b'{"query": "a", "documents": [{"text": "x", "title": "\\uDC00"}]}',
    b'{"query": "a", "documents": "x"}',
    b'{"query": "a", "documents": [["x"]]}',
    b'{"query": "a", "documents": {"text": "x"}}',
    '{"query": "a", "documents": ["x"]}'.encode("utf-16"),
    b'{"query": "a", "documents": ["\xff"]}',
    b"{'query': 'a'}",
]


@pytest.mark.parametrize("body", ODD_BODIES, ids=range(len(ODD_BODIES)))
def test_odd_bodies_are_refused_with_a_reason_and_the_server_lives_on(server, body):
    assert refusal(server, "/v1/rerank", body)
    assert server.get("/healthz")[0] == 200


@pytest.mark.parametrize(("depth", "digits"), [(100, 10), (900, 4000)])
def test_what_can_be_held_comes_back_as_it_was(server, depth, digits):
    document = b'{"text": "x\\u0000", "d": %s, "n": %s}' % (b"[" * depth + b"]" * depth, b"9" * digits)
    status, _, body = server.post(
        "/v1/rerank", b'{"query": "a", "documents": [%s], "return_documents": true}' % document
    )
    assert status == 200
    assert body["results"][0]["document"] == json.loads(document)
