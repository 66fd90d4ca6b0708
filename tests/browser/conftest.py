"""A headless Chromium for pages, and axe-core; tests are skipped with a reason where either is absent.

`CHROMIUM` and `AXE_CORE` name the program and the file axe.min.js where they are not found by themselves:
`pip install playwright`, a Chromium of the system, `npm install --no-save axe-core` in the repository's root.
"""

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_chromium():
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


def find_axe():
    places = [os.environ.get("AXE_CORE", ""), ROOT / "node_modules" / "axe-core" / "axe.min.js"]
    return next((Path(place) for place in places if place and Path(place).is_file()), None)


@pytest.fixture(scope="session")
def browser():
    """One browser for all tests."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed (pip install playwright)"
    )
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium on this machine (CHROMIUM=PATH names one)")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def axe():
    """The source of axe-core."""
    found = find_axe()
    if found is None:
        pytest.skip("axe-core is not here (npm install --no-save axe-core, or AXE_CORE=PATH of axe.min.js)")
    return found.read_text(encoding="utf-8")


class Visit:
    """A page that was opened, with all that went wrong and all that was asked of the network meanwhile."""

    def __init__(self, browser, path, width=1280, scheme="light"):
        # the page's own content policy would forbid axe to be added; that it holds is tested by itself
        self._context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True
        )
        self.page, self.errors, self.requests = self._context.new_page(), [], []
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(Path(path).resolve().as_uri())

    def serious(self, axe):
        """Serious and critical findings of axe-core, each with the first place it was found at."""
        self.page.evaluate(axe)
        found = self.page.evaluate("axe.run(document).then(results => results.violations)")
        return [
            f"{finding['id']}: {finding['nodes'][0]['html'][:160]}"
            for finding in found
            if finding["impact"] in ("serious", "critical")
        ]

    def overflow(self):
        """How many pixels the page itself is wider than the screen."""
        return self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")

    def close(self):
        self._context.close()


@pytest.fixture
def visit(browser):
    """Opens a file in the browser: `visit(path, width=360, scheme="dark")`."""
    opened = []

    def go(path, **settings):
        opened.append(Visit(browser, path, **settings))
        return opened[-1]

    yield go
    for one in opened:
        one.close()
