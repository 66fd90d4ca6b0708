"""Pages of the site that are not files of docs/: those of the repository's root, and all commands' help.

MkDocs calls these functions (`hooks` in docs/mkdocs.yml).
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
PAGES = {  # path in the repository -> page of the site
    "README.md": "readme.md",
    "docs/README.md": "index.md",
    "EXPERIMENTS.md": "experiments.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "prompts/README.md": "prompts.md",
    "scripts/README.md": "scripts.md",
    "scripts/cluster/README.md": "cluster.md",
}
LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> Any:  # noqa: ANN401 - MkDocs' own types
    """Add the pages; docs/README.md is the index."""
    for file in [found for found in files if found.src_uri == "README.md"]:
        files.remove(file)
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=_relinked(text, Path(source).parent)))
    files.append(File.generated(config, "commands.md", content="\n".join(_commands())))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:  # noqa: ANN401
    """Links of files in docs/ to the pages above."""
    own = page.file.src_uri in PAGES.values() or page.file.src_uri == "commands.md"
    return markdown if own else _relinked(markdown, Path("docs"))


def _relinked(text: str, folder: Path) -> str:
    """Links as the site has them; what is no page of it becomes plain text."""

    def link(match: re.Match[str]) -> str:
        target = os.path.normpath(folder / match[2])
        page = PAGES.get(target, target.removeprefix("docs/") if target.startswith("docs/") else "")
        if not page and (ROOT / target).exists():
            return match[1]  # a file of the repository that is no page
        return f"[{match[1]}]({page or match[2]}{match[3] or ''})"  # MkDocs reports one that leads nowhere

    return LINK.sub(link, text)


def _commands() -> Iterator[str]:
    os.environ["COLUMNS"] = "100"
    from inpars.cli.config_files import add_config_flags
    from inpars.cli.main import COMMAND_GROUPS, module_of
    from inpars.cli.usage import Parser

    yield "# Commands\n\nEvery flag of every command, as `inpars COMMAND --help-all` prints them.\n"
    for group, commands in COMMAND_GROUPS.items():
        yield f"## {group.capitalize()}\n"
        for name in commands:
            module = importlib.import_module(module_of(name))
            parser = Parser(prog=f"inpars {name}", description=module.__doc__)
            module.add_arguments(parser)
            add_config_flags(parser, like=name == "run")
            yield from _help(f"inpars {name}", parser)


def _help(title: str, parser: Any) -> Iterator[str]:  # noqa: ANN401
    yield f"### {title}\n\n```text\n{parser.format_help(all_flags=True).rstrip()}\n```\n"
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, kind in action.choices.items():
                yield from _help(f"{title} {name}", kind)
