"""Fetching pages from a local server: sitemaps, robots.txt, changed and unchanged pages."""

import gzip
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from inpars.documents.web_pages import FetchOptions, _sent, fetch
from inpars.errors import DataFormatError

QUICK = FetchOptions(url_delay=0, url_timeout=5)


class Site(BaseHTTPRequestHandler):
    """Serves the pages of its server: path -> (content type, body)."""

    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("If-None-Match")))
        content_type, body = self.server.pages.get(self.path, (None, b""))
        etag = f'"{hash(body)}"'
        if content_type is None:
            self.send_error(404)
        elif self.headers.get("If-None-Match") == etag:
            self.send_response(304)
            self.end_headers()
        else:
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("ETag", etag)
            if self.path in self.server.torn:
                self.send_header("Content-Length", str(len(body) + 9))
                self.end_headers()
                self.wfile.write(body)
                return
            if packing := self.server.packings.get(self.path):
                self.send_header("Content-Encoding", packing)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def site():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.pages, server.asked, server.packings, server.torn = {}, [], {}, ()
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    server.root = f"http://127.0.0.1:{server.server_address[1]}"
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def sitemap(*urls, kind="urlset", entry="url"):
    inner = "".join(f"<{entry}><loc>{url}</loc></{entry}>" for url in urls)
    return f'<?xml version="1.0"?><{kind} xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{inner}</{kind}>'.encode()


def test_a_sitemap_of_sitemaps(site, tmp_path):
    root = site.root
    site.pages = {
        "/index.xml": ("application/xml", sitemap(f"{root}/s.xml.gz", kind="sitemapindex", entry="sitemap")),
        "/s.xml.gz": (
            "application/xml",
            gzip.compress(sitemap(f"{root}/a", f"{root}/b.md", f"{root}/gone", f"{root}/i.png")),
        ),
        "/a": ("text/html; charset=utf-8", b"<p>A"),
        "/b.md": ("text/plain", b"# B"),
        "/i.png": ("image/png", b"x"),
    }
    found = fetch([f"{root}/index.xml"], QUICK, cache=tmp_path)
    assert [(file.source, file.path.suffix, file.path.read_bytes()) for file in found.files] == [
        (f"{root}/a", ".html", b"<p>A"),
        (f"{root}/b.md", ".md", b"# B"),
    ]
    assert found.failed == {
        "HTTP 404 Not Found": [f"{root}/gone"],
        "of a kind that is not read (image/png)": [f"{root}/i.png"],
    }


def test_a_list_of_addresses(site, tmp_path):
    site.pages = {"/a": ("text/plain", b"a"), "/b": ("text/plain", b"b")}
    listed = tmp_path / "urls.txt"
    listed.write_text(f"# mine\n{site.root}/a\n\n{site.root}/b\n{site.root}/a#part\n", encoding="utf-8")
    found = fetch([str(listed)], QUICK, cache=tmp_path)
    assert [file.source for file in found.files] == [f"{site.root}/a", f"{site.root}/b"]
    found = fetch([str(listed)], FetchOptions(url_delay=0, max_urls=1), cache=tmp_path)
    assert (len(found.files), found.failed) == (1, {"beyond --max-urls": [f"{site.root}/b"]})
    listed.write_text("ftp://a.example/\n", encoding="utf-8")
    with pytest.raises(DataFormatError, match=r"urls\.txt:1: not an http address"):
        fetch([str(listed)], QUICK, cache=tmp_path)


def test_what_robots_txt_forbids_is_not_asked_for(site, tmp_path):
    site.pages = {
        "/robots.txt": ("text/plain", b"User-agent: *\nDisallow: /private\n"),
        "/private/a": ("text/plain", b"a"),
    }
    found = fetch([f"{site.root}/private/a"], QUICK, cache=tmp_path)
    assert (found.files, found.failed) == ([], {"forbidden by robots.txt": [f"{site.root}/private/a"]})
    assert [path for path, _ in site.asked] == ["/robots.txt"]


def test_a_page_is_sent_again_only_when_it_changed(site, tmp_path):
    site.pages = {"/a": ("text/plain", b"old")}
    (first,) = fetch([f"{site.root}/a"], QUICK, cache=tmp_path).files
    assert site.asked[-1] == ("/a", None)
    (again,) = fetch([f"{site.root}/a"], QUICK, cache=tmp_path).files
    assert site.asked[-1][1] is not None
    assert again.path.read_bytes() == b"old"
    assert first.sha256 == again.sha256
    site.pages = {"/a": ("text/plain", b"new")}
    (changed,) = fetch([f"{site.root}/a"], QUICK, cache=tmp_path).files
    assert changed.sha256 != first.sha256


def test_a_copy_from_before_serves_where_nobody_answers(site, tmp_path):
    site.pages = {"/a": ("text/plain", b"old")}
    fetch([f"{site.root}/a"], QUICK, cache=tmp_path)
    site.pages = {}
    assert fetch([f"{site.root}/a"], QUICK, cache=tmp_path).failed == {"HTTP 404 Not Found": [f"{site.root}/a"]}
    site.shutdown()
    site.server_close()
    found = fetch([f"{site.root}/a", f"{site.root}/b"], QUICK, cache=tmp_path)
    assert [file.path.read_bytes() for file in found.files] == [b"old"]
    assert found.remarks[f"{site.root}/a"][0].startswith("not reached now (")
    ((reason, names),) = found.failed.items()
    assert (reason[:13], names) == ("not reached (", [f"{site.root}/b"])


