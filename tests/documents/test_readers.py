"""Readers: the blocks of each file type, with page, headings and offsets."""

import json
import re
import sys
import zipfile
from types import ModuleType, SimpleNamespace

import pytest
from made_documents import PAGE, full_lines, pdf_bytes, write_pdf

from inpars.documents.blocks import FileNotes, clean
from inpars.documents.readers import EMPTY, HTML, KINDS, LAYOUT, PDF, Kind, ReadOptions, kind_of
from inpars.errors import MissingDependencyError, UnreadableFileError

WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def read(path, **options):
    notes = FileNotes()
    kind = kind_of(path, ReadOptions(**options))
    return list(kind.read(path, notes, ReadOptions(**options))), notes


def written(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def shown(blocks):
    return [(block.headings, clean(block.text, block.markup)) for block in blocks]


def refused(path, **options):
    with pytest.raises(UnreadableFileError) as caught:
        read(path, **options)
    assert str(path) in str(caught.value)
    return caught.value.reason


def test_plain_text_is_cut_at_blank_lines(tmp_path):
    path = written(tmp_path / "a.txt", "one\ntwo\r\n\n \t\n  three\n")
    blocks, _ = read(path)
    assert shown(blocks) == [((), "one two"), ((), "three")]
    raw = path.read_bytes().decode()
    assert all(raw[block.start : block.start + len(block.text)] == block.text for block in blocks)


MARKDOWN = """---
title: "From the front"
---
Before.

# One<a name="one"></a>

First *paragraph*
of two lines.
- item a
- item b

Under
-----
| a | b |
|---|---|
| 1 | 2 |

```python
# no heading
x = 1

y = 2
```

## Two ##
Last\\.
"""


def test_markdown_by_its_parts(tmp_path):
    path = written(tmp_path / "a.md", MARKDOWN)
    blocks, notes = read(path)
    assert notes.title == "From the front"
    assert shown(blocks) == [
        ((), "Before."),
        (("One",), "First paragraph of two lines."),
        (("One",), "item a"),
        (("One",), "item b"),
        (("One", "Under"), "| a | b |"),
        (("One", "Under"), "| 1 | 2 |"),
        (("One", "Under"), "# no heading\nx = 1\n\ny = 2"),
        (("One", "Two"), "Last."),
    ]
    assert all(MARKDOWN[block.start : block.start + len(block.text)] == block.text for block in blocks)


RST = """
=====
Guide
=====

Use :func:`open` for it::

    with open(x):

        pass

Parts
-----

.. note:: Mind the
   step.

.. image:: a.png
   :alt: nothing

.. code-block:: python
   :linenos:

   y = 1

.. _label:

* item one
  goes on
* item two
"""


def texts_of(path):
    return [text for _, text in shown(read(path)[0])]


def test_inline_code_of_three_backticks_opens_no_listing(tmp_path):
    path = written(tmp_path / "a.md", "# One\n\n```pip install foo``` installs it.\n\n## Two\n\nText of two.\n")
    assert shown(read(path)[0]) == [
        (("One",), "pip install foo installs it."),
        (("One", "Two"), "Text of two."),
    ]


def test_what_is_indented_is_a_listing_outside_of_items_and_notes(tmp_path):
    listing = "    def f(x):\n        return x *2* 3\n\n    f(1)"
    within = "- an item\n\n    of *two* parts\n\n!!! note\n\n    *Mind* it."
    text = f"Above:\n\n{listing}\n\nBelow.\n\n{within}\n\n# B\n\n\tgit log\n"
    assert texts_of(written(tmp_path / "a.md", text)) == [
        *("Above:", listing, "Below.", "an item", "of two parts", "!!! note", "Mind it.", "\tgit log"),
    ]


@pytest.mark.parametrize("first", ["---\n\nRefunds take 9 days.\n\n---\n", "---\nRefunds take 9 days.\n"])
def test_a_ruler_is_no_front_matter(tmp_path, first):
    assert texts_of(written(tmp_path / "a.md", f"{first}\nThe rest.\n")) == ["Refunds take 9 days.", "The rest."]


def test_front_matter_without_an_end_is_text(tmp_path):
    assert texts_of(written(tmp_path / "a.md", "---\ntitle: x\n\nAll of it.\n")) == ["title: x", "All of it."]


def test_a_heading_with_nothing_below_is_text(tmp_path):
    path = written(
        tmp_path / "a.md",
        "# Shipping\n\n## We do not ship to Mars\n\n## To Venus\n\nTwo years.\n\nNever\n-----\n\nLast\n----\n",
    )
    assert shown(read(path)[0]) == [
        (("Shipping", "We do not ship to Mars"), "We do not ship to Mars"),
        (("Shipping", "To Venus"), "Two years."),
        (("Shipping", "Never"), "Never"),
        (("Shipping", "Last"), "Last"),
    ]
    raw = path.read_text()
    assert all(raw[block.start : block.start + len(block.text)] == block.text for block in read(path)[0])


def test_restructured_text_by_its_parts(tmp_path):
    path = written(tmp_path / "a.rst", RST)
    blocks, notes = read(path)
    assert notes.title == "Guide"
    assert shown(blocks) == [
        (("Guide",), "Use open for it::"),
        (("Guide",), "    with open(x):\n\n        pass"),
        (("Guide", "Parts"), "Mind the step."),
        (("Guide", "Parts"), "   y = 1"),
        (("Guide", "Parts"), "item one goes on"),
        (("Guide", "Parts"), "item two"),
    ]


def test_web_pages_without_menus_and_scripts(tmp_path):
    pytest.importorskip("trafilatura", reason="web pages need trafilatura (pip install inpars[documents])")
    extra = "Mind the &lt;script&gt;alert('x')&lt;/script&gt; of the oven. <script>alert('run')</script>"
    blocks, notes = read(written(tmp_path / "a.html", PAGE.replace("{extra}", extra)))
    found = shown(blocks)
    assert notes.title == "Making bread"
    oven = ("Making bread", "The oven")
    start = "Heat it to 230 degrees for half an hour, so that the stone inside is as hot as the air around it."
    assert (oven, f"{start} Mind the <script>alert('x')</script> of the oven.") in found
    assert (oven, "A stone keeps the heat far longer than a tray of tin does.") in found
    assert (oven, "Small white loaf | 25") in found
    assert (oven, "def bake(loaf):\n    return loaf.heated(230)") in found
    text = "\n".join(block.text for block in blocks)
    assert "Recipes" not in text
    assert "run" not in text
    assert all(text[block.start : block.start + len(block.text)] == block.text for block in blocks)


def test_words_of_web_pages_end_with_their_lines_items_and_cells(tmp_path):
    pytest.importorskip("trafilatura")
    page = (
        "<html><body><article><h1>Acme</h1><p>Acme Ltd<br>12 High Street<br/>London is where the company has been.</p>"
        "<ol><li>Alpha<ul><li>beta</li><li>gamma</li></ul></li></ol>"
        "<table><tr><th>Region</th><th>Q1</th><th>Q2</th></tr><tr><td>South</td><td></td><td>7</td></tr></table>"
        "<h2>We do not ship to Mars</h2><h2>Venus</h2><p>It takes two years to get there, and two to come back.</p>"
        "</article></body></html>"
    )
    text = "\n".join(texts_of(written(tmp_path / "a.html", page)))
    for part in ("Acme Ltd 12 High Street London", "Alpha beta gamma", "South | | 7", "We do not ship to Mars"):
        assert part in text


def test_a_cell_that_spans_rows_is_read_in_each(tmp_path):
    pytest.importorskip("trafilatura")
    rows = [
        '<td rowspan="3">Berlin</td><td rowspan="2">2019</td><td>rain</td>',
        "<td>snow</td>",
        "<td>2020</td><td>sun</td>",
        '<td rowspan="0">Bonn</td><td rowspan="x">2019</td><td>fog</td>',
        "<td>Trier</td><td>2020</td><td>hail</td>",
        f'<td rowspan="2">{"A column of the layout. " * 10}</td><td>fog</td>',
        "<td>mist</td>",
    ]
    table = "".join(f"<tr>{row}</tr>" for row in rows)
    text = "The weather in three towns, as it was noted at noon on the first day of each year."
    page = f"<html><body><article><h1>Weather</h1><p>{text}</p><table>{table}</table></article></body></html>"
    assert texts_of(written(tmp_path / "a.html", page))[-7:] == [
        *("Berlin | 2019 | rain", "Berlin | 2019 | snow", "Berlin | 2020 | sun"),
        *("Bonn | 2019 | fog", "Trier | 2020 | hail"),
        *(f"{('A column of the layout. ' * 10).strip()} | fog", "mist"),
    ]


def test_an_article_that_is_not_found_as_main_text_is_taken_whole(tmp_path):
    pytest.importorskip("trafilatura")
    part = "The installer puts files in your home folder and asks for a license key before it goes on. "
    page = (
        "<html><body><nav>menu</nav><article><h1>Install</h1><p>Run the following commands in your shell to install."
        f"</p><div>{part * 3}</div><script>run()</script><h3>Keys</h3>Bare text about keys.</article></body></html>"
    )
    path = written(tmp_path / "a.html", page)
    found = ["Install", "Run the following commands in your shell to install.", (part * 3).strip(), "Keys"]
    assert texts_of(path) == [*found, "Bare text about keys."]
    assert "all of the article is taken" in read(path)[1].remarks[0]


def test_a_part_of_a_page(tmp_path):
    pytest.importorskip("trafilatura")
    path = written(tmp_path / "a.html", "<div><p>Refunds take nine days, and more where a bank is slow.</p></div>")
    assert texts_of(path) == ["Refunds take nine days, and more where a bank is slow."]


def test_a_page_of_several_articles_and_folded_answers(tmp_path):
    pytest.importorskip("trafilatura")
    parts = [f"Order {word} goes out in nine days, and the mail of that day says so." for word in ("one", "two", "six")]
    articles = "".join(f"<article><h2>Part</h2><p>{part}</p></article>" for part in parts)
    remark = f"<article class='comment'><p>{parts[0] * 9}</p></article>"
    page = f"<html><body class='comments'>{articles}<div>{remark}</div></body></html>"
    assert texts_of(written(tmp_path / "a.html", page)) == ["Part", parts[0], "Part", parts[1], "Part", parts[2]]
    folded = "".join(f"<details><summary>Who {n}?</summary><p>{part}</p></details>" for n, part in enumerate(parts))
    page = f"<html><body><h1>Answers</h1>{folded}</body></html>"
    assert "Who 2?" in texts_of(written(tmp_path / "b.html", page))


def test_a_page_without_text(tmp_path):
    pytest.importorskip("trafilatura", reason="web pages need trafilatura (pip install inpars[documents])")
    assert refused(written(tmp_path / "a.html", "<html><body><img src=x></body></html>")) == EMPTY


BODY = "The board declared a dividend of twelve cents a share, payable to all holders of record on the ninth of June."


@pytest.fixture
def pypdf():
    return pytest.importorskip("pypdf", reason="PDF needs pypdf (pip install inpars[documents])")


def test_pdf_pages_without_their_headers(tmp_path, pypdf):
    pages = [
        [
            "Annual report 2023",
            *full_lines(f"Page {word} begins. {BODY} So {word}."),
            f"Total {number},200 9",
            f"{number}",
        ]
        for number, word in enumerate(("one", "two", "six"), start=1)
    ]
    blocks, notes = read(write_pdf(tmp_path / "a.pdf", [*pages, []], title="Dividends"))
    # the header of two pages and the number of three; sums look alike but do not count on as pages do
    assert (notes.title, dict(notes.dropped)) == ("Dividends", {"boilerplate": 5, "empty_page": 1})
    assert [(block.page, clean(block.text, block.markup)) for block in blocks] == [
        (1, "Annual report 2023"),  # the first one stays, nothing is lost altogether
        (1, f"Page one begins. {BODY} So one."),
        (1, "Total 1,200 9"),
        (2, f"Page two begins. {BODY} So two."),
        (2, "Total 2,200 9"),
        (3, f"Page six begins. {BODY} So six."),
        (3, "Total 3,200 9"),
    ]


def test_pdf_that_cannot_be_read(tmp_path, pypdf, caplog):
    raw = pdf_bytes([full_lines(BODY)])
    path = tmp_path / "a.pdf"
    path.write_bytes(raw[: len(raw) // 3])
    assert refused(path) == "damaged or cut off"
    assert refused(write_pdf(path, [None, None])).startswith("scanned")
    assert refused(write_pdf(path, [[]])) == EMPTY
    assert not caplog.records


def test_a_pdf_page_that_cannot_be_read_costs_itself_alone(tmp_path, pypdf):
    raw = pdf_bytes([full_lines(BODY), full_lines("Another page.")])
    (tmp_path / "a.pdf").write_bytes(raw.replace(b"<< /Length", b"<< /Filter /X /Length", 1))
    blocks, notes = read(tmp_path / "a.pdf")
    assert [clean(block.text, block.markup) for block in blocks] == ["Another page."]
    assert notes.remarks == ["damaged: 1 of 2 pages cannot be read, 1 first"]


def test_pdf_cut_off_near_its_end_says_so(tmp_path, pypdf):
    raw = pdf_bytes([full_lines(BODY)])
    path = tmp_path / "a.pdf"
    path.write_bytes(raw[: raw.index(b"startxref")])
    blocks, notes = read(path)
    assert clean(blocks[0].text, blocks[0].markup) == BODY
    assert notes.remarks == ["cut off: 1 pages with text were found"]


@pytest.mark.parametrize(("password", "opens"), [("secret", False), ("", True)])
def test_encrypted_pdf(tmp_path, pypdf, password, opens):
    pytest.importorskip("cryptography", reason="encrypted PDF needs cryptography (pip install inpars[documents])")
    writer = pypdf.PdfWriter(clone_from=write_pdf(tmp_path / "open.pdf", [full_lines(BODY)]))
    writer.encrypt(password, "owner", algorithm="AES-256")
    path = tmp_path / "a.pdf"
    writer.write(path)
    if opens:
        assert clean(read(path)[0][0].text, "lines") == BODY
    else:
        assert refused(path).startswith("encrypted")


def test_word_documents(tmp_path):
    docx = pytest.importorskip("docx", reason="Word documents need python-docx (pip install inpars[documents])")
    document, path = docx.Document(), tmp_path / "a.docx"
    document.add_heading("Bread", 0)
    document.add_heading("Dough", 1)
    document.add_paragraph("Mix flour and water.")
    table = document.add_table(1, 2)
    table.rows[0].cells[0].text, table.rows[0].cells[1].text = "Flour", "500 g"
    document.add_heading("Oven", 1)
    document.add_paragraph("Heat it.")
    document.save(path)
    blocks, notes = read(path)
    assert notes.title == "Bread"
    dough, oven = ("Bread", "Dough"), ("Bread", "Oven")
    assert shown(blocks) == [(dough, "Mix flour and water."), (dough, "Flour | 500 g"), (oven, "Heat it.")]
    path.write_bytes(path.read_bytes()[:900])
    assert refused(path) == "damaged or cut off"
    path.write_bytes(bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600))
    assert refused(path).startswith("encrypted, or an old .doc")


def test_rows_of_word_documents_keep_equal_and_empty_cells(tmp_path):
    docx = pytest.importorskip("docx")
    document = docx.Document()
    rows = [["Region", "Q1", "Q2", "Q3"], ["North", "5", "5", "9"], ["South", "", "7", "7"], ["", "", "", ""]]
    table = document.add_table(rows=5, cols=4)
    for number, cells in enumerate(rows):
        for column, text in enumerate(cells):
            table.cell(number, column).text = text
    table.cell(4, 0).merge(table.cell(4, 2)).text = "merged"
    document.save(str(tmp_path / "a.docx"))
    assert texts_of(tmp_path / "a.docx") == [
        *("Region | Q1 | Q2 | Q3", "North | 5 | 5 | 9", "South | | 7 | 7", "merged"),
    ]


def test_text_that_word_wraps_is_read(tmp_path):
    # python-openxml/python-docx#155 and #1123: content controls, tracked changes, text boxes, tables in cells
    docx = pytest.importorskip("docx")
    from docx.oxml import parse_xml
    from docx.oxml.ns import nsdecls

    document = docx.Document()

    def wrap(name, content, more=""):
        return f"<w:{name} {more}>{content}</w:{name}>"

    def run(text):
        return wrap("r", wrap("t", text, 'xml:space="preserve"'))

    def control(content, gallery="Text"):
        part = f'<w:sdtPr><w:docPartObj><w:docPartGallery w:val="{gallery}"/></w:docPartObj></w:sdtPr>'
        return wrap("sdt", part + wrap("sdtContent", content))

    changed = run("Pay in ") + wrap("del", wrap("r", wrap("delText", "30"))) + wrap("ins", run("14")) + run(" days.")
    box = wrap("r", wrap("pict", wrap("txbxContent", wrap("p", run("Boxed.")))))
    inner = wrap("tbl", wrap("tr", wrap("tc", wrap("p", run("inner")))))
    body = [
        wrap("p", changed),
        control(wrap("p", run("Controlled, ") + control(run("twice.")))),
        control(wrap("p", run("Contents 1")), "Table of Contents"),
        wrap("p", run("Beside.") + box),
        wrap("tbl", control(wrap("tr", wrap("tc", wrap("p", run("outer")) + inner + wrap("p", ""))))),
    ]
    for xml in body:
        document.element.body.insert_element_before(parse_xml(xml.replace(" ", f" {nsdecls('w')} ", 1)), "w:sectPr")
    document.save(str(tmp_path / "a.docx"))
    assert texts_of(tmp_path / "a.docx") == [
        *("Pay in 14 days.", "Controlled, twice.", "Beside.", "Boxed.", "outer inner"),
    ]


def test_formulas_and_notes_of_word_documents_are_read(tmp_path):
    docx = pytest.importorskip("docx")
    from docx.opc.constants import RELATIONSHIP_TYPE
    from docx.opc.packuri import PackURI
    from docx.opc.part import Part
    from docx.oxml import parse_xml

    word = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    maths = 'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'
    formula = "<m:oMath><m:r><m:t>E=</m:t></m:r><m:r><m:t>mc²</m:t></m:r></m:oMath>"
    document = docx.Document()
    for content in (
        f"<w:r><w:t>Here </w:t></w:r>{formula}<w:r><w:t> holds.</w:t></w:r>",
        f"<m:oMathPara>{formula}</m:oMathPara>",
    ):
        document.element.body.insert_element_before(parse_xml(f"<w:p {word} {maths}>{content}</w:p>"), "w:sectPr")
    changed = "<w:r><w:t>Of 1905</w:t></w:r><w:ins><w:r><w:t>, by Einstein.</w:t></w:r></w:ins>"
    notes = f"<w:footnotes {word}><w:footnote><w:p>{changed}</w:p></w:footnote></w:footnotes>"
    part = Part(PackURI("/word/footnotes.xml"), "application/xml", notes.encode())
    document.part.relate_to(part, RELATIONSHIP_TYPE.FOOTNOTES)
    document.save(str(tmp_path / "a.docx"))
    assert texts_of(tmp_path / "a.docx") == ["Here E=mc² holds.", "E=mc²", "Of 1905, by Einstein."]
    part._blob = notes[:-30].encode()
    document.save(str(tmp_path / "b.docx"))
    assert refused(tmp_path / "b.docx") == "damaged or cut off"


@pytest.mark.parametrize("root", ["<note>text</note>", f'<w:document xmlns:w="{WORD}"/>'])
def test_a_word_file_with_another_root_or_without_a_body_is_refused(tmp_path, root):
    docx = pytest.importorskip("docx")
    docx.Document().save(str(tmp_path / "whole.docx"))
    with zipfile.ZipFile(tmp_path / "whole.docx") as whole, zipfile.ZipFile(tmp_path / "a.docx", "w") as spoilt:
        for name in whole.namelist():
            spoilt.writestr(name, root if name == "word/document.xml" else whole.read(name))
    assert refused(tmp_path / "a.docx") == "no Word document inside"


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        ("<m:f><m:num>{a}</m:num><m:den>{b}</m:den></m:f>", "a/b"),
        ("<m:f><m:num>{a}{b}</m:num><m:den>{b}</m:den></m:f>", "(ab)/b"),
        ("<m:sSup><m:e>{a}</m:e><m:sup>{b}{b}</m:sup></m:sSup>", "a^(bb)"),
        ("{a}<m:d><m:e>{b}</m:e></m:d>", "a(b)"),
        ('<m:d><m:dPr><m:begChr m:val="|"/><m:endChr m:val="|"/></m:dPr><m:e>{a}</m:e></m:d>', "|a|"),
        ("<m:rad><m:deg/><m:e>{a}{b}</m:e></m:rad>", "√(ab)"),
        ('<m:nary><m:naryPr><m:chr m:val="∑"/></m:naryPr><m:sub>{a}</m:sub><m:sup>{b}</m:sup></m:nary>', "∑_a^b"),
    ],
)
def test_formulas_keep_their_meaning_in_one_line(tmp_path, formula, text):
    docx = pytest.importorskip("docx")
    from docx.oxml import parse_xml

    word = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    maths = 'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'
    filled = formula.format(a="<m:r><m:t>a</m:t></m:r>", b="<m:r><m:t>b</m:t></m:r>")
    document = docx.Document()
    paragraph = parse_xml(f"<w:p {word} {maths}><m:oMath>{filled}</m:oMath></w:p>")
    document.element.body.insert_element_before(paragraph, "w:sectPr")
    document.save(str(tmp_path / "a.docx"))
    assert texts_of(tmp_path / "a.docx") == [text]


