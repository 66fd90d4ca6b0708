"""What clients of other servers call our fields, and which of theirs may be passed over.

A field that is none of these could change what a client expects to get: it is refused by name. Known by their public
documentation: Cohere, Jina, Voyage, Text Embeddings Inference, Infinity, vLLM, llama.cpp, NVIDIA NIM, Mixedbread.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import PydanticCustomError

NAME_CHARACTERS = 40  # of a field's name that are shown


@dataclass(frozen=True, slots=True)
class Dialect:
    """Other servers' fields for one endpoint; any of them may be null, which asks for nothing."""

    synonyms: Mapping[str, str] = field(default_factory=dict)  # theirs -> ours
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # of our field: theirs -> ours
    harmless: Collection[str] = ()  # change no result
    as_always: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)  # values that ask for what is done anyway


WHO_ASKS = ("user", "request_id", "priority")  # for a provider's own records and queues
CUT_AT_THE_END = {"truncate": (True, "END"), "truncation": (True,), "truncation_direction": ("right", "Right")}

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
        **CUT_AT_THE_END,
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
    as_always={**CUT_AT_THE_END, "late_chunking": (False,)},
)
SEARCH = Dialect(synonyms={"top_k": "k", "q": "query"}, harmless=WHO_ASKS)
OURS = Dialect(harmless=WHO_ASKS)


def translated(body: Mapping[str, Any], fields: Collection[str], dialect: Dialect) -> dict[str, Any]:
    """The body in our fields. Raises PydanticCustomError for what is not understood, or said twice in two ways."""
    ours_by_name = {name: value for name, value in body.items() if name in fields}
    for name, value in body.items():
        if name in fields or value is None or name in dialect.harmless:
            continue
        ours = dialect.synonyms.get(name)
        if ours is None:
            _refuse_unless_usual(name, value, fields, dialect)
        elif ours_by_name.get(ours) in (None, value):
            ours_by_name[ours] = value
        else:
            raise _refusal(f"{_excerpt(name)} and {ours!r} mean the same and say different things; send one of them")
    for name, known in dialect.values.items():
        if isinstance(ours_by_name.get(name), str):
            ours_by_name[name] = known.get(ours_by_name[name], ours_by_name[name])
    return ours_by_name


def unknown_field(name: str, known: Collection[str]) -> str:
    """Why a field is refused."""
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
