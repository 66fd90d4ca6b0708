"""The frame of a small plot as inline SVG: scales, round ticks, axes, a name for those who do not see it.

Widths are those of a phone, so that labels stay readable there; the page scales the drawing up to its column.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from inpars.reports.formatting import MINUS

WIDTH, HEIGHT = 440, 250
LEFT, RIGHT, TOP, BOTTOM = 50, 12, 26, 46
TICKS = 5
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)  # times a power of ten


@dataclass(frozen=True, slots=True)
class Axis:
    """What one direction shows; `whole` numbers have no ticks between them, `log` has equal steps for equal factors."""

    low: float
    high: float
    label: str
    whole: bool = False
    log: bool = False
    marks: Sequence[float] = ()  # ticks at these values instead of round ones

    @property
    def span(self) -> float:
        """Its length; 1 where all values are the same."""
        return (self.high - self.low) or 1.0

    def share(self, value: float) -> float:
        """How far along a value lies, from 0 to 1."""
        if self.log:
            return math.log(value / self.low) / (math.log(self.high / self.low) or 1.0)
        return (value - self.low) / self.span

    def ticks(self) -> list[float]:
        """Round numbers on it, about five."""
        if self.marks:
            return list(self.marks)
        raw = self.span / TICKS
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(power * factor for factor in STEPS if power * factor >= raw * (1 - 1e-9))
        step = max(1.0, float(round(step))) if self.whole else step
        first, last = math.ceil(self.low / step - 1e-9), math.floor((self.low + self.span) / step + 1e-9)
        return [0.0 if position == 0 else position * step for position in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class Plot:
    """Where values come to lie on the drawing."""

    across: Axis
    up: Axis

    def x(self, value: float) -> float:
        """Across."""
        return LEFT + self.across.share(value) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Up."""
        return HEIGHT - BOTTOM - self.up.share(value) * (HEIGHT - TOP - BOTTOM)

    def draw(self, content: str, name: str) -> str:
        """The whole drawing, with its axes around the content."""
        bottom = HEIGHT - BOTTOM
        parts = [
            *(_line(LEFT, self.y(tick), WIDTH - RIGHT, self.y(tick), "grid") for tick in self.up.ticks()),
            content,
            _line(LEFT, bottom, WIDTH - RIGHT, bottom, "axis"),
            *(_line(self.x(tick), bottom, self.x(tick), bottom + 4, "axis") for tick in self.across.ticks()),
            *(text(LEFT - 7, self.y(tick) + 4, shown(tick), "end") for tick in self.up.ticks()),
            *(text(self.x(tick), bottom + 18, shown(tick), "middle") for tick in self.across.ticks()),
            text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, self.across.label, "middle"),
            text(2, 12, self.up.label, "start"),
        ]
        return drawing(WIDTH, HEIGHT, "".join(parts), name)

    def upright(self, value: float | None, label: str = "") -> str:
        """A line across all heights at a value, where it lies on the plot."""
        if value is None or not self.across.low <= value <= self.across.high:
            return ""
        x = self.x(value)
        left = x > (LEFT + WIDTH) / 2
        words = text(x - 5 if left else x + 5, TOP - 4, label, "end" if left else "start", "cutlabel") if label else ""
        return _line(x, TOP - 2, x, HEIGHT - BOTTOM, "cut") + words


def drawing(width: float, height: float, content: str, name: str) -> str:
    """An image with an accessible name."""
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(name)}">{content}</svg>'


def text(x: float, y: float, words: str, anchor: str, classes: str = "") -> str:
    """Words at a place."""
    named = f' class="{classes}"' if classes else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{named}>{escape(words)}</text>'


def shown(value: float) -> str:
    """A tick's number, short."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            scale = 1e3 if letter == "k" else size
            return f"{value / scale:.4g}{letter}".replace("-", MINUS)
    return f"{value:.4g}".replace("-", MINUS)


def _line(x1: float, y1: float, x2: float, y2: float, classes: str) -> str:
    return f'<line class="{classes}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'
