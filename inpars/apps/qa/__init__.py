"""Questions to a collection: hits with what to highlight, and answers with where they stand."""
