"""Runs compared with each other, and filters by what they give on judged queries."""
