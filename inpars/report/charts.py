"""Small charts as inline SVG, without a library or scripts: histograms, lines, differences, intervals, bars, diagrams.

Each chart has an accessible name that describes it; lines differ in colour and dashes. A chart without data is an empty
string. Drawings are as wide as a phone, so that labels stay readable there; the page scales them up to its column.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from inpars.evaluation.verdicts import counted
from inpars.report.formatting import MINUS, shorten

BINS = 40
MAX_POINTS = 200
STYLES = 8  # of lines, `c0` to `c7`
ROW_HEIGHT, NAME_WIDTH, NAME_CHARACTERS = 26, 160, 24
HEADROOM = 1.04
WIDTH, HEIGHT = 440, 250  # of a plot
LEFT, RIGHT, TOP, BOTTOM = 50, 12, 26, 46
TICKS = 5
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)  # times a power of ten
BOX_WIDTH, GAP, PADDING, LINE = 340, 20, 8, 16
BOX_CHARACTERS = 44  # per line in a box


@dataclass(frozen=True, slots=True)
class Series:
    """One line."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]


@dataclass(frozen=True, slots=True)
class Bins:
    """Counts of kept and dropped values in bins of equal width, starting at `low`."""

    low: float
    width: float
    kept: Sequence[int]
    dropped: Sequence[int]


