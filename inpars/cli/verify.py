"""Check a run's folder against its manifests and recompute a sample of its scores. Prints one line per problem.

Checks the SHA-256 of every output and of the inputs it was made from, that related files agree, and the report's
numbers. Recomputes all measures and a sample of log-probs and of BM25, bi-encoder and reranker scores, on the run's own
--dataset unless another is given. The exit code is 1 if there is a problem.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from inpars.cli.common import DatasetFlags, add_display_flags, console, open_dataset, print_result
from inpars.contrib.verify.run import VerifyFindings, check_folder
from inpars.contrib.verify.scores import VerifyOptions, recompute
from inpars.documents.datasets import Dataset
from inpars.errors import InparsError
from inpars.evaluation.verdicts import counted
from inpars.options import add_flags, check, from_flags
from inpars.pipeline.folder import RunFolder, read_run_folder
from inpars.pipeline.mark import SOURCES, source_of
from inpars.progress import Progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="RUN_DIR", help="the --output of an `inpars run`")
    add_flags(parser, DatasetFlags)
    add_flags(parser, VerifyOptions)
    add_display_flags(parser)


def run(flags: argparse.Namespace) -> int:
    options, progress = from_flags(VerifyOptions, flags), console(flags)
    check(options)
    folder = read_run_folder(flags.folder)
    findings = check_folder(folder)
    dataset = _dataset(flags, folder, findings, progress) if options.sample else None
    recompute(folder, options, dataset, findings, progress)
    values = {
        "problems": findings.problems,
        "checked": findings.checked,
        "not_checked": findings.unchecked,
        "largest_differences": findings.largest,
    }
    print_result(flags, "\n".join(_lines(folder, findings)), values)
    return 1 if findings.problems else 0


def _dataset(
    flags: argparse.Namespace, folder: RunFolder, findings: VerifyFindings, progress: Progress
) -> Dataset | None:
    """The documents that the flags name, else those of the run; None if these cannot be opened."""
    named = any(getattr(flags, name) is not None for name in SOURCES)
    if not named:
        source = source_of(folder.mark)
        for name in SOURCES:
            value = source.get(name)
            setattr(flags, name, Path(value) if value is not None and name != "dataset" else value)
        flags.unknown_judgements = "keep"
    if flags.dataset is None and flags.corpus is None:
        return None
    try:
        dataset = open_dataset(flags, progress)
    except InparsError as error:
        if named:
            raise
        findings.unchecked.append(f"the documents of the run cannot be opened: {error}")
        return None
    if folder.mark.get("corpus_sha256") not in (None, dataset.corpus.sha256):
        findings.problems.append(f"{dataset.name}: not the documents of the run")
        return None
    return dataset


def _lines(folder: RunFolder, findings: VerifyFindings) -> list[str]:
    checked = ", ".join(f"{count} {subject}" for subject, count in findings.checked.items())
    largest = ", ".join(f"{subject} {difference:.2g}" for subject, difference in findings.largest.items())
    count = len(findings.problems)
    return [
        *findings.problems,
        *(f"not checked: {line}" for line in findings.unchecked),
        f"checked: {checked or 'nothing'}" + (f" (largest difference: {largest})" if largest else ""),
        f"{folder.path}: {counted(count, 'problem') if count else 'no problems'}",
    ]
