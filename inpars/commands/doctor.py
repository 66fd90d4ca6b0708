"""Report what this machine has and lacks (processor, Java, models, packages, network) and how to install it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby

from inpars import __version__
from inpars.commands.common import print_result
from inpars.doctor import Finding, examine
from inpars.extras import one_line

HEAVY = ("layout", "vllm")  # gigabytes that few need
LEFT_OUT = {f"packages for {name}" for name in HEAVY}
MARKS = {"ok": "+", "missing": "-", "info": " "}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the result as JSON on stdout")


def run(flags: argparse.Namespace) -> None:
    findings = examine()
    print_result(
        flags, findings_text(findings), {"inpars": __version__, "findings": [asdict(finding) for finding in findings]}
    )


def findings_text(findings: Sequence[Finding]) -> str:
    """The findings by topic, `+` before what is there and `-` before what is not, then the lines that install it."""
    width = max(len(finding.name) for finding in findings)
    lines = [f"inpars {__version__}"]
    for topic, members in groupby(findings, key=lambda finding: finding.topic):
        lines += [
            "",
            topic,
            *(f"  {MARKS[finding.state]} {finding.name:{width}}  {finding.value}" for finding in members),
        ]
    missing: dict[str, list[str]] = {}
    for finding in findings:
        if finding.install and finding.name not in missing.setdefault(finding.install, []):
            missing[finding.install].append(finding.name)
    if missing:
        lines += ["", "to install what is missing"]
        lines += [f"  {install}\n      for {', '.join(names)}" for install, names in missing.items()]
    usual = {finding.install: None for finding in findings if finding.install and finding.topic not in LEFT_OUT}
    if len(usual) > 1:
        lines += ["", f"or all at once, but for {' and '.join(HEAVY)}", f"  {one_line(map(str, usual))}"]
    return "\n".join(lines)
