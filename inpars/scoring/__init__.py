"""Who scores a (query, document) pair: one protocol, one module a kind of scorer."""
