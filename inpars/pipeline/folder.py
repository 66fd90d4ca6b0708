"""The folder of a finished run, as it is read again: its manifests, measures, and the queries it was judged by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inpars.errors import DataFormatError
from inpars.formats import read_queries
from inpars.json_text import JsonError, parse_json
from inpars.judgements import read_qrels
from inpars.manifest import MANIFEST_SUFFIX, FileStamp, Manifest, read_manifest
from inpars.pipeline.judging import METRICS, QRELS, QUERIES, TOPICS
from inpars.pipeline.results import FOLDER_MARK
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
        """The folder's own name."""
        return self.path.resolve().name

    def find(self, stage: str) -> tuple[str, Manifest] | None:
        """The first output of a stage."""
        return next(((name, found) for name, found in self.manifests.items() if found.stage == stage), None)

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

    def measures(self) -> dict[str, PerQuery]:
        """Values of each system for each query."""
        path = self.path / METRICS
        if not path.exists():
            return {}
        try:
            values = parse_json(path.read_bytes())
            return {name: dict(system["per_query"]) for name, system in values["systems"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataFormatError(f"not the measures of a run ({error})", path=path) from None

    def queries(self) -> dict[str, str]:
        """The judged queries' words."""
        path = self.path / TOPICS / QUERIES
        return {query.query_id: query.text for query in read_queries(path)} if path.exists() else {}

    def qrels(self) -> Qrels:
        """The judgements."""
        path = self.path / TOPICS / QRELS
        return read_qrels(path) if path.exists() else {}


def read_run_folder(path: Path) -> RunFolder:
    """Read the folder. Raises DataFormatError where it is none of a run; other folders are not looked through."""
    if not path.is_dir():
        raise DataFormatError("no such folder; give the --output of an `inpars run`", path=path)
    mark = _mark(path / FOLDER_MARK)
    manifests: dict[str, Manifest] = {}
    broken: list[str] = []
    for found in sorted(path.rglob(f"*{MANIFEST_SUFFIX}")):
        output = found.with_name(found.name.removesuffix(MANIFEST_SUFFIX))
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


def _mark(path: Path) -> dict[str, Any]:
    try:
        mark = parse_json(path.read_bytes())
    except (FileNotFoundError, IsADirectoryError):
        raise DataFormatError(f"no {path.name} here; give the --output of an `inpars run`", path=path.parent) from None
    except JsonError as error:
        raise DataFormatError(f"not the mark of a run ({error}); give the --output of one", path=path) from None
    if not isinstance(mark, dict) or "dataset" not in mark:
        raise DataFormatError("not the mark of a run; give the --output of one", path=path)
    return mark
