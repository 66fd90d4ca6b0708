"""Read the folder of a finished run: manifests, measures, and the test queries with their qrels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inpars.errors import DataFormatError
from inpars.io.formats import read_queries
from inpars.io.json_text import parse_json
from inpars.io.judgements import read_qrels
from inpars.io.manifest import MANIFEST_SUFFIX, FileStamp, Manifest, read_manifest
from inpars.io.model_judgements import Origin, origin_of
from inpars.pipeline.mark import FOLDER_MARK, read_mark
from inpars.pipeline.measurement import CHOICE_TOPICS, JUDGED, METRICS, QRELS, QUERIES, TOPICS
from inpars.records import Qrels

PerQuery = Mapping[str, Mapping[str, float]]
"""measure -> query_id -> value"""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The content of a run's folder; missing parts are empty."""

    path: Path
    mark: Mapping[str, Any] = field(default_factory=dict)
    manifests: Mapping[str, Manifest] = field(default_factory=dict)  # output path relative to the folder -> manifest
    broken: tuple[str, ...] = ()  # errors of unreadable manifests

    @property
    def name(self) -> str:
        return self.path.resolve().name

    def find(self, stage: str) -> tuple[str, Manifest] | None:
        return next(((name, manifest) for name, manifest in self.manifests.items() if manifest.stage == stage), None)

    def inside(self, stamp: FileStamp) -> str | None:
        """The relative path of an input in this folder, even if the folder was moved or copied; None if outside it."""
        parts = Path(stamp.path).parts
        for length in range(len(parts), 0, -1):
            name = Path(*parts[-length:]).as_posix()
            if name in self.manifests or (
                len(parts) > 1 and (self.path / name).exists() and not Path(name).is_absolute()
            ):
                return name
        return None

    def measures(self, name: str = METRICS) -> dict[str, PerQuery]:
        path = self.path / name
        if not path.exists():
            return {}
        try:
            systems = parse_json(path.read_bytes())["systems"]
            return {name: _per_query(system["per_query"]) for name, system in systems.items()}
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            problem = f"not the measures of a run ({error}); remove it and run the same command again"
            raise DataFormatError(problem, path=path) from None

    def queries(self, topics: str = TOPICS) -> dict[str, str]:
        """query_id -> text, of the test queries or of another topics folder."""
        path = self.path / topics / QUERIES
        return {query.query_id: query.text for query in read_queries(path)} if path.exists() else {}

    def qrels(self, topics: str = TOPICS) -> Qrels:
        """The qrels of the test queries or of another topics folder."""
        path = self.path / topics / QRELS
        return read_qrels(path) if path.exists() else {}

    @property
    def origin(self) -> Origin | None:
        """The model that judged the test queries; None if people did."""
        return origin_of(self.path / TOPICS / QRELS)


def topics_of(output: str) -> str:
    """The topics folder of the queries that a run file answers."""
    folder, choice = Path(output).parent, Path(CHOICE_TOPICS).parent
    if output.startswith(f"{JUDGED}/"):
        return f"{JUDGED}/{TOPICS}"
    return (folder / Path(CHOICE_TOPICS).name).as_posix() if choice in (folder, *folder.parents) else TOPICS


def read_run_folder(path: Path) -> RunFolder:
    """Read the folder of a run. Raises DataFormatError, before searching it for manifests, if it is no run's."""
    if not path.is_dir():
        raise DataFormatError("no such folder; give the --output of an `inpars run`", path=path)
    mark = read_mark(path)
    if "dataset" not in mark:
        raise DataFormatError(f"no {FOLDER_MARK} of a run here; give the --output of an `inpars run`", path=path)
    manifests: dict[str, Manifest] = {}
    broken: list[str] = []
    for manifest_file in sorted(path.rglob(f"*{MANIFEST_SUFFIX}")):
        output = manifest_file.with_name(manifest_file.name.removesuffix(MANIFEST_SUFFIX))
        try:
            manifest = read_manifest(output)
        except DataFormatError as error:
            broken.append(str(error))
            continue
        if manifest is not None:
            manifests[output.relative_to(path).as_posix()] = manifest
    if not manifests and not broken:
        raise DataFormatError("holds no manifest of any stage; give the --output of an `inpars run`", path=path)
    ordered = sorted(manifests.items(), key=lambda item: item[1].started)  # within a second by name
    return RunFolder(path, mark, dict(ordered), tuple(broken))


def _per_query(values: Mapping[str, Mapping[str, float]]) -> PerQuery:
    """Check the values of each measure. Raises ValueError or OverflowError for invalid numbers."""
    for measure, per_query in values.items():
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in per_query.values()):
            raise ValueError(f"{measure} of some query is no number")
    return values