def test_a_word_document_without_properties_has_no_made_up_title(tmp_path):
    docx = pytest.importorskip("docx")
    document = docx.Document()
    document.add_paragraph("Text.")
    document.save(str(tmp_path / "with.docx"))
    with zipfile.ZipFile(tmp_path / "with.docx") as given, zipfile.ZipFile(tmp_path / "a.docx", "w") as stripped:
        for name in given.namelist():
            raw = given.read(name)
            if name == "_rels/.rels":
                raw = re.sub(rb"<Relationship [^>]*core-properties[^>]*>", b"", raw)
            stripped.writestr(name, raw)
    assert docx.Document(str(tmp_path / "a.docx")).core_properties.title == "Word Document"
    assert read(tmp_path / "a.docx")[1].title == ""


def test_json_lines_by_their_columns(tmp_path):
    rows = [{"title": "T", "text": "a\n\nb", "n": "x1"}, {"text": "c", "more": "d", "n": 2}, "broken", {"other": 1}]
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path = written(tmp_path / "a.jsonl", "\n\n".join(lines))
    blocks, notes = read(path, id_column="n")
    assert [(b.record, b.title, b.key, b.text, b.start) for b in blocks] == [
        (1, "T", "x1", "a", 0),
        (1, "T", "x1", "b", 3),
        (2, "", "2", "c", 0),
    ]
    assert notes.dropped == {"broken_record": 1, "record_without_text": 1}
    assert [block.text for block in read(path, text_column=("n",))[0]] == ["x1", "2"]
    assert refused(path, text_column=("words",)).startswith(
        "no column 'words' of text; its columns: title, text, n (--"
    )


