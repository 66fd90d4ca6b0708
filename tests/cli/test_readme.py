"""README and docs match the code: commands parse; links, files and messages exist; scripts know their flags."""

import argparse
import importlib
import json
import re
import shlex
from pathlib import Path

import pytest

from inpars.cli.main import COMMANDS, TRACEBACK_VARIABLE, module_of
from inpars.generation.api.options import KEY_VARIABLE

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = sorted((ROOT / "docs").glob("*.md"))
LINKING = [*DOCS, *(ROOT / name for name in ("README.md", "EXPERIMENTS.md", "scripts/README.md"))]
BASH = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def commands(text):
    """Every `inpars ...` in backticks or at the start of a line, without comments, with continued lines joined."""
    joined = text.replace("\\\n", " ")
    fenced = "\n".join(joined.split("```")[1::2]) if "```" in joined else joined
    found = re.findall(r"`(inpars [a-z][^`]*)`", joined) + re.findall(
        r"^\s*(inpars [a-z][^\n]*)$", fenced, re.MULTILINE
    )
    return sorted({re.sub(r"\s+#.*", "", line).strip() for line in found})


def parse(line):
    name, *rest = shlex.split(line)[1:]
    assert name in COMMANDS, line
    command = importlib.import_module(module_of(name))
    parser = argparse.ArgumentParser(prog=f"inpars {name}", allow_abbrev=False)
    command.add_arguments(parser)
    return parser.parse_args(rest)


@pytest.mark.parametrize("line", [line for line in commands(README) if "COMMAND" not in line])
def test_commands_of_the_readme_parse(line):
    parse(line)


def bash_commands(text):
    """Every `inpars` command of the bash blocks, including those run by torchrun."""
    lines = "\n".join(BASH.findall(text)).replace("\\\n", " ").splitlines()
    found = (re.search(r"(?:^|-m )(inpars [a-z].*)$", re.sub(r"\s+#.*", "", line)) for line in lines)
    return [match[1] for match in found if match is not None]


@pytest.mark.parametrize(
    "line", sorted({line for path in DOCS for line in bash_commands(path.read_text(encoding="utf-8"))})
)
def test_commands_of_the_docs_parse(line):
    parse(line)


def anchors(path):
    """GitHub's anchors of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", LINKING, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path):
    for link in LINK.findall(path.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_json_of_the_docs_is_json(path):
    for block in re.findall(r"^```json\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        assert [json.loads(line) for line in block.splitlines()]


def test_every_page_of_the_docs_is_in_their_contents():
    contents = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    assert not [path.name for path in DOCS if path.name != "README.md" and f"]({path.name})" not in contents]


def test_messages_of_the_faq_are_those_of_the_program():
    """Their parts between `…` stand in the source, once strings over several lines are joined."""
    source = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "inpars").rglob("*.py")))
    joined = re.sub(r'"\s*\n\s*f?"', "", source).replace("{KEY_VARIABLE}", KEY_VARIABLE)
    joined = joined.replace("{TRACEBACK_VARIABLE}", TRACEBACK_VARIABLE)
    faq = (ROOT / "docs" / "faq.md").read_text(encoding="utf-8")
    messages = [" ".join(found.split()) for found in re.findall(r"^- \*\*`(.*?)`\*\*", faq, re.MULTILINE | re.DOTALL)]
    assert len(messages) >= 20
    parts = [(part.strip(" ();:"), message) for message in messages for part in message.split("…")]
    assert not [(part, message) for part, message in parts if part not in joined]


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "scripts").glob("0*.sh")))
def test_numbered_scripts_use_flags_that_exist(script):
    text = (ROOT / "scripts" / script).read_text(encoding="utf-8")
    lines = commands(text)
    assert lines, "a numbered script calls inpars"
    for line in lines:
        filled = re.sub(r'"\$@"', "", line).replace('${runs[@]+"${runs[@]}"}', "--run a.trec")
        filled = re.sub(r"\$\{?RANKS\}?", "1-100", filled)
        filled = re.sub(r"\$\{?(TOP_K|PER_QUERY|DEPTH|K|DOCUMENTS)\}?\b", "5", filled)
        parse(re.sub(r"\$\{?SCORE\}?", "mean_log_probs", filled))


def test_the_tree_names_what_exists():
    tree = README.split("## What is where")[1].split("```")[1]
    lines = [line.removeprefix("inpars/").strip() for line in tree[: tree.index("\nprompts/")].splitlines()]
    names = [name for line in lines if line for name in re.split(r"\s{2,}", line)[0].split()]
    assert len(names) > 20
    package = ROOT / "inpars"
    assert not [name for name in names if not ((package / name).is_dir() or (package / f"{name}.py").exists())]
    named = {name.rstrip("/") for name in names}
    assert named >= {path.parent.name for path in package.glob("*/__init__.py")} - {"data"}
