"""Field names of other servers: synonyms of our fields, and fields that can safely be ignored.

Any other field could change the result that a client expects, so it is refused by name. Collected from the public
documentation of Cohere, Jina, Voyage, Text Embeddings Inference, Infinity, vLLM, llama.cpp, NVIDIA NIM and Mixedbread.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import PydanticCustomError

NAME_CHARACTERS = 40  # longer field names are cut in messages


@dataclass(frozen=True, slots=True)
class Dialect:
    """Other servers' fields for one endpoint; a null value of any of them is ignored."""

    synonyms: Mapping[str, str] = field(default_factory=dict)  # theirs -> ours
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # our field -> {their value: our value}
    harmless: Collection[str] = ()  # never change a result
    as_always: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)  # accepted values: what is done anyway


WHO_ASKS = ("user", "request_id", "priority")  # for a provider's logs and queues
TRUNCATION = {"truncate": (True, "END"), "truncation": (True,), "truncation_direction": ("right", "Right")}

RERANK = Dialect(
    synonyms={
        "top_k": "top_n",
        "texts": "documents",
        "passages": "documents",
        "return_text": "return_documents",
        "return_input": "return_documents",
    },
    harmless=WHO_ASKS,
    as_always={
        **TRUNCATION,
        "rank_fields": (["text"],),
        "return_embeddings": (False,),
        "return_len": (False,),
        "rewrite_query": (False,),
    },
)
EMBEDDINGS = Dialect(
    synonyms={"inputs": "input", "texts": "input"},
    values={"input_type": {"search_query": "query", "search_document": "document", "passage": "document"}},
    harmless=WHO_ASKS,
    as_always={**TRUNCATION, "late_chunking": (False,)},
)
SEARCH = Dialect(synonyms={"top_k": "k", "q": "query"}, harmless=WHO_ASKS)
OURS = Dialect(harmless=WHO_ASKS)


def translated(body: Mapping[str, Any], fields: Collection[str], dialect: Dialect) -> dict[str, Any]:
    """The body with our field names. Raises PydanticCustomError for unknown fields and contradicting synonyms."""
    values = {name: value for name, value in body.items() if name in fields}
    for name, value in body.items():
        if name in fields or value is None or name in dialect.harmless:
            continue
        synonym = dialect.synonyms.get(name)
        if synonym is None:
            _refuse_unless_usual(name, value, fields, dialect)
        elif values.get(synonym) in (None, value):
            values[synonym] = value
        else:
            raise _refusal(f"{_excerpt(name)} and {synonym!r} mean the same but differ; send one of them")
    for name, known in dialect.values.items():
        if isinstance(values.get(name), str):
            values[name] = known.get(values[name], values[name])
    return values


def unknown_field(name: str, known: Collection[str]) -> str:
    """The message for a field that is refused."""
    close = difflib.get_close_matches(name[:NAME_CHARACTERS], sorted(known), n=1)
    guess = f"; did you mean {close[0]!r}?" if close else ""
    return f"{_excerpt(name)} is not understood here and could change the result{guess} (known: {', '.join(known)})"


def _refuse_unless_usual(name: str, value: object, fields: Collection[str], dialect: Dialect) -> None:
    usual = dialect.as_always.get(name)
    if usual is None:
        raise _refusal(unknown_field(name, [*fields, *dialect.synonyms]))
    if not any(type(value) is type(other) and value == other for other in usual):
        raise _refusal(f"{_excerpt(name)} can only be {' or '.join(map(repr, usual))} here; leave it out")


def _refusal(reason: str) -> PydanticCustomError:
    return PydanticCustomError("unknown_field", "{reason}", {"reason": reason})


def _excerpt(name: str) -> str:
    return repr(name[:NAME_CHARACTERS])
