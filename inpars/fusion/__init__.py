"""Chooses first stages, rerankers and their weights on queries, and stores them as one search system."""
