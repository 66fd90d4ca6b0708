"""The stage that looks whether a run's written queries are queries, and says which prompt to try where they are not."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from inpars.filtering.looks import Looks, looks_of
from inpars.io.formats import read_synthetic_queries
from inpars.io.manifest import Manifest, stamp
from inpars.io.storage import atomic_writer
from inpars.options import option
from inpars.pipeline.system_runs import SYNTHETIC, RunContext
from inpars.stages.stage import Outcome, run_stage

LOOKS = "choice/looks.json"
MIN_SHARE = 0.5  # of queries that look like one, below which another prompt is named
WORDS = {
    "empty": "empty",
    "code": "lines of programs",
    "copied": "words of their document as they stand there",
    "duplicate": "words of an earlier query",
}
ALSO = {"empty": ", or another --model", "duplicate": ", or more varied documents (--max-documents)"}
REMEDIES = {  # shipped prompts, the likeliest to help first
    "empty": ("no-examples", "inpars-gbq"),
    "code": ("code", "questions-technical"),
    "copied": ("inpars-gbq", "forum"),
    "duplicate": ("inpars-gbq",),
}


@dataclass(frozen=True, slots=True)
class _LooksOptions:
    least_share: float = option(help="of queries that look like one")


def check_looks(run: RunContext) -> Manifest:
    """Count what the written queries look like; below `MIN_SHARE` a note names the prompts to try."""
    output, source, corpus = run.path(LOOKS), run.path(SYNTHETIC), run.dataset.corpus

    def work() -> Outcome:
        looks = looks_of(read_synthetic_queries(source), lambda doc_id: corpus[doc_id].full_text)
        values = {**asdict(looks), "share": looks.share}
        output.parent.mkdir(parents=True, exist_ok=True)
        with atomic_writer(output) as stream:
            json.dump(values, stream, indent=1)
            stream.write("\n")
        if (line := advice(looks)) is not None:
            run.progress.note(line)
        return Outcome(looks.queries, {}, values)

    inputs = {"queries": stamp(source), "corpus": run.dataset.corpus_stamp}
    return run_stage("looks", _LooksOptions(MIN_SHARE), output=output, inputs=inputs, work=work, **run.stage_kwargs)


def advice(looks: Looks) -> str | None:
    """What is wrong with the queries and what to try; None where most look like queries."""
    worst = looks.worst
    if looks.share >= MIN_SHARE or not worst:
        return None
    return (
        f"only {looks.good} of {looks.queries} written queries look like queries, {getattr(looks, worst)} are "
        f"{WORDS[worst]}; try {' or '.join(f'--prompt {name}' for name in REMEDIES[worst])}{ALSO.get(worst, '')}"
    )
