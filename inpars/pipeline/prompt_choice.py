"""Choose the prompt of a run by a trial on a few of its documents.

Without a named prompt the default is tried, and others only if too few of its queries look like queries. Of several
named prompts the best is taken: the one whose queries most resemble real ones (`--unlabelled-queries`, dev queries) in
length and form, or, without real queries, the one with the most queries that look like queries. Overlap with documents
is not compared, since there is no index yet.
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
DOCUMENTS_PER_BUDGET = 0.1  # per second of budget; a trial of three prompts then takes about a tenth of the budget
MAX_PROMPTS = 3
ENOUGH = 0.9  # share of queries that look like queries at which to stop trying prompts
LOOKS = "choice/looks.json"
MIN_SHARE = 0.5  # share of queries that look like queries below which to suggest another prompt
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
    """Count the synthetic queries that look like queries; below `MIN_SHARE` a note suggests other prompts."""
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
    """Say what is wrong with the queries and what to try; None if most look like queries."""
    worst = looks.worst
    if looks.share >= MIN_SHARE or not worst:
        return None
    return (
        f"only {looks.good} of {looks.queries} synthetic queries look like queries, {getattr(looks, worst)} are "
        f"{WORDS[worst]}; try {' or '.join(f'--prompt {name}' for name in REMEDIES[worst])}{ALSO.get(worst, '')}"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTrial:
    """The result of a prompt on the trial's documents."""

    prompt: str
    good: int  # queries that look like queries
    queries: int
    distance: float | None = None  # from real queries, see `distance_between`

    @property
    def share(self) -> float:
        """Share of the queries that look like queries."""
        return self.good / self.queries if self.queries else 0.0


@dataclass(frozen=True, slots=True)
class TriedPrompt:
    """A prompt with its queries from the trial."""

    name: str
    prompt: PromptSource
    queries: Path
    written: int  # number of documents
    manifest: Manifest  # of these queries; of the choice once chosen


@dataclass(frozen=True, slots=True)
class PromptTrials:
    """Try prompts and choose one; `real` are queries by people, if any."""

    dataset: Dataset
    options: GenerateOptions
    output: Path
    stage_kwargs: Mapping[str, Any]
    real: Collection[str] = ()
    make_generator: Callable[[GenerateOptions, PromptSource], Any] = generator_maker

    def best(self, prompts: Mapping[str, PromptSource]) -> TriedPrompt:
        """The best of several named prompts. Raises ConfigError for more than `MAX_PROMPTS`."""
        if len(prompts) > MAX_PROMPTS:
            raise ConfigError(f"{len(prompts)} prompts are too many to try; give at most {MAX_PROMPTS}")
        tried = [self.write(name, prompt, number) for number, (name, prompt) in enumerate(prompts.items(), start=1)]
        return self.choose(tried, best_prompt)

    def default_or_better(self) -> TriedPrompt:
        """The default prompt, unless too few of its queries look like queries and clearly more of another prompt's do.

        Others are tried in the order of `REMEDIES`, until nearly all queries of one look like queries.
        """
        tried = [self.write(DEFAULT_PROMPT, load_prompt(DEFAULT_PROMPT), 1)]
        looks = self._looks(tried[0])
        advised = REMEDIES[looks.worst] if looks.share < MIN_SHARE and looks.worst else ()
        for number, name in enumerate(advised, start=2):
            try:
                tried.append(self.write(name, load_prompt(name), number))
            except InparsError as problem:  # such as a prompt too long for the model
                self.stage_kwargs["progress"].note(f"prompt {name} cannot be tried: {problem}")
            else:
                if self._looks(tried[-1]).share >= ENOUGH:
                    break
        return self.choose(tried, clearly_better)

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

    def choose(self, tried: Sequence[TriedPrompt], best: Callable[[Sequence[PromptTrial]], str]) -> TriedPrompt:
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
    """Limit a run's options to the documents of a trial, which the run would use too, depending on the budget."""
    documents = TRIAL_DOCUMENTS
    if budget_seconds is not None:
        documents = min(documents, max(MIN_TRIAL_DOCUMENTS, int(DOCUMENTS_PER_BUDGET * budget_seconds)))
    max_documents = documents if options.max_documents is None else min(documents, options.max_documents)
    # without the canary, since the trial has to see the queries of an unusable prompt
    return replace(options, max_documents=max_documents, canary=False)


def best_prompt(trials: Sequence[PromptTrial]) -> str:
    """The prompt closest to real queries among those with enough good queries; else the one with the most good queries.

    Ties go to the prompt named first.
    """
    sound = [trial for trial in trials if trial.share >= MIN_SHARE and trial.distance is not None]
    if sound:
        return min(sound, key=lambda trial: trial.distance or 0.0).prompt
    return max(trials, key=lambda trial: trial.share).prompt


def clearly_better(trials: Sequence[PromptTrial]) -> str:
    """The first prompt, unless another's share is larger by more than the standard error of the difference."""
    best = trials[0]
    for trial in trials[1:]:
        error = math.sqrt(sum(one.share * (1 - one.share) / max(1, one.queries) for one in (best, trial)))
        if trial.share - best.share > error:
            best = trial
    return best.prompt


def distance_between(texts: Collection[str], real: Collection[str]) -> float | None:
    """The difference in mean log word count plus the difference in the share of questions; None without texts."""
    if not texts or not real:
        return None
    (words, questions), (real_words, real_questions) = (_means(side) for side in (texts, real))
    return abs(words - real_words) + abs(questions - real_questions)


def _means(texts: Collection[str]) -> tuple[float, float]:
    words = math.fsum(math.log(max(1, len(text.split()))) for text in texts)
    return words / len(texts), sum(map(is_question, texts)) / len(texts)


def line_about(values: Mapping[str, Any]) -> str:
    """Name the chosen prompt, and how many queries of each tried prompt look like queries."""
    counts = ", ".join(map(_count, values["trials"]))
    return f"prompt {values['prompt']}: of the queries of a trial, {counts} look like queries"


def _count(trial: Mapping[str, Any]) -> str:
    distance = trial.get("distance")
    away = "" if distance is None else f" ({distance:.2f} from real ones)"
    return f"{trial['good']} of {trial['queries']} by {trial['prompt']}{away}"
