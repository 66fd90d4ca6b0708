"""What tests demand of messages: the strings they compare errors and stderr with, and how much of these is prose.

A message's adapter is no promise; its paths, ids, numbers and flags are. A demand is over-long where more than
`MAX_WORDS` words stand in a row with none of these, and no `.*`, between them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MAX_WORDS = 4
ABOUT_MESSAGES = re.compile(r"err\b|error|caught|raised|stderr|str\(|\bnotes?\b")
WORD = re.compile(r"[A-Z]?[a-z]+(?:'[a-z]*)?[,;:.!?]*|[aA]")  # `--flag`, `d12`, `a.tsv`, `query_id`, `BM25` are none
ANYTHING = re.compile(r"\.[*+]\??")
ESCAPED = re.compile(r"\\(?=[^\w\s])")


class Demand(NamedTuple):
    """A string that a message is compared with, and where."""

    line: int
    text: str


def demands(source: str) -> Iterator[Demand]:
    """`match=`, and strings that are sought in, or compared with, something that is named like a message."""
    for node in ast.walk(ast.parse(source)):
        for text in _texts(node):
            yield Demand(text.lineno, _value(text))


def prose(text: str) -> list[str]:
    """The longest row of plain words in a text or pattern, without the program's name at its start."""
    longest: list[str] = []
    row: list[str] = []
    for word in re.split(r"[\s()|^$]+", ESCAPED.sub("", ANYTHING.sub(" * ", text.removeprefix("inpars: ")))):
        row = [*row, word] if WORD.fullmatch(word) else row if not word else []
        longest = max(longest, row, key=len)
    return longest


def overlong(path: Path) -> list[Demand]:
    """The demands of a test's file that are too long, in order."""
    return sorted(one for one in demands(path.read_text(encoding="utf-8")) if len(prose(one.text)) > MAX_WORDS)


def _texts(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.Call):
        yield from (keyword.value for keyword in node.keywords if keyword.arg == "match")
        ends = isinstance(node.func, ast.Attribute) and node.func.attr in ("startswith", "endswith")
        if ends and node.args and ABOUT_MESSAGES.search(ast.unparse(node.func.value)):
            yield node.args[0]
    elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.Eq):
        sides = (node.left, node.comparators[0])
        for text, other in (sides, sides[::-1]):
            if _value(text) and ABOUT_MESSAGES.search(ast.unparse(other)):
                yield text


def _value(node: ast.expr) -> str:
    """The string an expression is; what is filled in counts as no word."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{0}" for part in node.values)
    if isinstance(node, ast.BinOp):
        return _value(node.left) + _value(node.right)
    return ""
