"""The README.md of a trained model: its data, recipe, quality, licences, and code that loads it.

The origin of the triples comes from the manifests next to them. Measures of later runs are added by `add_numbers`, to a
section that the model's hash leaves out. Cards have file names but no paths. Loads no torch.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inpars.cards.snippets import BI_ENCODER, snippets
from inpars.errors import DataFormatError
from inpars.filtering.checks import FilterOptions
from inpars.io.json_text import JsonError, parse_json
from inpars.io.manifest import CARD, MEASURED_BEGIN, MEASURED_END, Manifest, read_manifest
from inpars.io.storage import atomic_writer
from inpars.models.folders import EMBEDDED
from inpars.models.retrievers import DENSE, MULTI_VECTOR, RETRIEVERS, SPARSE, retriever_kind
from inpars.rerankers.kinds import RERANKERS

END_OF_TRAINING = "<!-- end of numbers -->"  # of those measured during training
NOT_VALIDATED = "Nothing was measured while it trained; `--validate-every` does that."
NOT_MEASURED = "No run with this model was evaluated yet; `inpars evaluate` and `inpars run` put their numbers here."
MEASURED = "Measured with runs of this model:"
HEADER = ("| collection | system | measure | value |", "|---|---|---|---|")
TITLES = {
    BI_ENCODER: RETRIEVERS[DENSE].title,
    **{name: kind.title for name, kind in RETRIEVERS.items() if name != DENSE},
    **{name: kind.title for name, kind in RERANKERS.items()},
}
TAGS = {  # the hub's pipeline tag, further tags
    BI_ENCODER: ("sentence-similarity", ()),
    MULTI_VECTOR: ("sentence-similarity", ("multi-vector", "ColBERT")),
    SPARSE: ("feature-extraction", ("sparse-encoder", "splade")),
}
OF_SENTENCE_TRANSFORMERS = (*TAGS, "cross-encoder")
HUB_LICENCES = {"Apache-2.0": "apache-2.0", "Gemma Terms of Use": "gemma"}
UNKNOWN_LICENCE = "see the parent's card"
OF_NO_INTEREST = ("model", "dtype", "limit", "teacher_prompt", "kind")
LICENCE_FILES = re.compile(r"(licen[cs]e|notice|copying)([.-].*)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Measured:
    """A system's value of one measure on a collection."""

    collection: str
    metric: str
    system: str
    value: float


@dataclass(frozen=True, slots=True)
class CardFacts:
    """The input of a card."""

    parent: str  # the model that training started from
    triples: Path
    settings: Mapping[str, Any]
    results: Mapping[str, Any]
    device: str


def write_card(folder: Path, facts: CardFacts) -> None:
    """Write the model folder's README.md."""
    validated = _validation(facts.results)
    numbers = "\n".join([*HEADER, *map(_row, validated)]) if validated else NOT_VALIDATED
    kind, history = kind_of(folder), history_of(facts.triples)
    parts = [
        _front_matter(kind, facts),
        f"# {folder.name}: {TITLES[kind]}",
        f"Tuned by `inpars` on synthetic queries, starting from `{plain_name(facts.parent)}`.",
        f"## How to load it\n{snippets(kind, folder.name)}",
        f"## Data\n{_data(facts, history)}",
        f"## Recipe\n{_recipe(facts)}",
        f"## Numbers\n{numbers}\n{END_OF_TRAINING}",
        _measured(NOT_MEASURED).rstrip(),
        f"## Licence\n{_licences(facts, history)}",
    ]
    with atomic_writer(folder / CARD) as stream:
        stream.write("\n\n".join(parts) + "\n")


def add_numbers(folder: Path, numbers: Sequence[Measured]) -> None:
    """Add measured numbers to the model folder's card, without changing the model's hash.

    A number replaces an earlier one of the same collection, system and measure. Raises DataFormatError if the card is
    missing or not ours.
    """
    path = folder / CARD
    if not path.exists():
        raise DataFormatError("no model card here; train the model again", path=path)
    text = path.read_bytes().decode("utf-8", "replace")
    before, mark, after = _without_measured(text).partition(f"{END_OF_TRAINING}\n")
    if not mark:
        raise DataFormatError("not a model card that inpars wrote; numbers are not added", path=path)
    known = [
        line
        for line in text.partition(f"{MEASURED_BEGIN}\n")[2].partition(MEASURED_END)[0].splitlines()
        if line.startswith("| ") and line not in HEADER
    ]
    rows = {line.rsplit("|", 2)[0]: line for line in [*known, *map(_row, numbers)]}
    block = _measured("\n".join([MEASURED, "", *HEADER, *rows.values()]))
    with atomic_writer(path) as stream:
        stream.write(f"{before}{mark}{block}{after}")


