"""The responses of every endpoint of a server process."""

import base64
import struct

import pytest
from processes import small_server
from small_server import TEXTS


def test_embeddings_have_openais_shape(server):
    status, _, body = server.post("/v1/embeddings", {"input": ["abc", "bb"], "model": "letters"})
    assert status == 200
    assert (body["object"], body["model"]) == ("list", "letters")
    assert body["usage"] == {"prompt_tokens": 2, "total_tokens": 2}  # a word each
    assert [row["index"] for row in body["data"]] == [0, 1]
    # one a, b and c of 26 letters, of unit length: 1/sqrt(3) = 0.57735
    assert body["data"][0]["embedding"][:4] == pytest.approx([0.57735, 0.57735, 0.57735, 0], abs=1e-5)
    assert body["data"][1]["embedding"][:2] == [0, 1]


def test_base64_holds_the_same_numbers(server):
    plain = server.post("/v1/embeddings", {"input": "abc"})[2]["data"][0]["embedding"]
    packed = server.post("/v1/embeddings", {"input": "abc", "encoding_format": "base64"})[2]["data"][0]["embedding"]
    assert list(struct.unpack("<26f", base64.b64decode(packed))) == plain


def test_dimensions_cut_and_normalise(server):
    status, _, body = server.post("/v1/embeddings", {"input": "abc", "dimensions": 1})
    assert (status, body["data"][0]["embedding"]) == (200, [1.0])
    assert server.post("/v1/embeddings", {"input": "abc", "dimensions": 27})[0] == 400


def test_rerank_has_jinas_and_coheres_shape(server):
    documents = ["a b", "c", {"text": "a", "id": 7}]
    asked = {"query": "a b", "documents": documents, "top_n": 2, "return_documents": True, "model": "words"}
    status, _, body = server.post("/v1/rerank", asked)
    assert (status, body["model"]) == (200, "words")
    # words in common minus 1: 1 and 0; the logistic function of them: 0.73106 and 0.5
    assert [(row["index"], row["score"]) for row in body["results"]] == [(0, 1.0), (2, 0.0)]
    assert [row["relevance_score"] for row in body["results"]] == pytest.approx([0.73106, 0.5], abs=1e-5)
    assert [row["document"] for row in body["results"]] == [{"text": "a b"}, {"text": "a", "id": 7}]
    assert body["usage"]["total_tokens"] == 3 * 2 + 4  # the query's words with each document's


def test_rerank_reads_titles_and_answers_to_coheres_second_address(server):
    documents = [{"text": "c", "title": "a b"}, {"text": "a"}]
    answer = server.post("/v2/rerank", {"query": "a b", "documents": documents, "return_documents": True})[2]
    assert [(row["index"], row["score"]) for row in answer["results"]] == [(0, 1.0), (1, 0.0)]
    assert [row["document"] for row in answer["results"]] == documents


def test_search_gives_texts_spans_and_metadata(server):
    status, _, body = server.post("/search", {"query": "volcanic rock", "k": 1})
    assert (status, body["system"], body["query"]) == (200, "tuned", "volcanic rock")
    [hit] = body["hits"]
    assert (hit["doc_id"], hit["score"], hit["metadata"]["source"]) == ("basalt", 2.0, "stones.pdf")
    assert [hit["text"][span["start"] : span["end"]] for span in hit["spans"]] == ["volcanic", "rock"]
    assert (hit["ranks"], hit["snippet"]) == ({"tuned": 1}, {"start": 0, "end": len(hit["text"])})


def test_search_by_address_is_the_same(server):
    by_address = server.get("/search?q=volcanic+rock&k=1")[2]
    by_body = server.post("/search", {"query": "volcanic rock", "k": 1})[2]
    assert by_address["hits"] == by_body["hits"]
    assert [hit["doc_id"] for hit in server.get("/search?q=ocean&source=*.html")[2]["hits"]] == ["delta"]
    assert [hit["doc_id"] for hit in server.get("/search?q=rock&heading=Rocks")[2]["hits"]] == ["basalt"]


