"""One self-contained HTML page: its shell, its style, and the pieces sections are made of. Everything is escaped here.

The page holds no script and loads nothing; its own content policy forbids both, should an escape ever be forgotten.
Colours follow light and dark settings, tables scroll by themselves on narrow screens, print is light.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import resources

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell's text with how it is shown: `n` right-aligned, `soft`, `better`, `worse`; `raw` is HTML made here."""

    text: str
    classes: str = ""
    raw: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page with its heading."""

    title: str
    body: str
    anchor: str = field(default="")

    @property
    def name(self) -> str:
        """What links to it."""
        return self.anchor or "-".join("".join(c if c.isalnum() else " " for c in self.title.lower()).split())


def page(title: str, lead: str, sections: Sequence[Section], *, opening: str = "") -> str:
    """The whole page; `opening` stands between the lead and the contents."""
    shown = [section for section in sections if section.body]
    links = "".join(f"<li><a href=#{section.name}>{escape(section.title)}</a></li>" for section in shown)
    contents = f"<nav aria-label=Contents><ul class=contents>{links}</ul></nav>" if len(shown) > 2 else ""
    body = "".join(_section(section) for section in shown)
    return (
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
        f'<meta http-equiv=Content-Security-Policy content="{POLICY}">'
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        '<meta name=color-scheme content="light dark">'
        f"<title>{escape(title)}</title><style>{_style()}</style></head><body>"
        f"<header><h1>{escape(title)}</h1><p class=lead>{escape(lead)}</p>{opening}{contents}</header>"
        f"<main>{body}</main></body></html>\n"
    )


def _section(section: Section) -> str:
    name = section.name
    return f"<section aria-labelledby={name}><h2 id={name}>{escape(section.title)}</h2>{section.body}</section>"


def table(name: str, head: Sequence[str | Cell], rows: Iterable[Sequence[str | Cell]], best: int | None = None) -> str:
    """A table that scrolls by itself; the first cell of a row names it, the row at `best` stands out."""
    heads = "".join(f"<th scope=col{_class(cell)}>{_shown(cell)}</th>" for cell in head)
    lines = []
    for position, row in enumerate(rows):
        first, *others = row
        cells = "".join(f"<td{_class(cell)}>{_shown(cell)}</td>" for cell in others)
        mark = " class=best" if position == best else ""
        lines.append(f"<tr{mark}><th scope=row{_class(first)}>{_shown(first)}</th>{cells}</tr>")
    return scrolling(
        name, f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>" if lines else ""
    )


def scrolling(name: str, content: str) -> str:
    """Content that may be wider than the screen; keys reach it too."""
    if not content:
        return ""
    return f'<div class=wide role=region tabindex=0 aria-label="{escape(name)}">{content}</div>'


def figure(chart: str, caption: str, legend: str = "") -> str:
    """A chart with its caption; nothing where there is no chart."""
    return f"<figure>{chart}{legend}<figcaption>{escape(caption)}</figcaption></figure>" if chart else ""


def figures(*shown: str) -> str:
    """Figures side by side where there is room."""
    there = [one for one in shown if one]
    return f"<div class=figures>{''.join(there)}</div>" if there else ""


def heading(text: str) -> str:
    """A heading inside a section."""
    return f"<h3>{escape(text)}</h3>"


def paragraph(text: str, classes: str = "") -> str:
    """One paragraph of text."""
    return f"<p{f' class={classes}' if classes else ''}>{escape(text)}</p>" if text else ""


def cards(items: Iterable[str]) -> str:
    """Things side by side where there is room, below each other where there is none."""
    there = "".join(f"<li>{item}</li>" for item in items)
    return f"<ul class=cards>{there}</ul>" if there else ""


def tiles(values: Mapping[str, str]) -> str:
    """Numbers with what they count."""
    there = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in values.items())
    return f"<dl class=tiles>{there}</dl>" if there else ""


def folded(title: str, content: str) -> str:
    """Content that opens when it is asked for; print shows it."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>" if content else ""


def code(name: str, text: str) -> str:
    """Text as it is, in lines."""
    return f'<pre tabindex=0 role=region aria-label="{escape(name)}"><code>{escape(text)}</code></pre>' if text else ""


def number(value: float | None, form: str = ".4f") -> str:
    """A number with a proper minus sign; `-` where there is none."""
    return "-" if value is None else format(value, form).replace("-", MINUS)


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 5 s`, `2 h 4 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def shorten(text: str, characters: int) -> str:
    """The beginning of a text."""
    return text if len(text) <= characters else text[: characters - 1] + "…"


def _shown(cell: str | Cell) -> str:
    return escape(cell) if isinstance(cell, str) else cell.raw or escape(cell.text)


def _class(cell: str | Cell) -> str:
    return f' class="{cell.classes}"' if isinstance(cell, Cell) and cell.classes else ""


def _style() -> str:
    return resources.files("inpars.data").joinpath("report.css").read_text(encoding="utf-8")
