"""One process at a time: files that are locked, on every system."""

from __future__ import annotations

import errno
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeAlias

from filelock import FileLock, Timeout

NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
Held: TypeAlias = AbstractContextManager[Any] | None
UNLOCKED: Held = nullcontext()


def locked(path: Path, *, seconds: float = 0.0, nested: bool = False, without_locks: Held = UNLOCKED) -> Held:
    """What holds the lock until it is left; None where another process still has it after so many seconds.

    `without_locks` comes back where the file system has no locks. `nested` lets this process lock what it has locked
    already. Raises OSError for a full disk or a folder that cannot be written.
    """
    try:
        return FileLock(path, is_singleton=nested).acquire(timeout=seconds)
    except Timeout:
        return None
    except NotImplementedError:
        return without_locks
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return without_locks
