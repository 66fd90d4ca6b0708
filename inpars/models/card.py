"""The README.md of a trained model, for people: what it was made from and how, what it is worth, how it is loaded.

What the triples were made from is read off the manifests that lie beside them; what nobody measured is said not to be.
Names of files stand in a card, paths do not. Loads no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from inpars import manifest as manifests
from inpars.errors import DataFormatError
from inpars.json_text import JsonError, parse_json
from inpars.manifest import Manifest
from inpars.models.embedded import EMBEDDED
from inpars.storage import atomic_writer

CARD = "README.md"
BEGIN, END = "<!-- numbers -->", "<!-- end of numbers -->"
NOT_MEASURED = "They are not measured: this model was trained, and no run was evaluated with it."
BI_ENCODER = "bi-encoder"
TITLES = {
    BI_ENCODER: "a bi-encoder for search",
    "monot5": "a monoT5 reranker",
    "cross-encoder": "a cross-encoder reranker",
    "causal": "a decoder that reranks by answering yes or no",
    "query-likelihood": "a decoder that reranks by the likelihood of the query",
}
LOADING = {
    BI_ENCODER: "from sentence_transformers import SentenceTransformer\n\n"
    'vectors = SentenceTransformer("{name}").encode(["a query or a passage"])',
    "cross-encoder": "from sentence_transformers import CrossEncoder\n\n"
    'scores = CrossEncoder("{name}").predict([("a query", "a passage")])',
}
SCORER = 'from inpars.scoring import load_scorer\n\nscores = load_scorer("{name}").score([("a query", "a passage")])'
HUB_LICENCES = {"Apache-2.0": "apache-2.0", "Gemma Terms of Use": "gemma"}
UNKNOWN_LICENCE = "see the parent's card"
OF_NO_INTEREST = ("model", "dtype", "limit", "teacher_prompt", "kind")


@dataclass(frozen=True, slots=True)
class Measured:
    """One number: a system's value of a measure on a collection."""

    collection: str
    metric: str
    system: str
    value: float


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What a card is written from."""

    parent: str  # the model that training started from
    triples: Path
    settings: Mapping[str, Any]
    results: Mapping[str, Any]
    device: str


def write_card(folder: Path, facts: CardFacts) -> None:
    """Write the model folder's README.md."""
    kind, history = kind_of(folder), {found.stage: found for found in _history(facts.triples)}
    parts = [
        _front_matter(kind, facts),
        f"# {folder.name}: {TITLES[kind]}",
        f"Tuned by `inpars` on synthetic queries, starting from `{_plain(facts.parent)}`.",
        f"## How to load it\n```python\n{LOADING.get(kind, SCORER).format(name=folder.name)}\n```",
        f"## Data\n{_data(facts, history)}",
        f"## Recipe\n{_recipe(facts)}",
        f"## Numbers\n{BEGIN}\n{_numbers(_validation(facts.results))}\n{END}",
        f"## Licence\n{_licences(facts, history)}",
    ]
    with atomic_writer(folder / CARD) as stream:
        stream.write("\n\n".join(parts) + "\n")


def add_numbers(folder: Path, numbers: Sequence[Measured]) -> None:
    """Put measured numbers, BM25's among them, into the card, and the changed folder's stamp into its manifest.

    Numbers of an earlier call are replaced, those of the validation stay. Raises DataFormatError for no card.
    """
    path = folder / CARD
    if not path.exists():
        raise DataFormatError("no model card here; train the model again", path=path)
    found = manifests.read_manifest(folder)
    block = _numbers([*(_validation(found.results) if found else []), *numbers])
    text = path.read_text(encoding="utf-8")
    begin, end = text.index(BEGIN), text.index(END)
    with atomic_writer(path) as stream:
        stream.write(f"{text[:begin]}{BEGIN}\n{block}\n{text[end:]}")
    if found is not None:
        manifests.write_manifest(replace(found, output=manifests.stamp(folder, found.output.records)), folder)


