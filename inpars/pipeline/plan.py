"""Store the plan of a run with a budget in its folder, so that a resumed run follows the same plan.

An interrupted run thus ends with the same bytes, however fast the machine is by then.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from inpars.documents.datasets import Dataset
from inpars.errors import DataFormatError
from inpars.io.json_text import parse_json
from inpars.io.storage import write_json
from inpars.options import flag_name, result_settings
from inpars.pipeline.budget import PLANNED, Part, Plan, Share, Work, plan_run, table
from inpars.pipeline.measurement import JUDGED
from inpars.pipeline.options import PipelineOptions, budget_seconds
from inpars.pipeline.system_runs import RunContext
from inpars.report.collect import manifests_in
from inpars.report.formatting import duration
from inpars.report.schema import BudgetRow
from inpars.retrieval.bm25 import bm25_index

FILE = "plan.json"
FORMAT = 1
OUTPUTS: Mapping[Part, tuple[str, ...]] = {  # paths relative to the run's folder
    "write queries": ("queries.synthetic.jsonl",),
    "embed documents": ("choice/whole.trec",),
    "embed windows": ("choice/base.trec",),
    "train": (
        *("queries.to_train_on.jsonl", "triples.tsv", "models/retriever", "models/reranker", "choice/tuned.trec"),
        *(f"choice/curve-{part}{kind}" for part in ("quarter", "half") for kind in ("", "-run.trec")),
    ),
    "rerank": ("choice/mix.scored.trec", "runs/mix.reranked.trec", "runs/bm25.reranked.trec"),
}


@dataclass(frozen=True, slots=True)
class Frozen:
    """The plan of a folder; `basis` are the settings it was made for, `resumed` whether it existed before."""

    budget: str
    plan: Plan
    basis: Mapping[str, Any]
    resumed: bool = False


def free_settings(options: PipelineOptions, named: frozenset[str]) -> frozenset[str]:
    """The settings that a plan may decide: those not given explicitly and still at their defaults."""
    if options.budget is None:
        return frozenset()
    default = PipelineOptions()
    return frozenset(name for name in PLANNED if name not in named and getattr(options, name) == getattr(default, name))


def planned_options(run: RunContext, free: frozenset[str], written: int) -> tuple[PipelineOptions, Frozen | None]:
    """Apply the folder's plan to the options, after making one if it has none for these settings.

    `written` is the number of documents with queries from the prompt trial. Without a budget the options are unchanged,
    and the plan of an earlier run is removed.
    """
    options, steps, judged, pairs = run.options, run.progress, run.evidence.judged, run.evidence.pair_count
    if options.budget is None:
        run.path(FILE).unlink(missing_ok=True)
        return options, None
    queries = None if run.topics is None else len(run.topics.first(options.limit).queries)
    sizes = {"queries": queries, "judged": None if judged is None else len(judged.queries)}
    sizes |= {"pairs": pairs} if pairs else {}
    basis = plan_basis(run.dataset, options, free) | sizes
    frozen = read_plan(run.folder)
    if frozen is not None and (changed := _changed(frozen.basis, basis)):
        steps.note(f"rebuilding the plan: {changed}")
        frozen = None
    if frozen is None:
        steps.begin("plan", at_once=True)
        frozen = _new_plan(run, free, basis, written)
    for line in lines_of(frozen):
        steps.note(line)
    planned = frozen.plan.applied(options)
    steps.revise(planned)
    return planned, frozen


def _new_plan(run: RunContext, free: frozenset[str], basis: Mapping[str, Any], written: int) -> Frozen:
    from inpars.pipeline.trial import measure_rates  # loads model code

    dataset, options, steps = run.dataset, run.options, run.progress
    bm25_index(dataset.corpus, **options.bm25, threads=options.threads, progress=steps)  # needed by every plan
    rates, embedded = measure_rates(dataset, run.prompt, options, steps)
    sizes = {name: basis[name] for name in ("queries", "judged", "pairs") if name in basis}
    work = Work(documents=len(dataset.corpus), embedded=embedded, written=written, **sizes)
    assert options.budget is not None
    budget, spent = budget_seconds(options.budget), time.monotonic() - steps.began
    plan = plan_run(rates, work, options, frozenset(PLANNED) - free, budget=budget, spent=spent)
    frozen = Frozen(options.budget, plan, basis)
    run.folder.mkdir(parents=True, exist_ok=True)
    values = {
        "format": FORMAT,
        "budget": options.budget,
        "budget_seconds": budget,
        "settings": plan.settings,
        "shares": [asdict(share) for share in plan.shares],
        "notes": list(plan.notes),
        "rates": asdict(rates),
        "work": asdict(work),
        "asked": basis,
    }
    write_json(run.path(FILE), values)
    return frozen


def read_plan(folder: Path) -> Frozen | None:
    """The folder's plan, None if there is none. Raises DataFormatError."""
    path = folder / FILE
    try:
        stored = parse_json(path.read_bytes())
        if stored["format"] != FORMAT or not stored["shares"]:
            raise ValueError("of another version")
        settings = {"late_interaction_depth": 0, **stored["settings"]}  # older plans lack this setting
        if {*settings} != {*PLANNED}:
            raise ValueError("of another version")
        shares = [Share(**share) for share in stored["shares"]]
        plan = Plan(settings=settings, shares=shares, notes=stored["notes"])
        return Frozen(stored["budget"], plan, dict(stored["asked"]), resumed=True)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        problem = f"not the plan of a run ({error}); remove it, and a new trial is made"
        raise DataFormatError(problem, path=path) from None


