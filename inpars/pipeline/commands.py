"""Collect the stage commands that reproduce a whole run, for its report.

Steps without a command become comments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inpars.cache import canonical_name
from inpars.options import flags_of
from inpars.prompts.load import ExampleOptions
from inpars.provenance import shown_command

DOCUMENTS = ("dataset", "corpus")
TOPICS = (*DOCUMENTS, "queries", "qrels", "unknown_judgements", "split")


@dataclass(frozen=True, slots=True)
class Invocation:
    """How a run was invoked, so that it can be repeated; empty values are unknown."""

    command: str = ""
    source: Mapping[str, str] = field(default_factory=dict)  # flag name -> value, of the flags that name the dataset
    prompt: str = ""  # as given on the command line
    documents: str = ""  # files and pages the dataset was made from, which may change
    ingest: str = ""  # command that makes the dataset from them
    examples: ExampleOptions = field(default_factory=ExampleOptions)
    reading: tuple[Any, ...] = ()  # options for reading documents
    named: frozenset[str] = frozenset()  # settings given explicitly, which a plan keeps


@dataclass(slots=True)
class StageCommands:
    """Commands and comments in the order of the stages."""

    invocation: Invocation
    lines: list[str] = field(default_factory=list)
    topics: Sequence[str] = ()  # flags that name the test queries

    def __post_init__(self) -> None:
        """Start with ingesting; the test queries are the dataset's until others are held out."""
        self.lines += [self.invocation.ingest] if self.invocation.ingest else []
        self.topics = self._source(TOPICS)

    def add(
        self,
        command: str,
        flags: Iterable[object],
        output: Path | None = None,
        options: Any = None,  # noqa: ANN401 - any options class
    ) -> None:
        """Add a command with these flags, all its settings and its output."""
        words = [*command.split(), *map(str, flags), *(() if options is None else flags_of(options))]
        words += [] if output is None else ["--output", str(output)]
        self.lines.append(shown_command(["inpars", *map(canonical_name, words)]))

    def say(self, *lines: str) -> None:
        self.lines.append("\n".join(f"# {line}" for line in lines))

    def hold_out(self, queries: Path, qrels: Path) -> None:
        """Use these as the test queries from now on."""
        self.topics = [*self._source(DOCUMENTS), "--queries", str(queries), "--qrels", str(qrels)]

    @property
    def documents(self) -> list[str]:
        return self._source(DOCUMENTS)

    @property
    def prompt(self) -> list[str]:
        """Flags for the prompt and its examples."""
        chosen = self.invocation.examples
        return [
            *(["--prompt", self.invocation.prompt] if self.invocation.prompt else []),
            *(flags_of(chosen) if chosen != ExampleOptions() else []),
        ]

    @property
    def example_queries(self) -> list[str]:
        """Flags that tell `inpars filter` the prompt's examples."""
        chosen = self.invocation.examples
        first = ["--num-examples", str(chosen.num_examples)] if chosen.num_examples else []
        named = ["--prompt", self.invocation.prompt] if self.invocation.prompt else []
        source = ["--examples", str(chosen.examples)] if chosen.examples else named
        return [*source, *(first if chosen.examples_choice == "all" else [])]

    def _source(self, names: Sequence[str]) -> list[str]:
        source = self.invocation.source
        return [word for name in names if name in source for word in (f"--{name.replace('_', '-')}", source[name])]


def run_flags(paths: Iterable[Path]) -> list[str]:
    """`--run PATH` for each."""
    return [word for path in paths for word in ("--run", str(path))]
