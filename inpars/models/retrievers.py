"""The kinds of retrievers, and which of them a model is by the files it was saved with. Loads no torch.

A kind is a line of `RETRIEVERS`, a module of `inpars.retrieval` that searches with it and one of `inpars.training` that
trains it, both of its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from inpars.io.json_text import JsonError, parse_json
from inpars.models.folders import EMBEDDED, model_folder, model_path

DENSE, MULTI_VECTOR, SPARSE = "dense", "multi-vector", "sparse"
SETTINGS_FILE = "config_sentence_transformers.json"


@dataclass(frozen=True, slots=True)
class RetrieverKind:
    """What is known of a kind without its modules."""

    words: str  # for --help
    title: str  # of a model card
    loads: str  # the class of sentence-transformers
    scale: float  # on a similarity before the softmax of a training

    def module(self, package: str) -> str:
        """Its module in `inpars.retrieval` or `inpars.training`."""
        name = next(name for name, kind in RETRIEVERS.items() if kind is self)
        return f"inpars.{package}.{name.replace('-', '_')}"


RETRIEVERS: Mapping[str, RetrieverKind] = {
    DENSE: RetrieverKind("a vector for each text", "a bi-encoder for search", "SentenceTransformer", 20.0),
    MULTI_VECTOR: RetrieverKind(
        "a vector for each token, compared by MaxSim (ColBERT)",
        "a late-interaction retriever",
        "MultiVectorEncoder",
        1.0,
    ),
    SPARSE: RetrieverKind(
        "a weight for each word of the vocabulary (SPLADE), of a masked language model",
        "a learned sparse retriever",
        "SparseEncoder",
        1.0,
    ),
}
OTHER_NAMES = {"ColBERT": MULTI_VECTOR}  # PyLate's
COLBERT = "HF_ColBERT"  # the architecture of Stanford's checkpoints

if TYPE_CHECKING:
    RetrieverKindName: TypeAlias = str
else:
    RetrieverKindName = Literal[tuple(RETRIEVERS)]  # the choices of a flag


def kind_words() -> str:
    """The help of a flag that names a kind."""
    return "; ".join(f"{name}: {kind.words}" for name, kind in RETRIEVERS.items())


def retriever_kind(name: str) -> RetrieverKindName:
    """What a model was saved as by sentence-transformers, PyLate or Stanford's ColBERT; dense where nothing says so.

    A hub id is looked up where its files are cached. Raises DataFormatError for a folder that is none or broken.
    """
    if name in EMBEDDED:
        return DENSE
    folder = model_folder(name)
    files = _cached(name) if folder is None else {path: folder / path for path in (SETTINGS_FILE, "config.json")}
    settings, config = (_object(files.get(path)) for path in (SETTINGS_FILE, "config.json"))
    classes = {spec.loads: kind for kind, spec in RETRIEVERS.items()} | OTHER_NAMES
    if (kind := classes.get(str(settings.get("model_type")))) is not None:
        return kind
    architectures = config.get("architectures")
    return MULTI_VECTOR if isinstance(architectures, list) and COLBERT in architectures else DENSE


def is_masked_lm(name: str) -> bool:
    """Whether a folder holds a masked language model, whose head a sparse retriever needs; hub ids are let through."""
    folder = EMBEDDED[name].locate()[0] if name in EMBEDDED else model_folder(name)
    if folder is None:
        return True
    architectures = _object(folder / "config.json").get("architectures") or []
    return any(str(one).endswith("ForMaskedLM") for one in architectures)


def _cached(name: str) -> dict[str, Path]:
    """Files of a hub id that this machine has, or fetches now."""
    if model_path(name).exists() or name.count("/") != 1:
        return {}
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    files = {}
    for file in (SETTINGS_FILE, "config.json"):
        try:
            files[file] = Path(hf_hub_download(name, file))
        except (OSError, ValueError, HfHubHTTPError):  # loading the model reports what is wrong with it
            continue
    return files


def _object(path: Path | None) -> dict[str, Any]:
    """The object in a JSON file; empty if there is none."""
    try:
        value = {} if path is None else parse_json(path.read_bytes())
    except (OSError, JsonError):
        return {}
    return value if isinstance(value, dict) else {}