@dataclass(frozen=True, slots=True)
class Range:
    """A mean with its interval; `sure` if the difference is significant."""

    name: str
    mean: float
    low: float
    high: float
    sure: bool


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: `whole` allows only integer ticks, `log` is logarithmic."""

    low: float
    high: float
    label: str
    whole: bool = False
    log: bool = False
    marks: Sequence[float] = ()  # ticks at these values instead of round ones

    @property
    def span(self) -> float:
        """The length of the axis, 1 if all values are equal."""
        return (self.high - self.low) or 1.0

    def share(self, value: float) -> float:
        """The relative position of a value, from 0 to 1."""
        if self.log:
            return math.log(value / self.low) / (math.log(self.high / self.low) or 1.0)
        return (value - self.low) / self.span

    def ticks(self) -> list[float]:
        """About five round numbers."""
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
    """Two axes, and the positions of values on the drawing."""

    across: Axis
    up: Axis

    def x(self, value: float) -> float:
        """The horizontal position."""
        return LEFT + self.across.share(value) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """The vertical position."""
        return HEIGHT - BOTTOM - self.up.share(value) * (HEIGHT - TOP - BOTTOM)

    def draw(self, content: str, name: str) -> str:
        """The content with axes, grid and labels."""
        bottom = HEIGHT - BOTTOM
        parts = [
            *(_line(LEFT, self.y(tick), WIDTH - RIGHT, self.y(tick), "grid") for tick in self.up.ticks()),
            content,
            _line(LEFT, bottom, WIDTH - RIGHT, bottom, "axis"),
            *(_line(self.x(tick), bottom, self.x(tick), bottom + 4, "axis") for tick in self.across.ticks()),
            *(_text(LEFT - 7, self.y(tick) + 4, tick_label(tick), "end") for tick in self.up.ticks()),
            *(_text(self.x(tick), bottom + 18, tick_label(tick), "middle") for tick in self.across.ticks()),
            _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, self.across.label, "middle"),
            _text(2, 12, self.up.label, "start"),
        ]
        return _drawing(WIDTH, HEIGHT, "".join(parts), name)

    def vertical_line(self, value: float | None, label: str = "") -> str:
        """A vertical line at a value, empty if the value is off the plot."""
        if value is None or not self.across.low <= value <= self.across.high:
            return ""
        x = self.x(value)
        left = x > (LEFT + WIDTH) / 2
        words = _text(x - 5 if left else x + 5, TOP - 4, label, "end" if left else "start", "cutlabel") if label else ""
        return _line(x, TOP - 2, x, HEIGHT - BOTTOM, "cut") + words


@dataclass(frozen=True, slots=True)
class Step:
    """A box of a diagram."""

    title: str
    detail: str = ""


def bins_of(kept: Sequence[float], dropped: Sequence[float] = (), count: int = BINS) -> Bins | None:
    """Count finite values in equal bins; None if there are no such values."""
    parts = [[value for value in part if math.isfinite(value)] for part in (kept, dropped)]
    values = [value for part in parts for value in part]
    if not values:
        return None
    low, high = min(values), max(values)
    width = (high - low) / count or 1.0
    counts = [[0] * count, [0] * count]
    for part, bins in zip(parts, counts, strict=True):
        for value in part:
            bins[min(count - 1, int((value - low) / width))] += 1
    return Bins(low, width, *counts)


def histogram(bins: Bins | None, label: str, *, cut: float | None = None, unit: str = "queries") -> str:
    """Stacked counts of kept and dropped values, with a line at the cut."""
    if bins is None:
        return ""
    totals = [one + other for one, other in zip(bins.kept, bins.dropped, strict=True)]
    high = bins.low + len(totals) * bins.width
    plot = Plot(Axis(bins.low, high, label), Axis(0, max(totals) * HEADROOM, unit, whole=True))
    bars = []
    for position, (kept, total) in enumerate(zip(bins.kept, totals, strict=True)):
        left = plot.x(bins.low + position * bins.width)
        width = plot.x(bins.low + (position + 1) * bins.width) - left - 1
        bars += [
            _bar(left, plot.y(kept), width, plot.y(0), "kept"),
            _bar(left, plot.y(total), width, plot.y(kept), "dropped"),
        ]
    name = f"{sum(totals)} {unit} by {label}, from {tick_label(bins.low)} to {tick_label(high)}"
    cut_line = "" if cut is None else plot.vertical_line(cut, f"cut {tick_label(cut)}")
    return plot.draw("".join(bars) + cut_line, name)


def line_chart(
    lines: Sequence[Series],
    x_label: str,
    y_label: str,
    *,
    cut: float | None = None,
    cut_label: str = "",
    from_zero: bool = False,
    whole: bool = False,
    marks: Sequence[float] = (),
) -> str:
    """Lines over a common axis; empty if no line has two points.

    `marks` are ticks of the x axis, which is then logarithmic; `whole` allows only integer ticks there.
    """
    drawable = [line for line in lines if len(line.xs) > 1]
    if not drawable:
        return ""
    xs, ys = [x for line in drawable for x in line.xs], [y for line in drawable for y in line.ys]
    low, high = (min(0.0, *ys) if from_zero else min(ys)), max(ys)
    room = (high - low) * (HEADROOM - 1) or abs(high) * 0.1 or 1.0
    plot = Plot(
        Axis(min(xs), max(xs), x_label, whole, bool(marks), marks),
        Axis(low if from_zero else low - room, high + room, y_label),
    )
    curves = "".join(_polyline(plot, line, lines.index(line)) for line in drawable)
    ends = "; ".join(f"{line.name} from {tick_label(line.ys[0])} to {tick_label(line.ys[-1])}" for line in drawable)
    return plot.draw(curves + plot.vertical_line(cut, cut_label), f"{y_label} by {x_label}: {ends}")


def legend(names: Sequence[str]) -> str:
    """The legend of a line chart, in the order of its lines; empty for a single line."""
    if len(names) < 2:
        return ""
    marks = (f'<line class="curve c{index % STYLES}" x1="1" x2="27" y1="5" y2="5"/>' for index in range(len(names)))
    return _legend(zip(names, marks, strict=True))


def filled_legend(names: Sequence[tuple[str, str]]) -> str:
    """The legend of a bar chart, from names and CSS classes."""
    return _legend((name, f'<rect class="{kind}" width="28" height="10"/>') for name, kind in names)


def _legend(marks: Iterable[tuple[str, str]]) -> str:
    items = (f'<li><svg viewBox="0 0 28 10" aria-hidden="true">{mark}</svg>{escape(name)}</li>' for name, mark in marks)
    return f"<ul class=legend>{''.join(items)}</ul>"


def differences_chart(values: Sequence[float], queries: int, label: str) -> str:
    """Bars from the largest gain to the largest loss; `values` may be an even sample of all `queries`."""
    if not any(values):
        return ""
    low, high = min(0.0, *values), max(0.0, *values)
    room = (high - low) * (HEADROOM - 1)
    across = Axis(0, queries, "queries, from the largest gain to the largest loss", whole=True)
    plot = Plot(across, Axis(low - room if low else 0.0, high + room if high else 0.0, label))
    width = (WIDTH - LEFT - RIGHT) / len(values)
    bars = []
    for position, value in enumerate(values):
        top, bottom = sorted((plot.y(value), plot.y(0)))
        kind = "better-bar" if value > 0 else "worse-bar"
        bars.append(
            _bar(LEFT + position * width, top, width - 1 if width > 3 else width + 0.4, bottom, kind) if value else ""
        )
    zero = f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{plot.y(0):.1f}" y2="{plot.y(0):.1f}"/>'
    ends = f"from {tick_label(max(values))} to {tick_label(min(values))}"
    name = f"{label} of {counted(queries, 'query', 'queries')}, {ends}"
    return plot.draw("".join(bars) + zero, name)


def intervals_chart(rows: Sequence[Range], label: str) -> str:
    """Means with their intervals, one per row, and a line at zero."""
    if not rows:
        return ""
    height = TOP + len(rows) * ROW_HEIGHT + BOTTOM - 8
    low, high = min(0.0, *(row.low for row in rows)), max(0.0, *(row.high for row in rows))
    room = (high - low) * (HEADROOM - 1)
    axis = Axis(low - room, high + room, label)
    wide = WIDTH - RIGHT - NAME_WIDTH - 8

    def x(value: float) -> float:
        return NAME_WIDTH + 8 + axis.share(value) * wide

    bottom = TOP + len(rows) * ROW_HEIGHT
    parts = [f'<line class="grid" x1="{x(t):.1f}" x2="{x(t):.1f}" y1="{TOP - 6}" y2="{bottom}"/>' for t in axis.ticks()]
    parts += [_text(x(tick), bottom + 17, tick_label(tick), "middle") for tick in axis.ticks()]
    parts += [f'<line class="axis" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="{TOP - 6}" y2="{bottom}"/>']
    for position, row in enumerate(rows):
        y, kind = TOP + position * ROW_HEIGHT + ROW_HEIGHT / 2, "believed" if row.sure else "unsure"
        parts.append(_text(0, y + 4, shorten(row.name, NAME_CHARACTERS), "start", "name"))
        parts.append(
            f'<line class="{kind}" stroke-width="2" x1="{x(row.low):.1f}" x2="{x(row.high):.1f}" y1="{y}" y2="{y}"/>'
        )
        parts.append(f'<circle class="{kind}" cx="{x(row.mean):.1f}" cy="{y}" r="4"/>')
    parts.append(_text((NAME_WIDTH + WIDTH) / 2, bottom + 34, label, "middle"))
    name = f"{label}: " + "; ".join(
        f"{row.name} {tick_label(row.mean)}, {tick_label(row.low)} to {tick_label(row.high)}" for row in rows
    )
    return _drawing(WIDTH, height, "".join(parts), name)


def diagram(steps: Sequence[Step], name: str) -> str:
    """Boxes from top to bottom, one per step."""
    parts, top, middle = [], 0.0, BOX_WIDTH / 2
    for number, step in enumerate(steps):
        if number:
            parts.append(_text(middle, top + GAP - 6, "\N{DOWNWARDS ARROW}", "middle"))
            top += GAP
        lines = [("name", line) for line in textwrap.wrap(step.title, BOX_CHARACTERS)]
        lines += [("", line) for line in textwrap.wrap(step.detail, BOX_CHARACTERS)]
        height = len(lines) * LINE + 2 * PADDING
        parts.append(f'<rect class="box" y="{top:g}" width="{BOX_WIDTH}" height="{height}" rx="6"/>')
        parts += [
            _text(middle, top + PADDING + row * LINE + 12, line, "middle", classes)
            for row, (classes, line) in enumerate(lines)
        ]
        top += height
    description = "; ".join(f"{step.title}: {step.detail}" if step.detail else step.title for step in steps)
    return _drawing(BOX_WIDTH, top, "".join(parts), f"{name}: {description}")


def bar(share: float, classes: str = "kept") -> str:
    """A bar next to a number; `share` is its width, from 0 to 1."""
    return (
        '<svg class=bar viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="{classes}" width="{100 * share:.2f}" height="8"/></svg>'
    )


def evenly(values: Sequence[float], most: int = MAX_POINTS) -> list[float]:
    """At most `most` of the values in equal steps, including the first and the last."""
    if len(values) <= most:
        return list(values)
    return [values[round(position * (len(values) - 1) / (most - 1))] for position in range(most)]


def _polyline(plot: Plot, line: Series, position: int) -> str:
    style = f"curve c{position % STYLES}"
    points = [(plot.x(x), plot.y(y)) for x, y in zip(line.xs, line.ys, strict=True)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    marks = "".join(f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in points)
    return f'<polyline class="{style}" points="{path}"/>{marks if len(points) <= 16 else ""}'


def _bar(x: float, top: float, width: float, bottom: float, classes: str) -> str:
    if bottom - top < 0.05:
        return ""
    return (
        f'<rect class="{classes}" x="{x:.1f}" y="{top:.1f}" width="{max(0.6, width):.1f}" height="{bottom - top:.1f}"/>'
    )


def _drawing(width: float, height: float, content: str, name: str) -> str:
    """An image with an accessible name."""
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(name)}">{content}</svg>'


def _text(x: float, y: float, words: str, anchor: str, classes: str = "") -> str:
    named = f' class="{classes}"' if classes else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{named}>{escape(words)}</text>'


def tick_label(value: float) -> str:
    """A number in at most four digits, `12.5k` or `3M`."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            scale = 1e3 if letter == "k" else size
            return f"{value / scale:.4g}{letter}".replace("-", MINUS)
    return f"{value:.4g}".replace("-", MINUS)


def _line(x1: float, y1: float, x2: float, y2: float, classes: str) -> str:
    return f'<line class="{classes}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'