def kind_of(folder: Path) -> str:
    """The model's kind, a key of `TITLES`, detected from the saved files."""
    if (folder / "modules.json").exists():
        kind = retriever_kind(str(folder))
        return BI_ENCODER if kind == DENSE else kind
    path = folder / "config.json"
    try:
        config = parse_json(path.read_bytes())
        kind = config.get("inpars", {}).get("kind", "cross-encoder")
    except (FileNotFoundError, JsonError, AttributeError) as error:
        raise DataFormatError(f"not the configuration of a model ({error}); train it again", path=path) from None
    if kind not in TITLES:
        raise DataFormatError(f"unknown kind {kind!r}; it is one of {', '.join(TITLES)}", path=path)
    return str(kind)


def _front_matter(kind: str, facts: CardFacts) -> str:
    library = "sentence-transformers" if kind in OF_SENTENCE_TRANSFORMERS else "transformers"
    pipeline, tags = TAGS.get(kind, ("text-ranking", ()))
    lines = [
        f"library_name: {library}",
        f"pipeline_tag: {pipeline}",
        "\n- ".join(["tags:", "inpars", "synthetic-queries", *tags]),
    ]
    if (parent := hub_id(facts.parent)) is not None:
        lines.append(f"base_model: {parent}")
    if (licence := HUB_LICENCES.get(_licence(facts.parent))) is not None:
        lines.append(f"license: {licence}")
    return front_matter(lines)


def front_matter(lines: Sequence[str]) -> str:
    """YAML lines as the hub reads them, on top of a card."""
    return "\n".join(["---", *lines, "---"])


def _data(facts: CardFacts, history: Mapping[str, Manifest]) -> str:
    count = facts.results.get("examples", "?")
    return "\n".join([f"- {count} examples from `{facts.triples.name}`", *origin_lines(history)])


def origin_lines(history: Mapping[str, Manifest]) -> list[str]:
    """A list in Markdown: who wrote the queries and with which prompt, negatives, filter."""
    lines: list[str] = []
    if (generated := history.get("generate")) is not None:
        prompt = generated.inputs.get("prompt")
        lines += [
            f"- queries written by `{plain_name(str(generated.arguments.get('model', 'an unknown generator')))}`",
            f"- prompt: `{plain_name(prompt.path) if prompt else 'unknown'}`",
        ]
        if (corpus := generated.inputs.get("corpus")) is not None:
            lines.append(f"- documents: `{plain_name(corpus.path)}`")
    else:
        lines.append("- who wrote the queries, and with which prompt, is not recorded beside the triples")
    if (mined := history.get("triples")) is not None:
        arguments = mined.arguments
        lines.append(
            f"- negatives: {arguments.get('negatives')}, ranks {arguments.get('ranks')}, "
            f"{arguments.get('per_query')} of each positive"
        )
    if (filtered := history.get("filter")) is not None:
        scoring, selections = (filtered.arguments.get(name) for name in ("scoring_function", "select"))
        ranking = FilterOptions(scoring_function=scoring, select=tuple(selections or ())).ranking
        lines.append(f"- of the queries {filtered.output.records} were kept by `{ranking}`")
    return lines


def _recipe(facts: CardFacts) -> str:
    settings = {
        name: value for name, value in facts.settings.items() if value is not None and name not in OF_NO_INTEREST
    }
    rows = [f"| {name.replace('_', ' ')} | {plain_name(str(value))} |" for name, value in settings.items()]
    return "\n".join(["| setting | value |", "|---|---|", *rows, f"| computed on | {facts.device} |"])


def _validation(results: Mapping[str, Any]) -> list[Measured]:
    if "best" not in results:
        return []
    collection = str(results.get("validated_by", "held-out queries"))
    metric = "nDCG@10"
    return [
        Measured(collection, metric, "before training", float(results["start"])),
        Measured(collection, metric, f"this model (step {results['best']['step']})", float(results["best"][metric])),
    ]


def _row(row: Measured) -> str:
    names = (name.replace("|", "\\|") for name in (row.collection, row.system, row.metric))
    return f"| {' | '.join(names)} | {row.value:.4f} |"


