"""The stage that has queries scored: any query file in, the same rows with one model's log-probabilities out.

Other kinds of scores are in `query_scores.py`; the options of all kinds are here. `chunk_loop.py` does the work.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, Unpack

from inpars.errors import ConfigError
from inpars.io.corpus import Corpus
from inpars.io.manifest import Manifest, stamp
from inpars.options import SEED, option
from inpars.prompts.mixture import PromptSource
from inpars.rerankers.kinds import ScorerKind
from inpars.stages.chunk_loop import work_elsewhere, work_here
from inpars.stages.engine_options import Bm25Options, ShardedOptions
from inpars.stages.log_probs import LogProbBlocks, LogProbScoring, Source, query_offsets
from inpars.stages.stage import Outcome, Running, Stage, input_stamps
from inpars.stages.workers import Workers, check_engine

if TYPE_CHECKING:
    from inpars.generation.teacher_forcing import TeacherForcing

STAGE = "score"
ScoreKind: TypeAlias = Literal["log-probs", "reranker", "bm25-rank", "dense-rank", "answerability", "cluster"]
DEFAULT_MODELS: Mapping[ScoreKind, str] = {
    "log-probs": "smollm2-135m",
    "reranker": "smollm2-135m",
    "dense-rank": "minilm",
    "cluster": "minilm",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreOptions(ShardedOptions, Bm25Options):
    """How queries are scored."""

    kind: ScoreKind = option(
        "log-probs",
        help="log-probs: the queries with new token log-probs of a language model. The others write a score "
        "per query_id: reranker (relevance of its document), bm25-rank and dense-rank (rank of its "
        "document, null below --depth), answerability (by a SQuAD reader), cluster",
    )
    model: str | None = option(
        None,
        help="model of that kind: embedded name, folder or hub id (default: smollm2-135m; minilm for dense-"
        "rank and cluster; required for answerability)",
    )
    reranker_kind: ScorerKind | Literal["auto"] = option("auto", help="kind of reranker; auto: from its configuration")
    true_token: str | None = option(None, help="output token that means relevant", advanced=True)
    false_token: str | None = option(None, help="output token that means not relevant", advanced=True)
    max_length: int | None = option(None, help="maximum input length in tokens (default: the model's limit)", minimum=1)
    depth: int = option(100, help="search depth for the ranks", minimum=1)
    clusters: int | None = option(
        None,
        help="clusters of queries (default: the square root of their number, at most 1000)",
        minimum=2,
        advanced=True,
    )
    max_doc_tokens: int = option(256, help="maximum tokens of a document in the prompt", minimum=1, advanced=True)
    limit: int | None = option(None, help="use only the first N queries, for a quick try", minimum=1)
    seed: int = option(0, help="seed of examples that are drawn", bounds=SEED, advanced=True)
    batch_size: int | None = option(
        None,
        help="queries per batch (default: 32 on a CPU, 256 on a GPU; 64 for a bi-encoder)",
        changes_result=False,
        minimum=1,
        advanced=True,
    )
    batch_tokens: int | None = option(
        None,
        help="padded tokens per batch of a reranker (default: 1024 on a CPU, 2048 with AMX, 8192 on a GPU)",
        changes_result=False,
        minimum=1,
        advanced=True,
    )

    @property
    def model_name(self) -> str:
        """The model, or the kind's default. Raises ConfigError if there is none."""
        name = DEFAULT_MODELS.get(self.kind) if self.model is None else self.model
        if name is None:
            raise ConfigError(f"--kind {self.kind} needs a --model; none of that kind comes with the package")
        return name


def score_file(
    source: Path,
    prompt: PromptSource,
    options: ScoreOptions,
    *,
    output: Path,
    make_scorer: Callable[[], TeacherForcing],
    corpus: Corpus | None = None,
    workers: Workers | None = None,
    **running: Unpack[Running],
) -> Manifest:
    """Write the rows with new log-probabilities. Documents come from the corpus, else from the rows' own text.

    With `workers` the scorer is made in each of them: `make_scorer` is pickled, and so must not hold a model.
    """
    check_engine(options, workers)
    inputs = {"queries": stamp(source)} | input_stamps(prompt=prompt, corpus=corpus, model=options.model_name)
    stage, queries = Stage(STAGE, options, output, inputs, **running), Source(source, corpus)

    def work() -> Outcome:
        if workers is not None:
            load = functools.partial(LogProbBlocks, queries.location(), prompt, make_scorer)
            starts, query_ids = query_offsets(queries, options.limit)
            done = work_elsewhere(
                *(stage, workers, load, len(query_ids), lambda block: (starts[block], query_ids[block])),
                description=f"score with {options.model_name}",
                unit="queries",
                summed=("tokens", "log_probs"),
            )
        else:
            scoring = LogProbScoring.of_file(queries, options.limit, options.part, make_scorer, prompt)
            done = work_here(stage, scoring, options.part)
        tokens = int(done.sums["tokens"])
        mean = done.sums["log_probs"] / tokens if tokens else None
        results = {"tokens": tokens, "mean_log_prob": mean, **done.results}
        return Outcome(done.lines, {}, results, done.device)

    return stage.run(work)


def scorer_maker(options: ScoreOptions, prompt: PromptSource) -> Callable[[], TeacherForcing]:
    """What loads the scorer, here or in a worker."""
    return functools.partial(load_query_scorer, options.for_worker(), prompt)


def load_query_scorer(options: ScoreOptions, prompt: PromptSource) -> TeacherForcing:
    """The scorer the options name. Torch is loaded here and not before."""
    from inpars.generation.teacher_forcing import TeacherForcing

    where = options.set_up()
    return TeacherForcing(
        options.model_name, prompt, max_doc_tokens=options.max_doc_tokens, batch_size=options.batch_size, **where
    )
