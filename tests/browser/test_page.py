"""The page as people use it: search, compare, ask, vote, nothing found, errors, a phone."""

import json
import os
import re
from pathlib import Path

import pytest

WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 360, "height": 740}
SERIOUS = ("serious", "critical")


class Visit:
    """A page with all that it logs and asks for."""

    def __init__(self, page, url):
        self.page, self.url = page, url
        self.logged, self.asked = [], []
        page.on("console", lambda message: self.logged.append((message.type, message.text)))
        page.on("pageerror", lambda error: self.logged.append(("error", str(error))))
        page.on("request", lambda request: self.asked.append(request.url))

    def open(self, path="/"):
        self.page.goto(self.url + path)
        self.page.wait_for_selector("#first option", state="attached")
        return self.page

    def search(self, query):
        self.page.fill("#query", query)
        self.page.press("#query", "Enter")
        self.settled()

    def settled(self):
        self.page.wait_for_selector("main[aria-busy=false]")

    def shot(self, name):
        """Keep a picture where INPARS_SHOTS names a folder."""
        if folder := os.environ.get("INPARS_SHOTS"):
            self.page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)

    def errors(self):
        return [text for _, text in self.logged]


def visiting(browser, server, viewport, **settings):
    context = browser.new_context(viewport=viewport, **settings)
    return context, Visit(context.new_page(), server.url)


@pytest.fixture
def wide(browser, server):
    context, visit = visiting(browser, server, WIDE)
    yield visit
    context.close()


@pytest.fixture
def narrow(browser, server):
    context, visit = visiting(browser, server, NARROW, has_touch=True, is_mobile=True)
    yield visit
    context.close()


def titles(page, column=1):
    return page.locator(f"#results section:nth-child({column}) h3 span:nth-child(2)").all_inner_texts()


def test_search_compares_two_systems_and_marks_words(wide, server):
    page = wide.open()
    wide.search("volcanic rock")
    assert page.locator("#results section h2").all_inner_texts() == [
        "tuned\nwords in common",
        "base\nletters in common",
    ]
    # "volcanic" and "rock" stand in Basalt's text, "rock" alone in Canyon's
    assert titles(page) == ["Basalt", "Canyon"]
    assert page.locator("#results section:nth-child(1) mark").all_inner_texts() == ["volcanic", "rock", "rock"]
    assert len(titles(page, 2)) == 7  # every text shares a letter
    assert page.locator("#results section:nth-child(1) .other").count() == 2
    wide.shot("wide-compare")
    assert wide.errors() == []
    assert all(url.startswith(server.url) for url in wide.asked)


def test_the_page_opens_with_what_is_here_and_a_query_to_try(wide):
    page = wide.open()
    assert "7 passages, searched with words in common." in page.locator("#start").inner_text()
    page.click("#start button")
    wide.settled()
    assert titles(page)[0] == "Amber"
    assert not page.is_visible("#start")
    assert re.fullmatch(r"tuned: 1 result in \d+ ms, base: 7 results in \d+ ms", page.locator("#status").inner_text())


def test_a_hit_says_why_it_was_found_and_links_to_its_file(wide, server):
    page = wide.open()
    wide.search("where rivers meet the ocean")
    delta = page.locator("#results section:nth-child(1) article[data-document=delta]")
    why = delta.locator(".why").inner_text()
    assert why == "Found by words in common (rank 1); query words in the text: river, meets, ocean"
    link = delta.locator(".where a")
    assert (link.inner_text(), link.get_attribute("href")) == ("land.html", "/file?doc_id=delta")
    with wide.page.context.expect_page() as opened:
        link.click()
    opened.value.wait_for_load_state()
    assert opened.value.url == f"{server.url}/file?doc_id=delta"
    assert opened.value.title() == "Land", "its script did not run"


def test_the_closest_passage_is_not_called_an_answer(wide):
    page = wide.page
    page.route("**/v1/collection", lambda route: answered(route, closest=True, answers=["extractive"]))
    page.route("**/ask", lambda route: answered(route, closest=True))
    wide.open()
    assert page.locator("#ask").inner_text() == "Closest passage"
    page.fill("#query", "what is the dark volcanic")
    page.click("#ask")
    wide.settled()
    shown = page.locator("#answer").inner_text()
    assert shown.startswith("Closest passage")
    assert "Answer" not in shown
    assert "score" not in shown
    assert shown.count("Basalt is a dark volcanic rock") == 1


def answered(route, **changes):
    """The server's own response with some of it changed."""
    response = route.fetch()
    route.fulfill(response=response, json=response.json() | changes)


def test_one_system_alone(wide):
    page = wide.open()
    page.select_option("#second", "")
    wide.search("river")
    assert page.locator("#results section").count() == 1
    assert sorted(titles(page)) == ["Canyon", "Delta"]
    wide.shot("wide-single")


