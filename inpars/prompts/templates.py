"""Prompts for query generation: few-shot templates, and examples chosen per document.

A prompt's form contains `{document}` and `{query}`. It is filled once per worked example, and up to the query for the
document at hand. The text before that document is the same for all documents, so its keys and values can be computed
once. `load.py` reads templates from files.
Few-shot query generation: InPars (arXiv 2202.05144), Promptagator (2209.11755). Examples similar to the document give
more varied and better queries than one fixed set; selection by BM25 (Robertson and Zaragoza, 2009): Rubin et al.
(2112.08633).
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Literal

from inpars.errors import PromptError
from inpars.records import Document
from inpars.text.hashing import sampling_key
from inpars.text.words import words

PLACEHOLDERS = ("document", "query", "bad_query", "number")
DEFAULT_STOP = ("\n",)
DEFAULT_SEPARATOR = "\n\n"
K1, B = 0.9, 0.4  # Anserini's defaults
COMPARED_WORDS = 30  # texts that share their first words are taken for the same
NOT_HASHED = ("name", "description", "source")  # fields without effect on the output

PLACEHOLDER = re.compile(r"(?<!\{)\{\{([A-Za-z_]\w*)\}\}(?!\})|\{([A-Za-z_]\w*)\}")


@dataclass(frozen=True, slots=True)
class Example:
    """A document and a query for it, with ids if they come from a collection."""

    document: str
    query: str
    bad_query: str = ""
    doc_id: str = ""
    query_id: str = ""


@dataclass(frozen=True)
class Prompt:
    """A template that turns a document into text, or chat turns, for a model to continue with a query.

    `form` lays out one example; text after its `{query}` is used for examples only. `{number}` counts from 1. Braces in
    documents, examples, `instruction` and `system` are plain text. `wants_examples` marks templates meant for a
    collection's own examples. The constructor raises PromptError for an invalid form.
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
        """The model's input: instruction, examples, document and cue, without trailing whitespace after the cue."""
        return self.prefix + document.strip() + self.suffix

    @cached_property
    def prefix(self) -> str:
        """The text before the document, the same for every document."""
        before, _ = split_at(self._head, "document")
        filled = [fill(self.form, _values(example, n)) for n, example in enumerate(self.examples, start=1)]
        start = fill(before, {"number": self._next_number})
        return self.separator.join([*filter(None, [self.instruction.strip()]), *filled, start])

    @cached_property
    def suffix(self) -> str:
        """The text between document and query; a newline if the form has no cue."""
        _, after = split_at(self._head, "document")
        return fill(after, {"number": self._next_number}).rstrip() or "\n"

    @property
    def cue(self) -> str:
        """The words right before the query, `Relevant Query:` for instance; may be empty."""
        return self.suffix.rpartition("\n")[2].strip()

    def messages(self, document: str) -> list[dict[str, str]]:
        """Chat turns: system, a user and an assistant turn per example, then the document."""
        examples = [(self._question(example.document), example.query) for example in self.examples]
        return chat(self.system or self.instruction, examples, self._question(document))

    def parse(self, generated: str) -> str:
        """The query in a continuation: up to the first stop string, stripped."""
        return generated[: self.stop_position(generated)].strip()

    def stop_position(self, generated: str) -> int:
        """Position of the first stop string; the text's length if there is none."""
        positions = [position for stop in self.stop if (position := generated.find(stop)) >= 0]
        return min(positions, default=len(generated))

    def for_document(self, document: Document) -> Prompt:
        """The prompt itself, for every document."""
        return self

    def longest(self) -> Prompt:
        """The prompt itself, whose length does not vary."""
        return self

    def name_for(self, doc_id: str) -> str:
        """The prompt's name, for every document."""
        return self.name

    def with_examples(self, examples: Iterable[Example]) -> Prompt:
        """The same prompt with other examples."""
        return replace(self, examples=tuple(examples))

    @cached_property
    def text(self) -> str:
        """Everything that affects the model's input, as one string to hash or store."""
        return hashed_text(asdict(self))

    @property
    def _head(self) -> str:
        return split_at(self.form, "query")[0]

    @property
    def _next_number(self) -> str:
        return str(len(self.examples) + 1)

    def _question(self, document: str) -> str:
        """The form up to the query, without lines that only number the examples."""
        lines = [line for line in self._head.split("\n") if "{number}" not in line or "{document}" in line]
        return fill("\n".join(lines), {"document": document.strip()}).strip()


