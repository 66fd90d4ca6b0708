"""Docstrings of the standard library of the Python that runs this file, as JSON lines `[name, title, text]`.

There is one for each public module, class, function, method and property with its own docstring, under the name that
programmers use (`os.path.join`, not `posixpath.join`; `sorted`, not `builtins.sorted`). This file imports only the
standard library and runs as a program (`python -I -S docstrings.py`), because packages patch the standard library:
transformers adds methods to `logging.Logger`, torch replaces `inspect.getfile`.
"""

from __future__ import annotations

import builtins
import importlib
import inspect
import json
import pkgutil
import re
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from functools import cached_property
from io import StringIO
from types import GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import NamedTuple, TypeGuard

MAX_CHARACTERS = 1500  # longer docstrings end after the last paragraph that fits
MAX_SIGNATURE_CHARACTERS = 80  # longer signatures are left out of the title
MIN_WORDS = 4  # of a useful docstring

_WITH_EFFECTS = "antigravity this readline rlcompleter curses idlelib tkinter turtle turtledemo ensurepip"
_TESTS_AND_TABLES = "test tests encodings pydoc_data"
_GONE_SINCE = (  # removed in Python 3.12 or 3.13
    "aifc asynchat asyncore audioop cgi cgitb chunk crypt distutils imghdr imp lib2to3 mailcap msilib nis nntplib "
    "ossaudiodev pipes smtpd sndhdr spwd sunau telnetlib uu xdrlib"
)
_KNOWN_BY_ANOTHER_NAME = (
    "posix nt posixpath ntpath genericpath pyexpat opcode nturl2path sre_compile sre_constants sre_parse"
)
UNWANTED_MODULES = frozenset(f"{_WITH_EFFECTS} {_TESTS_AND_TABLES} {_GONE_SINCE} {_KNOWN_BY_ANOTHER_NAME}".split())
ALIASED_MODULES = ("os.path",)  # not listed by their package
UNWANTED_NAMES = frozenset(["socket.SocketType"])  # socket.socket has its members

_ATTRIBUTE_TYPES = (property, cached_property, GetSetDescriptorType, MemberDescriptorType)
_GENERATED_DOCS = ("Initialize self.", "Alias for field number", "Create and return a new object.")
_WORD = re.compile(r"\w+")
_PARENTHESES = re.compile(r"\([^()]*\)")


class _Entry(NamedTuple):
    name: str
    value: object
    text: str
    depth: int  # length of the class's method resolution order; 0 outside classes


class _Order(NamedTuple):
    """Ranks an object's names; the smallest is the best."""

    not_builtin: bool
    guessed: bool  # the module may only import the object
    dots: int
    not_listed: bool
    unlike: bool  # differs from the object's `__name__`
    name: str


def collect() -> list[tuple[str, str, str]]:
    """Name, title and text of everything with a docstring, sorted by name."""
    with _quiet():
        return sorted((e.name, e.name + _signature(e.value), e.text) for e in _distinct(_entries()))


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress output and warnings of imported modules."""
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(StringIO()))
        stack.enter_context(redirect_stderr(StringIO()))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        yield


def _entries() -> Iterator[_Entry]:
    """Everything with its own docstring, including duplicates, in a fixed order."""
    modules = {name: module for name in _module_names() if (module := _imported(name)) is not None}
    for name, module in modules.items():
        yield _Entry(name, None, _text(module.__doc__), 0)
    named = _named_objects(modules)
    for path, value in named.values():
        depth = len(inspect.getmro(value)) if inspect.isclass(value) else 0
        yield _Entry(path, value, _text(_own_doc(value)), depth)
        if inspect.isclass(value):
            for member, definer in _members(value):
                if definer is value or id(definer) not in named:
                    function = getattr(definer.__dict__[member], "__func__", definer.__dict__[member])
                    yield _Entry(f"{path}.{member}", function, _text(_own_doc(function)), depth)


def _distinct(entries: Iterable[_Entry]) -> Iterator[_Entry]:
    """Useful entries, each name and text once: with the shortest path, in the most general class."""
    seen: set[str] = set()
    for entry in sorted(entries, key=lambda e: (e.name.count("."), e.depth, e.name)):
        wordy = len(_WORD.findall(_PARENTHESES.sub(" ", entry.text))) >= MIN_WORDS
        if wordy and entry.text not in seen and entry.name not in seen:
            seen.update((entry.text, entry.name))
            yield entry


def _module_names() -> list[str]:
    names = set(ALIASED_MODULES)
    waiting = sorted(name for name in sys.stdlib_module_names if _is_wanted(name))
    while waiting:
        name = waiting.pop()
        names.add(name)
        for submodule in pkgutil.iter_modules(getattr(_imported(name), "__path__", ())):
            if _is_wanted(submodule.name):
                waiting.append(f"{name}.{submodule.name}")
    return sorted(names)


def _is_wanted(name: str) -> bool:
    return not name.startswith("_") and name not in UNWANTED_MODULES


def _imported(name: str) -> ModuleType | None:
    """The module, None if this Python or platform lacks it."""
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit):  # modules of other platforms may raise anything
        return None


def _named_objects(modules: dict[str, ModuleType]) -> dict[int, tuple[str, object]]:
    """Each documented object by its identity, with the best of its names."""
    best: dict[int, tuple[_Order, str, object]] = {}
    for module_name, module in modules.items():
        for name, listed in _public_names(module):
            value = _attribute(module, name)
            definer = getattr(value, "__module__", None)
            if not isinstance(definer, str) or not _is_documented(value):
                continue
            if _may_name(module_name, definer, listed, modules):
                path = name if module is builtins else f"{module_name}.{name}"
                guessed = not listed and definer not in modules and definer.lstrip("_") != module_name
                unlike = name != getattr(value, "__name__", name)
                order = _Order(module is not builtins, guessed, path.count("."), not listed, unlike, path)
                candidate = order, path, value
                best[id(value)] = min(best.get(id(value), candidate), candidate)
    return {key: (path, value) for key, (_, path, value) in best.items()}


def _public_names(module: ModuleType) -> list[tuple[str, bool]]:
    """A module's public names in order, and whether `__all__` lists them."""
    listed = getattr(module, "__all__", None)
    names = sorted({*vars(module), *(listed or ())})
    public = [name for name in names if not name.startswith("_") and f"{module.__name__}.{name}" not in UNWANTED_NAMES]
    return [(name, name in listed if listed else False) for name in public]


