"""Predicts, before training, whether it would improve the model, from the triples and the untrained model.

Returns the reason to skip the training as one line of text, or None to train. Writes nothing.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from inpars.batches import slices
from inpars.errors import UntrainedModelError
from inpars.evaluation.verdicts import counted
from inpars.models.retrievers import DENSE
from inpars.progress import SILENT, Progress
from inpars.prompts.templates import Prompt
from inpars.protocols import PairScorer
from inpars.rerankers import load_scorer
from inpars.training.batch_plan import BatchPlan
from inpars.training.examples import TripleTexts, batches_of, grouped, pairs_once, read_triple_texts
from inpars.training.options import RerankerOptions, RetrieverOptions, TrainOptions, processes, steps_of

MIN_STEPS = 30
SAMPLE = 48  # triples that the untrained reranker scores
BLOCK = 8  # triples scored per call
CHANCE = math.log(2)  # pairwise loss of random scores
MIN_SHARE = 0.1  # of the chance loss; below it there is nothing left to learn
SAMPLE_BATCHES = 4  # batches that the untrained bi-encoder ranks
MIN_WRONG = 0.02  # share of positives not ranked first; at or below it there is little to learn

CountFirst: TypeAlias = Callable[[Sequence[TripleTexts], RetrieverOptions, Progress], tuple[int, int]]


def retriever_signal(
    triples: Path,
    options: RetrieverOptions,
    *,
    count_first: CountFirst | None = None,
    progress: Progress = SILENT,
) -> str | None:
    """Why training a bi-encoder would be pointless: too few steps, or it ranks the positives first already.

    `count_first` returns how many positives the untrained model ranks first, and their total; the default loads the
    model. It is not called for margin-MSE or for other kinds of retriever.
    """
    rows = read_triple_texts(triples, options.limit)
    rows = rows if options.negatives else pairs_once(rows)
    if (
        steps_of(batches_of(len(rows), options.batch_size), options) < MIN_STEPS
    ):  # avoiding false negatives may add batches
        batches = BatchPlan(rows, options.batch_size, seed=options.seed, negatives=options.negatives).batches
        if (reason := _too_few_steps(counted(len(rows), "triple"), batches, options, "a bi-encoder")) is not None:
            return reason
    if options.kind != DENSE or options.loss == "margin-mse":
        return None
    if count_first is None:
        from inpars.training.retriever import positives_first

        count_first = positives_first
    sample = _sample(rows, options.seed, SAMPLE_BATCHES * options.batch_size)
    first, total = count_first(sample, options, progress)
    if total - first > MIN_WRONG * total:
        return None
    return (
        f"it ranks {first} of {counted(total, 'positive')} above all other documents of their batches already; other "
        "queries, harder negatives (--ranks) or a teacher would leave it something to learn"
    )


def reranker_signal(
    triples: Path,
    options: RerankerOptions,
    *,
    prompt: Prompt | None = None,
    make_scorer: Callable[[], PairScorer] | None = None,
    progress: Progress = SILENT,
) -> str | None:
    """Why training a reranker would be pointless: it ranks the pairs already, or there are too few steps.

    `make_scorer` loads the untrained model and may raise UntrainedModelError; it is not called when a teacher's scores
    are learned.
    """
    rows = read_triple_texts(triples, options.limit)
    if options.teacher is None and options.loss != "margin-mse":
        load = make_scorer or (lambda: _load(options, prompt))
        if (reason := _ranks_already(_sample(rows, options.seed, SAMPLE), load, progress)) is not None:
            return reason
    groups = len(grouped(rows))
    batches = batches_of(groups, options.batch_size)
    return _too_few_steps(counted(groups, "query", "queries"), batches, options, "a reranker")


def _ranks_already(
    rows: Sequence[TripleTexts], make_scorer: Callable[[], PairScorer], progress: Progress
) -> str | None:
    """The reason if the untrained model's pairwise logistic loss is near 0; None otherwise.

    Losses are never negative, so scoring stops as soon as their sum is large enough for training to help.
    """
    try:
        scorer = make_scorer()
    except UntrainedModelError:
        return None
    margins, max_loss = list[float](), MIN_SHARE * CHANCE * len(rows)
    blocks = progress.track(slices(rows, BLOCK), total=len(rows), description="what the reranker knows", unit="triples")
    for block in blocks:
        scores = scorer.score([(row.query, text) for row in block for text in (row.positive, row.negative)])
        margins += [positive - negative for positive, negative in zip(scores[::2], scores[1::2], strict=True)]
        progress.advance(len(block))
        if not math.fsum(map(_logistic, margins)) < max_loss:  # also for NaN
            return None
    loss, right = math.fsum(map(_logistic, margins)) / len(rows), sum(margin > 0 for margin in margins)
    return (
        f"it tells {right} of {counted(len(rows), 'positive')} from negatives already (loss {loss:.4f}, by chance "
        f"{CHANCE:.2f}); harder negatives (--ranks) or a teacher would leave it something to learn"
    )


def _logistic(margin: float) -> float:
    """`log(1 + exp(-margin))` without overflow."""
    return max(-margin, 0.0) + math.log1p(math.exp(-abs(margin)))


def _sample(rows: Sequence[TripleTexts], seed: int, size: int) -> list[TripleTexts]:
    """A random sample of the triples, in their order."""
    positions = random.Random(seed).sample(range(len(rows)), min(size, len(rows)))
    return [rows[position] for position in sorted(positions)]


def _load(options: RerankerOptions, prompt: Prompt | None) -> PairScorer:
    return load_scorer(
        options.model,
        kind=options.kind,
        max_length=options.max_length,
        true_token=options.true_token,
        false_token=options.false_token,
        prompt=prompt,
        **options.set_up(),
    )


def _too_few_steps(count: str, batches: int, options: TrainOptions, model: str) -> str | None:
    """The reason if training would be too short; None otherwise. Ignores what a dev set holds out."""
    steps = steps_of(batches, options)
    if steps >= MIN_STEPS:
        return None
    size = options.batch_size * options.gradient_accumulation * processes()
    whole = max(steps, steps_of(batches, replace(options, max_steps=None)))  # --max-steps may exceed --epochs
    fact, remedies = f"{count} are {counted(whole, 'step')} of {size}", list[str]()
    if whole < MIN_STEPS:
        times = math.ceil(MIN_STEPS / whole)
        remedies.append(f"write queries for about {times} times as many documents (--max-documents)")
    if steps < whole:
        fact += f", of which {steps} may be taken"
        remedies.append("allow more steps (--max-steps, of a whole run's reranker --reranker-steps)")
    return f"{fact}, and {model} is trained for at least {MIN_STEPS}; {' and '.join(remedies)}"
