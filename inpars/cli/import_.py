"""Convert files of other toolkits to a folder with training data that every command takes as --dataset.

`inpars train` takes FOLDER/triples.tsv, `inpars filter` takes FOLDER/queries.synthetic.jsonl.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from inpars.cli.common import add_output_flags, add_path, console, print_result
from inpars.contrib.interchange import FORMATS, format_of
from inpars.contrib.interchange.source import Format
from inpars.contrib.interchange.stage import ImportOptions, exchanged_line, import_file
from inpars.options import add_flags, from_flags


def listing(formats: Mapping[str, Format]) -> str:
    return "formats:\n" + "\n".join(f"  {name:22} {file_format.holds}" for name, file_format in formats.items())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_flags(parser, ImportOptions)
    add_path(parser, "--input", "file or folder of that format", required=True)
    add_output_flags(parser, "folder; or NAME.jsonl for synthetic queries alone, NAME.trec for a run alone")
    parser.epilog = listing(
        {name: file_format for name, file_format in FORMATS.items() if file_format.read is not None}
    )


def run(flags: argparse.Namespace) -> None:
    manifest = import_file(
        flags.input,
        from_flags(ImportOptions, flags),
        output=flags.output,
        progress=console(flags),
        overwrite=flags.overwrite,
    )
    made_ids = format_of(flags.format)[1].made_ids
    note = f"; {made_ids} are derived from the texts, since this format has none" if made_ids else ""
    values = {"output": str(flags.output), **manifest.results, "dropped": manifest.dropped, "made_ids": made_ids}
    print_result(flags, f"{flags.output}: {exchanged_line(manifest)}{note}", values)
