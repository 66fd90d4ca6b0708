"""The lineage of a run, by its manifests: BM25 variant, reranker, training queries.

A step back is taken only where a file still is what the later stage read, by its hash.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inpars.io.manifest import FileStamp, Manifest, read_manifest
from inpars.stages.examples import SUFFIX

BM25 = "bm25"


@dataclass(frozen=True, slots=True)
class Lineage:
    """The manifests of a run and its inputs; empty if there are none."""

    steps: tuple[tuple[Path, Manifest], ...] = ()  # the run's own first

    @property
    def bm25(self) -> tuple[str, ...]:
        """A description of each BM25 the run is based on."""
        settings = (
            manifest.arguments
            for _, manifest in self.steps
            if manifest.stage == "search" and BM25 in (manifest.arguments.get("retriever") or ())
        )
        return tuple(dict.fromkeys(_bm25_in_words(arguments) for arguments in settings))

    @property
    def triples(self) -> tuple[Path, ...]:
        """The triples that the run's models were trained on."""
        stamps = (m.inputs.get("triples") for _, m in self.steps if m.stage.startswith("train"))
        return tuple(dict.fromkeys(path for stamp in stamps if stamp and (path := Path(stamp.path)).is_file()))

    @property
    def example_ids(self) -> tuple[Path, ...]:
        """Files with the ids of queries that a prompt showed."""
        files = (path.with_name(path.name + SUFFIX) for path, manifest in self.steps if manifest.stage == "generate")
        return tuple(dict.fromkeys(path for path in files if path.is_file()))

    @property
    def synthetic_validation(self) -> tuple[str, ...]:
        """What chose the weights of models behind the run, where those were queries a model wrote."""
        validated_by = (str(m.results.get("validated_by", "")) for _, m in self.steps if m.stage.startswith("train"))
        return tuple(dict.fromkeys(text for text in validated_by if "synthetic" in text))


def lineage(run: Path) -> Lineage:
    """The manifests of a run and, transitively, of its unchanged inputs."""
    seen: dict[Path, Manifest] = {}
    waiting = [run]
    while waiting:
        path = waiting.pop(0)
        manifest = None if path in seen else read_manifest(path)
        if manifest is not None:
            seen[path] = manifest
            waiting += _sources(path, manifest.inputs)
    return Lineage(tuple(seen.items()))


def _sources(output: Path, inputs: Mapping[str, FileStamp]) -> Iterator[Path]:
    """Inputs that have manifests of the same content, where they were read or beside the output."""
    for stamp in inputs.values():
        for path in (Path(stamp.path), output.parent / Path(stamp.path).name):
            manifest = read_manifest(path) if path != output else None
            if manifest is not None and manifest.output.sha256 == stamp.sha256:
                yield path
                break


def _bm25_in_words(arguments: Mapping[str, Any]) -> str:
    language = arguments.get("language", "en")
    spoken = "" if language == "en" else f", language {language}"
    return f"BM25 flat (title and text in one field), k1 {arguments['k1']}, b {arguments['b']}{spoken}"
