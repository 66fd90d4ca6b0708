"""Vector stores of others: passages, embeddings and metadata of an index on disk, pushed into them and compared."""
