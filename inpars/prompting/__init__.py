"""What a language model is shown before it writes a query."""
