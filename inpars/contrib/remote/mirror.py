"""Copies of objects in the cache, under paths that mirror theirs, so that neighbouring files stay neighbours.

A small file for each copy says which version of the object it is and how it looked then: an object is fetched only when
it changed, a file is stored only when it did. Where both did, the object wins: whoever stored it was further.

Object stores are reached through fsspec. Where obstore is installed it answers for fsspec's protocols: one wheel
without dependencies for S3, Google and Azure, where s3fs pins a botocore that boto3 of today does not go with.
Otherwise fsspec's own implementations (s3fs, gcsfs, adlfs) are used where installed. Failing requests are repeated with
growing waits; sizes, and MD5 sums where the store tells them, are compared after each copy.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import json
import os
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from inpars.cache import remote_folder
from inpars.errors import BackendError, DataFormatError, MissingDependencyError, StorageError, reason_of
from inpars.io.json_text import JsonError, parse_json
from inpars.io.storage import atomic_file, atomic_writer

Found = TypeVar("Found")
SCHEMES = ("s3", "gs", "az", "memory")  # the last one is fsspec's own, for tests
URL = re.compile(rf"({'|'.join(SCHEMES)})://(.+)")
PART_BYTES = 32 << 20  # fetched by one request
ATTEMPTS = 8
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.2, 20.0  # doubled after each failure; 27 s in all
ABSENT = ("404 Not Found", "NoSuchBucket")  # obstore says so in words alone where it lists
REFUSED = ("401 Unauthorized", "403 Forbidden", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch")
MD5 = re.compile(r"[0-9a-f]{32}")


def is_url(text: str) -> bool:
    """Whether it names an object or a folder of a store; web addresses do not."""
    return URL.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object as the store lists it; `version` changes with the content."""

    size: int
    version: str


@dataclass(slots=True)
class Mirror:
    """The local side of object stores."""

    root: Path = field(default_factory=remote_folder)
    wait: Callable[[float], None] = time.sleep
    _stores: dict[str, Any] = field(default_factory=dict)  # fsspec's file systems, which have no types, by scheme

    def path(self, url: str) -> Path:
        """The local path of an object or a folder."""
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
        fetched = self.fetch_beside(path, lambda name: name == path.name or siblings(name))
        if path.name not in fetched and not self.fetch_below(path):
            raise DataFormatError("no such object; check the address and AWS_ENDPOINT_URL", path=url)
        return path

    def fetch_beside(self, path: Path, accepts: Callable[[str], bool]) -> list[str]:
        """Fetch the objects in the folder of `path` whose names are wanted, and name them."""
        listed = {name: info for name, info in self.listed(path.parent).items() if accepts(name)}
        for name, info in listed.items():
            self._fetch(path.parent / name, info)
        return list(listed)

    def fetch_below(self, path: Path) -> list[str]:
        """Fetch all objects of a folder, and name them."""
        listed = self.listed(path, below=True)
        for name, info in listed.items():
            self._fetch(path / name, info)
        return list(listed)

    def store(self, path: Path) -> bool:
        """Store a file where it changed since it was fetched or stored; whether it did. Stores show whole objects."""
        status = path.stat()
        file_state = [status.st_size, status.st_mtime_ns]
        if self._state(path).get("seen") == file_state:
            return False
        try:
            info = self._try(path, lambda files, key: self._upload(files, key, path))
        except FileNotFoundError:
            raise StorageError(f"{self.url(path)}: there is no such bucket; make it first") from None
        self._remember(path, info, file_state)
        return True

    def remove(self, path: Path) -> None:
        """Remove the object of a file that is gone; it may be absent too."""
        with contextlib.suppress(FileNotFoundError):
            self._try(path, lambda files, key: files.rm_file(key))
        self._state_path(path).unlink(missing_ok=True)

    def is_stored(self, path: Path) -> bool:
        """Whether an object of this path was fetched or stored from here."""
        return self._state_path(path).exists()

    def listed(self, folder: Path, *, below: bool = False) -> dict[str, ObjectInfo]:
        """The objects in a folder by their names, or all below it by their relative names."""

        def listing(files: Any, key: str) -> list[dict[str, Any]]:  # noqa: ANN401
            return list(files.find(key, detail=True).values()) if below else files.ls(key, detail=True)

        try:
            entries = self._try(folder, listing)
        except FileNotFoundError:
            return {}
        start = "/".join(folder.relative_to(self.root).parts[1:]) + "/"
        objects = {entry["name"].strip("/"): _info(entry) for entry in entries if entry["type"] == "file"}
        return {name.removeprefix(start): info for name, info in objects.items() if name.startswith(start)}

    def _fetch(self, path: Path, info: ObjectInfo) -> None:
        """Copy an object to its file, which appears when it is whole."""
        if path.exists() and self._state(path).get("version") == info.version:
            return
        with atomic_file(path) as working:
            self._try(path, lambda _, key: self._download(path, info, working))
        status = path.stat()
        self._remember(path, info, [status.st_size, status.st_mtime_ns])

    def _download(self, path: Path, info: ObjectInfo, target: Path) -> None:
        digest = _md5()
        with target.open("wb") as stream:
            for start in range(0, info.size, PART_BYTES):
                end = min(start + PART_BYTES, info.size)
                part = self._try(path, lambda files, key, start=start, end=end: _part(files, key, start, end))  # type: ignore[misc]
                digest.update(part)
                stream.write(part)
        _compare(info, info.size, digest.hexdigest())

    def _upload(self, files: Any, key: str, path: Path) -> ObjectInfo:  # noqa: ANN401
        """Lines may be appended meanwhile; what was there when it began is sent at least."""
        size = path.stat().st_size
        files.put_file(str(path), key)
        info = self.listed(path.parent).get(path.name)
        if info is None or info.size < size:
            raise OSError(f"{size} bytes were stored and {0 if info is None else info.size} are there")
        if info.size == path.stat().st_size == size:
            with path.open("rb") as stream:
                _compare(info, size, hashlib.file_digest(stream, _md5).hexdigest())
        return info

    def _try(self, path: Path, call: Callable[[Any, str], Found]) -> Found:
        """The answer of the first call that does not fail; what cannot get better is not tried again."""
        scheme, *parts = path.relative_to(self.root).parts
        if scheme not in self._stores:
            self._stores[scheme] = _file_system(scheme)
        wait = FIRST_WAIT_SECONDS
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return call(self._stores[scheme], "/".join(parts))
            except (FileNotFoundError, StorageError):
                raise
            except Exception as error:
                if _is(error, ABSENT):
                    raise FileNotFoundError(str(path)) from error
                if isinstance(error, PermissionError) or _is(error, REFUSED):
                    raise BackendError(f"{self.url(path)}: {reason_of(error)[:200]}; check the credentials") from error
                if attempt == ATTEMPTS:
                    raise StorageError(
                        f"{self.url(path)}: failed {ATTEMPTS} times ({reason_of(error)[:200]}); "
                        "what is done is kept on this machine, run the same command again"
                    ) from error
            self.wait(min(wait, LONGEST_WAIT_SECONDS) * random.uniform(0.5, 1.0))
            wait *= 2
        raise AssertionError("not reached")

    def _state_path(self, path: Path) -> Path:
        relative = path.relative_to(self.root)
        return self.root / ".state" / relative.with_name(f"{relative.name}.json")

    def _state(self, path: Path) -> dict[str, object]:
        try:
            state = parse_json(self._state_path(path).read_bytes())
        except (FileNotFoundError, JsonError):
            return {}
        return state if isinstance(state, dict) else {}

    def _remember(self, path: Path, info: ObjectInfo, file_state: list[int]) -> None:
        with atomic_writer(self._state_path(path)) as stream:
            json.dump({"version": info.version, "seen": file_state}, stream)


