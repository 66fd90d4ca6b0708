"""Measures as people write them, in ir_measures' notation: lists with commas, capitals aside, trec_eval's own names."""

from __future__ import annotations

import difflib
import re

import ir_measures

BETWEEN = re.compile(r"[\s,]+(?![^()]*\))")  # blanks and commas, but not those inside a measure's brackets
BASE = re.compile(r"\w+")


def split_measures(text: str) -> list[str]:
    """`nDCG@10, ERR(dcg='exp-log2',max_rel=3)@20` as two."""
    return [name for name in BETWEEN.split(text.strip()) if name]


def in_notation(name: str) -> str:
    """The same with ir_measures' capitals, `ndcg@10` as `nDCG@10`; what it does not know stays as it is."""
    if (base := BASE.match(name)) is None or base[0] in _names():
        return name
    known = {other.lower(): other for other in sorted(_names(), key=_is_first_name)}
    return known.get(base[0].lower(), base[0]) + name[base.end() :]


def nearest_measure(name: str) -> str | None:
    """What an unknown name may stand for: trec_eval's for one of ir_measures', else the nearest."""
    try:
        return str(ir_measures.parse_trec_measure(name)[0])
    except (NameError, ValueError, IndexError, KeyError):
        pass
    base = BASE.match(name)
    close = difflib.get_close_matches(base[0].lower(), [other.lower() for other in _names()], n=1) if base else []
    return in_notation(close[0]) + name[base.end() :] if base and close else None


def _is_first_name(name: str) -> bool:
    """Whether ir_measures writes the measure so: `NDCG` is another name of `nDCG`."""
    return bool(name == ir_measures.measures.registry[name].NAME)


def _names() -> frozenset[str]:
    return frozenset(ir_measures.measures.registry)
