"""Merges the shards of a stage's output into the file and the manifest of a run without shards.

Each shard must be complete (with a manifest and unchanged bytes), all must belong to the same work and count, and none
may be missing or duplicated. Errors name the shard to run again.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from inpars.errors import ConfigError, DataFormatError, StaleInputError
from inpars.io import manifest as manifests
from inpars.io.fields import MAX_EXACT
from inpars.io.manifest import Manifest
from inpars.io.storage import storage_errors, write_lines
from inpars.progress import SILENT, Progress
from inpars.provenance import current_argv
from inpars.stages.examples import SUFFIX as EXAMPLES_SUFFIX
from inpars.stages.shards import SHARD_RESULT, Shard, count_lines, merged_lines, shard_of_path, shards_of
from inpars.stages.stage import refuse_to_overwrite

MERGED_RESULT = "shards"  # the result in the manifest of a merged file
MAX_NAMED = 8  # missing shards in an error message


@dataclass(frozen=True, slots=True)
class _Piece:
    path: Path
    shard: Shard
    manifest: Manifest

    @property
    def compared(self) -> dict[str, Any]:
        by_content = {"shard", *self.manifest.inputs}  # paths may differ between machines
        settings = {name: value for name, value in self.manifest.arguments.items() if name not in by_content}
        inputs = {f"input {name}": stamp.sha256 for name, stamp in self.manifest.inputs.items()}
        shard_result = self.manifest.results[SHARD_RESULT]
        return (
            settings
            | inputs
            | {"stage": self.manifest.stage, "items": shard_result["items"], "count": self.shard.count}
        )


def merge_shards(
    output: Path, shards: Sequence[Path] = (), *, progress: Progress = SILENT, overwrite: bool = False
) -> Manifest:
    """Write `output` from the given shards, or from those next to it, and return its manifest.

    Raises ConfigError for missing, unfinished or duplicate shards, StaleInputError for shards of other work.
    """
    pieces = _read_pieces(output, shards)
    _check_same_work(pieces)
    _check_all_there(pieces, output)
    summaries = [_shard_summary(piece) for piece in pieces]
    before = None if overwrite or not output.exists() else manifests.read_manifest(output)
    unchanged = before is not None and before.results.get(MERGED_RESULT) == summaries
    if before is not None and unchanged and manifests.sha256_of(output) == before.output.sha256:
        progress.stage("merge", output, up_to_date=True)
        return before
    for piece in pieces:
        stamp = piece.manifest.output
        if manifests.size_of(piece.path) != stamp.size or manifests.sha256_of(piece.path) != stamp.sha256:
            raise StaleInputError(
                f"{piece.path} was changed after it was made; run its command again with --shard {piece.shard}"
            )
    with storage_errors(output):
        manifests.manifest_path(output).unlink(missing_ok=True)
    parts = [(piece.path, piece.manifest.results[SHARD_RESULT]["places"]) for piece in pieces]
    lines = progress.track(
        merged_lines(parts), total=sum(_lines(piece.manifest) for piece in pieces), description="merge", unit="lines"
    )
    write_lines(output, lines)
    example_ids = pieces[0].path.with_name(pieces[0].path.name + EXAMPLES_SUFFIX)
    if example_ids.exists():  # the same for every shard
        with storage_errors(output):
            shutil.copyfile(example_ids, output.with_name(output.name + EXAMPLES_SUFFIX))
    _note_machines(pieces, progress)
    manifest = _merged(pieces, output, summaries)
    manifests.write_manifest(manifest, output)
    return manifest


def _read_pieces(output: Path, shards: Sequence[Path]) -> list[_Piece]:
    """The shards with their manifests, by number."""
    paths = list(shards) or shards_of(output)
    if not paths:
        raise ConfigError(f"no shards found for {output}; make them with --shard I/N and this --output, or name them")
    refuse_to_overwrite([output], paths)
    return sorted((_read_piece(path) for path in paths), key=lambda piece: (piece.shard.count, piece.shard.number))


def _read_piece(path: Path) -> _Piece:
    manifest = manifests.read_manifest(path)
    if manifest is None:
        named = shard_of_path(path)
        again = f"--shard {named}" if named else "its --shard"
        raise ConfigError(f"{path} is not finished; run its command again with {again}")
    shard_text = manifest.arguments.get("shard")
    if SHARD_RESULT not in manifest.results or shard_text is None:
        raise ConfigError(f"{path} is no shard: it was made without --shard; leave it out")
    try:
        _check_counts(manifest)
        return _Piece(path, Shard.parse(shard_text), manifest)
    except (TypeError, ValueError) as error:
        problem = f"not the manifest of a shard ({error}); run the shard again"
        raise DataFormatError(problem, path=manifests.manifest_path(path)) from None


def _lines(manifest: Manifest) -> int:
    shard_result = manifest.results[SHARD_RESULT]
    return count_lines(shard_result["places"], shard_result["items"])


def _check_counts(manifest: Manifest) -> None:
    """Raise TypeError or ValueError unless the manifest's counts are numbers that fit together."""
    shard_result, records = manifest.results[SHARD_RESULT], manifest.output.records
    if (
        not isinstance(shard_result, Mapping)
        or type(shard_result.get("items")) is not int
        or not isinstance(shard_result.get("places"), str)
    ):
        raise ValueError(f"{SHARD_RESULT!r} needs items and places")
    lines = count_lines(shard_result["places"], shard_result["items"])
    if records is not None and records != lines:
        raise ValueError(f"{records} records, {lines} lines at its places")
    for name in (*MEANS, *COUNTS):
        value = manifest.results.get(name)
        if value is not None and not (isinstance(value, int | float) and abs(value) < MAX_EXACT):
            raise ValueError(f"{name!r} must be a number")