def plan_basis(dataset: Dataset, options: PipelineOptions, free: frozenset[str]) -> dict[str, Any]:
    """All settings that a plan depends on, by flag and as JSON values."""
    settings = {flag_name(name): value for name, value in result_settings(options).items() if name not in free}
    return dict(json.loads(json.dumps({"documents": dataset.corpus.sha256, **settings}, default=str)))


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first setting that differs, in words; empty if none does."""
    names = [name for name in {**now, **before} if before.get(name) != now.get(name)]
    return f"{names[0]} changed" if names else ""


def lines_of(frozen: Frozen) -> Iterator[str]:
    """Format the plan."""
    known = ", as planned before" if frozen.resumed else ""
    yield f"plan for {frozen.budget}{known}:"
    yield from table(frozen.plan.shares)
    yield from frozen.plan.notes


def facts_of(folder: Path, frozen: Frozen, elapsed: float) -> dict[Part, float]:
    """Actual seconds per part, from manifests; the last part gets the rest of `elapsed`.

    In a resumed run the last part gets the seconds of all other manifests instead.
    """
    parts = {output_name: part for part, some in OUTPUTS.items() for output_name in some}
    facts: dict[Part, float] = {share.part: 0.0 for share in frozen.plan.shares}
    first, last = frozen.plan.shares[0], frozen.plan.shares[-1]
    for output, manifest in manifests_in(folder):
        if not output.is_relative_to(folder / JUDGED):  # plans do not include judging
            part = parts.get(output.relative_to(folder).as_posix(), last.part)
            facts[part] = facts.get(part, 0.0) + manifest.seconds
    facts[first.part] = first.seconds
    if not frozen.resumed:
        facts[last.part] = max(0.0, elapsed - math.fsum(s for part, s in facts.items() if part != last.part))
    return facts


def closing_lines(frozen: Frozen, facts: Mapping[Part, float]) -> list[str]:
    """Estimates next to actual times, and whether the budget was kept."""
    took, budget = math.fsum(facts.values()), budget_seconds(frozen.budget)
    beyond = took - budget
    verdict = f"exceeded by {duration(beyond)}" if beyond > 0 else f"kept, {duration(-beyond)} were left"
    slower = [
        f"{share.part} by {duration(facts[share.part] - share.seconds)}"
        for share in frozen.plan.shares
        if facts.get(share.part, 0.0) > share.seconds + 1
    ]
    lines = [*table(frozen.plan.shares, facts), f"budget of {frozen.budget}: {verdict}"]
    lines += [f"longer than planned: {', '.join(slower)}"] if slower else []
    resumed = "the run was resumed: interrupted stages count only the time since they were last started"
    return [*lines, *([resumed] if frozen.resumed else [])]


def budget_rows(frozen: Frozen, facts: Mapping[Part, float]) -> list[BudgetRow]:
    """Estimates and actual times for a report."""
    first, *others = frozen.plan.shares  # the first was done before the plan
    rows = [BudgetRow(share.part, share.work, share.seconds, facts.get(share.part)) for share in others]
    return [BudgetRow(first.part, first.work, first.seconds, None), *rows]


def budget_values(frozen: Frozen, facts: Mapping[Part, float]) -> dict[str, Any]:
    """Plan, estimates and actual times as JSON values."""
    shares = [asdict(share) | {"fact": facts.get(share.part)} for share in frozen.plan.shares]
    return {"budget": frozen.budget, "settings": dict(frozen.plan.settings), "shares": shares}


def plan_problems(folder: Path, finished: Mapping[str, Any]) -> Iterator[str]:
    """Describe settings of the finished results that contradict the plan, for `inpars verify`."""
    try:
        frozen = read_plan(folder)
    except DataFormatError as error:
        yield str(error)
        return
    if frozen is None:
        if finished.get("--budget") is not None:
            yield f"{FILE}: is gone, the results are those of --budget {finished['--budget']}"
        return
    expected = {flag_name(name): value for name, value in frozen.plan.settings.items()} | {"--budget": frozen.budget}
    for name, value in expected.items():
        if finished and finished.get(name) != value:
            yield f"{FILE}: says {name} {value}, the results were made with {finished.get(name)}"
