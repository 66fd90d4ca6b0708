"""Copies of objects in the cache, at places that mirror theirs, so that what lies beside them lies beside the copies.

A small file for each copy says which version of the object it is and how it looked then: an object is fetched only when
it changed, a file is stored only when it did. Where both did, the object wins: whoever stored it was further.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from inpars.cache import remote_folder
from inpars.errors import DataFormatError
from inpars.json_text import JsonError, parse_json
from inpars.remote.objects import URL, ObjectInfo, Objects
from inpars.storage import atomic_writer


@dataclass(slots=True)
class Mirror:
    """The local side of object stores."""

    root: Path = field(default_factory=remote_folder)
    wait: Callable[[float], None] = time.sleep
    _stores: dict[str, Objects] = field(default_factory=dict)

    def path(self, url: str) -> Path:
        """Where the copy of an object or a folder lies."""
        match = URL.fullmatch(url)
        assert match is not None
        return self.root / match[1] / match[2].strip("/")

    def url(self, path: Path) -> str:
        """What a path is the copy of."""
        scheme, *parts = path.relative_to(self.root).parts
        return f"{scheme}://{'/'.join(parts)}"

    def fetch(self, url: str, *, siblings: Callable[[str], bool] = lambda name: False) -> Path:
        """The copy of an object or of all of a folder, with those beside it that are wanted.

        Raises DataFormatError where there is neither.
        """
        path = self.path(url)
        found = self.fetch_beside(path, lambda name: name == path.name or siblings(name))
        if path.name not in found and not self.fetch_below(path):
            raise DataFormatError("no such object; check the address and AWS_ENDPOINT_URL", path=url)
        return path

    def fetch_beside(self, path: Path, wanted: Callable[[str], bool]) -> list[str]:
        """Fetch the objects in the folder of `path` whose names are wanted, and name them."""
        store, folder = self._store(path.parent)
        found = {name: info for name, info in store.beside(folder).items() if wanted(name)}
        for name, info in found.items():
            self._fetch(path.parent / name, info)
        return list(found)

    def fetch_below(self, path: Path) -> list[str]:
        """Fetch all objects of a folder, and name them."""
        store, folder = self._store(path)
        found = store.below(folder)
        for name, info in found.items():
            self._fetch(path / name, info)
        return list(found)

    def store(self, path: Path) -> bool:
        """Store a file where it changed since it was fetched or stored; whether it did."""
        status = path.stat()
        seen = [status.st_size, status.st_mtime_ns]
        if self._state(path).get("seen") == seen:
            return False
        store, key = self._store(path)
        info = store.store(path, key)
        self._remember(path, info, seen)
        return True

    def remove(self, path: Path) -> None:
        """Remove the object of a file that is gone."""
        store, key = self._store(path)
        store.remove(key)
        self._state_path(path).unlink(missing_ok=True)

    def is_stored(self, path: Path) -> bool:
        """Whether an object of this path was fetched or stored from here."""
        return self._state_path(path).exists()

    def _fetch(self, path: Path, info: ObjectInfo) -> None:
        if path.exists() and self._state(path).get("version") == info.version:
            return
        store, key = self._store(path)
        store.fetch(key, info, path)
        status = path.stat()
        self._remember(path, info, [status.st_size, status.st_mtime_ns])

    def _store(self, path: Path) -> tuple[Objects, str]:
        scheme, *parts = path.relative_to(self.root).parts
        if scheme not in self._stores:
            self._stores[scheme] = Objects(scheme, wait=self.wait)
        return self._stores[scheme], "/".join(parts)

    def _state_path(self, path: Path) -> Path:
        relative = path.relative_to(self.root)
        return self.root / ".state" / relative.with_name(f"{relative.name}.json")

    def _state(self, path: Path) -> dict[str, object]:
        try:
            found = parse_json(self._state_path(path).read_bytes())
        except (FileNotFoundError, JsonError):
            return {}
        return found if isinstance(found, dict) else {}

    def _remember(self, path: Path, info: ObjectInfo, seen: list[int]) -> None:
        with atomic_writer(self._state_path(path)) as stream:
            json.dump({"version": info.version, "seen": seen}, stream)
