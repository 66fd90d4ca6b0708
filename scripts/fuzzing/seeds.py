"""Small valid inputs by name, from `tests/data/toy` or made here: the files of every format there is.

Documents of a collection are about bread, milk and tides, so that ids and texts of all formats go together.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fuzzing.cases import Files
from fuzzing.containers import parquet_bytes, zipped

TOY = Path(__file__).parents[2] / "tests" / "data" / "toy"
BREAD, MILK, TIDE = "Yeast eats sugar and gives off gas.", 'Bacteria "sour" warm milk.', "The moon pulls at the sea."
RISE, SOUR = "why does bread rise", "what makes milk sour"


@dataclass(frozen=True, slots=True)
class Seed:
    """Files, and which of them the reader is told of; empty for their folder."""

    main: str
    make: Callable[[], Files]

    @property
    def files(self) -> Files:
        """The files, made once."""
        return _made(self.make)


@cache
def _made(make: Callable[[], Files]) -> Files:
    return make()


def jsonl(*records: Any) -> bytes:  # noqa: ANN401 - JSON values
    """JSON lines."""
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


def pretty(value: Any) -> bytes:  # noqa: ANN401 - a JSON value
    """A JSON file."""
    return json.dumps(value, indent=1).encode() + b"\n"


def toy(name: str, lines: int = 6) -> bytes:
    """The first lines of an example file."""
    return b"".join((TOY / name).read_bytes().splitlines(keepends=True)[:lines])


def one(name: str, content: bytes) -> Seed:
    """A seed of a single file."""
    return Seed(name, lambda: {name: content})


CORPUS = jsonl(
    {"_id": "d1", "title": "Bread", "text": BREAD, "metadata": {"source": "a.md", "page": 3, "headings": ["Bread"]}},
    {"_id": "d2", "title": "", "text": MILK, "metadata": {}},
    {"_id": "d3", "text": TIDE, "title": None},
)
QUERIES = jsonl({"_id": "q1", "text": RISE, "metadata": {}}, {"_id": "q2", "text": SOUR})
QRELS = b"query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq2\td2\t1\n"
TREC_QRELS = b"q1 0 d1 2\nq1 0 d3 -1\nq2 0 d2 1\n"
RUN = b"q1 Q0 d1 1 2.5 toy\nq1 Q0 d2 2 1.25 toy\nq2 Q0 d1 1 0.5 toy\nq2 Q0 d2 2 -1 toy\n"
IDS = b"q1\td1\td2\nq1\td1\td3\nq2\td2\td3\n"
TEXT_TRIPLES = f"{RISE}\t{BREAD}\t{TIDE}\n{SOUR}\t{MILK}\t{TIDE}\n".encode()
QUOTED_TRIPLES = f'{RISE}\t{BREAD}\t"{TIDE}"\n{SOUR}\t"Bacteria ""sour"" warm milk."\t{TIDE}\n'.encode()
SYNTHETIC = jsonl(
    {
        "query_id": "d1-q0",
        "doc_id": "d1",
        "query": RISE,
        "log_probs": [-0.5, -0.25, -1.0, -0.125],
        "token_ids": [5, 6, 7, 8],
    }
    | {
        "stop_log_prob": -0.1,
        "finish_reason": "stop",
        "log_prob_kind": "raw",
        "prompt": "inpars",
        "model": "m",
        "text": BREAD,
    },
    {
        "query_id": "d2-q0",
        "doc_id": "d2",
        "query": SOUR,
        "log_probs": None,
        "stop_log_prob": None,
        "finish_reason": "length",
    }
    | {"log_prob_kind": "absent", "prompt": "inpars", "model": "m", "text": MILK},
    {"query_id": "d3-q0", "doc_id": "d3", "query": "moon and sea", "log_probs": [-0.1, -0.2, -0.3], "text": TIDE},
)
NEGATIVES = jsonl(
    {"query_id": "q1", "positive_doc_id": "d1", "negative_doc_id": "d2", "source": "bm25", "rank": 1, "score": 2.5}
    | {"positive_score": 3.0, "reranker_score": 0.25, "positive_reranker_score": 2.0, "also": {"dense": 3}},
    {"query_id": "q1", "positive_doc_id": "d1", "negative_doc_id": "d3", "source": "bm25", "rank": 4, "score": 1.5}
    | {"positive_score": 3.0, "reranker_score": -1.0, "positive_reranker_score": 2.0},
    {"query_id": "q2", "positive_doc_id": "d2", "negative_doc_id": "d3", "source": "dense", "rank": 2, "score": 0.5},
)
BEIR: Files = {"corpus.jsonl": CORPUS, "queries.jsonl": QUERIES, "qrels/test.tsv": QRELS}
TRIPLES: Files = {
    "triples.tsv": f"{RISE}\t{BREAD}\t{MILK}\n{RISE}\t{BREAD}\t{TIDE}\n{SOUR}\t{MILK}\t{TIDE}\n".encode(),
    "triples.ids.tsv": IDS,
    "triples.negatives.jsonl": NEGATIVES,
    "margins.tsv": b"q1\td1\td2\t1.75\nq1\td1\td3\t3.0\n",
}


def _gpl() -> Files:
    hard = jsonl(
        {"qid": "q1", "pos": ["d1"], "neg": {"bm25": ["d2", "d3"], "msmarco": ["d3"]}},
        {"qid": "q2", "pos": ["d2"], "neg": {}},
    )
    return {
        "corpus.jsonl": CORPUS,
        "qgen-queries.jsonl": QUERIES,
        "qgen-qrels/train.tsv": QRELS,
        "hard-negatives.jsonl": hard,
        "gpl-training-data.tsv": b"q1\td1\td2\t1.75\nq1\td1\td3\t-3.0\n",
    }


def _msmarco() -> Files:
    return {
        "collection.tsv": f"0\t{BREAD}\n1\t{MILK}\n2\t{TIDE}\n".encode(),
        "queries.train.tsv": f"10\t{RISE}\n11\t{SOUR}\n".encode(),
        "qrels.train.tsv": b"10\t0\t0\t1\n11\t0\t1\t1\n",
        "qidpidtriples.train.tsv": b"10\t0\t2\n11\t1\t0\n",
    }


def _requests() -> list[dict[str, Any]]:
    candidates = [
        {"docid": "d1", "score": 2.5, "doc": {"title": "Bread", "text": BREAD}},
        {"docid": "d2", "score": 1, "doc": {"contents": MILK}},
        {"docid": "d3", "doc": TIDE},
    ]
    return [{"query": {"text": RISE, "qid": 1}, "candidates": candidates}, {"query": {"text": SOUR}, "candidates": []}]


TEVATRON = jsonl(
    {"query_id": "1", "query": RISE, "positive_passages": [{"docid": "d1", "title": "Bread", "text": BREAD}]}
    | {"negative_passages": [{"docid": "d2", "title": "", "text": MILK}, {"docid": "d3", "title": "-", "text": TIDE}]},
    {"query_id": 2, "query": SOUR, "positive_passages": [{"docid": "d2", "text": MILK}], "negative_passages": []},
)
NEWER_TEVATRON = jsonl(
    {"query_id": "1", "query_text": RISE, "positive_document_ids": ["d1"], "negative_document_ids": ["d2", "d3"]}
)
FLAG = jsonl(
    {"query": RISE, "pos": [BREAD], "neg": [MILK, TIDE], "pos_scores": [2.0], "neg_scores": [0.25, -1], "prompt": "x"},
    {"query": SOUR, "pos": [MILK], "neg": [], "type": "normal"},
)
LLAMA = pretty(
    {
        "queries": {"q1": RISE, "q2": SOUR},
        "corpus": {"d1": BREAD, "d2": MILK},
        "relevant_docs": {"q1": ["d1"], "q2": ["d2"]},
    }
    | {"mode": "text"}
)
V1 = jsonl(
    {"doc_id": "d1", "doc_text": BREAD, "question": RISE, "log_probs": [-0.5, -0.25]},
    {"doc_id": 2, "doc_text": MILK, "question": SOUR, "log_probs": -0.4},
)
V2 = jsonl(
    {"doc_id": "d1", "text": BREAD, "query": RISE, "log_probs": [-0.5, -0.25, -0.125]}
    | {"prompt_text": f"Document: {BREAD}", "fewshot_examples": []}
)
VOTES = jsonl(
    {"query_id": "q1", "doc_id": "d1", "relevance": 1, "query": RISE, "system": None, "rank": 1},
    {"query_id": "q1", "doc_id": "d1", "relevance": None},
    {"query_id": "q2", "doc_id": "d2", "relevance": 0},
)
MSMARCO_V2 = jsonl(
    {"pid": "msmarco_passage_00_1", "passage": BREAD, "spans": "(1,2)", "docid": "msmarco_doc_00_1"},
    {"docid": "msmarco_doc_00_2", "url": "http://a", "title": "Bread", "headings": "a\nb", "body": MILK},
)
SCORES = jsonl(
    {"query_id": "d1-q0", "reranker": 0.5, "bm25_rank": 1},
    {"query_id": "d2-q0", "reranker": -1, "bm25_rank": None},
    {"query_id": "d3-q0", "reranker": 1.5, "bm25_rank": 3},
)


def _parquet(name: str, rows: list[dict[str, Any]]) -> Seed:
    return Seed(name, lambda: {name: parquet_bytes(rows)})


LAYOUTS: dict[str, list[dict[str, Any]]] = {
    "triplet": [
        {"anchor": RISE, "positive": BREAD, "negative": TIDE},
        {"anchor": SOUR, "positive": MILK, "negative": TIDE},
    ],
    "tuple": [{"anchor": RISE, "positive": BREAD, "negative_1": TIDE, "negative_2": None, "scores": [2.0, 0.5]}],
    "pairs": [{"query": RISE, "passage": BREAD, "label": 1}, {"query": RISE, "passage": TIDE, "label": 0}],
    "list": [{"query": RISE, "docs": [BREAD, TIDE], "labels": [1, 0]}, {"query": SOUR, "docs": [MILK], "labels": [1]}],
    "scored": [{"query": RISE, "passage": BREAD, "score": 0.5}, {"query": SOUR, "passage": MILK, "score": -2.0}],
    "margin": [{"anchor": RISE, "positive": BREAD, "negative": TIDE, "score": 1.5}],
}

SEEDS: dict[str, Seed] = {
    "corpus": one("corpus.jsonl", CORPUS),
    "corpus toy": one("corpus.jsonl", toy("beir/corpus.jsonl")),
    "corpus tsv": one("corpus.tsv", toy("corpus.tsv")),
    "corpus gz": one("corpus.jsonl.gz", gzip.compress(CORPUS, 1, mtime=0)),
    "corpus pyserini": one("docs.jsonl", jsonl({"id": 0, "contents": BREAD}, {"id": "1", "contents": MILK})),
    "corpus msmarco docs": one("msmarco-docs.tsv", f"D1\thttp://a\tBread\t{BREAD}\nD2\thttp://b\t\t{MILK}\n".encode()),
    "corpus psgs": one("psgs.tsv", b'id\ttext\ttitle\n1\t"Aaron or ""Ahron"" is"\tAaron\n2\tplain\tB\n'),
    "corpus msmarco v2": one("p.jsonl", MSMARCO_V2),
    "queries": one("queries.jsonl", QUERIES),
    "queries toy": one("queries.jsonl", toy("beir/queries.jsonl")),
    "queries tsv": one("queries.tsv", toy("queries.tsv")),
    "qrels": one("qrels.tsv", QRELS),
    "qrels toy": one("test.tsv", toy("beir/qrels/test.tsv", 12)),
    "qrels trec": one("qrels.txt", TREC_QRELS),
    "qrels toy trec": one("qrels.trec", toy("qrels.trec", 12)),
    "votes": one("feedback.jsonl", VOTES),
    "run": one("run.trec", RUN),
    "run toy": one("run.trec", toy("run.trec", 9)),
    "run msmarco": one("run.tsv", b"q1\td1\t1\nq1\td2\t2\nq2\td2\t1\n"),
    "run gz": one("run.trec.gz", gzip.compress(RUN, 1, mtime=0)),
    "synthetic": one("queries.synthetic.jsonl", SYNTHETIC),
    "synthetic toy": one("queries.synthetic.jsonl", toy("queries.synthetic.jsonl", 3)),
    "synthetic toy v1": one("queries.v1.jsonl", toy("queries.synthetic.v1.jsonl", 3)),
    "synthetic toy v2": one("queries.v2.jsonl", toy("queries.synthetic.v2.jsonl", 3)),
    "synthetic v1": one("v1.jsonl", V1),
    "synthetic v2": one("v2.jsonl", V2),
    "ids": one("triples.ids.tsv", IDS),
    "ids toy": one("triples.ids.tsv", toy("triples.ids.tsv")),
    "text triples": one("triples.tsv", TEXT_TRIPLES),
    "quoted triples": one("triples.tsv", QUOTED_TRIPLES),
    "triples": Seed("triples.tsv", lambda: TRIPLES),
    "triples by ids": Seed("triples.ids.tsv", lambda: TRIPLES),
    "beir": Seed("", lambda: BEIR),
    "beir zip": Seed("toy.zip", lambda: {"toy.zip": zipped([(f"toy/{n}", content) for n, content in BEIR.items()])}),
    "gpl": Seed("", _gpl),
    "msmarco": Seed("", _msmarco),
    "trec": Seed("", lambda: {"topics.tsv": toy("queries.tsv", 2), "qrels.txt": TREC_QRELS, "run.txt": RUN}),
    "tevatron": one("train.jsonl", TEVATRON),
    "tevatron newer": Seed("train.jsonl", lambda: {"train.jsonl": NEWER_TEVATRON, "corpus.jsonl": CORPUS}),
    "rank_llm": one("requests.json", pretty(_requests())),
    "rank_llm lines": one("requests.jsonl", jsonl(*_requests())),
    "llama_index": one("dataset.json", LLAMA),
    "flagembedding": one("train.jsonl", FLAG),
    **{f"parquet {name}": _parquet(f"{name}.parquet", rows) for name, rows in LAYOUTS.items()},
    "evaluation": Seed("run.trec", lambda: {"run.trec": RUN, "qrels.txt": TREC_QRELS}),
    "evaluation msmarco": Seed("run.tsv", lambda: {"run.tsv": b"q1\td1\t1\nq2\td2\t1\n", "qrels.tsv": QRELS}),
    "filter": Seed("queries.jsonl", lambda: {"queries.jsonl": SYNTHETIC, "scores.jsonl": SCORES}),
}


def contents(seeds: Mapping[str, Seed]) -> list[bytes]:
    """All files of all seeds, for putting one kind in place of another."""
    return [content for seed in seeds.values() for content in seed.files.values()]