@dataclass(frozen=True)
class PromptChoice:
    """A prompt with `count` examples chosen per document, never one made from that document."""

    prompt: Prompt
    examples: tuple[Example, ...]
    how: Literal["random", "nearest"]
    count: int
    seed: int = 0

    @property
    def name(self) -> str:
        """The prompt's name and the choice, `inpars+nearest3` for instance."""
        return f"{self.prompt.name}+{self.how}{self.count}"

    @cached_property
    def text(self) -> str:
        """Everything that affects the model's input, as one string to hash."""
        examples = [asdict(example) for example in self.examples]
        values = {"prompt": self.prompt.text, "examples": examples, "how": self.how, "count": self.count}
        return json.dumps({**values, "seed": self.seed}, ensure_ascii=False, sort_keys=True)

    def for_document(self, document: Document) -> Prompt:
        """The prompt with this document's examples, the most similar one last, next to the document."""
        positions = [n for n, example in enumerate(self.examples) if not _is_own(example, document)]
        if self.how == "random":
            positions.sort(key=lambda n: sampling_key(self.seed, f"{document.doc_id}\0{n}"))
        else:
            scores = self._ranking.scores(document.full_text)
            positions.sort(key=lambda n: (-scores[n], n))
        return self.prompt.with_examples(self.examples[n] for n in reversed(positions[: self.count]))

    def longest(self) -> Prompt:
        """The prompt with the longest examples, for length checks."""
        by_length = sorted(self.examples, key=lambda example: -len(example.document))
        return self.prompt.with_examples(by_length[: self.count])

    def stop_position(self, generated: str) -> int:
        """Position of the first stop string; the text's length if there is none."""
        return self.prompt.stop_position(generated)

    def name_for(self, doc_id: str) -> str:
        """The name, for every document."""
        return self.name

    @cached_property
    def _ranking(self) -> BM25Scores:
        return BM25Scores([words(example.document) for example in self.examples])


class BM25Scores:
    """In-memory BM25 over a few texts."""

    def __init__(self, texts: Sequence[Sequence[str]]) -> None:
        self._size = len(texts)
        mean = sum(map(len, texts)) / max(1, len(texts))
        self._postings: dict[str, list[tuple[int, float]]] = {}  # word -> (text, weight)
        for number, text in enumerate(texts):
            norm = K1 * (1 - B + B * len(text) / mean) if mean else K1
            for word, count in Counter(text).items():
                self._postings.setdefault(word, []).append((number, count / (count + norm)))

    def scores(self, query: str) -> list[float]:
        """Score per text. Each distinct query word counts once, since queries here are whole documents."""
        scores = [0.0] * self._size
        for word in sorted(set(words(query))):
            postings = self._postings.get(word, ())
            idf = math.log1p((self._size - len(postings) + 0.5) / (len(postings) + 0.5))
            for number, weight in postings:
                scores[number] += idf * weight
        return scores


def _is_own(example: Example, document: Document) -> bool:
    """Whether the example was made from this document."""
    if example.doc_id and example.doc_id == document.doc_id:
        return True
    start = example.document.split()[:COMPARED_WORDS]
    return start in (document.text.split()[:COMPARED_WORDS], document.full_text.split()[:COMPARED_WORDS])


def hashed_text(fields: Mapping[str, object]) -> str:
    """The prompt's fields that affect the model's input, as JSON."""
    hashed = {name: value for name, value in fields.items() if name not in NOT_HASHED}
    return json.dumps(hashed, ensure_ascii=False, sort_keys=True)


def chat(system: str, examples: Iterable[tuple[str, str]], question: str) -> list[dict[str, str]]:
    """Chat turns: the system prompt if any, question and answer of each example, then the question."""
    turns = [("system", system.strip())] if system.strip() else []
    for example_question, answer in examples:
        turns += [("user", example_question), ("assistant", answer)]
    return [{"role": role, "content": content} for role, content in (*turns, ("user", question))]


def _check_form(form: str, where: str) -> None:
    names = [match[2] for match in PLACEHOLDER.finditer(form) if match[2]]
    unknown = sorted({name for name in names if name not in PLACEHOLDERS})
    if unknown:
        listed = ", ".join(f"{{{name}}}" for name in unknown)
        literal = f"{{{{{unknown[0]}}}}}"
        known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
        raise PromptError(f"{where}: unknown placeholder {listed} (known: {known}); write {literal} for plain braces")
    if (count := names.count("document")) != 1:
        problem = "has no {document}" if not count else f"has {{document}} {count} times"
        raise PromptError(f"{where}: the template {problem}; put it once, in single braces, where the document goes")
    order = [name for name in names if name != "number"]
    if order[:2] not in (["document"], ["document", "query"]):
        raise PromptError(
            f"{where}: {{{order[0]}}} comes before {{{order[1]}}}; the order is document, query, bad_query"
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


def fill(form: str, values: Mapping[str, str]) -> str:
    """Replace placeholders in one pass, so that braces inside values stay; `{{name}}` becomes `{name}`."""
    return PLACEHOLDER.sub(lambda match: f"{{{match[1]}}}" if match[1] else values.get(match[2], ""), form)


def split_at(form: str, name: str) -> tuple[str, str]:
    """The form before and after the first placeholder of this name; the whole form and "" if there is none."""
    for match in PLACEHOLDER.finditer(form):
        if match[2] == name:
            return form[: match.start()], form[match.end() :]
    return form, ""
