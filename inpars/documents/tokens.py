"""How many tokens a text has, by the tokenizer of a model, without loading the model."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

from inpars.errors import ConfigError, MissingDependencyError
from inpars.models.folders import EMBEDDED

TokenCounter: TypeAlias = Callable[[Sequence[str]], list[int]]
WORDS = "words"
DEFAULT = "minilm"
_WORD = re.compile(r"\w+|[^\w\s]")
_FILE = "tokenizer.json"


def tokenizer_name(name: str | None) -> str:
    """The tokenizer that is used where none is named: the embedded one, or words where that is not installed."""
    if name is not None:
        return name
    return DEFAULT if find_spec("tokenizers") is not None and EMBEDDED[DEFAULT].installed else WORDS


def token_counter(name: str) -> TokenCounter:
    """Counts texts' tokens without the special ones; `words` counts words and punctuation marks.

    Raises ConfigError for a name that stands for no tokenizer, MissingDependencyError.
    """
    if name == WORDS:
        return lambda texts: [sum(1 for _ in _WORD.finditer(text)) for text in texts]
    if find_spec("tokenizers") is None:
        raise MissingDependencyError(
            "tokenizers", "to count tokens (or give --tokenizer words)", "pip install tokenizers"
        )
    from tokenizers import Tokenizer

    folder = EMBEDDED[name].locate()[0] if name in EMBEDDED else Path(name).expanduser()
    try:
        tokenizer = Tokenizer.from_file(str(folder / _FILE)) if folder.is_dir() else Tokenizer.from_pretrained(name)
    except Exception as error:  # the library has no errors of its own
        problem = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"--tokenizer {name}: no tokenizer there ({problem}); give words or {DEFAULT}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda texts: [
        len(encoding.ids) for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False)
    ]