def _measured(content: str) -> str:
    return f"{MEASURED_BEGIN}\n{content}\n{MEASURED_END}\n"


def _without_measured(card: str) -> str:
    before, begin, rest = card.partition(f"{MEASURED_BEGIN}\n")
    _, end, after = rest.partition(f"{MEASURED_END}\n")
    return f"{before}{after}" if begin and end else card


def _licences(facts: CardFacts, history: Mapping[str, Manifest]) -> str:
    lines = [f"- `{plain_name(facts.parent)}`, whose weights these began as: {_licence(facts.parent)}"]
    lines += generator_licence(history)
    if (teacher := facts.settings.get("teacher")) is not None:
        lines.append(f"- `{plain_name(teacher)}`, whose scores were learnt: {_licence(teacher)}")
    return "\n".join([*lines, "- the documents have licences of their own"])


def generator_licence(history: Mapping[str, Manifest]) -> list[str]:
    """A line in Markdown, if the generator is recorded."""
    if (generated := history.get("generate")) is None:
        return []
    generator = str(generated.arguments.get("model"))
    return [f"- `{plain_name(generator)}`, which wrote the queries: {_licence(generator)}"]


def _licence(model: str) -> str:
    if model in EMBEDDED:
        return EMBEDDED[model].licence
    named = _named_in_card(Path(model), "license")
    return next((name for name, hub in HUB_LICENCES.items() if hub == named), named) or UNKNOWN_LICENCE


def hub_id(model: str) -> str | None:
    """A model's id on the hub: an embedded model's origin, the base model in a folder's card, or the given id."""
    if model in EMBEDDED:
        return EMBEDDED[model].hub_id
    if Path(model).exists():
        return _named_in_card(Path(model), "base_model")
    return model if re.fullmatch(r"[\w.-]+/[\w.-]+", model) else None


def _named_in_card(folder: Path, key: str) -> str | None:
    try:
        text = (folder / CARD).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    header = text.split("\n---", 1)[0] if text.startswith("---") else ""
    match = re.search(rf"^{key}: *(\S+)\s*$", header, re.MULTILINE)
    return match[1] if match else None


def plain_name(name: str) -> str:
    """The last part of a path; hub ids and dataset names stay whole."""
    path = Path(name)
    return path.name if path.is_absolute() or name.startswith((".", "~")) or path.exists() else name


def history_of(*outputs: Path) -> dict[str, Manifest]:
    """Manifests of files and, transitively, of their inputs, if these are still in place; by stage."""
    history: dict[str, Manifest] = {}
    seen: set[Path] = set()
    remaining = list(outputs)
    while remaining:
        path = remaining.pop()
        if path in seen:
            continue
        seen.add(path)
        try:
            manifest = read_manifest(path)
        except DataFormatError:  # the card reports it as not recorded
            continue
        if manifest is not None:
            history[manifest.stage] = manifest
            remaining += [Path(stamp.path) for stamp in manifest.inputs.values()]
    return history


def carry_card(model: str, folder: Path, name: str, command: str) -> None:
    """Write the README.md of `folder`, a copy of a model under a new name, and copy the model's licence files.

    A model without a card gets one that names its parent.
    """
    from inpars.models.loading import resolve_model  # torch

    source = Path(resolve_model(model))
    origin = f"Written by `inpars {command}` from `{plain_name(model)}`."
    text = _renamed_card(source, name) if (source / CARD).is_file() else _new_card(model, name)
    with atomic_writer(folder / CARD) as stream:
        stream.write(f"{text.rstrip()}\n\n{origin}\n")
    for path in sorted(source.iterdir()) if source.is_dir() else ():
        if LICENCE_FILES.fullmatch(path.name) and path.is_file():
            shutil.copyfile(path, folder / path.name)


def _renamed_card(source: Path, name: str) -> str:
    """The model's card; in cards that we wrote, title and code get the new name."""
    text = (source / CARD).read_bytes().decode("utf-8", "replace")
    return text.replace(f"\n# {source.name}: ", f"\n# {name}: ").replace(f'("{source.name}"', f'("{name}"')


def _new_card(model: str, name: str) -> str:
    parent = hub_id(model)
    header = front_matter([f"base_model: {parent}"] if parent else [])
    return f"{header}\n\n# {name}\n\n## Licence\n- `{plain_name(model)}`: {UNKNOWN_LICENCE}"
