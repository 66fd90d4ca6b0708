"""Convert files, web pages or a dataset to a corpus in BEIR format.

Reads PDF, HTML, Markdown, reStructuredText, plain text, docx, jsonl, csv, parquet and SQuAD's json, and cuts files into
passages of a few sentences, each with its source, page or headings, and position. Unreadable files are reported and
skipped. Running it again reads only files that changed. If a dataset has queries, queries.jsonl and qrels/SPLIT.tsv are
written next to the corpus, so that the output folder is itself a dataset.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from inpars.cli.common import DatasetFlags, add_output_flags, console, open_dataset, print_result
from inpars.documents.folder import FoundFiles
from inpars.errors import ConfigError
from inpars.io.manifest import Manifest
from inpars.options import add_flags, from_flags
from inpars.stages.ingest import NAMES_SHOWN, IngestOptions, ingest_dataset, ingest_files
from inpars.stages.stage import dropped_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_documents_flags(parser)
    add_flags(parser, DatasetFlags)
    add_flags(parser, IngestOptions)
    add_output_flags(parser, "corpus, JSON lines; queries and judgements next to it")


def add_documents_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--documents",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        metavar="PATH",
        help="files and folders to read instead of a dataset",
    )
    parser.add_argument(
        "--urls",
        nargs="+",
        action="extend",
        default=[],
        metavar="URL|FILE",
        help="web pages instead of a dataset: addresses, a sitemap's address, or a file with one address per line",
    )


def names_documents(flags: argparse.Namespace) -> bool:
    """Whether files or pages were named. Raises ConfigError if a dataset was named too."""
    sources = [name for name in ("documents", "urls") if getattr(flags, name)]
    named = [name for name in ("dataset", "corpus", "queries", "qrels") if getattr(flags, name) is not None]
    if sources and named:
        raise ConfigError(f"--{sources[0]} replaces a dataset; leave out --{' --'.join(named)}")
    return bool(sources)


def run(flags: argparse.Namespace) -> None:
    if names_documents(flags):
        _ingest_files(flags)
    else:
        _ingest_dataset(flags)


def _ingest_files(flags: argparse.Namespace) -> None:
    manifest, files = ingest_files(
        flags.documents,
        from_flags(IngestOptions, flags),
        output=flags.output,
        urls=flags.urls,
        progress=console(flags),
        overwrite=flags.overwrite,
    )
    results = manifest.results
    values = {
        "output": str(flags.output),
        "documents": manifest.output.records,
        **{name: results[name] for name in ("read_files", "read_anew", "unreadable", "remarks", "files")},
        "skipped": files.skipped,
        "dropped": manifest.dropped,
    }
    print_result(flags, "\n".join(lines_about(manifest, files)), values)


def lines_about(manifest: Manifest, files: FoundFiles) -> list[str]:
    results = manifest.results
    pieces = {name: n for name, n in manifest.dropped.items() if name not in ("skipped_files", "unreadable_files")}
    first = f"{manifest.output.path}: {manifest.output.records} documents of {results['read_files']} files"
    lines = [first + (f"; next to it {', '.join(results['files'])}" if results["files"] else "")]
    lines += [dropped_line(pieces)] if any(pieces.values()) else []
    lines += [f"{len(names)} not read, {reason}: {_some(names)}" for reason, names in results["unreadable"].items()]
    lines += [f"{name}: {'; '.join(remarks)}" for name, remarks in results["remarks"].items()]
    return lines + [f"{len(names)} files skipped, {reason}: {_some(names)}" for reason, names in files.skipped.items()]


def _ingest_dataset(flags: argparse.Namespace) -> None:
    progress = console(flags)
    manifest = ingest_dataset(
        open_dataset(flags, progress),
        from_flags(IngestOptions, flags),
        output=flags.output,
        sources=[path for path in (flags.queries, flags.qrels) if path is not None],
        progress=progress,
        overwrite=flags.overwrite,
    )
    files = manifest.results["files"]
    text = f"{flags.output}: {manifest.output.records} documents" + (
        f"; next to it {', '.join(files)}" if files else ""
    )
    print_result(flags, text, {"output": str(flags.output), "documents": manifest.output.records, "files": files})


def _some(names: list[str]) -> str:
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
