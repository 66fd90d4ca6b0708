"""Which first stages and rerankers count how much, decided on queries, and kept as one search system."""
