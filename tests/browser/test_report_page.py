"""Reports in a real browser: no error, no request, nothing too wide, nothing that axe-core calls serious."""

import io

import pytest
from synthetic_run import NASTY, make_run
from visits import Visit

from inpars.contrib.comparison.filters import render_laboratory

WIDTHS = (360, 390, 1280)
MAX_BYTES = 5_000_000


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


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"), 60)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"), 10_000)


def check(report, visit, axe):
    assert report.stat().st_size < MAX_BYTES
    assert report.with_suffix(".json").stat().st_size < MAX_BYTES
    for width in WIDTHS:
        for scheme in ("light", "dark"):
            opened = visit(report, width=width, scheme=scheme)
            assert opened.errors == []
            assert opened.requests == [report.resolve().as_uri()]
            assert opened.overflow() == 0
            unfold(opened)
            assert opened.overflow() == 0
            assert opened.serious(axe) == []


def unfold(opened):
    """Open all that is folded."""
    opened.page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true })")


def test_the_verdict_is_seen_at_once_and_links_open_what_is_folded(small, visit):
    opened = visit(small, width=1280)
    table = opened.page.get_by_role("region", name="Results of the system to deploy")
    assert table.evaluate("region => region.scrollWidth <= region.clientWidth")
    assert table.evaluate("region => region.getBoundingClientRect().bottom") < 800
    time = opened.page.get_by_role("region", name="Time of the stages")
    assert not time.is_visible()
    opened.page.get_by_role("link", name="Time and cost").click()
    time.wait_for(state="visible")


def test_the_report_of_a_small_run(small, visit, axe):
    check(small, visit, axe)


@pytest.mark.slow
def test_the_report_of_ten_thousand_queries(large, visit, axe):
    check(large, visit, axe)


def test_scripts_in_texts_are_shown_and_never_run(small, visit):
    opened = visit(small)
    assert opened.page.title().startswith("toy <script>"), "the title is the text, not what it would run"
    assert opened.page.locator("script, img, iframe").count() == 0
    unfold(opened)
    text = opened.page.locator("body").inner_text()
    for nasty in NASTY[:4]:
        assert nasty in text


def test_the_content_policy_stops_a_script_that_slipped_in(small, tmp_path, browser):
    """Were an escape forgotten one day, the page itself would still forbid the script and the request."""
    broken = tmp_path / "broken.html"
    slipped = "<script>document.title = 'run'</script><img src=http://localhost:9/x.png>"
    broken.write_text(small.read_text().replace("<main>", f"<main>{slipped}", 1))
    page = browser.new_page()
    answered = []
    page.on("requestfinished", lambda request: answered.append(request.url))
    page.goto(broken.resolve().as_uri())
    title = page.title()
    page.close()
    assert title != "run"
    assert answered == [broken.resolve().as_uri()]


def test_what_stands_open_is_printed_on_fewer_than_ten_pages(small, visit):
    pypdf = pytest.importorskip("pypdf", reason="pypdf reads what was printed (the documents extra)")
    opened = visit(small)
    printed = pypdf.PdfReader(io.BytesIO(opened.page.pdf()))
    text = " ".join(page.extract_text() for page in printed.pages)
    assert len(printed.pages) < 10
    assert "What this run did" in text
    assert "equal weights for all queries" not in text, "why this mix stands folded"
    assert "reranker_epochs" not in text, "a setting that stands folded on the screen"
    assert "Time and cost Reproduce" not in text, "the contents are for the screen"
    unfold(opened)
    text = " ".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(opened.page.pdf())).pages)
    assert "reranker_epochs" in text


def test_a_dark_reader_prints_light(small, visit):
    opened = visit(small, scheme="dark")
    dark = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    opened.page.emulate_media(media="print", color_scheme="dark")
    assert dark != "rgb(255, 255, 255)"
    assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_tables_and_code_scroll_by_keys(small, visit):
    opened = visit(small, width=360)
    unfold(opened)
    table = opened.page.get_by_role("region", name="Results of all systems")
    assert table.evaluate("region => region.scrollWidth > region.clientWidth")
    table.focus()
    opened.page.keyboard.press("ArrowRight")
    opened.page.wait_for_function("region => region.scrollLeft > 0", arg=table.element_handle())


def test_the_page_of_the_filter_laboratory(tmp_path, visit, axe):
    sample = {"query_id": "q1", "query": NASTY[0], "score": -0.5, "doc_id": "d1", "document": NASTY[1]}
    measures = {"queries": 5, "mean_words": 3.5, "openings": 2, "bm25_finds": None, "threshold": -0.5}
    filters = {
        name: {**measures, "curve": {"ranks": [1.0, 5.0], "scores": [0.0, -0.5]}, "above": [sample], "below": [sample]}
        for name in ("mean_log_probs", NASTY[2])
    }
    overlap = {name: dict.fromkeys(filters, 0.5) for name in filters}
    results = {"read": 9, "k": 5, "dropped": {"copied": 1}, "pool": measures, "filters": filters, "overlap": overlap}
    path = tmp_path / "lab.html"
    path.write_text(render_laboratory("Filters <b>", results))
    for width in WIDTHS:
        opened = visit(path, width=width)
        assert (opened.errors, len(opened.requests), opened.overflow(), opened.serious(axe)) == ([], 1, 0, [])
