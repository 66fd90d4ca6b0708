"""Sources of documents, and their selection."""
