"""The commands: flags in, stage called, result printed. One module a command."""
