"""Optional packages: the table is setup.cfg's, versions are compared as numbers."""

import configparser
from importlib import metadata
from pathlib import Path

import pytest

from inpars import extras as module
from inpars.extras import EXTRAS, Extra, Package, owner_of, pip_line

SETUP = Path(__file__).parents[2] / "setup.cfg"


def test_the_table_is_setup_cfgs():
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(SETUP, encoding="utf-8")
    declared = {
        name: [line for line in text.split("\n") if line and not line.startswith("#")]
        for name, text in parser["options.extras_require"].items()
        if name not in ("test", "reference", "notebooks", "all")  # for developers, and a sum
    }
    assert {extra.name: [package.requirement for package in extra.packages] for extra in EXTRAS.values()} == declared


@pytest.fixture
def installed(monkeypatch):
    """Sets the version each distribution pretends to have; those not named are absent."""

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


def test_modules_have_owners():
    assert owner_of("torch.nn") is EXTRAS["train"]
    assert owner_of("jnius") is EXTRAS["bm25"]
    assert owner_of("inpars.nothing") is None
    assert owner_of(None) is None


def test_pip_lines_are_quoted():
    assert pip_line(["a", "b>=1"]) == "pip install a 'b>=1'"
