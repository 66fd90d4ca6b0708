"""Stages from file to file: resume, skip, manifest. The work itself is in the modules they call."""