def kind_of(folder: Path) -> str:
    """A key of TITLES, read off the saved files."""
    if (folder / "modules.json").exists():
        return BI_ENCODER
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
    library = "sentence-transformers" if kind in LOADING else "transformers"
    lines = [
        f"library_name: {library}",
        f"pipeline_tag: {'sentence-similarity' if kind == BI_ENCODER else 'text-ranking'}",
        "tags:\n- inpars\n- synthetic-queries",
    ]
    if facts.parent not in EMBEDDED and re.fullmatch(r"[\w.-]+/[\w.-]+", facts.parent):
        lines.append(f"base_model: {facts.parent}")
    if (licence := HUB_LICENCES.get(_licence(facts.parent))) is not None:
        lines.append(f"license: {licence}")
    return "---\n" + "\n".join(lines) + "\n---"


def _data(facts: CardFacts, history: Mapping[str, Manifest]) -> str:
    lines = [f"- {facts.results.get('examples', '?')} examples from `{facts.triples.name}`"]
    if (generated := history.get("generate")) is not None:
        prompt = generated.inputs.get("prompt")
        lines += [
            f"- queries written by `{_plain(str(generated.arguments.get('model', 'an unknown generator')))}`",
            f"- prompt: `{_plain(prompt.path) if prompt else 'unknown'}`",
            *_documents(generated),
        ]
    else:
        lines.append("- who wrote the queries, and with which prompt, is not recorded beside the triples")
    if (mined := history.get("triples")) is not None:
        arguments = mined.arguments
        lines.append(
            f"- negatives: {arguments.get('negatives')}, ranks {arguments.get('ranks')}, "
            f"{arguments.get('per_query')} of each positive"
        )
    if (kept := history.get("filter")) is not None:
        lines.append(f"- of the queries {kept.output.records} were kept by `{kept.arguments.get('scoring_function')}`")
    return "\n".join(lines)


def _documents(generated: Manifest) -> list[str]:
    corpus = generated.inputs.get("corpus")
    return [f"- documents: `{_plain(corpus.path)}`"] if corpus is not None else []


def _recipe(facts: CardFacts) -> str:
    """A table of the settings that decide what comes out."""
    shown = {name: value for name, value in facts.settings.items() if value is not None and name not in OF_NO_INTEREST}
    rows = [f"| {name.replace('_', ' ')} | {_plain(str(value))} |" for name, value in shown.items()]
    return "\n".join(["| setting | value |", "|---|---|", *rows, f"| computed on | {facts.device} |"])


def _validation(results: Mapping[str, Any]) -> list[Measured]:
    """What was measured while training."""
    if "best" not in results:
        return []
    collection = str(results.get("validated_by", "held-out queries"))
    metric = "nDCG@10"
    return [
        Measured(collection, metric, "before training", float(results["start"])),
        Measured(collection, metric, f"this model (step {results['best']['step']})", float(results["best"][metric])),
    ]


def _numbers(numbers: Sequence[Measured]) -> str:
    if not numbers:
        return NOT_MEASURED
    rows = [f"| {row.collection} | {row.system} | {row.metric} | {row.value:.4f} |" for row in numbers]
    return "\n".join(["| collection | system | measure | value |", "|---|---|---|---|", *rows])


def _licences(facts: CardFacts, history: Mapping[str, Manifest]) -> str:
    lines = [f"- `{_plain(facts.parent)}`, whose weights these began as: {_licence(facts.parent)}"]
    if (generated := history.get("generate")) is not None:
        generator = str(generated.arguments.get("model"))
        lines.append(f"- `{_plain(generator)}`, which wrote the queries: {_licence(generator)}")
    if (teacher := facts.settings.get("teacher")) is not None:
        lines.append(f"- `{_plain(teacher)}`, whose scores were learnt: {_licence(teacher)}")
    return "\n".join([*lines, "- the documents have licences of their own"])


def _licence(model: str) -> str:
    return EMBEDDED[model].licence if model in EMBEDDED else UNKNOWN_LICENCE


def _plain(name: str) -> str:
    """A name without the folders it lies in; hub ids and dataset names, of few parts, stay."""
    path = Path(name)
    return path.name if path.is_absolute() or name.startswith((".", "~")) or path.exists() else name


def _history(output: Path) -> Iterator[Manifest]:
    """Manifests of a file and of what it was made from, as far as they lie where they were."""
    seen: set[Path] = set()
    left = [output]
    while left:
        path = left.pop()
        if path in seen:
            continue
        seen.add(path)
        try:
            found = manifests.read_manifest(path)
        except DataFormatError:  # the card then says that it is not recorded
            continue
        if found is not None:
            yield found
            left += [Path(stamp.path) for stamp in found.inputs.values()]
