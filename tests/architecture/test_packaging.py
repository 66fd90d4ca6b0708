"""A wheel holds every package and every file that they read."""

import configparser
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARSER = configparser.ConfigParser(interpolation=None)
PARSER.read(ROOT / "setup.cfg", encoding="utf-8")


def test_every_package_is_in_the_wheel():
    listed = set(PARSER["options"]["packages"].split()) - {"inpars.prompt_files"}
    packages = {
        path.parent.relative_to(ROOT).as_posix().replace("/", ".") for path in ROOT.glob("inpars/**/__init__.py")
    }
    assert listed == packages


def test_every_data_file_of_a_package_is_in_the_wheel():
    folders = {"inpars.prompt_files": ROOT / "prompts"}
    kept = set()
    for package, patterns in PARSER["options.package_data"].items():
        folder = folders.get(package, ROOT / package.replace(".", "/"))
        kept |= {path for pattern in patterns.split(",") for path in folder.glob(pattern.strip())}
    files = [path for folder in (ROOT / "inpars", ROOT / "prompts") for path in folder.rglob("*") if path.is_file()]
    data = {path for path in files if path.suffix not in (".py", ".pyc")}
    assert {path.relative_to(ROOT).as_posix() for path in data - kept} == set()