def test_a_script_in_a_document_is_shown_and_not_run(wide):
    page = wide.open()
    wide.search("hostile")
    assert titles(page) == ["A page with a script"]
    text = page.locator("#results section:nth-child(1) .passage").inner_text()
    assert "<script>window.hacked = true;" in text
    assert "<img src=x onerror=alert(1)>" in text
    assert page.evaluate("window.hacked") is None
    assert page.locator("#results script, #results article img").count() == 0
    assert wide.errors() == []


def test_marks_stand_right_after_characters_of_two_units(wide):
    page = wide.open()
    wide.search("volcano café")
    assert titles(page) == ["Signs"]
    assert page.locator("#results section:nth-child(1) mark").all_inner_texts() == ["volcano", "café"]


def test_a_long_passage_is_cut_around_its_marks_and_opens(wide):
    page = wide.open()
    wide.search("ends here")
    short = page.locator("#results section:nth-child(1) .passage")
    assert len(short.inner_text()) < 600
    assert "ends here" in short.inner_text()
    page.click("#results section:nth-child(1) button.more")
    assert short.inner_text().count("Granite") == 400


def test_asking_marks_the_answer_in_its_source(wide):
    page = wide.open()
    page.fill("#query", "what is the dark volcanic")
    page.click("#ask")
    wide.settled()
    # the word after "volcanic" in Basalt's text
    assert page.locator("#answer .text").inner_text() == "rock"
    assert page.locator("#answer mark.found").inner_text() == "rock"
    assert "Basalt" in page.locator("#answer ol strong").inner_text()
    assert titles(page)[0] == "Basalt"
    wide.shot("wide-answer")


def test_asking_for_a_written_answer_lists_its_sources(wide):
    page = wide.open()
    page.select_option("#kind", "generated")
    page.fill("#query", "amber beads")
    page.click("#ask")
    wide.settled()
    assert page.locator("#answer .text").inner_text() == "From the documents: Amber [1]."
    assert page.locator("#answer ol li").count() == 1


def test_no_answer_is_said(wide):
    page = wide.open()
    page.fill("#query", "amber unheard")
    page.click("#ask")
    wide.settled()
    assert "No answer" in page.locator("#answer h2").inner_text()
    assert page.locator("#answer .text").inner_text() == "no source says."


def test_votes_are_stored_and_taken_back(wide, server):
    page = wide.open()
    wide.search("fossil resin")
    up = page.locator("#results section:nth-child(1) button[data-relevance='1']").first
    up.click()
    page.wait_for_selector("#results section:nth-child(1) button[data-relevance='1'][aria-pressed=true]")
    up.click()
    page.wait_for_selector("#results section:nth-child(1) button[data-relevance='1'][aria-pressed=false]")
    page.locator("#results section:nth-child(1) button[data-relevance='0']").first.click()
    page.wait_for_selector("#results section:nth-child(1) button[data-relevance='0'][aria-pressed=true]")
    rows = [json.loads(line) for line in server.votes.read_text(encoding="utf-8").splitlines()]
    mine = [row for row in rows if row["query"] == "fossil resin"]
    assert [(row["doc_id"], row["relevance"], row["system"], row["rank"]) for row in mine] == [
        ("amber", 1, "tuned", 1),
        ("amber", None, "tuned", 1),
        ("amber", 0, "tuned", 1),
    ]


def test_nothing_found(wide):
    page = wide.open()
    page.select_option("#second", "")
    wide.search("zzz")
    assert page.locator("#results .nothing").inner_text().startswith("Nothing found")
    assert page.locator("#status").inner_text() == "Nothing found."
    wide.shot("wide-nothing")


def test_a_failing_system_is_said_in_its_column_and_alone(wide):
    page = wide.open()
    page.select_option("#second", "broken")
    wide.search("amber")
    assert titles(page) == ["Amber"]
    assert "The server failed (500" in page.locator("#results section:nth-child(2) [role=alert]").inner_text()
    page.select_option("#first", "broken")
    page.wait_for_selector("#alert .problem")
    assert "secret" not in page.content()
    wide.shot("wide-error")
    page.select_option("#first", "tuned")
    wide.settled()
    page.wait_for_selector("#alert .problem", state="detached")


def test_a_server_that_is_gone_is_said_and_can_be_tried_again(wide):
    page = wide.open()
    page.route("**/search", lambda route: route.abort())
    wide.search("amber")
    assert "cannot be reached" in page.locator("#alert").inner_text()
    page.unroute("**/search")
    page.click("#alert button")
    page.wait_for_selector("#results article")
    assert titles(page) == ["Amber"]