def test_what_a_document_contains_is_data(server):
    """The page escapes; the service returns a script as plain text in JSON, which no browser renders as HTML."""
    status, headers, body = server.post("/search", {"query": "hostile"})
    assert status == 200
    assert "<script>" in body["hits"][0]["text"]
    assert headers["content-type"] == "application/json"
    assert headers["x-content-type-options"] == "nosniff"


def test_ask_marks_the_answer_or_says_there_is_none(server):
    _, _, body = server.post("/ask", {"question": "what is the dark volcanic"})
    source = body["sources"][body["cited"][0] - 1]
    assert (body["answered"], body["text"], source["doc_id"]) == (True, "rock", "basalt")
    assert source["text"][body["span"]["start"] : body["span"]["end"]] == "rock"
    _, _, body = server.post("/ask", {"question": "amber unheard"})
    assert (body["answered"], body["text"], body["cited"], body["span"]) == (False, "", [], None)
    _, _, body = server.post("/ask", {"question": "amber", "kind": "generated", "k": 1})
    assert (body["text"], body["cited"]) == ("From the documents: Amber [1].", [1])


def test_collection_and_models(server):
    body = server.get("/v1/collection")[2]
    assert body["documents"] == len(TEXTS)
    assert [(system["name"], system["default"]) for system in body["systems"]] == [
        ("tuned", True),
        ("base", False),
        ("broken", False),
    ]
    assert (body["answers"], body["feedback"], body["notes"]) == (["extractive", "generated"], False, ["a note"])
    assert (body["closest"], body["counted"], body["examples"]) == (False, len(TEXTS), ["amber beads"])
    assert next(iter(body["fields"]["source"].items())) == ("stones.pdf", 3)  # the commonest: three of seven
    assert next(iter(body["fields"]["headings"].items())) == ("Rocks", 2)
    assert {row["id"] for row in server.get("/v1/models")[2]["data"]} == {"letters", "letters-base", "words"}


def test_health_and_metrics(server):
    assert server.get("/healthz")[2]["status"] == "ok"
    assert server.ask("HEAD", "/healthz")[0] == 200
    before = metric(server, 'inpars_requests_total{path="/search",status="200"}')
    server.get("/search?q=amber")
    assert metric(server, 'inpars_requests_total{path="/search",status="200"}') == before + 1
    _, headers, text = server.get("/metrics")
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "amber" not in text


def metric(server, name):
    lines = [line for line in server.get("/metrics")[2].splitlines() if line.startswith(f"{name} ")]
    return float(lines[0].split()[-1]) if lines else 0.0


def test_the_documentation_is_complete_and_local(server):
    paths = server.get("/openapi.json")[2]["paths"]
    assert {"/v1/embeddings", "/v1/rerank", "/search", "/ask", "/feedback", "/healthz", "/metrics"} <= set(paths)
    for path in ("/", "/docs"):
        _, headers, page = server.get(path)
        assert "http://" not in page
        assert "https://" not in page
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]


def test_votes_are_judgements_that_the_readers_read(tmp_path):
    from inpars.io.formats import read_qrels, read_queries

    path = tmp_path / "votes" / "feedback.jsonl"
    with small_server("--feedback", path) as server:
        votes = [
            ("Amber  beads", "amber", 1),
            ("amber beads", "basalt", 0),
            ("river", "delta", 1),
            ("river", "delta", None),
        ]
        for query, doc_id, relevance in votes:
            status, _, _ = server.post("/feedback", {"query": query, "doc_id": doc_id, "relevance": relevance})
            assert status == 201
        assert server.post("/feedback", {"query": "x", "doc_id": "nowhere", "relevance": 1})[0] == 404
        assert server.post("/feedback", {"query": "x", "doc_id": "amber", "relevance": 2})[0] == 422
    queries = {query.query_id: query.text for query in read_queries(path.with_name("feedback.queries.jsonl"))}
    assert list(queries.values()) == ["Amber  beads", "river"]
    [amber, _] = queries
    assert read_qrels(path) == {amber: {"amber": 1, "basalt": 0}}  # the vote for delta was taken back


def test_a_server_without_feedback_says_so(server):
    status, _, body = server.post("/feedback", {"query": "x", "doc_id": "amber", "relevance": 1})
    assert status == 400
    assert "--feedback" in body["error"]["message"]