@pytest.mark.parametrize("first", ['{"text": null, "n": "x"}', '{"text": NaN, "n": "x"}', '{"n": "x"}', "[]", "{"])
def test_a_file_is_not_judged_by_its_first_record(tmp_path, first):
    # values that pandas makes of gaps
    path = written(tmp_path / "a.jsonl", f'{first}\n{{"text": "refunds", "n": 7.0, "title": NaN}}\n')
    blocks, notes = read(path, id_column="n")
    assert [(b.text, b.key, b.title) for b in blocks] == [("refunds", "7", "")]
    assert sum(notes.dropped.values()) == 1


@pytest.mark.parametrize("record", ['{"n": ' + "9" * 5000 + "}", "[" * 100_000, '{"text": "\\ud83d"}', "\ufeff{}"])
def test_a_record_that_cannot_be_read_costs_itself_alone(tmp_path, record):
    # stanford-crfm/helm#1381: integers of more digits than Python converts
    path = written(tmp_path / "a.jsonl", f'{{"text": "one"}}\n{record}\n{{"text": "two"}}\n')
    blocks, notes = read(path)
    assert [b.text for b in blocks if b.text != "\ufffd"] == ["one", "two"]
    assert sum(notes.dropped.values()) + sum(b.text == "\ufffd" for b in blocks) == 1


