"""Evaluation of runs: measures, significance tests and their wording."""
