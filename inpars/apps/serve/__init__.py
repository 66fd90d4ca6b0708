"""Search, answers, embeddings and reranking over HTTP, and a page to try them on.

Importing this package loads neither FastAPI nor torch.
"""
