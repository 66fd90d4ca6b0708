"""The container and service files name what is there: sources, extras, flags."""

import argparse
import configparser
import json
import re
import shlex
from pathlib import Path

from inpars.cli import serve
from inpars.extras import EXTRAS

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "scripts/deploy/Dockerfile").read_text(encoding="utf-8")
IGNORED = (ROOT / "scripts/deploy/Dockerfile.dockerignore").read_text(encoding="utf-8")
SERVICE = (ROOT / "scripts/deploy/inpars.service").read_text(encoding="utf-8")


def parsed(words):
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    return parser.parse_args(words)


def test_what_is_copied_is_there_and_reaches_the_builder():
    copied = [word for line in re.findall(r"^COPY (.*)$", DOCKERFILE, re.MULTILINE) for word in line.split()[:-1]]
    assert len(copied) == 7
    for name in copied:
        assert (ROOT / name).exists()
        assert f"!{name}\n" in IGNORED


def test_the_extras_are_there():
    extras = re.search(r"^ARG EXTRAS=(.*)$", DOCKERFILE, re.MULTILINE)[1].split(",")
    assert set(extras) <= set(EXTRAS)
    assert "serve" in extras


def test_the_containers_command_is_understood():
    entry = json.loads(re.search(r"^ENTRYPOINT (.*)$", DOCKERFILE, re.MULTILINE)[1])
    flags = parsed([*entry[2:], "--corpus", "/data/corpus.jsonl"])
    assert (entry[:2], flags.host, flags.port) == (["inpars", "serve"], "0.0.0.0", 8000)
    assert re.search(r"^USER inpars$", DOCKERFILE, re.MULTILINE)


def test_the_services_command_is_understood():
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str
    parser.read_string(SERVICE)
    words = shlex.split(parser["Service"]["ExecStart"])
    flags = parsed(words[2:])
    assert words[1] == "serve"
    assert flags.host == "127.0.0.1"
    assert int(parser["Service"]["TimeoutStopSec"]) > flags.grace_seconds
