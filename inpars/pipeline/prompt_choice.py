"""Which prompt a run writes its queries with: a trial on a few of the documents that it writes for anyway.

Where no prompt is named, the default is tried, and others only where too few of its queries look like queries. Of
several that are named the best is taken: its queries are most like real ones in length and form, where the run has any
(`--unlabelled-queries`, dev queries); else most of them look like queries. Overlap with the documents is not compared:
nothing is searched yet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from inpars.distributed import workers_of
from inpars.documents.datasets import Dataset
from inpars.errors import ConfigError, InparsError
from inpars.filtering.looks import Looks, is_code, looks_of
from inpars.fusion.matching import is_question
from inpars.io.formats import read_synthetic_queries
from inpars.io.manifest import FileStamp, Manifest, stamp, stamp_text
from inpars.io.storage import to_json_line, write_json
from inpars.pipeline.options import DEFAULT_PROMPT, TRIAL_DOCUMENTS
from inpars.pipeline.system_runs import SYNTHETIC, RunContext
from inpars.prompts.load import load_prompt
from inpars.prompts.mixture import PromptSource
from inpars.stages.generate import GenerateOptions, generate_queries, generator_maker
from inpars.stages.stage import Outcome, Stage

CHOICE = "prompts/choice.json"
MIN_TRIAL_DOCUMENTS = 16
DOCUMENTS_PER_BUDGET = 0.1  # of a second: a trial with three prompts takes about a tenth of a budget, with their starts
MAX_PROMPTS = 3
ENOUGH = 0.9  # of queries that look like one, from which on nothing else is tried
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


def check_looks(run: RunContext) -> Manifest:
    """Count what the written queries look like; below `MIN_SHARE` a note names the prompts to try."""
    output, source, corpus = run.path(LOOKS), run.path(SYNTHETIC), run.dataset.corpus

    def work() -> Outcome:
        looks = looks_of(read_synthetic_queries(source), lambda doc_id: corpus[doc_id].full_text)
        values = {**asdict(looks), "share": looks.share}
        output.parent.mkdir(parents=True, exist_ok=True)
        write_json(output, values)
        if (line := advice(looks)) is not None:
            run.progress.note(line)
        return Outcome(looks.queries, {}, values)

    inputs = {"queries": stamp(source), "corpus": run.dataset.corpus_stamp}
    return Stage("looks", {"least_share": MIN_SHARE}, output, inputs, **run.stage_kwargs).run(work)


def advice(looks: Looks) -> str | None:
    """What is wrong with the queries and what to try; None where most look like queries."""
    worst = looks.worst
    if looks.share >= MIN_SHARE or not worst:
        return None
    return (
        f"only {looks.good} of {looks.queries} written queries look like queries, {getattr(looks, worst)} are "
        f"{WORDS[worst]}; try {' or '.join(f'--prompt {name}' for name in REMEDIES[worst])}{ALSO.get(worst, '')}"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTrial:
    """What a prompt gave on the trial's documents."""

    prompt: str
    good: int  # queries that look like one
    queries: int
    distance: float | None = None  # from real ones: of the mean logarithms of lengths and of the shares of questions

    @property
    def share(self) -> float:
        """Of the queries that look like one."""
        return self.good / self.queries if self.queries else 0.0


@dataclass(frozen=True, slots=True)
class TriedPrompt:
    """The prompt that is taken, and what it wrote in the trial."""

    name: str
    prompt: PromptSource
    queries: Path
    written: int  # documents
    manifest: Manifest  # of these queries; once it is chosen, of the choice


