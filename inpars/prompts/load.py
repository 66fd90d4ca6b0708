"""Load prompts: shipped ones by name, others by path, and the options for their examples.

Three formats are supported: this package's YAML (`prompts/README.md`), plain text with `{document}` as in the first
InPars, and the InPars toolkit's `templates.yaml`, whose entries are selected with `path.yaml:name`. The examples are
the prompt's own or those of a file: all of them, or per document a random or the most similar few.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

import yaml

from inpars.errors import ConfigError, PromptError, UnknownNameError
from inpars.io.json_text import replace_surrogates
from inpars.io.storage import read_jsonl
from inpars.options import FlagGroup, check, option
from inpars.prompts.mixture import PromptMixture, PromptSource, mixture_parts
from inpars.prompts.templates import Example, Prompt, PromptChoice

PACKAGED = "inpars.prompt_files"  # the folder `prompts/` in an installed copy; setup.cfg maps it
YAML_SUFFIXES = (".yaml", ".yml", ".json")  # JSON is YAML, too
TEXT_KEYS = ("name", "description", "instruction", "system", "form", "separator")
KEYS = {*TEXT_KEYS, "examples", "stop"}
TOOLKIT_SEPARATOR = "\n"  # the InPars toolkit leaves no blank line between dynamic examples


@dataclass(frozen=True, slots=True)
class PromptFile:
    """The contents of a prompt file."""

    text: str
    source: str  # for messages
    path: Path
    entry: str = ""  # requested entry of a file with several


def load_prompt(name_or_path: str) -> Prompt:
    """Load a shipped prompt by name, or a prompt file, or one entry of a file (`path.yaml:entry`).

    Raises UnknownNameError if no such prompt is shipped, PromptError if the file is missing or invalid.
    """
    return _parse(read_prompt(name_or_path))


def read_prompt(name_or_path: str, folder: str = "") -> PromptFile:
    """Read a prompt file; shipped ones are in `prompts/<folder>`. Raises UnknownNameError, PromptError."""
    path, entry = _split_entry(name_or_path)
    if path.is_file():
        try:
            return PromptFile(path.read_text(encoding="utf-8-sig"), str(path), path, entry)
        except UnicodeDecodeError as error:
            raise PromptError(f"{path}: not UTF-8 at byte {error.start}; convert the file to UTF-8") from None
    if entry or path.suffix or path.name != name_or_path:
        known = ", ".join(prompt_names(folder))
        raise PromptError(f"{path}: no such prompt file; check the path, or name one of {known}")
    shipped = {Path(file.name).stem: file for file in _shipped(folder)}
    if name_or_path not in shipped:
        raise UnknownNameError("prompt", name_or_path, shipped, "or give the path of a prompt file")
    file = shipped[name_or_path]
    return PromptFile(file.read_text(encoding="utf-8"), file.name, Path(file.name))


def prompt_names(folder: str = "") -> list[str]:
    """Names of the shipped prompts, sorted."""
    return sorted(Path(file.name).stem for file in _shipped(folder))


def read_examples(path: Path) -> list[Example]:
    """Examples from JSON lines with `document` and `query`; `bad_query`, `doc_id` and `query_id` are optional."""
    return [_example(record, f"{path}:{number}") for number, record in read_jsonl(path)]


def _shipped(folder: str) -> Iterator[Traversable]:
    """The shipped template files, from the installed package or else from the checkout."""
    try:
        directory: Traversable = resources.files(PACKAGED)
    except ModuleNotFoundError:
        directory = Path(__file__).resolve().parents[2] / "prompts"
    if folder:
        directory = directory / folder
    if directory.is_dir():
        yield from (file for file in directory.iterdir() if file.name.endswith(YAML_SUFFIXES))


def _split_entry(name_or_path: str) -> tuple[Path, str]:
    """Split `path.yaml:entry`; the entry may be empty."""
    path, colon, entry = name_or_path.rpartition(":")
    return (Path(path), entry) if colon and path.lower().endswith(YAML_SUFFIXES) else (Path(name_or_path), "")


def _parse(file: PromptFile) -> Prompt:
    source = file.source
    if file.path.suffix.lower() not in YAML_SUFFIXES:
        form = with_line_breaks(file.text.rstrip(), "form", source)
        return Prompt(name=file.path.stem, form=form, source=source)
    content = _mapping(file)
    if all(isinstance(value, dict) and "template" in value for value in content.values()):
        return _from_toolkit(content, file.entry, source)
    return Prompt(**prompt_fields(file, _example))


def prompt_fields(file: PromptFile, parse_example: Callable[[Any, str], object]) -> dict[str, Any]:
    """The fields of the prompt in a file with a single template. Raises PromptError.

    `parse_example` takes a record of `examples` and its location for messages.
    """
    content, source = _mapping(file), file.source
    if file.entry:
        raise PromptError(f"{source}: one template, not a file of several; leave out {':' + file.entry!r}")
    unknown = [key if isinstance(key, str) else shortened(key) for key in content if key not in KEYS]
    if unknown:
        raise PromptError(f"{source}: unknown key {', '.join(unknown)} (known: {', '.join(sorted(KEYS))})")
    if "form" not in content:
        raise PromptError(f"{source}: no 'form'; it lays out one example, with {{document}} and {{query}}")
    settings: dict[str, Any] = {"name": file.path.stem, "source": source}
    settings |= {key: text_of(content, key, source) for key in TEXT_KEYS if key in content}
    settings["form"] = with_line_breaks(settings["form"].strip("\n"), "form", source)
    with_line_breaks(settings.get("separator", ""), "separator", source)
    if "stop" in content:
        stops = [checked_text(stop, "stop", source) for stop in _list_of(content, "stop", source)]
        settings["stop"] = tuple(with_line_breaks(stop, "stop", source) for stop in stops)
    examples = enumerate(_list_of(content, "examples", source), start=1)
    settings["examples"] = tuple(parse_example(record, f"{source}: example {number}") for number, record in examples)
    return settings


def _mapping(file: PromptFile) -> Mapping[str, Any]:
    content = _parse_yaml(file.text, file.source)
    if not isinstance(content, dict) or not content:
        raise PromptError(f"{file.source}: not a YAML mapping; prompts/README.md shows the keys a template has")
    return content


class _Loader(yaml.SafeLoader):
    """YAML's plain types; a duplicate key is an error, since it would silently replace the first value."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                problem = f"the key {shortened(key.value)} occurs twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _parse_yaml(text: str, source: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except (ValueError, LookupError, TypeError, AttributeError) as error:  # invalid scalars, a date with day 99
        reason = str(error).partition(";")[0]
        raise PromptError(f"{source}: a value that YAML cannot hold ({reason}); put texts in quotes") from None
    except RecursionError:
        raise PromptError(f"{source}: nested too deeply; a template has a few keys with texts") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f":{mark.line + 1}"
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise PromptError(
            f"{source}{line}: not valid YAML: {problem}; indent texts under a `|` or quote them"
        ) from None


