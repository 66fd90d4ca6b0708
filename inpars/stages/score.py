"""The stage that has queries scored: any query file in, the same rows with one model's log-probabilities out.

Other kinds of scores are `columns.py`'s; the settings of all stand here. `planned.py` does the work.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, Unpack

from inpars.corpus import Corpus
from inpars.errors import ConfigError
from inpars.manifest import FileStamp, Manifest, stamp
from inpars.options import SEED, option
from inpars.prompting.templates import PromptSource
from inpars.scoring.kinds import ScorerKind
from inpars.stages.chunk_loop import work_elsewhere, work_here
from inpars.stages.engine_options import Bm25Options, ShardedOptions
from inpars.stages.log_probs import LogProbBlocks, LogProbScoring, Source, placed_queries
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
        help="log-probs: the rows again with a language model's token log-probs; the others write a score file, "
        "query_id and a number: reranker (how well its document answers the query), bm25-rank and dense-rank (the rank "
        "of its document for the query, null below --depth; dense-rank adds dense_score, their similarity), "
        "answerability (extractive question answering), cluster",
    )
    model: str | None = option(
        None,
        help="embedded name, folder or hub id; a causal language model, a reranker of any kind, a bi-encoder for "
        "dense-rank and cluster, a SQuAD 2.0 model for answerability (default: smollm2-135m; minilm for the "
        "bi-encoder; none for answerability)",
    )
    reranker_kind: ScorerKind | Literal["auto"] = option(
        "auto", help="what the reranker is; auto reads its configuration"
    )
    true_token: str | None = option(None, help="what the reranker answers where the document is relevant")
    false_token: str | None = option(None, help="what it answers where it is not")
    max_length: int | None = option(
        None, help="tokens that a reranker, reader or bi-encoder reads (default: the model's limit)", minimum=1
    )
    depth: int = option(100, help="documents per query that the ranks are looked for in", minimum=1)
    clusters: int | None = option(
        None, help="clusters of queries (default: the square root of their number, at most 1000)", minimum=2
    )
    max_doc_tokens: int = option(256, help="tokens of a document that the model is shown", minimum=1)
    limit: int | None = option(None, help="only the first N queries, to try things out", minimum=1)
    seed: int = option(0, help="seed of examples that are drawn", bounds=SEED)
    batch_size: int | None = option(
        None,
        help="queries read together (default: 32 on a processor, 256 on a GPU; 64 by a bi-encoder)",
        changes_result=False,
        minimum=1,
    )
    batch_tokens: int | None = option(
        None,
        help="padded tokens a reranker reads together (default: 1024 on a processor, 2048 with AMX, 8192 on a GPU)",
        changes_result=False,
        minimum=1,
    )

    @property
    def model_name(self) -> str:
        """The model, or the default of the kind. Raises ConfigError where there is none."""
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
    corpus_stamp: FileStamp | None = None,
    workers: Workers | None = None,
    **running: Unpack[Running],
) -> Manifest:
    """Write the rows with new log-probabilities. Documents come from the corpus, else from the rows' own text.

    With `workers` the scorer is made in each of them: `make_scorer` is pickled, and so must not hold a model.
    """
    check_engine(options, workers)
    inputs = {"queries": stamp(source)} | input_stamps(prompt=prompt, corpus=corpus_stamp, model=options.model_name)
    stage, queries = Stage(STAGE, options, output, inputs, **running), Source(source, corpus)

    def work() -> Outcome:
        if workers is not None:
            load = functools.partial(LogProbBlocks, queries.place(), prompt.name, make_scorer)
            starts, query_ids = placed_queries(queries, options.limit)
            done = work_elsewhere(
                *(stage, workers, load, len(query_ids), lambda block: (starts[block], query_ids[block])),
                description=f"score with {options.model_name}",
                unit="queries",
                summed=("tokens", "log_probs"),
            )
        else:
            scoring = LogProbScoring.of_file(queries, options.limit, options.part, make_scorer, prompt.name)
            done = work_here(stage, scoring, options.part)
        tokens = int(done.sums["tokens"])
        mean = done.sums["log_probs"] / tokens if tokens else None
        results = {"tokens": tokens, "mean_log_prob": mean, **done.told}
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
