"""Puts the top of a run into the order of its own scores and a reranker's, scored before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inpars.errors import StaleInputError
from inpars.formats import read_run, write_run
from inpars.manifest import stamp
from inpars.options import option
from inpars.records import Run
from inpars.reranking import fuse_with_first_stage
from inpars.runs import cut
from inpars.stages.stage import Outcome, run_stage


@dataclass(frozen=True, slots=True)
class _Depth:
    depth: int = option(help="documents of each run")


def reorder_file(source: Path, scores: Path, depth: int, *, output: Path, told: Mapping[str, Any]) -> Path:
    """Write the run with its top in the order of the sum of both z-scores, as a stage; returns `output`.

    Raises StaleInputError where `scores`, a run that a reranker scored, lacks a document of the top.
    """

    def work() -> Outcome:
        run, scored = read_run(source), read_run(scores)
        if unscored := len(run.keys() - scored.keys()):
            told["progress"].note(
                f"{scores}: {unscored} of {len(run)} queries of {source} have no scores, left as they are"
            )
        return Outcome(write_run(output, reordered(run, scored, depth), "reranked"))

    inputs = {"run": stamp(source), "scores": stamp(scores)}
    run_stage("fuse top", _Depth(depth), output=output, inputs=inputs, work=work, **told)
    return output


def reordered(run: Run, scores: Run, depth: int) -> Run:
    """The run with its first `depth` documents in the order of the sum of both z-scores; the tail stays."""
    known = {query_id: documents for query_id, documents in run.items() if query_id in scores}
    for query_id, documents in cut(known, depth).items():
        if missing := [doc_id for doc_id in documents if doc_id not in scores[query_id]]:
            raise StaleInputError(
                f"query {query_id!r}: document {missing[0]!r} of the run's top {depth} has no reranker score; give the "
                "scores of this run, or a smaller --depth"
            )
    return run | fuse_with_first_stage(known, scores, depth=depth)
