"""What a language model is shown before it writes a query for a document.

A prompt is a form with `{document}` and `{query}` in it, filled once for each worked example and once, up to the query,
for the document in question. Everything before that document is the same for all documents, so that its keys and
values can be computed once. Knows nothing of files, models or tokens; `load.py` reads templates from files.
Few-shot prompting for queries: InPars (arXiv 2202.05144), Promptagator (2209.11755). Examples near to the document and
drawn anew for each give more varied and better queries than one fixed set; choice by BM25 (Robertson and Zaragoza,
2009): Rubin et al. (2112.08633).
"""

from __future__ import annotations

import hashlib
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
K1, B = 0.9, 0.4  # BM25's constants as Anserini has them
COMPARED_WORDS = 30  # texts that begin with the same words are the same
NOT_HASHED = ("name", "description", "source")  # they change no output

PLACEHOLDER = re.compile(r"(?<!\{)\{\{([A-Za-z_]\w*)\}\}(?!\})|\{([A-Za-z_]\w*)\}")


@dataclass(frozen=True, slots=True)
class Example:
    """A document and the query a searcher would type for it; the ids where they come from a collection."""

    document: str
    query: str
    bad_query: str = ""
    doc_id: str = ""
    query_id: str = ""


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
        before, _ = split_at(self._head, "document")
        filled = [fill(self.form, _values(example, n)) for n, example in enumerate(self.examples, start=1)]
        start = fill(before, {"number": self._next_number})
        return self.separator.join([*filter(None, [self.instruction.strip()]), *filled, start])

    @cached_property
    def suffix(self) -> str:
        """What follows the document, up to the query; a line break where the form has no cue word."""
        _, after = split_at(self._head, "document")
        return fill(after, {"number": self._next_number}).rstrip() or "\n"

    @property
    def cue(self) -> str:
        """The words right before the query, `Relevant Query:` for instance; empty where there are none."""
        return self.suffix.rpartition("\n")[2].strip()

    def messages(self, document: str) -> list[dict[str, str]]:
        """Turns for an instruct model: system, a user and an assistant turn per example, then the document."""
        shown = [(self._question(example.document), example.query) for example in self.examples]
        return chat(self.system or self.instruction, shown, self._question(document))

    def parse(self, generated: str) -> str:
        """The query in a continuation: up to the first stop string, outer blanks removed."""
        return generated[: self.stop_position(generated)].strip()

    def stop_position(self, generated: str) -> int:
        """Where the first stop string begins; the length where there is none."""
        positions = [position for stop in self.stop if (position := generated.find(stop)) >= 0]
        return min(positions, default=len(generated))

    def for_document(self, document: Document) -> Prompt:
        """The prompt itself, for any document."""
        return self

    def longest(self) -> Prompt:
        """The prompt itself."""
        return self

    def name_for(self, doc_id: str) -> str:
        """The name, for any document."""
        return self.name

    def form_of(self, doc_id: str) -> Prompt:
        """The prompt itself, which reads the replies for any document."""
        return self

    def with_examples(self, examples: Iterable[Example]) -> Prompt:
        """The same prompt with other examples."""
        return replace(self, examples=tuple(examples))

    @cached_property
    def text(self) -> str:
        """Everything that decides what a model is shown, in one string to be hashed or kept."""
        return hashed_text(asdict(self))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of `text`, hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def _head(self) -> str:
        return split_at(self.form, "query")[0]

    @property
    def _next_number(self) -> str:
        return str(len(self.examples) + 1)

    def _question(self, document: str) -> str:
        """The form up to the query, without the lines that count examples."""
        lines = [line for line in self._head.split("\n") if "{number}" not in line or "{document}" in line]
        return fill("\n".join(lines), {"document": document.strip()}).strip()


