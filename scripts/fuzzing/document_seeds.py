"""Small documents of every kind that `ingest --documents` reads, and of some that it does not."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from typing import Any

from fuzzing.cases import Files
from fuzzing.containers import parquet_bytes, zipped
from fuzzing.seeds import BREAD, MILK, SOUR, TIDE, Seed, jsonl, one, pretty

MARKDOWN = f"""---
title: "Kitchen"
---
# Bread

{BREAD} See [the oven](https://a.b/c(d)) and *heat* it to `230` &deg;C.

## Steps
1. Mix flour
2. Wait\\
   a night

| Loaf | Minutes |
|------|---------|
| small | 25 |

```python
def bake(loaf): return loaf
```

Tides
=====
> {TIDE}
"""
RST = f"""Kitchen
=======

.. note:: {BREAD}

:ref:`ovens <oven>` and ``code`` and `a link <http://a.b>`_

* one
* two

.. code-block:: python

   x = 1

=====  =====
A      B
=====  =====
1      2
=====  =====

{TIDE}
"""
HTML = f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Bread &amp; milk</title></head><body>
<nav><ul><li><a href="/">Home</a></li></ul></nav><article><h1>Making bread</h1>
<p>{BREAD} It has to rest for a night before it is baked in an oven that is hot enough for the stone inside.</p>
<h2>The oven</h2><p>{TIDE} Heat it to 230 degrees for half an hour, so that the stone is as hot as the air.</p>
<ul><li>A stone keeps the heat longer than tin.</li></ul><table><tr><th>Loaf</th></tr><tr><td>Small</td></tr></table>
<pre><code>def bake(loaf):
    return loaf</code></pre></article><script>var a = 1;</script><footer>Copyright</footer></body></html>
"""
CSV = f'id;title;text\n1;Bread;"{BREAD}"\n2;;"{TIDE}\nSecond line, with ""quotes""."\n'
SQUAD = pretty(
    {
        "version": "v2.0",
        "data": [
            {
                "title": "Milk_and_bread",
                "paragraphs": [
                    {
                        "context": MILK,
                        "qas": [
                            {"id": "1", "question": SOUR, "answers": [{"text": "Bacteria", "answer_start": 0}]},
                            {"id": "2", "question": "who?", "answers": [], "is_impossible": True},
                        ],
                    },
                    {"context": BREAD, "qas": []},
                ],
            }
        ],
    }
)
NOTEBOOK = pretty({"cells": [{"cell_type": "markdown", "source": ["# Bread\n", BREAD]}], "nbformat": 4, "metadata": {}})


def pdf_bytes(pages: list[list[str]]) -> bytes:
    """A PDF of lines of text, written by hand."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", "", "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    objects.append("<< /Title (Made here) >>")
    kids = []
    for lines in pages:
        content = "BT /F1 11 Tf 14 TL 50 760 Td " + " T* ".join(f"({line}) Tj" for line in lines) + " ET"
        objects.append(f"<< /Length {len(content)} >>\nstream\n{content}\nendstream")
        kids.append(f"{len(objects) + 1} 0 R")
        fonts = "/Resources << /Font << /F1 3 0 R >> >>"
        page = f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] {fonts} /Contents {len(objects)} 0 R >>"
        objects.append(page)
    objects[1] = f"<< /Type /Pages /Count {len(kids)} /Kids [{' '.join(kids)}] >>"
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        places.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode("latin-1")
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    tail = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer\n<< /Size {len(objects) + 1} /Root 1 0 R "
    return out + f"{tail}/Info 4 0 R >>\nstartxref\n{len(out)}\n%%EOF\n".encode()


def docx_bytes() -> bytes:
    """A Word file of a heading, a paragraph, a list item and a table, with nothing in it but what Word needs."""
    word = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    relations = "http://schemas.openxmlformats.org/package/2006/relationships"
    to_styles = 'Target="styles.xml"/></Relationships>'
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    kinds = "application/vnd.openxmlformats-officedocument.wordprocessingml"
    head = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'

    def paragraph(text: str, style: str = "") -> str:
        shown = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
        return f"<w:p>{shown}<w:r><w:t>{text}</w:t></w:r></w:p>"

    cells = "".join(f"<w:tc><w:tcPr/>{paragraph(text)}</w:tc>" for text in ("Loaf", "25"))
    table = (
        f'<w:tbl><w:tblPr/><w:tblGrid><w:gridCol w:w="1"/><w:gridCol w:w="1"/></w:tblGrid><w:tr>{cells}</w:tr></w:tbl>'
    )
    body = paragraph("Bread", "Heading1") + paragraph(BREAD) + paragraph(TIDE, "ListBullet") + table
    names = "".join(
        f'<w:style w:type="paragraph" w:styleId="{style}"><w:name w:val="{name}"/></w:style>'
        for style, name in (("Heading1", "heading 1"), ("ListBullet", "List Bullet"))
    )
    parts = {
        "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/word/document.xml" ContentType="{kinds}.document.main+xml"/>'
        f'<Override PartName="/word/styles.xml" ContentType="{kinds}.styles+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{relations}"><Relationship Id="r1" Type="{office}/officeDocument" '
        'Target="word/document.xml"/></Relationships>',
        "word/document.xml": f'<w:document xmlns:w="{word}"><w:body>{body}<w:sectPr/></w:body></w:document>',
        "word/_rels/document.xml.rels": f'<Relationships xmlns="{relations}"><Relationship Id="r1" '
        f'Type="{office}/styles" {to_styles}',
        "word/styles.xml": f'<w:styles xmlns:w="{word}">{names}</w:styles>',
    }
    return zipped([(name, (head + content).encode()) for name, content in parts.items()])


def xlsx_bytes() -> bytes:
    """What a table in a zip archive looks like, for being refused."""
    return zipped(
        [("[Content_Types].xml", b"<Types/>"), ("xl/workbook.xml", b"<workbook/>"), ("xl/sheet1.xml", CSV.encode())]
    )


def tar_bytes() -> bytes:
    """A tape archive of one document."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        entry = tarfile.TarInfo("a.txt")
        entry.size = len(BREAD)
        archive.addfile(entry, io.BytesIO(BREAD.encode()))
    return out.getvalue()


def _rows() -> list[dict[str, Any]]:
    return [{"id": 1, "title": "Bread", "text": BREAD}, {"id": 2, "title": None, "text": TIDE}]


def _collection() -> Files:
    return {
        "a.txt": f"{BREAD}\n\n{TIDE}\n".encode(),
        "b.md": MARKDOWN.encode(),
        "c/d.jsonl": jsonl(*_rows()),
        "c/e.csv": CSV.encode(),
        "f.json": SQUAD,
    }


DOCUMENTS: dict[str, Seed] = {
    ".txt": one("a.txt", f"{BREAD}\n\n  {TIDE}\n{MILK}\n".encode()),
    ".txt latin": one("a.txt", "Käse reift, café und naïve Männer.\n".encode("latin-1")),
    ".md": one("a.md", MARKDOWN.encode()),
    ".rst": one("a.rst", RST.encode()),
    ".html": one("a.html", HTML.encode()),
    ".pdf": Seed("a.pdf", lambda: {"a.pdf": pdf_bytes([["Making bread", BREAD], [TIDE]])}),
    ".docx": Seed("a.docx", lambda: {"a.docx": docx_bytes()}),
    ".jsonl": one("a.jsonl", jsonl(*_rows(), {"text": [BREAD, TIDE], "title": 5})),
    ".jsonl.gz": one("a.jsonl.gz", gzip.compress(jsonl(*_rows()), 1, mtime=0)),
    ".csv": one("a.csv", CSV.encode()),
    ".tsv": one("a.tsv", f"id\ttext\n1\t{BREAD}\n2\t{TIDE}\n".encode()),
    ".json": one("a.json", SQUAD),
    ".json records": one("a.json", pretty({"rows": _rows()})),
    ".parquet": Seed("a.parquet", lambda: {"a.parquet": parquet_bytes(_rows())}),
    ".ipynb": one("a.json", NOTEBOOK),
    ".xlsx": Seed("a.csv", lambda: {"a.csv": xlsx_bytes()}),
    ".tar": Seed("a.txt", lambda: {"a.txt": tar_bytes()}),
    "collection": Seed("", _collection),
    "handbook": one("a.json", json.dumps([{"text": BREAD}, {"text": TIDE, "title": "Tides"}]).encode()),
}
