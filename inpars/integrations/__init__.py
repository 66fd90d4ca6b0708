"""The system of an `inpars run` inside other frameworks: one module each, loaded by whoever uses that framework.

`langchain`, `llama_index`, `haystack` and `pyterrier` have a retriever and a reranker; `mteb` measures a system there.
"""
