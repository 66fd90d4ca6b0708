"""Small charts as inline SVG: a histogram with a cut, a line. No library, no script, colours by class."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 640, 200
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 10, 34
BINS = 40


def histogram(kept: Sequence[float], dropped: Sequence[float], label: str, cut: float | None = None) -> str:
    """Counts of kept and dropped values in equal bins, one on the other, with the cut as a line."""
    values = [*kept, *dropped]
    if not values:
        return "<p>Nothing to show.</p>"
    low, high = min(values), max(values)
    width = (high - low) / BINS or 1.0
    counts = [_counts(part, low, width) for part in (kept, dropped)]
    most = max(map(sum, zip(*counts, strict=True)))
    step = (WIDTH - LEFT - RIGHT) / BINS
    bars = []
    for position, (inside, outside) in enumerate(zip(*counts, strict=True)):
        base = 0
        for count, name in ((inside, "kept"), (outside, "dropped")):
            top, height = _y(base + count, 0, most), _y(base, 0, most) - _y(base + count, 0, most)
            bars.append(
                f'<rect class="{name}" x="{LEFT + position * step:.1f}" y="{top:.1f}" width="{step - 1:.1f}" '
                f'height="{height:.1f}"/>'
            )
            base += count
    line = _cut(cut, low, low + BINS * width)
    return _figure("".join(bars) + line, (low, low + BINS * width), (0, most), label, "queries")


def line_chart(steps: Sequence[float], values: Sequence[float], label: str, unit: str, cut: float | None = None) -> str:
    """Values over steps, with a cut across the steps."""
    if len(steps) < 2:
        return "<p>Too few steps for a curve.</p>"
    spans = (min(steps), max(steps)), (min(0.0, *values), max(values) or 1.0)
    points = " ".join(
        f"{_x(step, *spans[0]):.1f},{_y(value, *spans[1]):.1f}" for step, value in zip(steps, values, strict=True)
    )
    return _figure(f'<polyline class="curve" points="{points}"/>{_cut(cut, *spans[0])}', *spans, label, unit)


def _cut(value: float | None, low: float, high: float) -> str:
    """An upright line, where the value lies on the chart."""
    if value is None or not low <= value <= high:
        return ""
    x = _x(value, low, high)
    return f'<line class="cut" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'


def _figure(content: str, xs: tuple[float, float], ys: tuple[float, float], label: str, unit: str) -> str:
    bottom = HEIGHT - BOTTOM
    axes = f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{WIDTH - RIGHT}"/>'
    texts = [
        _text(LEFT, bottom + 14, f"{xs[0]:.4g}", "start"),
        _text(WIDTH - RIGHT, bottom + 14, f"{xs[1]:.4g}", "end"),
        _text((LEFT + WIDTH - RIGHT) / 2, bottom + 28, label, "middle"),
        _text(LEFT - 4, bottom, f"{ys[0]:.4g}", "end"),
        _text(LEFT - 4, TOP + 8, f"{ys[1]:.4g}", "end"),
        _text(LEFT + 4, TOP + 8, unit, "start"),
    ]
    name = escape(f"{unit} by {label}")
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{name}">{content}{axes}{"".join(texts)}</svg>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _counts(values: Sequence[float], low: float, width: float) -> list[int]:
    counts = [0] * BINS
    for value in values:
        counts[min(BINS - 1, int((value - low) / width))] += 1
    return counts


def _x(value: float, low: float, high: float) -> float:
    return LEFT + (value - low) / ((high - low) or 1.0) * (WIDTH - LEFT - RIGHT)


def _y(value: float, low: float, high: float) -> float:
    return HEIGHT - BOTTOM - (value - low) / ((high - low) or 1.0) * (HEIGHT - TOP - BOTTOM)
