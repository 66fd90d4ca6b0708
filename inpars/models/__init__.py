"""Loads models by name, and chooses their device and number format."""