def test_a_list_with_a_broken_record(tmp_path):
    path = written(tmp_path / "a.json", '[null, {"text": "one"}, 3, {"text": NaN}]')
    blocks, notes = read(path)
    assert ([b.text for b in blocks], notes.dropped) == (["one"], {"broken_record": 2, "record_without_text": 1})
    written(path, '[{"text": ' + "9" * 5000 + "}]")
    assert "unusable number" in refused(path)


def test_json_lines_named_as_json(tmp_path):
    path = written(tmp_path / "a.json", '{"text": "one"}\n\n{"text": "two"}\n')
    assert [(b.record, b.text) for b in read(path)[0]] == [(1, "one"), (2, "two")]
    path = written(tmp_path / "a.jsonl", '[{"text": "one"},\n{"text": "two"}]')
    assert refused(path).startswith("none of its 2 lines")


def test_one_record_in_a_file(tmp_path):
    path = written(tmp_path / "a.json", '{"title": "T", "text": "one", "links": [{"to": "b"}]}')
    assert [(b.title, b.text) for b in read(path)[0]] == [("T", "one")]


def test_records_without_text_are_counted(tmp_path):
    rows = ['{"paragraphs": [{"text": "no list of texts"}]}', '{"text": " "}', '{"text": "", "abstract": "one"}']
    path = written(tmp_path / "a.jsonl", "\n".join(rows))
    blocks, notes = read(path)
    assert [b.text for b in blocks] == ["one"]
    assert notes.dropped == {"record_without_text": 2}
    assert refused(path, text_column=("paragraphs",)).startswith("no column 'paragraphs' of text")


