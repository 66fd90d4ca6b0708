"""Fetch web pages, given as URLs, lists of URLs or sitemaps, into the cache; only changed pages are downloaded again.

robots.txt is respected. Pages that cannot be fetched are reported and skipped. A cached copy is used if the page has
not changed or the server does not respond. Sitemaps: sitemaps.org's protocol 0.9.
"""

from __future__ import annotations

import codecs
import http.client
import json
import re
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote, urldefrag, urlsplit
from urllib.robotparser import RobotFileParser
from xml.etree import ElementTree as Tree

from inpars import __version__
from inpars.documents.folder import SourceFile
from inpars.documents.readers import KINDS
from inpars.errors import DataFormatError
from inpars.io.json_text import JsonError, parse_json
from inpars.io.storage import atomic_file, atomic_writer, read_lines
from inpars.options import FlagGroup, option
from inpars.progress import SILENT, Progress
from inpars.text.hashing import hex_key

AGENT = f"inpars/{__version__}"
MAX_BYTES = 64 << 20
MAX_SITEMAPS = 100
TYPES = {
    "text/html": ".html",
    "application/xhtml+xml": ".xhtml",
    "application/pdf": ".pdf",
    "text/plain": ".txt",
    "text/markdown": ".md",
    "text/csv": ".csv",
    "application/json": ".json",
    "application/x-ndjson": ".jsonl",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
}
UNKNOWN_TYPES = ("application/octet-stream", "binary/octet-stream", "application/gzip", "application/x-gzip")
BROWSER_CHARSETS = dict.fromkeys(("iso-8859-1", "latin1", "us-ascii", "ascii"), "windows-1252")  # as WHATWG says
SEVEN_BIT = ("iso-2022-", "hz-gb-2312")  # look like ASCII, which is UTF-8
_BROKEN = (urllib.error.URLError, http.client.HTTPException, OSError, ValueError)
_NOT_SENT = re.compile(r"[^!-~]+")  # blanks, and characters outside ASCII


@dataclass(frozen=True, kw_only=True)  # without slots, which would not let IngestOptions have several bases
class FetchOptions:
    """How web pages are fetched."""

    FLAG_GROUP: ClassVar = FlagGroup("web pages")

    max_urls: int = option(1000, help="maximum number of pages to fetch from a sitemap or list", minimum=1)
    url_delay: float = option(0.5, help="seconds between requests", changes_result=False, minimum=0)
    url_timeout: float = option(30.0, help="seconds to wait for a response", changes_result=False, minimum=0.1)


@dataclass(slots=True)
class Fetched:
    """The fetched pages, and the failed URLs by reason."""

    files: list[SourceFile]
    failed: dict[str, list[str]]
    remarks: dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class _Page:
    path: Path
    url: str
    etag: str
    modified: str


class _NotFetched(Exception):
    """A page could not be fetched; the message is the reason."""


def fetch(sources: Iterable[str], options: FetchOptions, *, cache: Path, progress: Progress = SILENT) -> Fetched:
    """Fetch the pages of URLs, of sitemaps' URLs, and of files with one URL per line."""
    client, fetched = _Client(options, cache), Fetched([], {}, {})
    urls = list(dict.fromkeys(_sent(urldefrag(url).url) for source in sources for url in _urls_of(source)))
    waiting, pages = urls[::-1], dict[str, None]()
    for url in progress.track(_popped(waiting), total=None, description="fetch", unit="addresses"):
        if len(pages) >= options.max_urls:
            fetched.failed.setdefault("beyond --max-urls", []).append(url)
            continue
        try:
            page = client.get(url, fetched.remarks)
        except _NotFetched as error:
            fetched.failed.setdefault(str(error), []).append(url)
            continue
        links = _sitemap(page.path) if client.sitemaps < MAX_SITEMAPS else None
        if links is not None:
            client.sitemaps += 1
            waiting += [link for link in reversed(links) if link not in pages and link not in waiting]
        elif url not in pages:
            pages[url] = None
            fetched.files.append(SourceFile(page.path, url, url))
    return fetched


