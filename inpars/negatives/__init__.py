"""Builds training data: hard negatives, their audit, dev splits."""
