"""The folder of a finished run, as it is read again: its manifests, measures, and the queries it was judged by."""

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
    """What lies in the folder of a run; parts that it lacks are empty."""

    path: Path
    mark: Mapping[str, Any] = field(default_factory=dict)
    manifests: Mapping[str, Manifest] = field(default_factory=dict)  # by the output's place in the folder
    broken: tuple[str, ...] = ()  # manifests that cannot be read

    @property
    def name(self) -> str:
        return self.path.resolve().name

    def find(self, stage: str) -> tuple[str, Manifest] | None:
        return next(((name, manifest) for name, manifest in self.manifests.items() if manifest.stage == stage), None)

    def inside(self, stamp: FileStamp) -> str | None:
        """Where in this folder an input lies, even if the folder was moved or copied; None where it is not of it."""
        parts = Path(stamp.path).parts
        for length in range(len(parts), 0, -1):
            name = Path(*parts[-length:]).as_posix()
            if name in self.manifests or (
                len(parts) > 1 and (self.path / name).exists() and not Path(name).is_absolute()
            ):
                return name
        return None

    def measures(self, place: str = METRICS) -> dict[str, PerQuery]:
        path = self.path / place
        if not path.exists():
            return {}
        try:
            systems = parse_json(path.read_bytes())["systems"]
            return {name: _per_query(system["per_query"]) for name, system in systems.items()}
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            problem = f"not the measures of a run ({error}); remove it and run the same command again"
            raise DataFormatError(problem, path=path) from None

    def queries(self, topics: str = TOPICS) -> dict[str, str]:
        """The words of the judged queries, or of those in another folder of the run."""
        path = self.path / topics / QUERIES
        return {query.query_id: query.text for query in read_queries(path)} if path.exists() else {}

    def qrels(self, topics: str = TOPICS) -> Qrels:
        """The judgements, or what stands for them in another folder of the run."""
        path = self.path / topics / QRELS
        return read_qrels(path) if path.exists() else {}

    @property
    def origin(self) -> Origin | None:
        """The model that judged what the run was measured by; None where people did."""
        return origin_of(self.path / TOPICS / QRELS)


def topics_of(output: str) -> str:
    """The folder of the queries that a run of this place was searched for."""
    folder, choice = Path(output).parent, Path(CHOICE_TOPICS).parent
    if output.startswith(f"{JUDGED}/"):
        return f"{JUDGED}/{TOPICS}"
    return (folder / Path(CHOICE_TOPICS).name).as_posix() if choice in (folder, *folder.parents) else TOPICS


def read_run_folder(path: Path) -> RunFolder:
    """Read the folder. Raises DataFormatError where it is none of a run; other folders are not looked through."""
    if not path.is_dir():
        raise DataFormatError("no such folder; give the --output of an `inpars run`", path=path)
    mark = _mark(path)
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
    ordered = sorted(manifests.items(), key=lambda item: item[1].started)  # one second apart at least, or by name
    return RunFolder(path, mark, dict(ordered), tuple(broken))


def _mark(folder: Path) -> dict[str, Any]:
    """The mark of a run. Raises DataFormatError for a folder without one."""
    mark = read_mark(folder)
    if "dataset" not in mark:
        raise DataFormatError(f"no {FOLDER_MARK} of a run here; give the --output of an `inpars run`", path=folder)
    return mark


def _per_query(values: Mapping[str, Mapping[str, float]]) -> PerQuery:
    """The values of each measure. Raises ValueError for what is no number, OverflowError for a number without end."""
    for measure, per_query in values.items():
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in per_query.values()):
            raise ValueError(f"{measure} of some query is no number")
    return values
