"""Vector stores: push the passages, embeddings and metadata of an index on disk, and compare the contents."""
