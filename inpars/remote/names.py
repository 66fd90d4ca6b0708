"""What a copy in the cache is called in files: the address it was fetched from, which is the same on every machine."""

from __future__ import annotations

from pathlib import Path

from inpars.corpus import cache_folder


def remote_folder() -> Path:
    """Where the copies lie."""
    return cache_folder() / "remote"


def lasting_name(name: str) -> str:
    """The address of a copy; other names as they are."""
    path = Path(name)
    if not path.is_absolute() or not path.is_relative_to(remote_folder()):
        return name
    scheme, *parts = path.relative_to(remote_folder()).parts
    return f"{scheme}://{'/'.join(parts)}"
