"""A dataset, or a folder of .txt, .md and .jsonl files, to corpus.jsonl in BEIR's form.

Where the dataset has queries, queries.jsonl and qrels/SPLIT.tsv are written beside it, so that the folder of --output
is itself a dataset.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from inpars.commands.common import add_dataset_flags, add_output_flags, console, open_dataset, print_result
from inpars.errors import ConfigError
from inpars.options import add_flags, from_flags
from inpars.stages.ingesting import IngestOptions, ingest_dataset, ingest_folder

NAMES_SHOWN = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's flags."""
    parser.add_argument(
        "--documents", type=Path, metavar="DIR", help="folder of .txt, .md and .jsonl files instead of a dataset"
    )
    add_dataset_flags(parser)
    add_flags(parser, IngestOptions)
    add_output_flags(parser, "corpus, JSON lines; queries and judgements beside it")


def run(flags: argparse.Namespace) -> None:
    """Ingest."""
    named = [name for name in ("dataset", "corpus", "queries", "qrels") if getattr(flags, name) is not None]
    if flags.documents is not None and named:
        raise ConfigError(f"--documents stands for itself; leave out --{' --'.join(named)}")
    if flags.documents is not None:
        _ingest_folder(flags)
    else:
        _ingest_dataset(flags)


def _ingest_folder(flags: argparse.Namespace) -> None:
    manifest, found = ingest_folder(
        flags.documents,
        from_flags(IngestOptions, flags),
        output=flags.output,
        progress=console(flags),
        overwrite=flags.overwrite,
    )
    lines = [f"{flags.output}: {manifest.output.records} documents of {len(found.readable)} files"]
    lines += [f"{len(names)} files skipped, {reason}: {_some(names)}" for reason, names in found.skipped.items()]
    values = {"output": str(flags.output), "documents": manifest.output.records}
    print_result(flags, "\n".join(lines), {**values, "files": len(found.readable), "skipped": found.skipped})


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
    text = f"{flags.output}: {manifest.output.records} documents" + (f"; beside it {', '.join(files)}" if files else "")
    print_result(flags, text, {"output": str(flags.output), "documents": manifest.output.records, "files": files})


def _some(names: list[str]) -> str:
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