def _popped(waiting: list[str]) -> Iterator[str]:
    while waiting:
        yield waiting.pop()


def _urls_of(source: str) -> Iterator[str]:
    """The source itself if it is a URL, else the URLs in the file."""
    if _is_address(source):
        yield source
        return
    for number, line in read_lines(Path(source)):
        url = line.strip()
        if not url.startswith("#"):
            if not _is_address(url):
                raise DataFormatError("not an http address", path=source, line=number, excerpt=url)
            yield url


def _is_address(text: str) -> bool:
    try:
        return urlsplit(text).scheme.lower() in ("http", "https") and bool(urlsplit(text).hostname)
    except ValueError:  # http://[ for instance
        return False


def _sent(url: str) -> str:
    """The URL in ASCII, with its host in IDNA and other characters percent-encoded."""
    parts = urlsplit(url)
    if not parts.netloc.isascii():
        with suppress(UnicodeError):  # of a name that no server can have
            url = parts._replace(netloc=parts.netloc.encode("idna").decode()).geturl()
    return _NOT_SENT.sub(lambda match: quote(match[0]), url)


class _Client:
    """An HTTP client that respects robots.txt and waits between requests."""

    def __init__(self, options: FetchOptions, cache: Path) -> None:
        self.sitemaps = 0
        self._options, self._folder = options, cache / "pages"
        self._robots: dict[str, RobotFileParser] = {}
        self._last_request = 0.0

    def get(self, url: str, remarks: dict[str, list[str]]) -> _Page:
        """Fetch a page, or return the cached copy if it has not changed. Raises _NotFetched."""
        if not self._is_allowed(url):
            raise _NotFetched("forbidden by robots.txt")
        stored = self._stored(url)
        try:
            return self._request(url, stored)
        except urllib.error.HTTPError as error:
            if error.code == http.HTTPStatus.NOT_MODIFIED and stored is not None:
                return stored
            raise _NotFetched(f"HTTP {error.code} {error.reason}") from None
        except _BROKEN as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
            if stored is None:
                raise _NotFetched(f"not reached ({reason})") from None
            remarks[url] = [f"not reached now ({reason}), a copy from before is used"]
            return stored

    def _request(self, url: str, stored: _Page | None) -> _Page:
        headers = {"User-Agent": AGENT, "Accept-Encoding": "gzip"}
        if stored is not None:
            headers |= {"If-None-Match": stored.etag} if stored.etag else {}
            headers |= {"If-Modified-Since": stored.modified} if stored.modified else {}
        with self._open(urllib.request.Request(url, headers=headers)) as answer:
            body = answer.read(MAX_BYTES + 1)
            if len(body) > MAX_BYTES:
                raise _NotFetched(f"larger than {MAX_BYTES >> 20} MB")
            if answer.length:  # the connection broke, which a limited read does not report
                raise http.client.IncompleteRead(body, answer.length)
            packing = (answer.headers.get("Content-Encoding") or "identity").lower()
            if packing in ("gzip", "x-gzip") or body.startswith(b"\x1f\x8b"):
                body = _unpacked(body)
            elif packing != "identity":
                raise _NotFetched(f"packed as {packing}, which was not asked for")
            suffix = _suffix(url, answer.headers.get_content_type())
            if answer.headers.get_content_maintype() == "text" and suffix != ".xml":  # XML declares its encoding
                body = _as_utf8(body, answer.headers.get_content_charset())
            validators = {"etag": answer.headers.get("ETag", ""), "modified": answer.headers.get("Last-Modified", "")}
        return self._keep(url, suffix, body, validators)

    def _open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        time.sleep(max(0.0, self._last_request + self._options.url_delay - time.monotonic()))
        self._last_request = time.monotonic()
        answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=self._options.url_timeout)
        return answer

    def _keep(self, url: str, suffix: str, body: bytes, validators: dict[str, str]) -> _Page:
        folder = self._page_folder(url)
        path = folder / f"page{suffix}"
        with atomic_file(path) as working:
            working.write_bytes(body)
        with atomic_writer(folder / "told.json") as stream:
            json.dump({"path": path.name, "url": url, **validators}, stream)
        return _Page(path, url, validators["etag"], validators["modified"])

    def _stored(self, url: str) -> _Page | None:
        try:
            fields = parse_json((self._page_folder(url) / "told.json").read_bytes())
            return _Page(self._page_folder(url) / fields["path"], url, fields["etag"], fields["modified"])
        except (FileNotFoundError, JsonError, KeyError, TypeError):
            return None

    def _page_folder(self, url: str) -> Path:
        return self._folder / hex_key(url, digits=24)

    def _is_allowed(self, url: str) -> bool:
        """Whether the server's robots.txt allows the URL; without one, everything is allowed."""
        parts = urlsplit(url)
        root = f"{parts.scheme}://{parts.netloc}"
        if root not in self._robots:
            rules = RobotFileParser()
            try:
                with self._open(urllib.request.Request(f"{root}/robots.txt", headers={"User-Agent": AGENT})) as answer:
                    rules.parse(answer.read(1 << 20).decode("utf-8", "replace").splitlines())
            except _BROKEN:
                rules.parse([])
            self._robots[root] = rules
        return self._robots[root].can_fetch(AGENT, url)


