"""Measures of runs, and whether a difference between two is more than chance."""
