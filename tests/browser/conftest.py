"""A headless browser and a small server; without a browser the tests are skipped and say why."""

import os
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "apps" / "serve"))
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")  # its event loop must not outlive these tests
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser: pip install playwright")
    path = os.environ.get("INPARS_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed and INPARS_BROWSER names none")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def axe():
    """The source of axe-core (`npm install axe-core`)."""
    roots = [os.environ.get("INPARS_AXE", ""), "node_modules/axe-core/axe.min.js"]
    path = next((Path(root) for root in roots if root and Path(root).is_file()), None)
    if path is None:
        pytest.skip("no axe-core: npm install axe-core, or INPARS_AXE=path of axe.min.js")
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    pytest.importorskip("fastapi", reason="the serve extra is not installed")
    from processes import small_server

    votes = tmp_path_factory.mktemp("votes") / "feedback.jsonl"
    files = tmp_path_factory.mktemp("files")
    (files / "stones.pdf").write_bytes(b"%PDF-1.4")
    (files / "land.html").write_text("<title>Land</title><script>document.title = 'hacked'</script>A river.")
    with small_server("--feedback", votes, "--files", files) as running:
        running.votes = votes
        yield running