def _unpacked(body: bytes) -> bytes:
    """Decompress a gzipped body. Raises _NotFetched if it is broken or too large."""
    stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        text = stream.decompress(body, MAX_BYTES + 1)
    except zlib.error:
        raise _NotFetched("broken gzip") from None
    if len(text) > MAX_BYTES:
        raise _NotFetched(f"larger than {MAX_BYTES >> 20} MB")
    if not stream.eof:
        raise _NotFetched("broken gzip")
    return text


def _as_utf8(body: bytes, charset: str | None) -> bytes:
    """The text of a body whose encoding only its header names; UTF-8 and a byte order mark count more."""
    if charset is None or body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return body
    try:
        body.decode()
    except UnicodeDecodeError:
        is_utf8 = False
    else:
        is_utf8 = not charset.startswith(SEVEN_BIT)
    if not is_utf8:
        with suppress(LookupError, ValueError):  # an unknown or wrong name is no reason to lose the page
            return body.decode(BROWSER_CHARSETS.get(charset, charset)).encode()
    return body


def _suffix(url: str, content_type: str) -> str:
    """The file extension for a response: by its content type, else by the URL. Raises _NotFetched."""
    url_suffix = Path(urlsplit(url).path.removesuffix(".gz")).suffix.lower()
    if content_type == "text/plain" and url_suffix in KINDS:
        return url_suffix  # servers send text/plain for these
    if content_type in ("application/xml", "text/xml") or url_suffix == ".xml":
        return ".xml"
    suffix = TYPES.get(content_type, url_suffix if content_type in UNKNOWN_TYPES else "")
    if suffix not in KINDS:
        raise _NotFetched(f"of a kind that is not read ({content_type})")
    return suffix


def _sitemap(path: Path) -> list[str] | None:
    """The URLs of a sitemap or sitemap index, None for other files."""
    if path.suffix != ".xml":
        return None
    try:
        root = Tree.fromstring(path.read_bytes())
    except (Tree.ParseError, LookupError, ValueError):  # the last two for unknown encodings
        return None
    if root.tag.rpartition("}")[2] not in ("urlset", "sitemapindex"):
        return None
    entries = (element for entry in root for element in entry)  # not those of images, which are deeper
    urls = ((element.text or "").strip() for element in entries if element.tag.rpartition("}")[2] == "loc")
    return [_sent(url) for url in urls if _is_address(url)]
