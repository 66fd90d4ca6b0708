"""Comparing texts: words, hashes and near-duplicates."""
