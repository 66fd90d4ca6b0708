"""The handler inside a SageMaker container: the four functions of the Hugging Face inference toolkit.

The archive holds this file as `code/inference.py` with this package next to it, so truncation and scores match ours.
Requests have the shapes of `inpars serve`:

    {"input": [...], "input_type": "query"}                        embeddings, OpenAI's shape
    {"query": "...", "documents": [...], "top_n": 3}               reranking, Jina's and Cohere's shape
    {"query": "...", "k": 10}                                      search with the measured system of a run

`INPARS_DTYPE=float32` runs a system in float32, like `inpars run --dtype float32`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, TypeAlias

from scipy.special import expit

from inpars.io.json_text import parse_json

Row: TypeAlias = dict[str, Any]
JSON = "application/json"
MAX_TEXTS = 1024
DEFAULT_K, MAX_K = 10, 1000
DTYPE_VARIABLE = "INPARS_DTYPE"
IGNORED = {"model", "user"}  # of clients that always send them
DEFAULTS = {"encoding_format": "float", "dimensions": None, "return_documents": False}  # what happens here anyway
SYSTEM_FILE, DOCUMENTS = "system.json", "documents"


def model_fn(model_dir: str, context: Any = None) -> Any:  # noqa: ANN401, ARG001, RUF100 - the container's signature
    """The folder's model: the engine of a search system, a bi-encoder or a pair scorer."""
    if (Path(model_dir) / SYSTEM_FILE).exists():
        return _engine(Path(model_dir))
    if (Path(model_dir) / "modules.json").exists():
        from inpars.retrieval.dense import Encoder

        return Encoder(model_dir)
    from inpars.rerankers import load_scorer

    return load_scorer(model_dir)


def input_fn(body: str | bytes, content_type: str = JSON) -> Row:
    """Parse the request. Raises ValueError, which the container answers with 400, unless it is a JSON object."""
    if content_type.partition(";")[0].strip() != JSON:
        raise ValueError(f"unsupported content type {content_type!r}; send {JSON}")
    request = parse_json(body)
    if not isinstance(request, dict):
        raise ValueError("the request must be a JSON object")
    return request


def predict_fn(request: Row, model: Any) -> Row:  # noqa: ANN401 - the result of model_fn
    """The response of whichever model `model_fn` loaded."""
    if hasattr(model, "search"):
        _check_fields(request, "query", "k")
        return _search(request, model)
    if hasattr(model, "encode_documents"):
        _check_fields(request, "input", "inputs", "input_type")
        return _embedded(request, model)
    _check_fields(request, "query", "documents", "top_n")
    return _reranked(request, model)


def output_fn(response: Row, accept: str = JSON) -> tuple[str, str]:  # noqa: ARG001, RUF100
    """The response as JSON text with its content type."""
    return json.dumps(response), JSON


def _engine(folder: Path) -> Any:  # noqa: ANN401
    from inpars.apps.qa.build_engine import EngineOptions
    from inpars.apps.qa.measured import open_measured
    from inpars.documents.datasets import load_dataset
    from inpars.fusion.system import read_system

    corpus = load_dataset(str(folder / DOCUMENTS)).corpus
    options = EngineOptions(dtype=os.environ.get(DTYPE_VARIABLE, "auto"))  # type: ignore[arg-type]
    return open_measured(read_system(folder), options, corpus=corpus)


def _check_fields(request: Row, *known: str) -> None:
    """Raise ValueError for a field that could change the result and is not supported here."""
    asked = {name for name, value in request.items() if (name, value) not in DEFAULTS.items()}
    if unknown := sorted(asked - IGNORED - set(known)):
        raise ValueError(f"{', '.join(unknown)[:200]}: not supported here; leave it out (known: {', '.join(known)})")


def _search(request: Row, engine: Any) -> Row:  # noqa: ANN401
    queries, k = _texts([request.get("query")], "query"), request.get("k", DEFAULT_K)
    if type(k) is not int or not 1 <= k <= MAX_K:
        raise ValueError(f"k must be a whole number from 1 to {MAX_K}")
    [hits] = engine.search(queries, k)
    rows = [
        {"doc_id": hit.document.doc_id, "score": hit.score, "title": hit.document.title, "text": hit.document.text}
        for hit in hits
    ]
    return {"query": queries[0], "hits": rows}


def _embedded(request: Row, encoder: Any) -> Row:  # noqa: ANN401
    inputs = request.get("input", request.get("inputs"))
    texts = _texts([inputs] if isinstance(inputs, str) else inputs, "input")
    if (input_type := request.get("input_type") or "document") not in ("query", "document"):
        raise ValueError("input_type must be query or document")
    vectors = encoder.encode_queries(texts) if input_type == "query" else encoder.encode_documents(texts)
    data = [{"object": "embedding", "index": n, "embedding": row.tolist()} for n, row in enumerate(vectors)]
    return {"object": "list", "data": data}


def _reranked(request: Row, scorer: Any) -> Row:  # noqa: ANN401
    [query] = _texts([request.get("query")], "query")
    documents = request.get("documents")
    if isinstance(documents, list):
        documents = [_full_text(part) if isinstance(part, dict) else part for part in documents]
    texts = _texts(documents, "documents")
    top_n = request.get("top_n", len(texts))
    if type(top_n) is not int or top_n < 1:
        raise ValueError("top_n must be a whole number from 1")
    scores = scorer.score([(query, text) for text in texts])
    order = sorted(range(len(scores)), key=lambda index: (-scores[index], index))[:top_n]
    results = [{"index": n, "relevance_score": float(expit(scores[n])), "score": scores[n]} for n in order]
    return {"results": results}


def _full_text(document: Row) -> Any:  # noqa: ANN401
    """The title, if any, before the text, as `inpars serve` reads it."""
    from inpars.records import Document

    text, title = document.get("text"), document.get("title") or ""
    return Document("", text, title).full_text if isinstance(text, str) and text and isinstance(title, str) else text


def _texts(texts: Any, field: str) -> list[str]:  # noqa: ANN401
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
        raise ValueError(f"{field} must be a text or a list of texts, none of them empty")
    if len(texts) > MAX_TEXTS:
        raise ValueError(f"{field}: {len(texts)} texts; at most {MAX_TEXTS} per request")
    return texts