@dataclass(frozen=True)
class PromptChoice:
    """A prompt whose examples differ from document to document; never a document's own example."""

    prompt: Prompt
    examples: tuple[Example, ...]
    how: Literal["random", "nearest"]
    count: int
    seed: int = 0

    @property
    def name(self) -> str:
        """The prompt's name with the choice, `inpars+nearest3` for instance."""
        return f"{self.prompt.name}+{self.how}{self.count}"

    @cached_property
    def text(self) -> str:
        """Everything that decides what a model is shown, to be hashed."""
        examples = [asdict(example) for example in self.examples]
        values = {"prompt": self.prompt.text, "examples": examples, "how": self.how, "count": self.count}
        return json.dumps({**values, "seed": self.seed}, ensure_ascii=False, sort_keys=True)

    def for_document(self, document: Document) -> Prompt:
        """The prompt with this document's examples; the likest stands last, next to the document."""
        positions = [n for n, example in enumerate(self.examples) if not _is_own(example, document)]
        if self.how == "random":
            positions.sort(key=lambda n: sampling_key(self.seed, f"{document.doc_id}\0{n}"))
        else:
            scores = self._ranking.scores(document.full_text)
            positions.sort(key=lambda n: (-scores[n], n))
        return self.prompt.with_examples(self.examples[n] for n in reversed(positions[: self.count]))

    def longest(self) -> Prompt:
        """The prompt with the longest examples, for checks of room."""
        by_length = sorted(self.examples, key=lambda example: -len(example.document))
        return self.prompt.with_examples(by_length[: self.count])

    def stop_position(self, generated: str) -> int:
        """Where the first stop string begins; the length where there is none."""
        return self.prompt.stop_position(generated)

    def name_for(self, doc_id: str) -> str:
        """The name, for any document."""
        return self.name

    def form_of(self, doc_id: str) -> Prompt:
        """A prompt that reads replies as every document's does."""
        return self.longest()

    @cached_property
    def _ranking(self) -> BM25Scores:
        return BM25Scores([words(example.document) for example in self.examples])


class BM25Scores:
    """BM25 over a few texts, in memory."""

    def __init__(self, texts: Sequence[Sequence[str]]) -> None:
        self._size = len(texts)
        mean = sum(map(len, texts)) / max(1, len(texts))
        self._weights: dict[str, list[tuple[int, float]]] = {}  # word -> (text, weight)
        for number, text in enumerate(texts):
            norm = K1 * (1 - B + B * len(text) / mean) if mean else K1
            for word, count in Counter(text).items():
                self._weights.setdefault(word, []).append((number, count / (count + norm)))

    def scores(self, query: str) -> list[float]:
        """Each text's score; every distinct word of the query counts once, as queries here are whole documents."""
        scores = [0.0] * self._size
        for word in sorted(set(words(query))):
            holders = self._weights.get(word, ())
            idf = math.log1p((self._size - len(holders) + 0.5) / (len(holders) + 0.5))
            for number, weight in holders:
                scores[number] += idf * weight
        return scores


def _is_own(example: Example, document: Document) -> bool:
    """Whether the example was made from this very document."""
    if example.doc_id and example.doc_id == document.doc_id:
        return True
    start = example.document.split()[:COMPARED_WORDS]
    return start in (document.text.split()[:COMPARED_WORDS], document.full_text.split()[:COMPARED_WORDS])


def hashed_text(fields: Mapping[str, object]) -> str:
    """The fields of a prompt that decide what a model is shown, as JSON."""
    shown = {name: value for name, value in fields.items() if name not in NOT_HASHED}
    return json.dumps(shown, ensure_ascii=False, sort_keys=True)


def chat(system: str, shown: Iterable[tuple[str, str]], question: str) -> list[dict[str, str]]:
    """Turns for an instruct model: the system's if any, those of each example and its answer, then the question."""
    turns = [("system", system.strip())] if system.strip() else []
    for asked, answered in shown:
        turns += [("user", asked), ("assistant", answered)]
    return [{"role": role, "content": content} for role, content in (*turns, ("user", question))]


def _check_form(form: str, where: str) -> None:
    names = [match[2] for match in PLACEHOLDER.finditer(form) if match[2]]
    unknown = sorted({name for name in names if name not in PLACEHOLDERS})
    if unknown:
        listed = ", ".join(f"{{{name}}}" for name in unknown)
        literal = f"{{{{{unknown[0]}}}}}"
        known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
        raise PromptError(f"{where}: unknown placeholder {listed} (known: {known}); write {literal} for plain braces")
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


def fill(form: str, values: Mapping[str, str]) -> str:
    """Put values in place of placeholders in one pass, so that braces inside values stay; `{{name}}` gives `{name}`."""
    return PLACEHOLDER.sub(lambda match: f"{{{match[1]}}}" if match[1] else values.get(match[2], ""), form)


def split_at(form: str, name: str) -> tuple[str, str]:
    """The form before and after the first placeholder of that name; all and nothing where it has none."""
    for match in PLACEHOLDER.finditer(form):
        if match[2] == name:
            return form[: match.start()], form[match.end() :]
    return form, ""
