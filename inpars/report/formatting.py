"""Format numbers, durations and tested differences for reports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from inpars.evaluation.significance import Difference

RELATIONS = {  # verdict -> how a system relates to another
    "better": "better than",
    "worse": "worse than",
    "may be chance": "not shown to differ from",
    "the same": "the same as",
    "not tested": "not tested against",
}
MINUS = "\N{MINUS SIGN}"


def number(value: float | None, form: str = ".4f") -> str:
    """A number with a typographic minus sign; `-` for None."""
    return "-" if value is None else format(value, form).replace("-", MINUS)


def span(low: float, high: float) -> str:
    """`+0.0123 to +0.0456`."""
    return f"{number(low, '+.4f')} to {number(high, '+.4f')}"


def duration(seconds: float | None) -> str:
    """`40 ms`, `1.4 s`, `12 s`, `3 min 5 s`, `2 h 4 min`; `-` if unknown."""
    if seconds is None:
        return "-"
    if 0 < seconds < 0.1:
        return f"{max(1, round(1000 * seconds))} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def shorten(text: str, characters: int) -> str:
    """Cut a text to `characters`, marked by an ellipsis."""
    return text if len(text) <= characters else text[: characters - 1] + "…"


def verdict(gain: Difference) -> tuple[str, str]:
    """The verdict on a difference in words, and its CSS class."""
    if not gain.mean and gain.better == gain.worse == 0:
        return "the same", "noise"
    if not gain.is_tested:
        return "not tested", "noise"
    if not gain.is_believed():
        return "may be chance", "noise"
    return ("better", "better") if gain.mean > 0 else ("worse", "worse")


def size(count: int) -> str:
    """Bytes as `91 MB` or `1.9 GB`."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def comparisons(gains: Iterable[tuple[str, Difference]]) -> str:
    """How a system compares with others: `better than bm25 (+0.28), not shown to differ from fusion (+0.06)`."""
    systems: dict[str, list[str]] = {}
    for name, gain in gains:
        systems.setdefault(verdict(gain)[0], []).append(f"{name} ({number(gain.mean, '+.4f')})")
    return ", ".join(f"{RELATIONS[word]} {_listed(systems[word])}" for word in RELATIONS if word in systems)


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def p_value(gain: Difference) -> str:
    """`, p = 0.012`; empty if nothing was tested."""
    value = gain.adjusted_p_value
    return "" if value is None else ", p < 0.001" if value < 0.001 else f", p = {value:.3f}"
