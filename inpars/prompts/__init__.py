"""Prompts for query generation."""
