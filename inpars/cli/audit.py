"""Find false negatives among mined triples with a reranker, and keep, drop or relabel them.

A negative is false if the reranker scores it above the positive. --keep counts and prints them and stores the scores,
--drop removes their triples, --relabel makes them further positives. Run the same command again to resume after an
interruption.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inpars.cli.common import DatasetFlags, add_output_flags, add_path, console, open_dataset_if_named, print_result
from inpars.options import add_flags, from_flags
from inpars.prompts.load import load_prompt
from inpars.report.formatting import shorten
from inpars.stages.audit import AuditOptions, audit_triples, load_auditor, report_path

SHOWN_CHARACTERS = 160


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_path(parser, "--triples", "triples as texts; NAME.ids.tsv next to it is used", required=True)
    add_flags(parser, DatasetFlags)
    actions = parser.add_mutually_exclusive_group()
    for action, text in (
        ("keep", "write all triples, with the reranker's scores (the default)"),
        ("drop", "leave out triples with a false negative"),
        ("relabel", "make a false negative another positive of its query, paired with the remaining negatives"),
    ):
        actions.add_argument(f"--{action}", dest="action", action="store_const", const=action, help=text)
    parser.set_defaults(action="keep")
    parser.add_argument("--prompt", metavar="NAME|PATH", help="prompt of an untrained query likelihood")
    add_flags(parser, AuditOptions)
    add_output_flags(parser, "triples as texts; next to it NAME.audit.json, and ids and origins if the input has them")


def run(flags: argparse.Namespace) -> None:
    progress = console(flags)
    options = from_flags(AuditOptions, flags)
    prompt = load_prompt(flags.prompt) if flags.prompt else None
    dataset = open_dataset_if_named(flags, progress)
    audit_triples(
        flags.triples,
        options,
        output=flags.output,
        make_scorer=lambda: load_auditor(options, prompt),
        corpus=dataset.corpus if dataset else None,
        prompt=prompt,
        progress=progress,
        overwrite=flags.overwrite,
    )
    report = json.loads(report_path(flags.output).read_text(encoding="utf-8"))
    print_result(flags, _text(report, flags.output, options.margin), {"output": str(flags.output), **report})


def _text(report: Mapping[str, Any], output: Path, margin: float) -> str:
    lines = [
        f"{output}: {report['written']} triples ({report['dropped']} dropped, {report['relabelled']} added)",
        f"{_share(report, 'above_positive')} score above their positive",
    ]
    if margin:
        lines.append(f"{_share(report, 'above_margin')} score above it minus {margin:g}")
    if len(report["by_source"]) > 1:
        lines += [f"  {source}: {_share(counts, 'above_margin')}" for source, counts in report["by_source"].items()]
    for example in report["examples"]:
        lines += ["", f"query     {shorten(example['query'], SHOWN_CHARACTERS)}"]
        lines += [
            f"{name}  {example[score]:8.3f}  {shorten(example[name], SHOWN_CHARACTERS)}"
            for name, score in (("positive", "positive_reranker_score"), ("negative", "reranker_score"))
        ]
    return "\n".join(lines)


def _share(counts: Mapping[str, int], name: str) -> str:
    return f"{counts[name]} of {counts['triples']} negatives ({counts[name] / max(1, counts['triples']):.1%})"
