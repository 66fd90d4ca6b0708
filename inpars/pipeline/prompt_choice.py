"""Which of several prompts a run writes its queries with: each is tried on a few documents.

The queries of the best are most like real ones in length and form, where the run has any (`--unlabelled-queries`, dev
queries); else most of them look like queries. Overlap with the documents is not compared: nothing is searched yet.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from inpars.datasets import Dataset
from inpars.errors import ConfigError
from inpars.filtering.looks import is_code, looks_of
from inpars.formats import read_synthetic_queries
from inpars.fusion.matching import is_question
from inpars.manifest import FileStamp, stamp, stamp_text
from inpars.options import option
from inpars.pipeline.looks import LEAST_SHARE
from inpars.prompting.templates import PromptSource
from inpars.stages.generating import GenerateOptions, generate_queries, generator_maker
from inpars.stages.stage import Outcome, run_stage
from inpars.storage import atomic_writer, to_json_line

FOLDER, CHOICE = "prompts", "choice.json"
TRIAL_DOCUMENTS = 50
MOST_PROMPTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTrial:
    """What a prompt gave on the trial's documents."""

    prompt: str
    share: float  # of the queries that look like one
    distance: float | None  # from real queries: of the mean logarithms of the lengths and of the shares of questions


@dataclass(frozen=True, slots=True)
class _Options:
    least_share: float = option(help="of queries that look like one, below which a prompt is not taken")


def choose_prompt_by_trial(
    dataset: Dataset,
    prompts: Mapping[str, PromptSource],
    options: GenerateOptions,
    real: Collection[str],
    *,
    output: Path,
    told: Mapping[str, Any],
    make_generator: Callable[[GenerateOptions, PromptSource], Any] = generator_maker,
) -> str:
    """The name of the best prompt; the trials stand in `prompts/choice.json`. `real` are queries of people, if any.

    Raises ConfigError for more than `MOST_PROMPTS`.
    """
    if len(prompts) > MOST_PROMPTS:
        raise ConfigError(f"{len(prompts)} prompts are too many to try; give at most {MOST_PROMPTS}")
    paths = {name: output / FOLDER / f"{place}.jsonl" for place, name in enumerate(prompts, start=1)}
    for name, prompt in prompts.items():
        generate_queries(
            *(dataset.corpus, dataset.corpus_stamp, prompt, options),
            output=paths[name],
            make_generator=make_generator(options, prompt),
            **told,
        )
    chosen = output / FOLDER / CHOICE

    def work() -> Outcome:
        trials = [_tried(name, path, dataset, real) for name, path in paths.items()]
        best = best_prompt(trials)
        with atomic_writer(chosen) as stream:
            json.dump({"prompt": best, "trials": [asdict(trial) for trial in trials]}, stream, indent=1)
            stream.write("\n")
        told["progress"].note(f"prompt {best}: {'; '.join(map(_said, trials))}")
        return Outcome(len(trials), {}, {"prompt": best})

    inputs: dict[str, FileStamp] = {name: stamp(path) for name, path in paths.items()}
    inputs["real queries"] = stamp_text("real queries", to_json_line({"queries": sorted(real)}))
    manifest = run_stage("choose prompt", _Options(LEAST_SHARE), output=chosen, inputs=inputs, work=work, **told)
    return str(manifest.results["prompt"])


def best_prompt(trials: Sequence[PromptTrial]) -> str:
    """The nearest to real queries among those that mostly give queries, where distances are known; else the cleanest.

    Of equals the first that was named.
    """
    sound = [trial for trial in trials if trial.share >= LEAST_SHARE and trial.distance is not None]
    if sound:
        return min(sound, key=lambda trial: trial.distance or 0.0).prompt
    return max(trials, key=lambda trial: trial.share).prompt


def distance_between(texts: Collection[str], real: Collection[str]) -> float | None:
    """The sum of two differences of means, of the logarithm of the number of words and of being a question."""
    if not texts or not real:
        return None
    (words, questions), (real_words, real_questions) = (_means(side) for side in (texts, real))
    return abs(words - real_words) + abs(questions - real_questions)


def _means(texts: Collection[str]) -> tuple[float, float]:
    words = math.fsum(math.log(max(1, len(text.split()))) for text in texts)
    return words / len(texts), sum(map(is_question, texts)) / len(texts)


def _tried(name: str, path: Path, dataset: Dataset, real: Collection[str]) -> PromptTrial:
    queries = list(read_synthetic_queries(path))
    looks = looks_of(queries, lambda doc_id: dataset.corpus[doc_id].full_text)
    texts = [query.text for query in queries if query.text.strip() and not is_code(query.text)]
    return PromptTrial(prompt=name, share=looks.share, distance=distance_between(texts, real))


def _said(trial: PromptTrial) -> str:
    away = "" if trial.distance is None else f", {trial.distance:.2f} from real ones"
    return f"{trial.prompt} gives {trial.share:.0%} that look like queries{away}"
