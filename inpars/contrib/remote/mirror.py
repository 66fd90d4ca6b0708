"""A mirror of object stores in the cache: objects are copied to paths that correspond to their URLs.

A state file per copy records the object's version and the file's size and time: objects are fetched, and files stored,
only if they changed. If both changed, the object wins, because the machine that stored it was further.

Stores are accessed through fsspec: by obstore if installed (one wheel for S3, Google and Azure, whereas s3fs pins a
botocore that conflicts with current boto3), else by s3fs, gcsfs or adlfs. Failed requests are retried with exponential
backoff. After each copy, sizes and, if the store has them, MD5 sums are compared.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
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
from inpars.io.storage import atomic_file, write_json

Result = TypeVar("Result")
SCHEMES = ("s3", "gs", "az", "memory")  # memory: fsspec's, for tests
URL = re.compile(rf"({'|'.join(SCHEMES)})://(.+)")
PART_BYTES = 32 << 20  # per request
ATTEMPTS = 8
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.2, 20.0  # doubled after each failure; 27 s in all
ABSENT = ("404 Not Found", "NoSuchBucket")  # obstore's listings raise no FileNotFoundError
REFUSED = ("401 Unauthorized", "403 Forbidden", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch")
MD5 = re.compile(r"[0-9a-f]{32}")


def is_url(text: str) -> bool:
    """Whether a text is the URL of an object or folder in a store; web addresses are not."""
    return URL.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object in a listing; `version` changes with the content."""

    size: int
    version: str


@dataclass(slots=True)
class Mirror:
    """The local side of object stores."""

    root: Path = field(default_factory=remote_folder)
    wait: Callable[[float], None] = time.sleep
    _stores: dict[str, Any] = field(default_factory=dict)  # scheme -> fsspec's file system, which is untyped

    def path(self, url: str) -> Path:
        """The local path of an object or a folder."""
        match = URL.fullmatch(url)
        assert match is not None
        return self.root / match[1] / match[2].strip("/")

    def url(self, path: Path) -> str:
        """The URL of a local path."""
        scheme, *parts = path.relative_to(self.root).parts
        return f"{scheme}://{'/'.join(parts)}"

    def fetch(self, url: str, *, siblings: Callable[[str], bool] = lambda name: False) -> Path:
        """Fetch an object or a whole folder, with the selected `siblings`, and return its path.

        Raises DataFormatError if there is neither.
        """
        path = self.path(url)
        fetched = self.fetch_beside(path, lambda name: name == path.name or siblings(name))
        if path.name not in fetched and not self.fetch_below(path):
            raise DataFormatError("no such object; check the address and AWS_ENDPOINT_URL", path=url)
        return path

    def fetch_beside(self, path: Path, accepts: Callable[[str], bool]) -> list[str]:
        """Fetch the accepted objects in the folder of `path` and return their names."""
        listed = {name: info for name, info in self.listed(path.parent).items() if accepts(name)}
        for name, info in listed.items():
            self._fetch(path.parent / name, info)
        return list(listed)

    def fetch_below(self, path: Path) -> list[str]:
        """Fetch all objects of a folder and return their relative names."""
        listed = self.listed(path, below=True)
        for name, info in listed.items():
            self._fetch(path / name, info)
        return list(listed)

    def store(self, path: Path) -> bool:
        """Store a file if it changed since it was fetched or stored; whether it did."""
        status = path.stat()
        file_state = [status.st_size, status.st_mtime_ns]
        if self._state(path).get("seen") == file_state:
            return False
        try:
            info = self._try(path, lambda files, key: self._upload(files, key, path))
        except FileNotFoundError:
            raise StorageError(f"{self.url(path)}: no such bucket; create it first") from None
        self._remember(path, info, file_state)
        return True

    def remove(self, path: Path) -> None:
        """Remove an object; it may be absent."""
        with contextlib.suppress(FileNotFoundError):
            self._try(path, lambda files, key: files.rm_file(key))
        self._state_path(path).unlink(missing_ok=True)

    def is_stored(self, path: Path) -> bool:
        """Whether this machine has fetched or stored the object."""
        return self._state_path(path).exists()

    def listed(self, folder: Path, *, below: bool = False) -> dict[str, ObjectInfo]:
        """The objects in a folder by name, or all objects below it by relative name."""

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
        """Copy an object to its file atomically."""
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
        """Upload a file, to which the command may append lines meanwhile."""
        size = path.stat().st_size
        files.put_file(str(path), key)
        info = self.listed(path.parent).get(path.name)
        if info is None or info.size < size:
            raise OSError(f"stored {size} bytes, but the object has {0 if info is None else info.size}")
        if info.size == path.stat().st_size == size:
            with path.open("rb") as stream:
                _compare(info, size, hashlib.file_digest(stream, _md5).hexdigest())
        return info

    def _try(self, path: Path, call: Callable[[Any, str], Result]) -> Result:
        """The result of the first call that succeeds. Permanent errors are not retried."""
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
        write_json(self._state_path(path), {"version": info.version, "seen": file_state})


def _file_system(scheme: str) -> Any:  # noqa: ANN401
    """The file system of a scheme. Raises MissingDependencyError without a package for it."""
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
        raise OSError(f"received {len(part)} of {end - start} bytes")
    return part


def _md5() -> Any:  # noqa: ANN401 - hashlib's type has no public name
    return hashlib.md5(usedforsecurity=False)


def _info(entry: dict[str, Any]) -> ObjectInfo:
    versions = (entry.get(name) for name in ("e_tag", "ETag", "etag", "last_modified", "LastModified", "created"))
    version = next((str(value).strip('"') for value in versions if value), "")
    return ObjectInfo(int(entry["size"]), version)


def _compare(info: ObjectInfo, size: int, md5: str) -> None:
    if size != info.size or (MD5.fullmatch(info.version) and md5 != info.version):
        raise OSError("the copy has other bytes than the object")


def _is(error: Exception, words: tuple[str, ...]) -> bool:
    return any(word in str(error) for word in words)
