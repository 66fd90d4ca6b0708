"""pygaggle 0.0.3.1's MonoT5 on today's libraries: `pip install --no-deps pygaggle coloredlogs humanfriendly` and this.

Its package imports pyserini's and spaCy's former classes, tensorflow's files and pydantic 1, none of which MonoT5 uses.
They are stood in for while it is imported. Its own code is not changed.
"""

from __future__ import annotations

import importlib.machinery
import sys
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

UNUSED = {
    "pyserini": (),
    "pyserini.search": ("SimpleSearcher", "JSimpleSearcherResult"),
    "pyserini.index": ("IndexReader",),
    "spacy": (),
    "spacy.lang": (),
    "spacy.lang.en": ("English",),
    "tensorflow": (),
    "tensorflow.python": (),
    "tensorflow.python.lib": (),
    "tensorflow.python.lib.io": ("file_io",),
}


class _Anything:
    """Has every attribute and may be called; nobody asks it for a result."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return _Anything()

    def __call__(self, *_: object, **__: object) -> _Anything:
        return _Anything()


def monot5(network: Any, tokenizer: Any) -> tuple[Any, type, type]:  # noqa: ANN401
    """Its reranker of this T5, batches of 8 as it ships, and its classes of queries and texts.

    It compares the tokens 6136 and 1176, T5's own false and true, whatever the vocabulary. Raises ImportError where
    it is not installed.
    """
    with _stood_in():
        from pygaggle.model import T5BatchTokenizer
        from pygaggle.rerank.base import Query, Text
        from pygaggle.rerank.transformer import MonoT5
    tokenizer.batch_encode_plus = tokenizer.__call__  # transformers 5 has no such name
    return MonoT5(network, T5BatchTokenizer(tokenizer, batch_size=8)), Query, Text


@contextmanager
def _stood_in() -> Iterator[None]:
    import pydantic.v1

    modules: dict[str, Any] = {name: _module(name, names) for name, names in UNUSED.items()}
    modules["pydantic"] = pydantic.v1
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def _module(name: str, names: tuple[str, ...]) -> ModuleType:
    module = ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    module.__file__, module.__path__ = name, []
    for inside in names:
        made = type(inside, (), {}) if name.startswith("pyserini") else _Anything()
        setattr(module, inside, made)
    return module