def test_a_packing_that_was_not_asked_for_is_no_page(site, tmp_path):
    site.pages = {"/a": ("text/html", b"\x8b\x01\x80packed"), "/b": ("text/html", b"<p>plain</p>")}
    site.packings = {"/a": "br", "/b": "identity"}
    found = fetch([f"{site.root}/a", f"{site.root}/b"], QUICK, cache=tmp_path)
    assert [file.path.read_bytes() for file in found.files] == [b"<p>plain</p>"]
    ((reason, urls),) = found.failed.items()
    assert "br" in reason
    assert urls == [f"{site.root}/a"]


def test_a_broken_note_beside_a_stored_page_costs_a_request(site, tmp_path):
    site.pages = {"/a": ("text/html", b"<p>plain</p>")}
    fetch([f"{site.root}/a"], QUICK, cache=tmp_path)
    (note,) = tmp_path.rglob("told.json")
    for broken in (b"{", b"[]", b"{}"):
        note.write_bytes(broken)
        assert len(fetch([f"{site.root}/a"], QUICK, cache=tmp_path).files) == 1
    assert [etag for path, etag in site.asked if path == "/a"] == [None] * 4


def test_a_torn_note_about_a_page_and_addresses_that_are_none(site, tmp_path):
    site.pages = {"/a": ("text/html", b"<p>one</p>")}
    for content in ('{"path": ', "[]", "{}", "[" * 100_000):
        assert len(fetch([f"{site.root}/a"], QUICK, cache=tmp_path).files) == 1
        (note,) = tmp_path.rglob("told.json")
        note.write_text(content)
    assert len(fetch([f"{site.root}/a"], QUICK, cache=tmp_path).files) == 1
    (tmp_path / "list.txt").write_text("http://[\n")
    with pytest.raises(DataFormatError, match=r"list\.txt:1: not an http address"):
        fetch([str(tmp_path / "list.txt")], QUICK, cache=tmp_path)


def test_a_page_that_arrives_in_part_is_no_page(site, tmp_path):
    packed = gzip.compress(b"<p>one</p>" * 99)
    site.pages = {"/a": ("text/html", b"<p>on"), "/b": ("text/html", packed[:-9])}
    site.torn = ("/a",)
    found = fetch([f"{site.root}/a", f"{site.root}/b"], QUICK, cache=tmp_path)
    assert (found.files, list(found.failed.values())) == ([], [[f"{site.root}/a"], [f"{site.root}/b"]])


def test_addresses_outside_ascii_are_encoded_and_stay_as_ids(site, tmp_path):
    site.pages = {"/%C3%9Cbung%20a": ("text/html", b"<p>A")}
    given = [f"{site.root}/Übung a", f"{site.root}/%C3%9Cbung%20a"]
    found = fetch(given, QUICK, cache=tmp_path)
    (page,) = found.files
    assert not found.failed
    assert (page.name, page.source, page.title) == (given[1], given[1], "Übung a")
    assert _sent("https://bücher.example:8/ä") == "https://xn--bcher-kva.example:8/%C3%A4"


def test_pictures_of_a_sitemap_are_no_pages(site, tmp_path):
    picture = f"<image><loc>{site.root}/i.png</loc></image>"
    pages = sitemap(f"{site.root}/a").replace(b"</url>", picture.encode() + b"</url>")
    site.pages = {"/s.xml.gz": ("application/x-gzip", gzip.compress(pages)), "/a": ("text/html", b"<p>A")}
    found = fetch([f"{site.root}/s.xml.gz"], QUICK, cache=tmp_path)
    assert ([file.source for file in found.files], found.failed) == ([f"{site.root}/a"], {})


def test_a_text_without_a_type_of_its_own_is_read_by_its_name(site, tmp_path):
    names = {"/a.html": "text/plain", "/b.json": "text/plain", "/c.jsonl.gz": "binary/octet-stream", "/d": "text/plain"}
    site.pages = {name: (kind, b"x") for name, kind in names.items()}
    found = fetch([site.root + name for name in names], QUICK, cache=tmp_path)
    assert [file.path.suffix for file in found.files] == [".html", ".json", ".jsonl", ".txt"]


@pytest.mark.parametrize(
    ("header", "body", "stored"),
    [
        ("text/html; charset=shift_jis", "電気自動車".encode("shift_jis"), "電気自動車"),
        ("text/html; charset=ISO-8859-1", b"caf\xe9 \x80 5", "café € 5"),  # browsers read it as Windows-1252
        ("text/html; charset=iso-2022-jp", "電気".encode("iso-2022-jp"), "電気"),
        ("text/plain; charset=iso-8859-1", "café".encode(), "café"),  # a server's default, before UTF-8
    ],
)
def test_an_encoding_that_only_the_header_names(site, tmp_path, header, body, stored):
    site.pages = {"/a": (header, body)}
    (page,) = fetch([f"{site.root}/a"], QUICK, cache=tmp_path).files
    assert page.path.read_text(encoding="utf-8") == stored


@pytest.mark.parametrize(
    "header", ["text/html", "text/html; charset=nonsense", "text/html; charset=idna", "text/html; charset=utf-8"]
)
def test_without_a_charset_that_fits_the_bytes_stay(site, tmp_path, header):
    site.pages = {"/a": (header, b"caf\xe9")}
    (page,) = fetch([f"{site.root}/a"], QUICK, cache=tmp_path).files
    assert page.path.read_bytes() == b"caf\xe9"


def test_a_byte_order_mark_counts_more_than_the_header(site, tmp_path):
    site.pages = {"/a": ("text/html; charset=iso-8859-1", "café".encode("utf-16"))}
    (page,) = fetch([f"{site.root}/a"], QUICK, cache=tmp_path).files
    assert page.path.read_bytes() == "café".encode("utf-16")
