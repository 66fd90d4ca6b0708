"""The import and export stages.

Output is written to a temporary folder and moved into place when complete. A folder that holds other files is never
replaced.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from inpars.contrib.interchange import format_of
from inpars.contrib.interchange.folder import RUN, SYNTHETIC, Folder
from inpars.contrib.interchange.groups import NotTogetherError, together
from inpars.contrib.interchange.items import Item
from inpars.contrib.interchange.source import Layout, Reader, Source, Written
from inpars.errors import ConfigError, DataFormatError
from inpars.io.manifest import FileStamp, Manifest, read_manifest, sha256_of, stamp
from inpars.io.storage import refuse_device, replace_folder, storage_errors
from inpars.options import option
from inpars.progress import Progress
from inpars.stages.stage import Outcome, Running, Stage, dropped_line, model_stamp

HINT = "; reranker scores come from inpars triples --rescore or inpars audit"
LABELLED = ("labeled-list", "labeled-pair")  # layouts of sentence-transformers whose labels are grades
SINGLE_FILES = {".jsonl": SYNTHETIC, ".trec": RUN}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """The settings of an import."""

    format: str = option(help="input format, see below", metavar="NAME")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """The settings of an export."""

    format: str = option(help="output format, see below", metavar="NAME")
    layout: Layout = option("triplet", help="columns of sentence-transformers")


def import_file(source: Path, options: ImportOptions, *, output: Path, **running: Unpack[Running]) -> Manifest:
    """Import `source` into the folder `output`, or only its synthetic queries (.jsonl) or run (.trec) into a file."""
    name, file_format = format_of(options.format)
    if (read := file_format.read) is None:
        raise ConfigError(f"format {name!r} can be exported but not imported")
    ours = _unchanged(output)
    single = SINGLE_FILES.get(output.suffix)
    stage = Stage("import", options, output, {"input": stamp(source)}, **running)

    def work() -> Outcome:
        with _partial(output) as partial:
            folder = _fill(partial, name, source, read, stage.progress)
            if not folder.counts:
                raise ConfigError(f"{source}: nothing of format {name!r} in it ({dropped_line(folder.dropped)})")
            _settle(partial, output, single, ours)
        counts = Counter({single: folder.counts[single]}) if single else folder.counts
        results = {"files": dict(counts), "made_ids": file_format.made_ids, "not_kept": dict(folder.not_kept)}
        return Outcome(counts.total(), folder.dropped, results)

    return stage.run(work)


def export_file(source: Source, options: ExportOptions, *, output: Path, **running: Unpack[Running]) -> Manifest:
    """Write `source` in another toolkit's format, to a file or a folder."""
    _, file_format = format_of(options.format)
    ours = _unchanged(output)

    def work() -> Outcome:
        written = Written()
        with _partial(output) as partial:
            target = partial if file_format.folder else partial / output.name
            file_format.write(source, target, options.layout, written)
            if file_format.positives_only and source.run is None:
                not_kept = source.ungraded()
                if options.layout in LABELLED:
                    del not_kept["grades above 1"]
                written.not_kept += not_kept
            if not written.counts.total():
                hint = HINT if any(reason.endswith("_unknown") for reason in written.dropped) else ""
                raise ConfigError(f"nothing to write ({dropped_line(written.dropped)}){hint}")
            _settle(partial, output, None if file_format.folder else output.name, ours)
        results = {"files": dict(written.counts), "not_kept": dict(written.not_kept)}
        return Outcome(written.counts.total(), +written.dropped, results)

    return Stage("export", options, output, _stamps(source), **running).run(work)


def exchanged_line(manifest: Manifest) -> str:
    """One line on what an import or export wrote and left out."""
    listed = ", ".join(f"{name} {count}" for name, count in manifest.results["files"].items())
    parts = ", ".join(f"{name} {count}" for name, count in manifest.results.get("not_kept", {}).items())
    return f"{listed} ({dropped_line(manifest.dropped)})" + (f"; not kept: {parts}" if parts else "")


def _fill(partial: Path, name: str, source: Path, read: Reader, progress: Progress) -> Folder:
    """Sort the input into a folder; if the rows of a query are scattered, start again with the rows grouped."""

    def filled(items: Iterator[Item]) -> Folder:
        with Folder(partial, name, source) as folder:
            folder.add(progress.track(items, total=None, description="importing", unit="records"))
        return folder

    try:
        return filled(read(source))
    except NotTogetherError as apart:
        progress.note(f"{source}: rows of query {apart.query_id!r} are scattered; reading again to group them")
        return filled(together(read(source)))


def _stamps(source: Source) -> Mapping[str, FileStamp]:
    """Stamps of all inputs."""
    files = source.files
    paths = {
        "triples": files.texts if files else None,
        "triple_ids": files.ids if files else None,
        "negatives": files.negatives if files else None,
        "queries": source.synthetic,
        "run": source.run,
    }
    stamps = {name: stamp(path) for name, path in paths.items() if path is not None}
    if source.retriever is not None:
        stamps["retriever"] = model_stamp(source.retriever)
    if source.dataset is not None:
        stamps["corpus"] = source.dataset.corpus_stamp
        if source.split in source.dataset.splits:
            stamps["topics"] = source.topics.stamp
    if not stamps:
        raise ConfigError("nothing to export: give --triples, --input, --run or --dataset")
    return stamps


@contextmanager
def _partial(output: Path) -> Iterator[Path]:
    """A temporary folder next to the output."""
    partial = output.with_name(f".{output.name}.partial")
    with storage_errors(partial):
        refuse_device(output)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _settle(partial: Path, output: Path, single: str | None, ours: bool) -> None:
    """Move the folder, or a single file of it, into place."""
    if single is None:
        _refuse_foreign(partial, output, ours)
        replace_folder(partial, output)
    elif (partial / single).is_file():
        with storage_errors(output):
            (partial / single).replace(output)
    else:
        raise ConfigError(f"no {single} in this input; give a folder as --output")


def _refuse_foreign(partial: Path, output: Path, ours: bool) -> None:
    if not output.exists() or ours:
        return
    if not output.is_dir():
        raise ConfigError(f"{output} is a file, but this format writes a folder; choose another --output")
    written = {path.relative_to(partial) for path in partial.rglob("*") if path.is_file()}
    others = sorted({path.relative_to(output) for path in output.rglob("*") if path.is_file()} - written)
    if others:
        raise ConfigError(f"{output} holds other files, {str(others[0])!r} for instance; choose another --output")


def _unchanged(output: Path) -> bool:
    """Whether the output is unchanged since one of these stages wrote it."""
    try:
        manifest = read_manifest(output)
    except DataFormatError:
        return False
    if manifest is None or manifest.stage not in ("import", "export") or not output.exists():
        return False
    return sha256_of(output) == manifest.output.sha256
