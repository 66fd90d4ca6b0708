"""Queries by OpenAI-compatible servers. `generator` puts the parts together; each of them says what it knows."""
