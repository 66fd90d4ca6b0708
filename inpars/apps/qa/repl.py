"""The query prompt of `inpars search --interactive`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO

from inpars.apps.qa.build_engine import parse_filters
from inpars.apps.qa.engine import DEFAULT_K, Engine
from inpars.apps.qa.formatting import answer_lines, hit_lines
from inpars.errors import ConfigError, InparsError

PROMPT = "query> "
HELP = (
    "a query and Enter searches; an empty line or :quit ends",
    ":ask QUESTION       an answer instead of hits",
    ":system NAME        search with another system",
    ":k N                number of hits",
    ":filter FIELD=VALUE only documents with this metadata (* matches any text); :filter alone removes all filters",
)


@dataclass
class Conversation:
    """An interactive session with its current settings."""

    engine: Engine
    k: int = DEFAULT_K
    system: str | None = None
    filters: Mapping[str, str] = field(default_factory=dict)

    def run(self, queries: IO[str], answers: IO[str], prompts: IO[str]) -> None:
        """Answer lines until an empty one or the end of input."""
        prompts.write(f"{len(self.engine.documents)} documents; systems: {', '.join(self.engine.systems)}; :help\n")
        while True:
            prompts.write(PROMPT)
            prompts.flush()
            line = queries.readline().strip()
            if line in ("", ":quit", ":q"):
                return
            try:
                answers.writelines(f"{response}\n" for response in self.respond(line))
                answers.flush()
            except InparsError as error:
                prompts.write(f"{error}\n")

    def respond(self, line: str) -> Iterator[str]:
        """Raises ConfigError or UnknownNameError."""
        if not line.startswith(":"):
            return search_lines(self.engine, line, self.k, self.system, self.filters)
        command, _, rest = line[1:].partition(" ")
        if command == "ask":
            return answer_lines(self.engine.ask(rest, k=self.k, system=self.system, filters=self.filters))
        if command == "help":
            return iter(HELP)
        return iter((self._set(command, rest.strip()),))

    def _set(self, command: str, value: str) -> str:
        if command == "k" and value.isdecimal() and int(value):
            self.k = int(value)
            return f"{self.k} hits"
        if command == "system":
            self.engine.search([], 1, system=value)  # raises UnknownNameError
            self.system = value
            return f"{value}: {self.engine.systems[value].description}"
        if command == "filter":
            self.filters = self.filters | parse_filters([value]) if value else {}  # type: ignore[operator]
            return ", ".join(f"{name}={required}" for name, required in self.filters.items()) or "no filters"
        raise ConfigError(f":{command} {value}".rstrip() + " is not understood; :help lists what is")


def search_lines(engine: Engine, query: str, k: int, system: str | None, filters: Mapping[str, str]) -> Iterator[str]:
    """The hits of one query as lines."""
    hits = engine.search([query], k, system=system, filters=filters)[0]
    if not hits:
        yield "nothing found"
    for number, hit in enumerate(hits, start=1):
        yield from hit_lines(number, hit)