def test_filters_by_hand_and_by_pressing_a_source(wide):
    page = wide.open()
    assert page.locator("#filter-source option").all_inner_texts()[:2] == ["any", "stones.pdf (3)"]
    page.select_option("#filter-source", "land.html")
    wide.search("ocean river")
    assert sorted(titles(page)) == ["Canyon", "Delta"]  # Basalt's ocean is in a pdf
    page.locator(".where button", has_text="Rivers").first.click()
    page.wait_for_selector("#results section:nth-child(1) li:only-child")
    assert titles(page) == ["Delta"]


def test_a_filter_of_the_address_may_be_a_pattern(wide):
    page = wide.open("/?q=ocean&second=&f.source=*.html")
    wide.settled()
    assert titles(page) == ["Delta"]
    assert page.input_value("#filter-source") == "*.html"


def test_the_address_keeps_the_state(wide):
    page = wide.open("/?q=river&second=")
    wide.settled()
    assert page.locator("#results section").count() == 1
    assert sorted(titles(page)) == ["Canyon", "Delta"]
    wide.search("amber")
    page.go_back()
    page.wait_for_selector("article[data-document=delta]")
    wide.settled()
    assert page.input_value("#query") == "river"
    assert sorted(titles(page)) == ["Canyon", "Delta"]


def test_a_key_is_asked_for_once(browser):
    from processes import small_server

    with small_server(INPARS_API_KEY="horse battery") as server:
        context, visit = visiting(browser, server, WIDE)
        page = context.pages[0]
        page.goto(server.url)
        page.wait_for_selector("#key-form:not([hidden])")
        assert "wants a key" in page.locator("#alert").inner_text()
        page.fill("#key", "horse battery")
        page.press("#key", "Enter")
        page.wait_for_selector("#first option", state="attached")
        visit.search("amber")
        assert titles(page) == ["Amber"]
        visit.open()  # the same tab remembers
        visit.search("amber")
        assert titles(page) == ["Amber"]
        context.close()


def test_keys_alone_suffice(wide):
    page = wide.open()
    page.keyboard.press("/")
    page.keyboard.type("rock")
    page.keyboard.press("Enter")
    page.wait_for_selector("#results article")
    wide.settled()
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == f"2: {titles(page)[1]}"
    page.keyboard.press("k")
    page.keyboard.press("u")
    page.wait_for_selector("article:focus button[data-relevance='1'][aria-pressed=true]")


def test_a_phone_shows_one_column_at_a_time_and_nothing_overflows(narrow, server):
    page = narrow.open()
    narrow.search("volcanic rock")
    shown = page.locator("#results section:visible")
    assert shown.count() == 1
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    narrow.shot("narrow-compare")
    page.tap("#switch button:nth-child(2)")
    assert page.locator("#results section:visible h2").inner_text().startswith("base")
    heights = page.locator("#results section:visible .actions button").evaluate_all(
        "buttons => buttons.map(button => button.getBoundingClientRect().height)"
    )
    assert min(heights) >= 44  # a finger's size
    page.fill("#query", "what is the dark volcanic")
    page.tap("#ask")
    narrow.settled()
    narrow.shot("narrow-answer")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert narrow.errors() == []
    assert all(url.startswith(server.url) for url in narrow.asked)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", ["wide", "narrow"])
def test_axe_finds_nothing_serious(browser, server, axe, width, dark):
    viewport = WIDE if width == "wide" else NARROW
    settings = {"color_scheme": "dark" if dark else "light", "bypass_csp": True}  # axe is put in from outside
    context, visit = visiting(browser, server, viewport, **settings)
    page = visit.open()
    problems = axe_problems(page, axe)
    page.fill("#query", "what is the dark volcanic")
    page.click("#ask")
    visit.settled()
    problems += axe_problems(page, axe)
    visit.shot(f"axe-{width}-{'dark' if dark else 'light'}")
    visit.search("zzz")
    problems += axe_problems(page, axe)
    page.goto(server.url + "/docs")
    page.wait_for_selector(".docs details")
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
    problems += axe_problems(page, axe)
    visit.shot(f"docs-{width}-{'dark' if dark else 'light'}")
    context.close()
    assert problems == []


def axe_problems(page, axe):
    page.evaluate(axe)
    found = page.evaluate("axe.run()")
    return [
        (rule["id"], node["html"][:120])
        for rule in found["violations"]
        if rule["impact"] in SERIOUS
        for node in rule["nodes"]
    ]


def test_the_documentation_loads_nothing_from_outside(wide, server):
    wide.page.goto(server.url + "/docs")
    wide.page.wait_for_selector(".docs details")
    paths = wide.page.locator(".docs summary code").all_inner_texts()
    assert {"/v1/embeddings", "/v1/rerank", "/search", "/ask", "/healthz", "/metrics"} <= set(paths)
    assert wide.errors() == []
    assert all(url.startswith(server.url) for url in wide.asked)
