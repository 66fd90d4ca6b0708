"""Lock files across processes."""

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
    """A context manager that holds the lock; None if another process still holds it after `seconds`.

    Returns `without_locks` if the file system does not support locks. `nested` allows this process to take a lock it
    already holds. Raises OSError for a full disk or a folder that is not writable.
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
