"""Prompts from files: the shipped ones by name, anybody's by path.

Read are this package's YAML form (`prompts/README.md` describes it), plain text with `{document}` as InPars's first
version had it, and the InPars toolkit's `templates.yaml`, of which `path.yaml:name` picks an entry. Which text a
prompt then yields is `templates.py`'s matter. Options say which worked examples a document's prompt shows: all of a
file, some at random, or those most like the document.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Collection, Iterator, Mapping
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

PACKAGED = "inpars.prompt_files"  # the same folder in an installed copy; setup.cfg maps it
YAML_SUFFIXES = (".yaml", ".yml")
TEXT_KEYS = ("name", "description", "instruction", "system", "form", "separator")
KEYS = {*TEXT_KEYS, "examples", "stop"}
TOOLKIT_SEPARATOR = "\n"  # the InPars toolkit joins dynamic examples with nothing between their lines


@dataclass(frozen=True, slots=True)
class PromptFile:
    """A prompt's text, where it was read (for messages), and which entry of the file was asked for."""

    text: str
    source: str
    path: Path
    entry: str = ""


def load_prompt(name_or_path: str) -> Prompt:
    """The prompt of a shipped name, of a file, or of one entry of a file (`path.yaml:entry`).

    Raises UnknownNameError for a name that is not shipped, PromptError for a file that is absent or wrong.
    """
    return _parse(read_prompt(name_or_path))


def read_prompt(name_or_path: str, folder: str = "") -> PromptFile:
    """The file of a prompt; shipped ones lie in `folder` below `prompts/`. Raises UnknownNameError, PromptError."""
    path, entry = _split_entry(name_or_path)
    if path.is_file():
        return PromptFile(_read(path), str(path), path, entry)
    if entry or path.suffix or path.name != name_or_path:
        known = ", ".join(prompt_names(folder))
        raise PromptError(f"{path}: no such prompt file; check the path, or name one of {known}")
    shipped = {Path(file.name).stem: file for file in _shipped(folder)}
    if name_or_path not in shipped:
        raise UnknownNameError("prompt", name_or_path, shipped, "or give the path of a prompt file")
    file = shipped[name_or_path]
    return PromptFile(file.read_text(encoding="utf-8"), file.name, Path(file.name))


def prompt_names(folder: str = "") -> list[str]:
    """The names of the shipped prompts, sorted."""
    return sorted(Path(file.name).stem for file in _shipped(folder))


def read_examples(path: Path) -> list[Example]:
    """Worked examples of a JSON lines file: `document` and `query`, where known `bad_query`, `doc_id`, `query_id`."""
    return [_example(record, f"{path}:{number}") for number, record in read_jsonl(path)]


def _shipped(folder: str) -> Iterator[Traversable]:
    """The shipped template files, from the installed copy or else from the checkout beside the package."""
    try:
        directory: Traversable = resources.files(PACKAGED)
    except ModuleNotFoundError:
        directory = Path(__file__).resolve().parents[2] / "prompts"
    if folder:
        directory = directory / folder
    if directory.is_dir():
        yield from (file for file in directory.iterdir() if file.name.endswith(YAML_SUFFIXES))


def _split_entry(name_or_path: str) -> tuple[Path, str]:
    """Path and entry of `path.yaml:entry`; the entry is empty where none is named."""
    path, colon, entry = name_or_path.rpartition(":")
    return (Path(path), entry) if colon and path.endswith(YAML_SUFFIXES) else (Path(name_or_path), "")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise PromptError(f"{path}: not UTF-8 at byte {error.start}; convert the file to UTF-8") from None


def _parse(file: PromptFile) -> Prompt:
    source = file.source
    if file.path.suffix not in YAML_SUFFIXES:
        return Prompt(name=file.path.stem, form=file.text.rstrip(), source=source)
    content = _mapping(file)
    if all(isinstance(value, dict) and "template" in value for value in content.values()):
        return _from_toolkit(content, file.entry, source)
    return Prompt(**settings_of(mapping_of(file, KEYS), file.path.stem, source, _example))


def mapping_of(file: PromptFile, known: Collection[str]) -> Mapping[str, Any]:
    """The keys and values of a file of one template. Raises PromptError for other files, and for unknown keys."""
    content = _mapping(file)
    if file.entry:
        raise PromptError(f"{file.source}: one template, not a file of several; leave out {':' + file.entry!r}")
    unknown = [key if isinstance(key, str) else shortened(key) for key in content if key not in known]
    if unknown:
        raise PromptError(f"{file.source}: unknown key {', '.join(unknown)} (known: {', '.join(sorted(known))})")
    if "form" not in content:
        raise PromptError(f"{file.source}: no 'form'; it lays out one example, with {{document}} and {{query}}")
    return content


