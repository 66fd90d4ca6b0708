"""What a language model is shown before it writes a query for a document.

A prompt is a form with `{document}` and `{query}` in it, filled once for each worked example and once, up to the query,
for the document in question. Everything before that document is the same for all documents, so that its keys and
values can be computed once. Knows nothing of files, models or tokens; `prompts.py` reads templates from files.
Few-shot prompting for queries: InPars (arXiv 2202.05144), Promptagator (2209.11755).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Protocol

from inpars.errors import PromptError
from inpars.records import Document

PLACEHOLDERS = ("document", "query", "bad_query", "number")
DEFAULT_STOP = ("\n",)
DEFAULT_SEPARATOR = "\n\n"
NOT_HASHED = ("name", "description", "source")  # they change no output

_PLACEHOLDER = re.compile(r"(?<!\{)\{\{([A-Za-z_]\w*)\}\}(?!\})|\{([A-Za-z_]\w*)\}")


@dataclass(frozen=True, slots=True)
class Example:
    """A document and the query a searcher would type for it; the ids where they come from a collection."""

    document: str
    query: str
    bad_query: str = ""
    doc_id: str = ""
    query_id: str = ""


class PromptSource(Protocol):
    """What gives each document its prompt: a `Prompt`, the same for all, or a choice of examples for each."""

    @property
    def name(self) -> str:
        """Its name in records and manifests."""

    @property
    def text(self) -> str:
        """Everything that decides what a model is shown, to be hashed."""

    @property
    def examples(self) -> tuple[Example, ...]:
        """All examples that any document may be shown."""

    def for_document(self, document: Document) -> Prompt:
        """The prompt that this document is put into."""

    def longest(self) -> Prompt:
        """The longest prompt that any document is put into, as far as characters tell."""

    def stop_position(self, generated: str) -> int:
        """Where a query ends in a continuation."""


@dataclass(frozen=True)
class Prompt:
    """A template that turns a document into the text, or the chat turns, a model continues with a query.

    `form` lays out one example; what follows its `{query}` is shown for the examples only. `{number}` counts from 1.
    Braces in documents, examples, `instruction` and `system` are plain text. Raises PromptError for a form that cannot
    work. `wants_examples` is true for templates that are made to be filled with a collection's own examples.
    """

    name: str
    form: str
    examples: tuple[Example, ...] = ()
    instruction: str = ""
    system: str = ""
    separator: str = DEFAULT_SEPARATOR
    stop: tuple[str, ...] = DEFAULT_STOP
    description: str = ""
    source: str = ""
    wants_examples: bool = False

    def __post_init__(self) -> None:
        where = self.source or f"prompt {self.name!r}"
        _check_form(self.form, where)
        if not all(self.stop):
            raise PromptError(f"{where}: an empty stop string would end every query at once; remove it")
        if self.examples and self._head == self.form:
            raise PromptError(f"{where}: the form has no {{query}}; put it where the examples show theirs")
        for number, example in enumerate(self.examples, start=1):
            _check_example(example, number, self.form, where)

    def render(self, document: str) -> str:
        """The text to be continued: instruction, examples, the document, and the cue with no blank after it."""
        return self.prefix + document.strip() + self.suffix

    @cached_property
    def prefix(self) -> str:
        """What precedes the document, the same for every document."""
        before, _ = _split_at(self._head, "document")
        shown = [_fill(self.form, _values(example, n)) for n, example in enumerate(self.examples, start=1)]
        start = _fill(before, {"number": self._next_number})
        return self.separator.join([*filter(None, [self.instruction.strip()]), *shown, start])

    @cached_property
    def suffix(self) -> str:
        """What follows the document, up to the query; a line break where the form has no cue word."""
        _, after = _split_at(self._head, "document")
        return _fill(after, {"number": self._next_number}).rstrip() or "\n"

    @property
    def cue(self) -> str:
        """The words right before the query, `Relevant Query:` for instance; empty where there are none."""
        return self.suffix.rpartition("\n")[2].strip()

    def messages(self, document: str) -> list[dict[str, str]]:
        """Turns for an instruct model: system, a user and an assistant turn per example, then the document."""
        turns = [_turn("system", text)] if (text := (self.system or self.instruction).strip()) else []
        for example in self.examples:
            turns += [_turn("user", self._question(example.document)), _turn("assistant", example.query)]
        return [*turns, _turn("user", self._question(document))]

    def parse(self, generated: str) -> str:
        """The query in a continuation: up to the first stop string, outer blanks removed."""
        return generated[: self.stop_position(generated)].strip()

    def stop_position(self, generated: str) -> int:
        """Where the first stop string begins; the length where there is none."""
        found = [position for stop in self.stop if (position := generated.find(stop)) >= 0]
        return min(found, default=len(generated))

    def for_document(self, document: Document) -> Prompt:
        """The prompt itself, for any document; see `PromptSource`."""
        return self

    def longest(self) -> Prompt:
        """The prompt itself."""
        return self

    def with_examples(self, examples: Iterable[Example]) -> Prompt:
        """The same prompt with other examples."""
        return replace(self, examples=tuple(examples))

    @cached_property
    def text(self) -> str:
        """Everything that decides what a model is shown, in one string to be hashed or kept."""
        fields = {name: value for name, value in asdict(self).items() if name not in NOT_HASHED}
        return json.dumps(fields, ensure_ascii=False, sort_keys=True)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of `text`, hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def _head(self) -> str:
        return _split_at(self.form, "query")[0]

    @property
    def _next_number(self) -> str:
        return str(len(self.examples) + 1)

    def _question(self, document: str) -> str:
        """The form up to the query, without the lines that count examples."""
        lines = [line for line in self._head.split("\n") if "{number}" not in line or "{document}" in line]
        return _fill("\n".join(lines), {"document": document.strip()}).strip()


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _check_form(form: str, where: str) -> None:
    names = [match[2] for match in _PLACEHOLDER.finditer(form) if match[2]]
    unknown = sorted({name for name in names if name not in PLACEHOLDERS})
    if unknown:
        shown = ", ".join(f"{{{name}}}" for name in unknown)
        literal = f"{{{{{unknown[0]}}}}}"
        known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
        raise PromptError(f"{where}: unknown placeholder {shown} (known: {known}); write {literal} for plain braces")
    if names.count("document") != 1:
        count = names.count("document")
        problem = "has no {document}" if not count else f"has {{document}} {count} times"
        raise PromptError(f"{where}: the template {problem}; put it once, in single braces, where the document goes")
    order = [name for name in names if name != "number"]
    if order[:2] not in (["document"], ["document", "query"]):
        raise PromptError(
            f"{where}: {{{order[0]}}} stands before {{{order[1]}}}; the order is document, query, bad_query"
        )


def _check_example(example: Example, number: int, form: str, where: str) -> None:
    for field, value in _values(example, number).items():
        if not value and f"{{{field}}}" in form:
            raise PromptError(f"{where}: example {number} has no {field!r}, which the form shows; write one")


def _values(example: Example, number: int) -> dict[str, str]:
    return {
        "document": example.document.strip(),
        "query": example.query.strip(),
        "bad_query": example.bad_query.strip(),
        "number": str(number),
    }


def _fill(form: str, values: Mapping[str, str]) -> str:
    """Put values in place of placeholders in one pass, so that braces inside values stay; `{{name}}` gives `{name}`."""
    return _PLACEHOLDER.sub(lambda match: f"{{{match[1]}}}" if match[1] else values.get(match[2], ""), form)


def _split_at(form: str, name: str) -> tuple[str, str]:
    """The form before and after the first placeholder of that name; all and nothing where it has none."""
    for match in _PLACEHOLDER.finditer(form):
        if match[2] == name:
            return form[: match.start()], form[match.end() :]
    return form, ""
