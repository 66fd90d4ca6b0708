"""Trains retrievers and rerankers on triples, and readers on questions."""
