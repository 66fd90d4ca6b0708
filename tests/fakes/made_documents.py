"""Documents that tests make: PDF written by hand, so that what stands on which page is known."""

from pathlib import Path


def pdf_bytes(pages, title="Made by a test"):
    """A PDF of lines of text; None instead of lines is a page that holds a picture alone."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", "", "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    picture = (
        "<< /Type /XObject /Subtype /Image /Width 1 /Height 1 /ColorSpace /DeviceGray /BitsPerComponent 8 /Length 1 >>"
    )
    objects += [f"{picture}\nstream\n0\nendstream", f"<< /Title ({title}) >>"]
    kids = []
    for lines in pages:
        if lines is None:
            content = "q 500 0 0 700 50 50 cm /Im0 Do Q"
        else:
            shown = " T* ".join(f"({line.replace('(', '').replace(')', '')}) Tj" for line in lines)
            content = f"BT /F1 11 Tf 14 TL 50 760 Td {shown} ET"
        objects.append(f"<< /Length {len(content)} >>\nstream\n{content}\nendstream")
        resources = (
            "<< /Font << /F1 3 0 R >> /XObject << /Im0 4 0 R >> >>" if lines is None else "<< /Font << /F1 3 0 R >> >>"
        )
        kids.append(len(objects) + 1)
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Resources {resources} "
            f"/Contents {len(objects)} 0 R >>"
        )
    objects[1] = f"<< /Type /Pages /Count {len(kids)} /Kids [{' '.join(f'{kid} 0 R' for kid in kids)}] >>"
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        places.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode("latin-1")
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    tail = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer\n<< /Size {len(objects) + 1} /Root 1 0 R "
    return out + f"{tail}/Info 5 0 R >>\nstartxref\n{len(out)}\n%%EOF\n".encode()


def write_pdf(path: Path, pages, **settings):
    path.write_bytes(pdf_bytes(pages, **settings))
    return path


def full_lines(text, width=80):
    """The text in lines that fill a page, as a printed paragraph has them."""
    lines, line = [], ""
    for word in text.split():
        if len(line) + len(word) >= width:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return [*lines, line]


PAGE = """<!doctype html><html lang="en"><head><title>Making bread - The Site</title></head><body>
<nav><ul><li><a href="/">Home</a></li><li><a href="/recipes">Recipes</a></li></ul></nav>
<article><h1>Making bread</h1>
<p>Bread is made of flour, water, salt and yeast, which together have to rest for a night before they are baked.</p>
<h2>The oven</h2>
<p>Heat it to 230 degrees for half an hour, so that the stone inside is as hot as the air around it.
{extra}</p>
<ul><li>A stone keeps the heat far longer than a tray of tin does.</li>
<li>Steam keeps the crust soft at first.</li></ul>
<table><tr><th>Loaf</th><th>Minutes</th></tr><tr><td>Small white loaf</td><td>25</td></tr></table>
<pre><code>def bake(loaf):
    return loaf.heated(230)
</code></pre>
</article><footer><p>Copyright The Site</p></footer></body></html>"""
