"""Steps under one another as inline SVG, with lines of words that are broken here, since SVG breaks none."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from inpars.reports.svg import drawing, text

WIDTH, GAP, PADDING, LINE = 340, 20, 8, 16
CHARACTERS = 44  # of a line in a box


@dataclass(frozen=True, slots=True)
class Step:
    """A box: what is done or there, and what is to be said of it."""

    title: str
    detail: str = ""


def diagram(steps: Sequence[Step], name: str) -> str:
    """The steps from top to bottom."""
    parts, top, middle = [], 0.0, WIDTH / 2
    for number, step in enumerate(steps):
        if number:
            parts.append(text(middle, top + GAP - 6, "\N{DOWNWARDS ARROW}", "middle"))
            top += GAP
        lines = [("name", line) for line in textwrap.wrap(step.title, CHARACTERS)]
        lines += [("", line) for line in textwrap.wrap(step.detail, CHARACTERS)]
        height = len(lines) * LINE + 2 * PADDING
        parts.append(f'<rect class="box" y="{top:g}" width="{WIDTH}" height="{height}" rx="6"/>')
        parts += [
            text(middle, top + PADDING + place * LINE + 12, line, "middle", classes)
            for place, (classes, line) in enumerate(lines)
        ]
        top += height
    said = "; ".join(f"{step.title}: {step.detail}" if step.detail else step.title for step in steps)
    return drawing(WIDTH, top, "".join(parts), f"{name}: {said}")
