"""The imports of `inpars/`, read from its source: who imports whom, and on which line.

Nothing is imported for it. Counted are imports at the top, inside functions and under `TYPE_CHECKING` alike: a type or
a lazy import ties a module to another's name and place just as well, and moving the other breaks it.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

PACKAGE = "inpars"
ROOT = Path(__file__).parents[2]


class Import(NamedTuple):
    """One module importing another, `path:line` being where."""

    importer: str
    imported: str
    place: str

    @property
    def pair(self) -> tuple[str, str]:
        return self.importer, self.imported

    def __str__(self) -> str:
        return f"{self.place} imports {self.imported}"


def modules_of(root: Path) -> dict[str, Path]:
    """Dotted names of all modules under `root/inpars`, and their files."""
    files = sorted((root / PACKAGE).rglob("*.py"))
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def imports_of(root: Path) -> list[Import]:
    """Every import of one of our modules by another, each pair at its first line."""
    modules = modules_of(root)
    seen: dict[tuple[str, str], Import] = {}
    for importer, path in modules.items():
        for line, imported in _imported(ast.parse(path.read_text(encoding="utf-8")), modules):
            if imported not in (importer, PACKAGE):
                place = f"{path.relative_to(root).as_posix()}:{line}"
                seen.setdefault((importer, imported), Import(importer, imported, place))
    return list(seen.values())


def layer_of(module: str) -> str:
    """What the table of layers calls a module: the package below `inpars`, or the module that stands there alone."""
    return module.split(".")[1] if "." in module else PACKAGE


def circles(imports: Iterable[Import]) -> list[list[str]]:
    """Groups of modules each of which reaches, by imports, all others of its group (strongly connected components)."""
    below: dict[str, set[str]] = defaultdict(set)
    for importer, imported in (one.pair for one in imports):
        below[importer].add(imported)
    reach = {module: _reachable(module, below) for module in below}
    groups = {
        tuple(sorted(other for other in reach[module] if module in reach.get(other, ())))
        for module in reach
        if module in reach[module]
    }
    return sorted(list(group) for group in groups)


def _reachable(start: str, below: Mapping[str, set[str]]) -> set[str]:
    """All modules that `start` imports, through others too; `start` itself only where a way leads back to it."""
    reached: set[str] = set()
    waiting = list(below.get(start, ()))
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting.extend(below.get(module, ()))
    return reached


def _imported(tree: ast.AST, modules: Mapping[str, Path]) -> Iterator[tuple[int, str]]:
    """Line and name of each module of ours that is imported; `from package import name` means the module `name`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports are not used here, and not understood"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in modules else str(node.module) for name in whole]
        else:
            continue
        yield from ((node.lineno, name) for name in names if name in modules)