def _attribute(holder: object, name: str) -> object:
    try:
        return getattr(holder, name)
    except Exception:  # lazy attributes may need packages that are not installed
        return None


def _is_documented(value: object) -> bool:
    """Whether the value is a class or has its own docstring; modules are excluded, as they have their own entries."""
    return inspect.isclass(value) or (not inspect.ismodule(value) and _own_doc(value) is not None)


def _may_name(module_name: str, definer: str, listed: bool, modules: dict[str, ModuleType]) -> bool:
    """Whether the module may name an object: it is defined there, below it, or in no public module."""
    if definer.startswith(f"{module_name}.") or module_name == "builtins":
        return True
    if definer in modules and definer not in (module_name, "builtins"):
        return False
    return listed or not hasattr(modules[module_name], "__all__")


def _members(owner: type) -> Iterator[tuple[str, type]]:
    """Public methods and properties of a class, including inherited ones, with the class that defines each."""
    definers: dict[str, type] = {}
    for definer in inspect.getmro(owner):
        for name, value in vars(definer).items():
            function = getattr(value, "__func__", value)
            if inspect.isroutine(function) or isinstance(function, _ATTRIBUTE_TYPES):
                definers.setdefault(name, definer)
    return ((name, definer) for name, definer in sorted(definers.items()) if not name.startswith("_"))


def _own_doc(value: object) -> str | None:
    """An object's own docstring; a class's is followed by its constructor's."""
    if inspect.isclass(value):
        docs = (_class_doc(value), getattr(vars(value).get("__init__"), "__doc__", None))
        return "\n\n".join(inspect.cleandoc(doc) for doc in docs if _is_written(doc, value.__name__)) or None
    doc = _attribute(value, "__doc__")
    return doc if _is_written(doc, "") and doc is not type(value).__doc__ else None


def _class_doc(owner: type) -> object:
    """The docstring of the class itself, not of its base; not the instances' slot, as in `property`."""
    return owner.__doc__ if vars(owner).get("__doc__") is not None else None


def _is_written(doc: object, class_name: str) -> TypeGuard[str]:
    """Whether a docstring was written by hand, unlike the signatures of dataclasses and named tuples."""
    if not isinstance(doc, str):
        return False
    generated = bool(class_name) and doc.startswith(f"{class_name}(") and "\n" not in doc.strip()
    return not generated and not doc.startswith(_GENERATED_DOCS)


def _text(doc: str | None) -> str:
    """A docstring without indentation; a long one is cut after a paragraph."""
    text = inspect.cleandoc(doc or "").strip()
    if len(text) <= MAX_CHARACTERS:
        return text
    end = text.rfind("\n\n", 0, MAX_CHARACTERS)
    return text[: end if end > 0 else text.rfind(" ", 0, MAX_CHARACTERS)].rstrip()


def _signature(value: object) -> str:
    """Parameter names in parentheses; empty if unknown or too long."""
    if not callable(value):
        return ""
    try:
        parameters = inspect.signature(value).parameters.values()
    except Exception:  # may raise anything
        return ""
    stars: dict[object, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    names = [stars.get(p.kind, "") + p.name for p in parameters if p.name not in {"self", "cls"}]
    signature = f"({', '.join(names)})"
    return signature if len(signature) <= MAX_SIGNATURE_CHARACTERS else ""


if __name__ == "__main__":
    for row in collect():
        sys.stdout.write(json.dumps(row) + "\n")
