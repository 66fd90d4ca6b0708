"""BM25 by Lucene and exact search with bi-encoders."""
