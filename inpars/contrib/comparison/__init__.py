"""Comparisons: of two runs, and of query filters."""