def test_columns_that_are_named_and_absent_are_remarked(tmp_path):
    path = written(tmp_path / "a.csv", "Id,text\n1,one\n2,two\n")
    blocks, notes = read(path, id_column="id", title_column="Id")
    assert [(b.key, b.title) for b in blocks] == [("", "1"), ("", "2")]
    assert notes.remarks == ["2 of 2 records have nothing in column 'id'"]


def test_lists_of_paragraphs(tmp_path):
    path = written(tmp_path / "a.jsonl", '{"title": "T", "paragraphs": ["one", "two"]}\n')
    assert [(b.text, b.start) for b in read(path)[0]] == [("one", 0), ("two", 5)]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables(tmp_path, separator):
    path = tmp_path / "a.csv"
    path.write_bytes(f'id{separator}text\n7{separator}"Grüße, {separator} ""alle"""\n'.encode("latin-1"))
    blocks, _ = read(path, id_column="id")
    assert [(b.key, b.text) for b in blocks] == [("7", f'Grüße, {separator} "alle"')]


def test_a_header_of_several_lines(tmp_path):
    path = written(tmp_path / "a.csv", '\nid, text ,"title\n(short)"\n7,one,T\n')
    blocks, _ = read(path, id_column="id", title_column="title\n(short)")
    assert [(b.key, b.title, b.text) for b in blocks] == [("7", "T", "one")]