def shortened(value: object) -> str:
    """A truncated repr: YAML aliases can make a few lines arbitrarily large."""
    brief = reprlib.Repr()
    brief.maxlevel = brief.maxdict = brief.maxlist = brief.maxtuple = brief.maxset = 2
    return brief.repr(value)


def _from_toolkit(content: Mapping[str, Any], entry: str, source: str) -> Prompt:
    """One entry of a mapping from names to `{mode: static|dynamic, template: text}`."""
    entries = {str(name): fields for name, fields in content.items()}
    names = list(entries)
    if not entry and len(names) > 1:
        raise PromptError(f"{source}: holds {len(names)} templates; name one, {source}:{names[0]} for instance")
    if entry and entry not in names:
        raise UnknownNameError("prompt", entry, names, f"these are the entries of {source}")
    name = entry or names[0]
    entry_fields = entries[name]
    where, mode = f"{source}:{name}", entry_fields.get("mode", "static")
    if mode not in ("static", "dynamic"):
        raise PromptError(f"{where}: unknown mode {shortened(mode)}; it is static or dynamic")
    return Prompt(
        name=name,
        form=text_of(entry_fields, "template", where).rstrip(),
        separator=TOOLKIT_SEPARATOR,
        source=where,
        wants_examples=mode == "dynamic",
    )


def _list_of(content: Mapping[str, Any], key: str, source: str) -> list[Any]:
    """The list under a key; empty if the key is missing."""
    value = content.get(key) or []
    if not isinstance(value, list):
        raise PromptError(f"{source}: {key!r} must be a list, one item per line after a dash")
    return value


