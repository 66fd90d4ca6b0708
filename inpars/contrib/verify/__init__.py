"""Verification of finished runs and files: hashes, log-probs, scores, the chosen system."""
