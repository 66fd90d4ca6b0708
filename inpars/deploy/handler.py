"""What answers inside a SageMaker container: the four functions of the Hugging Face inference toolkit.

The archive holds this file as `code/inference.py`, this package beside it and the model above it, so that texts are cut
and pairs scored there as here. Requests have the shapes of `inpars serve`:

    {"input": [...], "input_type": "query"}                        embeddings, OpenAI's shape
    {"query": "...", "documents": [...], "top_n": 3}               reranking, Jina's and Cohere's shape
    {"query": "...", "k": 10}                                      search by the measured system of a run

`INPARS_DTYPE=float32` computes a system in float32, as `inpars run --dtype float32` did.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, TypeAlias

from inpars.json_text import parse_json

Row: TypeAlias = dict[str, Any]
JSON = "application/json"
MAX_TEXTS = 1024
DEFAULT_K, MAX_K = 10, 1000
DTYPE_VARIABLE = "INPARS_DTYPE"
SYSTEM_FILE, DOCUMENTS = "system.json", "documents"


def model_fn(model_dir: str, context: Any = None) -> Any:  # noqa: ANN401, ARG001, RUF100 - the container's signature
    """What is in the folder: the engine of a search system, a bi-encoder, or a scorer of pairs."""
    if (Path(model_dir) / SYSTEM_FILE).exists():
        return _engine(Path(model_dir))
    if (Path(model_dir) / "modules.json").exists():
        from inpars.retrieval.dense import Encoder

        return Encoder(model_dir)
    from inpars.rerankers import load_scorer

    return load_scorer(model_dir)


def input_fn(body: str | bytes, content_type: str = JSON) -> Row:
    """The request. Raises ValueError, which the container answers with 400, for what is none."""
    if content_type.partition(";")[0].strip() != JSON:
        raise ValueError(f"content type {content_type!r} is not taken; send {JSON}")
    asked = parse_json(body)
    if not isinstance(asked, dict):
        raise ValueError("a JSON object is needed")
    return asked


def predict_fn(asked: Row, model: Any) -> Row:  # noqa: ANN401 - what model_fn gave
    """The response."""
    if hasattr(model, "search"):
        return _found(asked, model)
    return _embedded(asked, model) if hasattr(model, "encode_documents") else _reranked(asked, model)


def output_fn(found: Row, accept: str = JSON) -> tuple[str, str]:  # noqa: ARG001, RUF100
    """The response as it is sent."""
    return json.dumps(found), JSON


def _engine(folder: Path) -> Any:  # noqa: ANN401
    from inpars.datasets import load_dataset
    from inpars.fusion.system import read_system
    from inpars.qa.build_engine import EngineOptions
    from inpars.qa.measured import open_measured

    corpus = load_dataset(str(folder / DOCUMENTS)).corpus
    options = EngineOptions(dtype=os.environ.get(DTYPE_VARIABLE, "auto"))  # type: ignore[arg-type]
    return open_measured(read_system(folder), options, corpus=corpus)


def _found(asked: Row, engine: Any) -> Row:  # noqa: ANN401
    queries, k = _texts([asked.get("query")], "query"), asked.get("k", DEFAULT_K)
    if type(k) is not int or not 1 <= k <= MAX_K:
        raise ValueError(f"k must be a whole number from 1 to {MAX_K}")
    [hits] = engine.search(queries, k)
    documents = [(hit.document, hit.score) for hit in hits]
    rows = [
        {"doc_id": found.doc_id, "score": score, "title": found.title, "text": found.text} for found, score in documents
    ]
    return {"query": queries[0], "hits": rows}


def _embedded(asked: Row, encoder: Any) -> Row:  # noqa: ANN401
    given = asked.get("input", asked.get("inputs"))
    texts = _texts([given] if isinstance(given, str) else given, "input")
    vectors = encoder.encode_queries(texts) if asked.get("input_type") == "query" else encoder.encode_documents(texts)
    data = [{"object": "embedding", "index": n, "embedding": row.tolist()} for n, row in enumerate(vectors)]
    return {"object": "list", "data": data}


def _reranked(asked: Row, scorer: Any) -> Row:  # noqa: ANN401
    [query] = _texts([asked.get("query")], "query")
    documents = asked.get("documents")
    if isinstance(documents, list):
        documents = [part.get("text") if isinstance(part, dict) else part for part in documents]
    texts = _texts(documents, "documents")
    top_n = asked.get("top_n", len(texts))
    if type(top_n) is not int or top_n < 1:
        raise ValueError("top_n must be a whole number from 1")
    scores = scorer.score([(query, text) for text in texts])
    order = sorted(range(len(scores)), key=lambda place: (-scores[place], place))[:top_n]
    results = [{"index": n, "relevance_score": _logistic(scores[n]), "score": scores[n]} for n in order]
    return {"results": results}


def _texts(given: Any, field: str) -> list[str]:  # noqa: ANN401
    if not isinstance(given, list) or not given or not all(isinstance(text, str) and text for text in given):
        raise ValueError(f"{field} must be a text, or a list of texts, none of them empty")
    if len(given) > MAX_TEXTS:
        raise ValueError(f"{field}: {len(given)} texts; at most {MAX_TEXTS} go in one request")
    return given


def _logistic(margin: float) -> float:
    return 1 / (1 + math.exp(-margin)) if margin > -700 else 0.0
