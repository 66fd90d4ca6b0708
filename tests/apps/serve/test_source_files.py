"""Source files: only those that a document names, inside the folder, and without running scripts."""

import pytest
from processes import small_server

from inpars.apps.serve.source_files import SourceFiles, file_response
from inpars.records import Document


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    inside = tmp_path / "docs"
    inside.mkdir()
    for name in ("stones.pdf", "land.html", "a file.md", "table.xlsx"):
        (inside / name).write_text(f"<script>{name}</script>")
    (inside / "link.txt").symlink_to(tmp_path / "secret.txt")
    return inside


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("land.html", "land.html"),
        ("a%20file.md", "a file.md"),  # as ids have it
        *((source, None) for source in ("../secret.txt", "%2e%2e/secret.txt", "/etc/passwd", "link.txt", "", ".")),
        *((source, None) for source in ("absent.md", "a\0b", 7, None)),
    ],
)
def test_no_path_leads_out_of_the_folder(folder, source, name):
    found = SourceFiles(folder).path_of(Document("1", "text", "", {"source": source}))
    assert found == (None if name is None else folder / name)


@pytest.mark.parametrize(
    ("name", "media_type", "shown"),
    [
        ("land.html", "text/html; charset=utf-8", "inline"),
        ("a file.md", "text/plain; charset=utf-8", "inline"),
        ("stones.pdf", "application/pdf", "inline"),
        ("table.xlsx", "application/octet-stream", "attachment"),
    ],
)
def test_browsers_show_what_cannot_run(folder, name, media_type, shown):
    headers = file_response(folder / name).headers
    assert headers["content-type"] == media_type
    assert headers["content-disposition"].startswith(f"{shown};")
    assert ("sandbox;" in headers.get("content-security-policy", "")) == (name == "land.html")


def test_a_document_gives_its_file(folder):
    with small_server("--files", folder) as server:
        status, headers, text = server.get("/file?doc_id=delta")
        assert (status, text) == (200, "<script>land.html</script>")
        assert headers["content-security-policy"].startswith("sandbox; default-src 'none'")
        assert headers["x-content-type-options"] == "nosniff"
        assert server.get("/file?doc_id=emoji")[0] == 404  # signs.md is not there
        assert [hit["file"] for hit in server.get("/search?q=river&k=1")[2]["hits"]] == [True]
        assert [hit["file"] for hit in server.get("/search?q=volcano&k=1")[2]["hits"]] == [False]
        assert all(source["file"] for source in server.post("/ask", {"question": "a river", "k": 1})[2]["sources"])
        assert server.get("/file?doc_id=../secret.txt")[0] == 404
        assert server.get("/file?path=land.html")[0] in (400, 422)
    with small_server() as server:
        assert server.get("/file?doc_id=delta")[0] == 404