def _check_same_work(pieces: Sequence[_Piece]) -> None:
    """Raise StaleInputError for a shard that differs from the majority."""
    usual = Counter(repr(sorted(piece.compared.items(), key=str)) for piece in pieces).most_common(1)[0][0]
    model = next(piece for piece in pieces if repr(sorted(piece.compared.items(), key=str)) == usual)
    for piece in pieces:
        names = sorted(
            name for name in {*piece.compared, *model.compared} if piece.compared.get(name) != model.compared.get(name)
        )
        if names:
            raise StaleInputError(
                f"{piece.path} was made with another {', '.join(names)} than {model.path}; "
                f"run --shard {piece.shard.number}/{model.shard.count} again as the others were run, with --overwrite"
            )


def _check_all_there(pieces: Sequence[_Piece], output: Path) -> None:
    count = pieces[0].shard.count
    paths: dict[int, Path] = {}
    for piece in pieces:
        if piece.shard.number in paths:
            twin = paths[piece.shard.number]
            raise ConfigError(f"{twin} and {piece.path} are both shard {piece.shard}; name one of them")
        paths[piece.shard.number] = piece.path
    if missing := count - len(paths):
        named = islice((number for number in range(1, count + 1) if number not in paths), MAX_NAMED)
        missing_shards = ", ".join(f"{number}/{count}" for number in named)
        more = f" and {missing - MAX_NAMED} more" if missing > MAX_NAMED else ""
        raise ConfigError(
            f"{output} lacks shards: {missing_shards}{more}; run the command again with each as its --shard"
        )


def _shard_summary(piece: _Piece) -> dict[str, Any]:
    stamp, manifest = piece.manifest.output, piece.manifest
    about = {"records": stamp.records, "seconds": manifest.seconds, "device": manifest.device}
    return {"shard": str(piece.shard), "file": piece.path.name, "sha256": stamp.sha256, **about}


def _merged(pieces: Sequence[_Piece], output: Path, summaries: Sequence[Mapping[str, Any]]) -> Manifest:
    """The manifest of a run without shards, with the total seconds and the shards."""
    first = pieces[0].manifest
    shard_manifests = [piece.manifest for piece in pieces]
    results = _combined([manifest.results for manifest in shard_manifests])
    results |= {name: _mean(name, weight, shard_manifests) for name, weight in MEANS.items() if name in results}
    return dataclasses.replace(
        first,
        arguments={**first.arguments, "shard": None},
        output=manifests.stamp(output, sum(map(_lines, shard_manifests))),
        results=results | {MERGED_RESULT: list(summaries)},
        device=", ".join(dict.fromkeys(manifest.device for manifest in shard_manifests)),
        started=min(manifest.started for manifest in shard_manifests),
        seconds=round(sum(manifest.seconds for manifest in shard_manifests), 2),
        argv=current_argv(),
    )


def _combined(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = dict.fromkeys(name for result in results for name in result if name != SHARD_RESULT)
    return {name: _together([result[name] for result in results if result.get(name) is not None]) for name in names}


def _together(values: Sequence[Any]) -> Any:  # noqa: ANN401
    if not values:
        return None
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return sum(values)
    if all(isinstance(value, Mapping) for value in values):
        return _combined(values)
    return values[0] if all(value == values[0] for value in values) else list(values)


def _mean(name: str, weight: Callable[[Manifest], int], shard_manifests: Sequence[Manifest]) -> float | None:
    """The weighted mean of the shards' means."""
    known = [
        (manifest.results[name], weight(manifest)) for manifest in shard_manifests if manifest.results[name] is not None
    ]
    total = sum(count for _, count in known)
    return math.fsum(mean * count for mean, count in known) / total if total else None


MEANS: Mapping[str, Callable[[Manifest], int]] = {
    "mean_log_prob": lambda manifest: manifest.results["tokens"],
    "mean": lambda manifest: (manifest.output.records or 0) - manifest.results["missing"],
}
"""Results that are means, with their weights."""
COUNTS = ("tokens", "missing")


def _note_machines(pieces: Iterable[_Piece], progress: Progress) -> None:
    devices = sorted({piece.manifest.device for piece in pieces})
    versions = {repr(sorted(piece.manifest.versions.items())) for piece in pieces}
    if len(devices) > 1 or len(versions) > 1:
        progress.note(
            f"merge: the shards were made on {len(devices)} kinds of device ({', '.join(devices)}) with "
            f"{len(versions)} sets of packages; on a single machine the last digits may differ"
        )