def _mapping(file: PromptFile) -> Mapping[str, Any]:
    content = _parse_yaml(file.text, file.source)
    if not isinstance(content, dict) or not content:
        raise PromptError(f"{file.source}: not a YAML mapping; prompts/README.md shows the keys a template has")
    return content


class _Loader(yaml.SafeLoader):
    """YAML's plain types; a key that stands twice is an error, since the second would replace the first unsaid."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                problem = f"the key {shortened(key.value)} stands twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _parse_yaml(text: str, source: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except (ValueError, LookupError, TypeError, AttributeError) as error:  # of single values, a date of day 99 for one
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
    """A value as Python writes it, cut: aliases can make a few lines of YAML as large as one likes."""
    brief = reprlib.Repr()
    brief.maxlevel = brief.maxdict = brief.maxlist = brief.maxtuple = brief.maxset = 2
    return brief.repr(value)


def _from_toolkit(content: Mapping[str, Any], entry: str, source: str) -> Prompt:
    """One entry of a mapping of name to `{mode: static|dynamic, template: text}`."""
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


def settings_of(
    content: Mapping[str, Any], name: str, source: str, example: Callable[[Any, str], object]
) -> dict[str, Any]:
    """The fields of a prompt of one template; `example` reads a record of its list, and where that stands."""
    settings: dict[str, Any] = {"name": name, "source": source}
    settings |= {key: text_of(content, key, source) for key in TEXT_KEYS if key in content}
    settings["form"] = settings["form"].strip("\n")
    if "stop" in content:
        settings["stop"] = tuple(checked_text(stop, "stop", source) for stop in _list_of(content, "stop", source))
    records = enumerate(_list_of(content, "examples", source), start=1)
    return {**settings, "examples": tuple(example(record, f"{source}: example {number}") for number, record in records)}


def _list_of(content: Mapping[str, Any], key: str, source: str) -> list[Any]:
    """A value that is a list, empty where there is none."""
    value = content.get(key) or []
    if not isinstance(value, list):
        raise PromptError(f"{source}: {key!r} must be a list, one item a line after a dash")
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
    """A value that is text."""
    return checked_text(record[key], key, where)


def checked_text(value: object, key: str, where: str) -> str:
    """The value, where it is text; `key` is what it is of."""
    if not isinstance(value, str):
        raise PromptError(f"{where}: {key!r} must be text, not {shortened(value)}; put it in quotes")
    return replace_surrogates(value)


ExamplesChoice: TypeAlias = Literal["all", "random", "nearest"]
DEFAULT_COUNT = 3  # of `random` and `nearest`; `all` shows all


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleOptions:
    """The source of the examples, and how each document's examples are chosen."""

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
    """`choose_prompt` of a name or a path, or of each part of a mixture, `claim:0.5,keywords:0.5` for instance."""
    parts = mixture_parts(text)
    if parts is None:
        return choose_prompt(load_prompt(text), options, seed)
    prompts = tuple((choose_prompt(load_prompt(name), options, seed), share) for name, share in parts)
    return PromptMixture(prompts, seed)


def choose_prompt(prompt: Prompt, options: ExampleOptions, seed: int = 0) -> Prompt | PromptChoice:
    """The prompt with the examples the options name, chosen for each document where they say so.

    Raises PromptError for a prompt that is made for examples and has none, ConfigError where there are too few.
    """
    check(options)
    pool = _cut_examples(options) if options.examples else prompt.examples
    if not pool:
        _refuse_without_examples(prompt, options)
    count = options.num_examples
    if count is not None and count > len(pool):
        raise ConfigError(f"--num-examples is {count}, but there are {len(pool)} examples; give more with --examples")
    if options.examples_choice == "all":
        return prompt.with_examples(pool[:count])
    choice = PromptChoice(prompt, pool, options.examples_choice, min(count or DEFAULT_COUNT, len(pool)), seed)
    choice.longest()  # a form that cannot show examples says so now
    return choice


def _cut_examples(options: ExampleOptions) -> tuple[Example, ...]:
    if options.examples is None:
        return ()
    beginning = re.compile(rf"\s*(?:\S+\s*){{0,{options.max_example_words}}}")
    examples = read_examples(options.examples)
    if not examples:
        raise PromptError(f"{options.examples}: no examples in this file; write some, one JSON object a line")
    return tuple(replace(example, document=_first(beginning, example.document)) for example in examples)


def _first(beginning: re.Pattern[str], text: str) -> str:
    match = beginning.match(text)
    return match[0].strip() if match else text


def _refuse_without_examples(prompt: Prompt, options: ExampleOptions) -> None:
    where = prompt.source or f"prompt {prompt.name!r}"
    if prompt.wants_examples:
        raise PromptError(
            f"{where}: made to be filled with a collection's own examples and has none; "
            "give some with --examples FILE (JSON lines with document and query)"
        )
    if options.examples_choice != "all":
        raise PromptError(f"{where}: no examples to choose from; give some with --examples FILE")
