"""Selects the synthetic queries worth keeping."""