def test_a_table_that_excel_wrote(tmp_path):
    # PowerShell/PowerShell#7776: the first line names the separator
    path = written(tmp_path / "a.csv", "\ufeffsep=;\r\nid;title;text\r\n1;T;x, y\r\n2;U;z;more\r\n")
    blocks, notes = read(path)
    assert [(b.record, b.title, b.text) for b in blocks] == [(1, "T", "x, y"), (2, "U", "z")]
    assert notes.remarks == ["1 rows have more cells than the header, which are left out"]


@pytest.mark.parametrize(
    ("rows", "texts"),
    [
        ('1\t"Yes" is not "no"\n2\tan "odd\n3\t"\n4\tone\n', ['"Yes" is not "no"', 'an "odd', '"', "one"]),
        ('1\t"Yes"" is\nnot ""no"\n2\tone\n', ['Yes" is\nnot "no', "one"]),
    ],
)
def test_quotes_of_tab_separated_files(tmp_path, rows, texts):
    assert [b.text for b in read(written(tmp_path / "a.tsv", f"id\ttext\n{rows}"))[0]] == texts


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="parquet needs pyarrow (pip install inpars[interchange])")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"body": ["one", None, "three"], "title": ["A", "B", None]}), path)
    blocks, _ = read(path)
    assert [(b.record, b.title, b.text) for b in blocks] == [(1, "A", "one"), (3, "", "three")]
    path.write_bytes(b"PAR1 not")
    assert refused(path) == "damaged, or not parquet"