@dataclass(frozen=True, slots=True)
class PromptTrials:
    """Where and how prompts are tried; `real` are queries of people, if any. `told` is what every stage is told."""

    dataset: Dataset
    options: GenerateOptions
    output: Path
    stage_kwargs: Mapping[str, Any]
    real: Collection[str] = ()
    make_generator: Callable[[GenerateOptions, PromptSource], Any] = generator_maker

    def best(self, prompts: Mapping[str, PromptSource]) -> TriedPrompt:
        """The best of several that were named. Raises ConfigError for more than `MAX_PROMPTS`."""
        if len(prompts) > MAX_PROMPTS:
            raise ConfigError(f"{len(prompts)} prompts are too many to try; give at most {MAX_PROMPTS}")
        tried = [self.write(name, prompt, number) for number, (name, prompt) in enumerate(prompts.items(), start=1)]
        return self._chosen(tried, best_prompt)

    def default_or_better(self) -> TriedPrompt:
        """The default prompt, unless too few of its queries look like queries and clearly more of another one's do.

        Others are tried in the order of the look's advice, until nearly all queries of one look like queries.
        """
        tried = [self.write(DEFAULT_PROMPT, load_prompt(DEFAULT_PROMPT), 1)]
        looks = self._looks(tried[0])
        advised = REMEDIES[looks.worst] if looks.share < MIN_SHARE and looks.worst else ()
        for number, name in enumerate(advised, start=2):
            try:
                tried.append(self.write(name, load_prompt(name), number))
            except InparsError as problem:  # a prompt that is too long for the model, for one
                self.stage_kwargs["progress"].note(f"prompt {name} cannot be tried: {problem}")
            else:
                if self._looks(tried[-1]).share >= ENOUGH:
                    break
        return self.clearly_best(tried)

    def clearly_best(self, tried: Sequence[TriedPrompt]) -> TriedPrompt:
        return self._chosen(tried, clearly_better)

    def write(self, name: str, prompt: PromptSource, number: int) -> TriedPrompt:
        output = (self.output / CHOICE).with_name(f"{number}.jsonl")
        manifest = generate_queries(
            *(self.dataset.corpus, prompt, self.options),
            output=output,
            make_generator=self.make_generator(self.options, prompt),
            workers=workers_of(self.options),
            **self.stage_kwargs,
        )
        return TriedPrompt(name, prompt, output, manifest.results.get("documents", 0), manifest)

    def _chosen(self, tried: Sequence[TriedPrompt], best: Callable[[Sequence[PromptTrial]], str]) -> TriedPrompt:
        output = self.output / CHOICE

        def work() -> Outcome:
            trials = [self._trial(one) for one in tried]
            values = {"prompt": best(trials), "trials": [asdict(trial) | {"share": trial.share} for trial in trials]}
            write_json(output, values)
            self.stage_kwargs["progress"].note(line_about(values))
            return Outcome(len(trials), {}, values)

        inputs: dict[str, FileStamp] = {one.name: stamp(one.queries) for one in tried}
        inputs["real queries"] = stamp_text("real queries", to_json_line({"queries": sorted(self.real)}))
        settings = {"least_share": MIN_SHARE, "rule": best.__name__}
        manifest = Stage("choose prompt", settings, output, inputs, **self.stage_kwargs).run(work)
        chosen = next(one for one in tried if one.name == manifest.results["prompt"])
        return replace(chosen, manifest=manifest)

    def _looks(self, tried: TriedPrompt) -> Looks:
        corpus = self.dataset.corpus
        return looks_of(read_synthetic_queries(tried.queries), lambda doc_id: corpus[doc_id].full_text)

    def _trial(self, tried: TriedPrompt) -> PromptTrial:
        looks = self._looks(tried)
        written = [query.text for query in read_synthetic_queries(tried.queries)]
        distance = distance_between([text for text in written if text.strip() and not is_code(text)], self.real)
        return PromptTrial(prompt=tried.name, good=looks.good, queries=looks.queries, distance=distance)


def trial_options(options: GenerateOptions, budget_seconds: float | None) -> GenerateOptions:
    """A run's options for the trial: fewer documents, which the run would take too, by its budget."""
    documents = TRIAL_DOCUMENTS
    if budget_seconds is not None:
        documents = min(documents, max(MIN_TRIAL_DOCUMENTS, int(DOCUMENTS_PER_BUDGET * budget_seconds)))
    max_documents = documents if options.max_documents is None else min(documents, options.max_documents)
    return replace(
        options, max_documents=max_documents, canary=False
    )  # finding unusable prompts is what the trial is for


def best_prompt(trials: Sequence[PromptTrial]) -> str:
    """The nearest to real queries among those that mostly give queries, where distances are known; else the cleanest.

    Of equals the first that was named.
    """
    sound = [trial for trial in trials if trial.share >= MIN_SHARE and trial.distance is not None]
    if sound:
        return min(sound, key=lambda trial: trial.distance or 0.0).prompt
    return max(trials, key=lambda trial: trial.share).prompt


def clearly_better(trials: Sequence[PromptTrial]) -> str:
    """The first, unless the share of another is larger by more than the standard error of the difference."""
    best = trials[0]
    for trial in trials[1:]:
        error = math.sqrt(sum(one.share * (1 - one.share) / max(1, one.queries) for one in (best, trial)))
        if trial.share - best.share > error:
            best = trial
    return best.prompt


def distance_between(texts: Collection[str], real: Collection[str]) -> float | None:
    """The sum of two differences of means, of the logarithm of the number of words and of being a question."""
    if not texts or not real:
        return None
    (words, questions), (real_words, real_questions) = (_means(side) for side in (texts, real))
    return abs(words - real_words) + abs(questions - real_questions)


def _means(texts: Collection[str]) -> tuple[float, float]:
    words = math.fsum(math.log(max(1, len(text.split()))) for text in texts)
    return words / len(texts), sum(map(is_question, texts)) / len(texts)


def line_about(values: Mapping[str, Any]) -> str:
    """Which prompt was taken, and how many queries of each that was tried look like queries."""
    counts = ", ".join(map(_count, values["trials"]))
    return f"prompt {values['prompt']}: of the queries of a trial, {counts} look like queries"


def _count(trial: Mapping[str, Any]) -> str:
    distance = trial.get("distance")
    away = "" if distance is None else f" ({distance:.2f} from real ones)"
    return f"{trial['good']} of {trial['queries']} by {trial['prompt']}{away}"
