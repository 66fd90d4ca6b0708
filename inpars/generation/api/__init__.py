"""Query generation with OpenAI-compatible servers; `generator` is the entry point."""
