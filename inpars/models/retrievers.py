"""The kinds of retrievers, and how a saved model's kind is recognized. Loads no torch.

A kind is an entry of `RETRIEVERS`, with a module of the same name in `inpars.retrieval` and in `inpars.training`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from inpars.io.json_text import JsonError, parse_json
from inpars.models.folders import CLASSIFIER_ENDING, EMBEDDED, model_folder, model_path

DENSE, MULTI_VECTOR, SPARSE = "dense", "multi-vector", "sparse"
SETTINGS_FILE, MODULES_FILE = "config_sentence_transformers.json", "modules.json"


@dataclass(frozen=True, slots=True)
class RetrieverKind:
    """Properties of a kind."""

    words: str  # for --help
    title: str  # for model cards
    loads: str  # sentence-transformers class
    scale: float  # of similarities before the softmax in training

    def module(self, package: str) -> str:
        """The kind's module in `inpars.retrieval` or `inpars.training`."""
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
COLBERT = "HF_ColBERT"  # architecture of Stanford's checkpoints
CROSS_ENCODER = "CrossEncoder"  # sentence-transformers class

if TYPE_CHECKING:
    RetrieverKindName: TypeAlias = str
else:
    RetrieverKindName = Literal[tuple(RETRIEVERS)]  # the choices of a flag


def kind_words() -> str:
    """Help text of a flag for a kind."""
    return "; ".join(f"{name}: {kind.words}" for name, kind in RETRIEVERS.items())


def retriever_kind(name: str) -> RetrieverKindName:
    """The kind of a model saved by sentence-transformers, PyLate or Stanford's ColBERT; dense by default.

    Fetches the config files of a hub id. Raises DataFormatError for a folder without a complete model.
    """
    if name in EMBEDDED:
        return DENSE
    settings, config = (_object(_read(name, path)) for path in (SETTINGS_FILE, "config.json"))
    classes = {spec.loads: kind for kind, spec in RETRIEVERS.items()} | {"ColBERT": MULTI_VECTOR}  # PyLate's
    if (kind := classes.get(str(settings.get("model_type")))) is not None:
        return kind
    architectures = config.get("architectures")
    return MULTI_VECTOR if isinstance(architectures, list) and COLBERT in architectures else DENSE


def class_saved(name: str) -> str:
    """The class of sentence-transformers that saved a model, such as `CrossEncoder`; empty for others."""
    return str(_object(_read(name, SETTINGS_FILE)).get("model_type") or "")


def is_classifier(name: str) -> bool:
    """Whether a model scores pairs of texts instead of embedding them."""
    if name in EMBEDDED or class_saved(name) or _read(name, MODULES_FILE):
        return class_saved(name) == CROSS_ENCODER
    architectures = _object(_read(name, "config.json")).get("architectures") or []
    return any(str(one).endswith(CLASSIFIER_ENDING) for one in architectures)


def averages_token_states(name: str) -> bool:
    """Whether a bi-encoder uses mean pooling, so that its single token states are meaningful too."""
    if retriever_kind(name) != DENSE:
        return False
    modules = _read(name, MODULES_FILE)
    paths = [str(one.get("path")) for one in modules if isinstance(one, dict)] if isinstance(modules, list) else []
    pooling = [config for path in paths if path and isinstance(config := _read(name, f"{path}/config.json"), dict)]
    return any(one.get("pooling_mode_mean_tokens") is True or one.get("pooling_mode") == "mean" for one in pooling)


def is_masked_lm(name: str) -> bool:
    """Whether a folder has a masked language model, whose head a sparse retriever needs; True for hub ids."""
    if name not in EMBEDDED and model_folder(name) is None:
        return True
    architectures = _object(_read(name, "config.json")).get("architectures") or []
    return any(str(one).endswith("ForMaskedLM") for one in architectures)


def _read(name: str, file: str) -> Any:
    """The content of a model's JSON file; an empty object if it is missing or unreadable."""
    folder = EMBEDDED[name].locate()[0] if name in EMBEDDED else model_folder(name)
    path = _cached(name, file) if folder is None else folder / file
    try:
        return {} if path is None else parse_json(path.read_bytes())
    except (OSError, JsonError):
        return {}


def _cached(name: str, file: str) -> Path | None:
    """A file of a hub id, from the cache or fetched now; None if there is none."""
    if model_path(name).exists() or name.count("/") != 1:
        return None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(hf_hub_download(name, file))
    except (OSError, ValueError, HfHubHTTPError):  # loading the model will report the problem
        return None


def _object(value: Any) -> dict[str, Any]:
    """The value if it is a JSON object; else an empty one."""
    return value if isinstance(value, dict) else {}
