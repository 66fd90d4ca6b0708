"""Report what this machine has and lacks (processor, Java, models, packages, network) and how to install it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby

from inpars import __version__
from inpars.cli.common import print_result
from inpars.contrib.doctor import Finding, examine

MARKS = {"ok": "+", "missing": "-", "info": " "}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the result as JSON on stdout")


def run(flags: argparse.Namespace) -> None:
    findings = examine()
    print_result(
        flags, findings_text(findings), {"inpars": __version__, "findings": [asdict(finding) for finding in findings]}
    )


def findings_text(findings: Sequence[Finding]) -> str:
    """The findings by topic: `+` marks what is there, `-` what is missing, with the command that installs it."""
    width = max(len(finding.name) for finding in findings)
    lines = [f"inpars {__version__}"]
    for topic, members in groupby(findings, key=lambda finding: finding.topic):
        lines += ["", topic]
        for finding in members:
            lines += [f"  {MARKS[finding.state]} {finding.name:{width}}  {finding.value}"]
            lines += [f"    {'':{width}}  {finding.install}"] if finding.install else []
    return "\n".join(lines)
