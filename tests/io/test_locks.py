"""Locks: one holder at a time, and file systems without locks."""

import errno
from contextlib import nullcontext

import pytest

from inpars.io import locks
from inpars.io.locks import locked


def test_a_lock_has_one_holder_until_it_is_left(tmp_path):
    first = locked(tmp_path / "lock")
    assert locked(tmp_path / "lock") is None
    with first:
        assert locked(tmp_path / "lock") is None
    with locked(tmp_path / "lock"):
        pass


def test_a_nested_one_is_held_until_all_are_left(tmp_path):
    with locked(tmp_path / "lock", nested=True):
        with locked(tmp_path / "lock", nested=True):
            pass
        assert locked(tmp_path / "lock") is None
    assert locked(tmp_path / "lock") is not None


@pytest.mark.parametrize("error", [NotImplementedError("no flock"), OSError(errno.ENOLCK, "no locks")])
def test_where_there_are_no_locks_the_caller_says_what_to_do(tmp_path, monkeypatch, error):
    def acquire(*_, **__):
        raise error

    monkeypatch.setattr(locks.FileLock, "acquire", acquire)
    with locked(tmp_path / "lock"):
        pass
    assert locked(tmp_path / "lock", without_locks=None) is None
    other = nullcontext()
    assert locked(tmp_path / "lock", without_locks=other) is other


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        locked(tmp_path / "file" / "lock")
