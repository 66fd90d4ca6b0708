"""Who turns triples into models: bi-encoders and rerankers."""
