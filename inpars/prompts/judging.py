"""Prompts for grading how well a document answers a query.

The file format is that of `load.py` with a form that ends in `{grade}`. The form is filled once per worked example, and
up to the grade for the pair to be graded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from inpars.errors import PromptError
from inpars.prompts.load import prompt_fields, read_prompt, text_of
from inpars.prompts.templates import DEFAULT_SEPARATOR, DEFAULT_STOP, PLACEHOLDER, chat, fill, hashed_text, split_at

PLACEHOLDERS = ("query", "document", "grade")
FOLDER = "judging"  # shipped prompts, below `prompts/`
EXAMPLE_KEYS = {"query", "document", "grade"}
GRADES = ("0", "1", "2", "3")


@dataclass(frozen=True, slots=True)
class GradedExample:
    """A query, a document and the right grade."""

    query: str
    document: str
    grade: str


@dataclass(frozen=True)
class JudgingPrompt:
    """A template that turns a query and a document into text, or chat turns, for a model to continue with a grade.

    `form` contains `{query}` and `{document}` once each, in either order, and ends in `{grade}`; otherwise the
    constructor raises PromptError.
    """

    name: str
    form: str
    examples: tuple[GradedExample, ...] = ()
    instruction: str = ""
    system: str = ""
    separator: str = DEFAULT_SEPARATOR
    stop: tuple[str, ...] = DEFAULT_STOP
    description: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        where = self.source or f"prompt {self.name!r}"
        names = [match[2] for match in PLACEHOLDER.finditer(self.form) if match[2]]
        if sorted(names) != sorted(PLACEHOLDERS) or names[-1] != "grade" or not self.form.rstrip().endswith("{grade}"):
            placeholders = ", ".join(f"{{{name}}}" for name in names) or "no placeholder"
            raise PromptError(
                f"{where}: a form for judging holds {{query}} and {{document}}, each once, and ends in {{grade}}; this "
                f"one has {placeholders}"
            )
        if not all(self.stop):
            raise PromptError(f"{where}: an empty stop string would end every reply at once; remove it")

    @property
    def cue(self) -> str:
        """The words right before the grade, `Grade:` for instance; may be empty."""
        return self._head.rstrip().rpartition("\n")[2].strip()

    def around(self, query: str) -> tuple[str, str]:
        """The text before the document, and the text from there to the grade without trailing whitespace."""
        before, after = split_at(self._head, "document")
        values = {"query": query.strip()}
        return self.lead + fill(before, values), fill(after, values).rstrip()

    def render(self, query: str, document: str) -> str:
        """The text for a model to continue with a grade."""
        before, after = self.around(query)
        return before + document.strip() + after

    def messages(self, query: str, document: str) -> list[dict[str, str]]:
        """Chat turns: system, a user and an assistant turn per example, then the pair."""
        examples = [(self._question(example.query, example.document), example.grade) for example in self.examples]
        return chat(self.system or self.instruction, examples, self._question(query, document))

    @cached_property
    def lead(self) -> str:
        """Instruction and examples, the same for all pairs."""
        filled = [fill(self.form, asdict(example)) for example in self.examples]
        parts = [*filter(None, [self.instruction.strip()]), *filled]
        return "".join(part + self.separator for part in parts)

    @cached_property
    def text(self) -> str:
        """Everything that affects the model's input, as one string to hash."""
        return hashed_text(asdict(self))

    @property
    def _head(self) -> str:
        return split_at(self.form, "grade")[0]

    def _question(self, query: str, document: str) -> str:
        return fill(self._head, {"query": query.strip(), "document": document.strip()}).strip()


def load_judging_prompt(name_or_path: str) -> JudgingPrompt:
    """Load a shipped judging prompt by name, or one from a file. Raises UnknownNameError, PromptError."""
    return JudgingPrompt(**prompt_fields(read_prompt(name_or_path, FOLDER), _example))


def _example(record: Any, where: str) -> GradedExample:
    if not isinstance(record, Mapping) or record.keys() != EXAMPLE_KEYS:
        raise PromptError(f"{where}: must have 'query', 'document' and 'grade', and nothing else")
    if str(record["grade"]) not in GRADES:
        raise PromptError(f"{where}: the grade is {record['grade']!r}; it must be 0, 1, 2 or 3")
    query, document = (text_of(record, key, where) for key in ("query", "document"))
    return GradedExample(query.strip(), document.strip(), str(record["grade"]))
