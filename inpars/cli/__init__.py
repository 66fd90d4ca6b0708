"""The command line: `main`, and one module per command (flags in, stage called, result printed)."""