def _example(record: Any, where: str) -> Example:
    if not isinstance(record, dict):
        raise PromptError(f"{where}: must have 'document' and 'query'")
    known = [field.name for field in fields(Example)]
    unknown = [str(key) for key in record if key not in known]
    if unknown:
        raise PromptError(f"{where}: unknown key {', '.join(unknown)} (known: {', '.join(known)})")
    missing = [key for key in ("document", "query") if key not in record]
    if missing:
        raise PromptError(f"{where}: no {missing[0]!r}")
    return Example(**{key: text_of(record, key, where) for key in record})


def text_of(record: Mapping[str, Any], key: str, where: str) -> str:
    """The text under a key. Raises PromptError for other values."""
    return checked_text(record[key], key, where)


def checked_text(value: object, key: str, where: str) -> str:
    """The value if it is text. Raises PromptError otherwise, which names `key`."""
    if not isinstance(value, str):
        raise PromptError(f"{where}: {key!r} must be text, not {shortened(value)}; put it in quotes")
    return replace_surrogates(value)


def with_line_breaks(text: str, key: str, where: str) -> str:
    """The text. Raises PromptError if its line breaks are two characters, as YAML's single quotes leave them."""
    if "\\n" in text and "\n" not in text:
        raise PromptError(
            f"{where}: {key!r} holds a backslash and an n in place of a line break; break the line, or in YAML use "
            "double quotes"
        )
    return text


ExamplesChoice: TypeAlias = Literal["all", "random", "nearest"]
DEFAULT_COUNT = 3  # for `random` and `nearest`


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleOptions:
    """Where examples come from, and how they are chosen per document."""

    FLAG_GROUP: ClassVar = FlagGroup("examples in the prompt", advanced=True)

    examples: Path | None = option(
        None, help="JSON lines with `document` and `query` to use instead of the prompt's examples"
    )
    examples_choice: ExamplesChoice = option(
        "all", help="which examples each document gets: all, random, or its nearest by BM25"
    )
    num_examples: int | None = option(
        None, help=f"examples in a prompt (default: all; random and nearest {DEFAULT_COUNT})", minimum=1
    )
    max_example_words: int = option(200, help="maximum words per example document", minimum=1)


def named_prompt(text: str, options: ExampleOptions, seed: int = 0) -> PromptSource:
    """`choose_prompt` for a name or path, or for each part of a mixture such as `claim:0.5,keywords:0.5`."""
    parts = mixture_parts(text)
    if parts is None:
        return choose_prompt(load_prompt(text), options, seed)
    prompts = tuple((choose_prompt(load_prompt(name), options, seed), share) for name, share in parts)
    return PromptMixture(prompts, seed)


def choose_prompt(prompt: Prompt, options: ExampleOptions, seed: int = 0) -> Prompt | PromptChoice:
    """The prompt with the examples that the options select, for all documents or per document.

    Raises PromptError if the prompt needs examples and has none, ConfigError if there are too few.
    """
    check(options)
    pool = _read_pool(options.examples, options.max_example_words) if options.examples else prompt.examples
    if not pool:
        _check_without_examples(prompt, options)
    count = options.num_examples
    if count is not None and count > len(pool):
        raise ConfigError(f"--num-examples is {count}, but there are {len(pool)} examples; give more with --examples")
    if options.examples_choice == "all":
        return prompt.with_examples(pool[:count])
    choice = PromptChoice(prompt, pool, options.examples_choice, min(count or DEFAULT_COUNT, len(pool)), seed)
    choice.longest()  # raises now if the form cannot hold examples
    return choice


def _read_pool(path: Path, max_words: int) -> tuple[Example, ...]:
    """The file's examples, their documents cut to `max_words` words."""
    examples = read_examples(path)
    if not examples:
        raise PromptError(f"{path}: no examples in this file; write some, one JSON object per line")
    first_words = re.compile(rf"(\s*(?:\S+\s*){{0,{max_words}}}).*", re.DOTALL)
    return tuple(replace(one, document=first_words.sub(r"\1", one.document, count=1).strip()) for one in examples)


def _check_without_examples(prompt: Prompt, options: ExampleOptions) -> None:
    where = prompt.source or f"prompt {prompt.name!r}"
    if prompt.wants_examples:
        raise PromptError(
            f"{where}: needs the collection's own examples and has none; "
            "give some with --examples FILE (JSON lines with document and query)"
        )
    if options.examples_choice != "all":
        raise PromptError(f"{where}: no examples to choose from; give some with --examples FILE")
