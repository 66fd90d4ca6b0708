"""Who writes queries: one protocol, one module a kind of generator."""
