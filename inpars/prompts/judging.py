"""What a language model is shown before it grades how well a document answers a query.

The same files as `load.py` reads, with a form that ends in `{grade}`: it is filled once for each worked example and
once, up to the grade, for the pair in question. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from inpars.errors import PromptError
from inpars.prompts.load import KEYS, mapping_of, read_prompt, settings_of, text_of
from inpars.prompts.templates import DEFAULT_SEPARATOR, DEFAULT_STOP, PLACEHOLDER, chat, fill, hashed_text, split_at

PLACEHOLDERS = ("query", "document", "grade")
FOLDER = "judging"  # of the shipped ones, below `prompts/`
EXAMPLE_KEYS = {"query", "document", "grade"}
GRADES = ("0", "1", "2", "3")


@dataclass(frozen=True, slots=True)
class GradedExample:
    """A query, a document and the grade that a person would give."""

    query: str
    document: str
    grade: str


@dataclass(frozen=True)
class JudgingPrompt:
    """A template that turns a query and a document into the text, or the chat turns, a model continues with a grade.

    `form` holds `{query}` and `{document}`, each once in either order, and ends in `{grade}`. Raises PromptError for
    one that cannot work.
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
        """The words right before the grade, `Grade:` for instance; empty where there are none."""
        return self._head.rstrip().rpartition("\n")[2].strip()

    def around(self, query: str) -> tuple[str, str]:
        """The text before a document and that after it, up to the grade, without a blank at its end."""
        before, after = split_at(self._head, "document")
        values = {"query": query.strip()}
        return self.lead + fill(before, values), fill(after, values).rstrip()

    def render(self, query: str, document: str) -> str:
        """The text to be continued with a grade."""
        before, after = self.around(query)
        return before + document.strip() + after

    def messages(self, query: str, document: str) -> list[dict[str, str]]:
        """Turns for an instruct model: system, a user and an assistant turn per example, then the pair."""
        shown = [(self._question(example.query, example.document), example.grade) for example in self.examples]
        return chat(self.system or self.instruction, shown, self._question(query, document))

    @cached_property
    def lead(self) -> str:
        """What precedes the pair's own part, the same for all pairs."""
        filled = [fill(self.form, asdict(example)) for example in self.examples]
        parts = [*filter(None, [self.instruction.strip()]), *filled]
        return "".join(part + self.separator for part in parts)

    @cached_property
    def text(self) -> str:
        """Everything that decides what a model is shown, in one string to be hashed."""
        return hashed_text(asdict(self))

    @property
    def _head(self) -> str:
        return split_at(self.form, "grade")[0]

    def _question(self, query: str, document: str) -> str:
        return fill(self._head, {"query": query.strip(), "document": document.strip()}).strip()


def load_judging_prompt(name_or_path: str) -> JudgingPrompt:
    """The judging prompt of a shipped name or of a file. Raises UnknownNameError, PromptError."""
    file = read_prompt(name_or_path, FOLDER)
    return JudgingPrompt(**settings_of(mapping_of(file, KEYS), file.path.stem, file.source, _example))


def _example(record: Any, where: str) -> GradedExample:
    if not isinstance(record, Mapping) or record.keys() != EXAMPLE_KEYS:
        raise PromptError(f"{where}: must have 'query', 'document' and 'grade', and nothing else")
    if str(record["grade"]) not in GRADES:
        raise PromptError(f"{where}: the grade is {record['grade']!r}; it must be 0, 1, 2 or 3")
    query, document = (text_of(record, key, where) for key in ("query", "document"))
    return GradedExample(query.strip(), document.strip(), str(record["grade"]))
