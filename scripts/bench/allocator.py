"""malloc for each side of a benchmark in one process: as the `inpars` command sets it, or with glibc's own settings."""

from __future__ import annotations

import ctypes
from contextlib import suppress

from inpars.models.processor import keep_freed_memory, set_malloc

LARGEST_MAPPED, LARGEST_TRIMMED = 32 << 20, 64 << 20  # bytes; glibc raises its own thresholds to these at most


def as_shipped(*, ours: bool) -> None:
    """Set malloc for what comes next; for theirs free memory goes back to the system first."""
    if ours:
        keep_freed_memory()
        return
    set_malloc(mapped=LARGEST_MAPPED, trimmed=LARGEST_TRIMMED)
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
