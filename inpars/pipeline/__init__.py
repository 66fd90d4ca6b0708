"""The whole of it, from documents to a report."""
