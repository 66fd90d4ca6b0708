"""The cache folder, and the addresses of remote files that are cached in it."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """The folder of converted models, unpacked corpora and indexes: INPARS_CACHE or the user's cache folder."""
    configured = os.environ.get("INPARS_CACHE")
    if configured:
        return Path(configured)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "inpars"


def remote_folder() -> Path:
    """The folder of local copies of remote files."""
    return cache_folder() / "remote"


def canonical_name(name: str) -> str:
    """The address of a remote file, given the path of its copy; other names unchanged."""
    path = Path(name)
    if not path.is_absolute() or not path.is_relative_to(remote_folder()):
        return name
    scheme, *parts = path.relative_to(remote_folder()).parts
    return f"{scheme}://{'/'.join(parts)}"
