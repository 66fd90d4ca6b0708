"""Generates queries for documents that have none, and chooses, trains and measures search systems with them.

    import inpars

    queries = inpars.generate("beir/nfcorpus/test", max_documents=500)
    kept = inpars.filter(queries, top_k=300)
    bm25 = inpars.search("beir/nfcorpus/test", "bm25")
    inpars.evaluate({"bm25": bm25}, "beir/nfcorpus/test")

The functions are in `inpars.api`, which is loaded on first use: `import inpars` itself loads no torch, no transformers
and no JVM.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
API = (
    *("load_corpus", "load_prompt", "generate", "score", "filter", "mine_negatives", "train_retriever"),
    *("train_reranker", "search", "rerank", "evaluate", "run", "System"),
)
CALLABLE_MODULES = ("generate", "filter", "rerank", "evaluate")  # `python -m inpars.generate` is the toolkit's command


def __getattr__(name: str) -> Any:  # noqa: ANN401 - functions and a class
    if name not in API:
        raise AttributeError(f"module 'inpars' has no attribute {name!r}")
    if name in CALLABLE_MODULES:
        return import_module(f"inpars.{name}")
    from inpars import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted((*globals(), *API))
