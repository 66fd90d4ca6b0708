"""First-stage retrieval: BM25, bi-encoders, late interaction, learned sparse retrieval, vector indexes."""
