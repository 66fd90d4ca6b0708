"""One object store: lists, fetches and stores whole objects, again and again until each has arrived.

Object stores are reached through fsspec. Where obstore is installed it answers for fsspec's protocols: one wheel
without dependencies for S3, Google and Azure, where s3fs pins a botocore that boto3 of today does not go with.
Otherwise fsspec's own implementations (s3fs, gcsfs, adlfs) are used where installed. Failing requests are repeated with
growing waits; sizes, and MD5 sums where the store tells them, are compared after each copy.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from inpars.errors import BackendError, MissingDependencyError, StorageError
from inpars.storage import atomic_file

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
    """An object as the store tells it; `version` changes with the content."""

    size: int
    version: str


class Objects:
    """The objects of one kind of store; paths are `bucket/key`."""

    def __init__(self, scheme: str, *, wait: Callable[[float], None] = time.sleep) -> None:
        """Raises MissingDependencyError where no package reaches the store."""
        self.scheme, self._wait, self._files = scheme, wait, _file_system(scheme)

    def beside(self, folder: str) -> dict[str, ObjectInfo]:
        """The objects in a folder by their names, without those of folders in it."""
        return self._listed(folder, lambda: self._files.ls(folder, detail=True))

    def below(self, folder: str) -> dict[str, ObjectInfo]:
        """All objects of a folder by their relative names."""
        return self._listed(folder, lambda: list(self._files.find(folder, detail=True).values()))

    def fetch(self, path: str, info: ObjectInfo, target: Path) -> None:
        """Copy an object to a file, which appears when it is whole."""
        with atomic_file(target) as working:
            self._try(path, lambda: self._download(path, info, working))

    def store(self, source: Path, path: str) -> ObjectInfo:
        """Copy a file to an object; stores show it when it is whole."""
        try:
            return self._try(path, lambda: self._upload(source, path))
        except FileNotFoundError:
            raise StorageError(f"{self.scheme}://{path}: there is no such bucket; make it first") from None

    def remove(self, path: str) -> None:
        """Remove an object, which may be absent."""

        def remove() -> None:
            try:
                self._files.rm_file(path)
            except FileNotFoundError:
                return

        self._try(path, remove)

    def _listed(self, folder: str, listing: Callable[[], list[dict[str, Any]]]) -> dict[str, ObjectInfo]:
        try:
            entries = self._try(folder, listing)
        except FileNotFoundError:
            return {}
        files = [entry for entry in entries if entry["type"] == "file"]
        start = f"{folder.strip('/')}/"
        return {
            entry["name"].strip("/").removeprefix(start): _info(entry)
            for entry in files
            if entry["name"].strip("/").startswith(start)
        }

    def _download(self, path: str, info: ObjectInfo, target: Path) -> None:
        digest = _md5()
        with target.open("wb") as stream:
            for start in range(0, info.size, PART_BYTES):
                end = min(start + PART_BYTES, info.size)
                part = self._try(path, lambda start=start, end=end: self._part(path, start, end))  # type: ignore[misc]
                digest.update(part)
                stream.write(part)
        _compare(path, info, info.size, digest.hexdigest())

    def _part(self, path: str, start: int, end: int) -> bytes:
        part = bytes(self._files.cat_file(path, start=start, end=end))
        if len(part) != end - start:
            raise OSError(f"{len(part)} of {end - start} bytes came")
        return part

    def _upload(self, source: Path, path: str) -> ObjectInfo:
        """Lines may be appended meanwhile; what was there when it began is sent at least."""
        size, folder, name = source.stat().st_size, *_parent_and_name(path)
        self._files.put_file(str(source), path)
        info = self.beside(folder).get(name)
        if info is None or info.size < size:
            raise OSError(f"{size} bytes were stored and {0 if info is None else info.size} are there")
        if info.size == source.stat().st_size == size and MD5.fullmatch(info.version):
            with source.open("rb") as stream:
                _compare(path, info, size, hashlib.file_digest(stream, _md5).hexdigest())
        return info

    def _try(self, path: str, call: Callable[[], Found]) -> Found:
        """The answer of the first call that does not fail; what cannot get better is not tried again."""
        wait = FIRST_WAIT_SECONDS
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return call()
            except (FileNotFoundError, StorageError):
                raise
            except Exception as error:
                if _is(error, ABSENT):
                    raise FileNotFoundError(path) from error
                if isinstance(error, PermissionError) or _is(error, REFUSED):
                    raise BackendError(f"{self.scheme}://{path}: {_one_line(error)}; check the credentials") from error
                if attempt == ATTEMPTS:
                    raise StorageError(
                        f"{self.scheme}://{path}: failed {ATTEMPTS} times ({_one_line(error)}); "
                        "what is done is kept on this machine, run the same command again"
                    ) from error
            self._wait(min(wait, LONGEST_WAIT_SECONDS) * random.uniform(0.5, 1.0))
            wait *= 2
        raise AssertionError("not reached")


def _file_system(scheme: str) -> Any:  # noqa: ANN401 - fsspec has no types
    for package in ("fsspec", *(() if scheme == "memory" else ("obstore",))):
        if importlib.util.find_spec(package) is None and (package == "fsspec" or not _own_package(scheme)):
            raise MissingDependencyError(package, f"for {scheme}:// addresses", "pip install fsspec obstore")
    import fsspec

    if scheme == "memory" or importlib.util.find_spec("obstore") is None:
        return fsspec.filesystem(scheme)
    obstore: Any = importlib.import_module("obstore.fsspec")
    plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
    return obstore.FsspecStore(scheme, client_options={"allow_http": True} if plain else None)


def _own_package(scheme: str) -> bool:
    return importlib.util.find_spec({"s3": "s3fs", "gs": "gcsfs"}.get(scheme, "adlfs")) is not None


def _parent_and_name(path: str) -> tuple[str, str]:
    folder, _, name = path.rpartition("/")
    return folder, name


def _md5() -> Any:  # noqa: ANN401 - hashlib's type has no public name
    return hashlib.md5(usedforsecurity=False)


def _info(entry: dict[str, Any]) -> ObjectInfo:
    said = (entry.get(name) for name in ("e_tag", "ETag", "etag", "last_modified", "LastModified", "created"))
    version = next((str(value).strip('"') for value in said if value), "")
    return ObjectInfo(int(entry["size"]), version)


def _compare(path: str, info: ObjectInfo, size: int, md5: str) -> None:
    if size != info.size or (MD5.fullmatch(info.version) and md5 != info.version):
        raise OSError(f"{path} arrived with other bytes than it has")


def _is(error: Exception, words: tuple[str, ...]) -> bool:
    return any(word in str(error) for word in words)


def _one_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
