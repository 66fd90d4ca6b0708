"""Search for the best wording and examples of a prompt with a small run per candidate.

With judged queries, candidates are compared by the measure of the run's system. Without, they are compared by the share
of their queries that look like queries, which says little about search.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from inpars.documents.datasets import Dataset
from inpars.errors import PromptError
from inpars.evaluation.measures import Evaluation
from inpars.evaluation.significance import Difference
from inpars.io.storage import atomic_writer
from inpars.pipeline.commands import Invocation
from inpars.pipeline.folder import read_run_folder
from inpars.pipeline.options import PipelineOptions
from inpars.pipeline.prompt_choice import PromptTrials, clearly_better
from inpars.pipeline.run import generate_options, judged_topics, run_pipeline
from inpars.progress import Progress
from inpars.prompts.load import TEXT_KEYS, load_prompt
from inpars.prompts.templates import Prompt
from inpars.stages.evaluate_files import compare_evaluations
from inpars.stages.examples import without_examples

WINNER, CANDIDATES = "winner.yaml", "candidates"


@dataclass(frozen=True, slots=True)
class FoundPrompt:
    """The winner and the evidence: each candidate's measures, or its looks if there are no judged queries."""

    winner: str
    evidence: str
    seconds: Mapping[str, float]  # candidate -> seconds of all stages
    evaluations: Mapping[str, Evaluation]
    differences: Mapping[str, Mapping[str, Difference]]
    looks: str = ""


def candidates_of(base: Prompt, others: Sequence[Prompt]) -> Iterator[Prompt]:
    """Yield `base`, the others with their own and with its examples, and `base` with examples reversed or left out."""
    yield base
    yield from others
    for other in others:
        try:
            yield replace(other, name=f"{other.name}-by-{base.name}", examples=base.examples)
        except PromptError:  # a template that cannot show the examples
            continue
    if len(base.examples) > 1:
        yield replace(base, name=f"{base.name}-reversed", examples=base.examples[::-1])
        for left_out in range(len(base.examples)):
            kept = tuple(example for index, example in enumerate(base.examples) if index != left_out)
            yield replace(base, name=f"{base.name}-without-{left_out + 1}", examples=kept)


def write_prompt(path: Path, prompt: Prompt) -> None:
    """Write the prompt as a file that `load_prompt` reads."""
    values: dict[str, Any] = {key: getattr(prompt, key) for key in TEXT_KEYS if getattr(prompt, key)}
    values["stop"] = list(prompt.stop)
    examples = (asdict(example).items() for example in prompt.examples)
    values["examples"] = [{key: text for key, text in example if text} for example in examples]
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_writer(path) as stream:
        yaml.safe_dump(values, stream, allow_unicode=True, sort_keys=False)


def search_prompts(
    dataset: Dataset,
    candidates: Sequence[Prompt],
    options: PipelineOptions,
    *,
    output: Path,
    split: str,
    metric: str,
    source: Mapping[str, str],
    progress: Progress,
    overwrite: bool = False,
) -> FoundPrompt:
    """Try the candidates, with the first as baseline, and write the winner to `winner.yaml`.

    `source` maps the flags that name the dataset to their values, for `inpars verify`.
    """
    prompts = {}
    for prompt in candidates:
        path = output / CANDIDATES / f"{prompt.name}.yaml"
        write_prompt(path, prompt)
        prompts[prompt.name] = load_prompt(str(path))
    topics = judged_topics(dataset, split)
    if topics is None or not topics.qrels:
        found = _by_looks(dataset, prompts, options, output, {"progress": progress, "overwrite": overwrite})
    else:
        for prompt in prompts.values():  # what one shows as an example measures none of them
            topics = without_examples(topics, prompt, progress)
        dataset = replace(dataset, splits={**dataset.splits, split: functools.partial(replace, topics)})
        evaluations, seconds = {}, {}
        for number, (name, prompt) in enumerate(prompts.items(), start=1):
            progress.note(f"candidate {number} of {len(prompts)}: {name}")
            folder = output / "runs" / name
            invocation = Invocation(source=source, prompt=prompt.source)
            finished = run_pipeline(
                *(dataset, prompt, options),
                output=folder,
                split=split,
                metrics=[metric],
                invocation=invocation,
                progress=progress,
                overwrite=overwrite,
            )
            system, evaluations[name] = list(finished.results.items())[-1]
            seconds[name] = math.fsum(manifest.seconds for manifest in read_run_folder(folder).manifests.values())
        judges = "people" if topics.origin is None else str(topics.origin)
        evidence = f"{metric} of {system} on {evaluations[name].queries} {split} queries, judged by {judges}"
        differences = compare_evaluations(evaluations, [metric])
        found = FoundPrompt(best_of(evaluations, metric), evidence, seconds, evaluations, differences)
    write_prompt(output / WINNER, prompts[found.winner])
    return found


def best_of(evaluations: Mapping[str, Evaluation], metric: str) -> str:
    """The first candidate, or the best of those that beat it by more than a standard error."""
    first, *others = evaluations
    before, best = evaluations[first], first
    for name in others:
        after = evaluations[name]
        gains = [after.per_query[metric][query_id] - value for query_id, value in before.per_query[metric].items()]
        error = statistics.stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else math.inf
        if statistics.fmean(gains) > error and after.means[metric] > evaluations[best].means[metric]:
            best = name
    return best


def _by_looks(
    dataset: Dataset,
    prompts: Mapping[str, Prompt],
    options: PipelineOptions,
    output: Path,
    stage_kwargs: Mapping[str, Any],
) -> FoundPrompt:
    trials = PromptTrials(dataset, replace(generate_options(options), canary=False), output, stage_kwargs)
    tried = [trials.write(name, prompt, number) for number, (name, prompt) in enumerate(prompts.items(), start=1)]
    chosen = trials.choose(tried, clearly_better)
    evidence = "the share of queries that look like queries, since none are judged: no measure of search"
    seconds = {one.name: one.manifest.seconds for one in tried}
    shares = {one["prompt"]: f"{one['good']} of {one['queries']}" for one in chosen.manifest.results["trials"]}
    looks = "\n".join(f"{name}: {share} look like queries" for name, share in shares.items())
    return FoundPrompt(chosen.name, evidence, seconds, {}, {}, looks)
