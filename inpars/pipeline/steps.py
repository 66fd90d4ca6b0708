"""Announce the steps of a whole run with number, total and purpose.

A step consists of stages and is announced when its first stage begins. Stages that are up to date are only counted, in
one line at the end.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar, get_args

from inpars.fusion.system import BM25
from inpars.pipeline.options import PipelineOptions
from inpars.progress import Progress

Item = TypeVar("Item")
StepName: TypeAlias = Literal[
    "read",
    "plan",
    "generate",
    "filter",
    "mine",
    "train retriever",
    "train reranker",
    "choose",
    "search",
    "rerank",
    "measure",
    "judge",
]
TRAINING: tuple[StepName, ...] = ("mine", "train retriever", "train reranker")


class Steps:
    """A `Progress` that adds the steps of one run to another `Progress`."""

    def __init__(self, progress: Progress, options: PipelineOptions, judge: str | None = None) -> None:
        """Set up the steps for these options; `judge` is the judging model, if any."""
        self._progress, self._judge, self._texts = progress, judge, step_texts(options, judge)
        self._total = "" if options.budget else f" of {len(self._texts)}"  # a plan may leave steps out
        self.began = time.monotonic()
        self._pending, self._latest_step = "", 0  # announcement, position in StepName
        self._stages = self._up_to_date = 0
        self._notes: set[str] = set()
        self.outputs: set[Path] = set()  # of all stages so far

    @classmethod
    def over(cls, progress: Progress, options: PipelineOptions, judge: str | None = None) -> Steps:
        return progress if isinstance(progress, cls) else cls(progress, options, judge)

    def revise(self, options: PipelineOptions) -> None:
        self._texts = step_texts(options, self._judge)
        self._total = f" of {len(self._texts)}"

    def begin(self, name: StepName, *, at_once: bool = False) -> None:
        """Begin a step, to be announced with its first stage that is not up to date, or `at_once`.

        An earlier step than the current one is ignored: it is part of the current step, as a judge searches too.
        """
        if self._latest_step > (position := get_args(StepName).index(name)):
            return
        self._latest_step = position
        number = list(self._texts).index(name) + 1
        self._pending = f"step {number}{self._total}: {self._texts[name]}"
        if at_once:  # the work begins before any stage
            self._announce()
            self._progress.stage(name, Path(), up_to_date=False)

    def end(self) -> None:
        """Say how many stages were up to date, if any."""
        if self._up_to_date:
            self._progress.note(f"{self._up_to_date} of {self._stages} stages up to date")

    def track(
        self, items: Iterable[Item], *, total: int | None, description: str, unit: str, done: int = 0
    ) -> Iterator[Item]:
        return self._progress.track(items, total=total, description=description, unit=unit, done=done)

    def advance(self, count: int, detail: str = "") -> None:
        self._progress.advance(count, detail)

    def note(self, message: str) -> None:
        """Pass on a message once: several stages may read the same input."""
        if message not in self._notes:
            self._notes.add(message)
            self._progress.note(message)

    def stage(self, name: str, output: Path, *, up_to_date: bool) -> None:
        """Count the stage, and announce its step if it has work to do."""
        self.outputs.add(output)
        self._stages += 1
        self._up_to_date += up_to_date
        if not up_to_date:
            self._announce()
            self._progress.stage(name, output, up_to_date=False)

    def withdraw(self, output: Path) -> None:
        """Uncount a stage that failed, if the run continues without it."""
        self.outputs.discard(output)
        self._stages -= 1

    def _announce(self) -> None:
        if self._pending:
            self._progress.note(self._pending)
        self._pending = ""


def step_texts(options: PipelineOptions, judge: str | None = None) -> dict[StepName, str]:
    """The steps of a run with these options in order, each with its description."""
    documents = "all" if options.max_documents is None else f"{options.max_documents:,}"
    texts: dict[StepName, str] = {
        "read": "reading documents (and test queries with judgements, if there are any)",
        "plan": f"planning (a trial measures this machine, and {options.budget} are divided)",
        "generate": f"writing queries (a language model writes queries for {documents} documents)",
        "filter": f"filtering queries (the {options.top_k:,} queries that the model found likeliest are kept)",
        "mine": "mining negatives (BM25 finds documents that look relevant but are not)",
        "train retriever": "training the retriever (a bi-encoder learns to tell positives from negatives)",
        "train reranker": "training the reranker (it learns the same, reading query and document together)",
        "choose": "choosing the system (its parts and what each counts for, by judged dev queries or synthetic ones)",
        "search": f"searching (BM25 and the bi-encoders find up to {options.k:,} documents per test query)",
        "rerank": f"reranking (the reranker scores the first {options.rerank_depth:,} documents per test query)",
        "measure": "measuring (the systems are compared, and the report is written)",
        "judge": f"judging ({judge} grades what the systems find, and they are compared by its grades)",
    }
    if judge is None:
        texts.pop("judge")
    if options.budget is None:
        texts.pop("plan")
    if options.retriever == BM25:
        texts.pop("choose")
        texts["search"] = f"searching (BM25 finds up to {options.k:,} documents per test query)"
    late = options.late_interaction_depth if options.retriever != BM25 else 0
    if late:
        reranker = f", the reranker the first {options.rerank_depth:,}" if options.rerank_depth else ""
        texts["rerank"] = f"reranking (MaxSim reorders the first {late:,} documents per test query{reranker})"
    elif not options.rerank_depth:
        texts.pop("rerank")
    if not options.trains_reranker:
        texts.pop("train reranker")
    if options.training == "never":
        texts = {name: text for name, text in texts.items() if name not in TRAINING}
    return texts
