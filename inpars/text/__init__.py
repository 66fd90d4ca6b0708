"""What counts as a word, for whoever compares texts."""