def _file_system(scheme: str) -> Any:  # noqa: ANN401
    """What fsspec reaches a kind of store with. Raises MissingDependencyError where no package does."""
    has_own_package = scheme == "memory" or importlib.util.find_spec({"s3": "s3fs", "gs": "gcsfs"}.get(scheme, "adlfs"))
    for package in ("fsspec", *(() if has_own_package else ("obstore",))):
        if importlib.util.find_spec(package) is None:
            raise MissingDependencyError(package, f"for {scheme}:// addresses", "pip install fsspec obstore")
    import fsspec

    if scheme == "memory" or importlib.util.find_spec("obstore") is None:
        return fsspec.filesystem(scheme)
    obstore: Any = importlib.import_module("obstore.fsspec")
    plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
    return obstore.FsspecStore(scheme, client_options={"allow_http": True} if plain else None)


def _part(files: Any, key: str, start: int, end: int) -> bytes:  # noqa: ANN401
    part = bytes(files.cat_file(key, start=start, end=end))
    if len(part) != end - start:
        raise OSError(f"{len(part)} of {end - start} bytes came")
    return part


def _md5() -> Any:  # noqa: ANN401 - hashlib's type has no public name
    return hashlib.md5(usedforsecurity=False)


def _info(entry: dict[str, Any]) -> ObjectInfo:
    versions = (entry.get(name) for name in ("e_tag", "ETag", "etag", "last_modified", "LastModified", "created"))
    version = next((str(value).strip('"') for value in versions if value), "")
    return ObjectInfo(int(entry["size"]), version)


def _compare(info: ObjectInfo, size: int, md5: str) -> None:
    if size != info.size or (MD5.fullmatch(info.version) and md5 != info.version):
        raise OSError("it arrived with other bytes than it has")


def _is(error: Exception, words: tuple[str, ...]) -> bool:
    return any(word in str(error) for word in words)
