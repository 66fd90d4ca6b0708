"""The prompt templates of the checkout, as package files."""