def test_squad_and_other_json(tmp_path):
    answers = [{"text": "Rome", "answer_start": 3}]
    questions = [
        {"id": "q1", "question": " Where? ", "answers": answers, "is_impossible": False},
        {"id": "q2", "question": "Why?", "answers": [], "is_impossible": True, "plausible_answers": answers},
    ]
    article = {
        "title": "Old_towns",
        "paragraphs": [{"context": "In Rome.", "qas": questions}, {"context": "x", "qas": []}],
    }
    path = written(tmp_path / "a.json", json.dumps({"version": "v2.0", "data": [article]}))
    blocks, notes = read(path)
    assert [(b.record, b.title, b.text) for b in blocks] == [(1, "Old towns", "In Rome."), (2, "Old towns", "x")]
    assert notes.questions == [
        {"id": "q1", "text": "Where?", "record": 1, "answers": [[3, 7]]},
        {"id": "q2", "text": "Why?", "record": 1, "answers": []},
    ]
    assert [b.text for b in read(written(path, '{"rows": [{"text": "a"}, {"text": "b"}]}'))[0]] == ["a", "b"]
    assert refused(written(path, '{"a": 1}')) == "JSON, but neither SQuAD's form nor a list of records"
    assert refused(written(path, '{"a": ')).startswith("broken JSON")


def test_layout_is_doclings_and_loaded_only_when_asked(tmp_path, monkeypatch):
    """docling itself cannot be had here, its models are fetched: what is held to its interface is our side of it."""
    assert kind_of(tmp_path / "a.pdf", ReadOptions()) is PDF
    assert kind_of(tmp_path / "a.pdf", ReadOptions(layout=True)) is LAYOUT
    assert kind_of(tmp_path / "a.md", ReadOptions(layout=True)) is KINDS[".md"]
    items = [
        ("section_header", "Results", 1),
        ("page_header", "ACME", 1),
        ("text", "Income rose.", 1),
        ("table", "", 2),
        ("text", "Outlook.", 2),
    ]

    class Document:
        def iterate_items(self):
            for label, text, page in items:
                table = {"export_to_markdown": lambda _: "| a | b |\n|---|---|\n| 1 | 2 |"} if label == "table" else {}
                item = SimpleNamespace(label=label, text=text, prov=[SimpleNamespace(page_no=page)], level=1, **table)
                yield item, 1

    converter = SimpleNamespace(convert=lambda _: SimpleNamespace(document=Document()))
    module = ModuleType("docling.document_converter")
    module.DocumentConverter = lambda: converter
    monkeypatch.setitem(sys.modules, "docling", ModuleType("docling"))
    monkeypatch.setitem(sys.modules, "docling.document_converter", module)
    monkeypatch.delitem(sys.modules, "inpars.documents.readers.layout", raising=False)
    blocks, notes = read(tmp_path / "a.pdf", layout=True)
    monkeypatch.delitem(sys.modules, "inpars.documents.readers.layout")
    assert [(b.page, b.headings, b.text, b.start) for b in blocks] == [
        (1, ("Results",), "Income rose.", 0),
        (2, ("Results",), "a | b", 0),
        (2, ("Results",), "1 | 2", 6),
        (2, ("Results",), "Outlook.", 12),
    ]
    assert (notes.title, notes.dropped) == ("Results", {"boilerplate": 1})


def test_a_package_that_is_absent_is_named_with_its_pip_line():
    with pytest.raises(MissingDependencyError, match=r"nothing is needed .*read X .*pip install"):
        Kind("X", "x:y", ("no_such_package",), "nothing>=1").check()
    assert HTML.packages == ("trafilatura",)
