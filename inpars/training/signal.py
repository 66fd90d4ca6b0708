"""Whether a training would teach anything: asked before it, of the triples and of the model that it starts from.

The answer is a line for people, None where the training should be done. Nothing is written.
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
BLOCK = 8  # of them together
CHANCE = math.log(2)  # the pairwise loss of a model that cannot tell
MIN_SHARE = 0.1  # of the loss by chance, from which on there is something to learn
LOOKED_AT = 4  # batches that the untrained bi-encoder is tried on
MIN_WRONG = 0.02  # share of their positives that it has to rank below another document for there to be much to learn

CountFirst: TypeAlias = Callable[[Sequence[TripleTexts], RetrieverOptions, Progress], tuple[int, int]]


def retriever_signal(
    triples: Path,
    options: RetrieverOptions,
    *,
    count_first: CountFirst | None = None,
    progress: Progress = SILENT,
) -> str | None:
    """Why training a bi-encoder would change nothing: its steps are too few, or it ranks the pairs already.

    `count_first` gives how many positives of some triples the untrained model ranks first, and of how many, by
    default as the options name it; it is not asked where a teacher's margins are learnt, nor for other kinds.
    """
    rows = read_triple_texts(triples)[: options.limit]
    rows = rows if options.negatives else pairs_once(rows)
    if steps_of(batches_of(len(rows), options.batch_size), options) < MIN_STEPS:  # false negatives may make it more
        batches = BatchPlan(rows, options.batch_size, seed=options.seed, negatives=options.negatives).batches
        if (few := _too_few_steps(counted(len(rows), "triple"), batches, options, "a bi-encoder")) is not None:
            return few
    if options.kind != DENSE or options.loss == "margin-mse":
        return None
    some = _drawn(rows, options.seed, LOOKED_AT * options.batch_size)
    first, total = (count_first or _positives_first)(some, options, progress)
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
    """Why training a reranker would teach it nothing: it ranks the pairs already, or its steps are too few.

    `prompt` is the training's. `make_scorer` loads the untrained model, by default as the options name it; it may raise
    UntrainedModelError, and is not asked where a teacher's scores are learnt.
    """
    rows = read_triple_texts(triples)[: options.limit]
    taught = options.teacher is not None or options.loss == "margin-mse"
    if not taught:
        load = make_scorer or (lambda: _load(options, prompt))
        if (known := _known_already(_drawn(rows, options.seed, SAMPLE), load, progress)) is not None:
            return known
    groups = len(grouped(rows))
    batches = batches_of(groups, options.batch_size)
    return _too_few_steps(counted(groups, "query", "queries"), batches, options, "a reranker")


def _positives_first(rows: Sequence[TripleTexts], options: RetrieverOptions, progress: Progress) -> tuple[int, int]:
    from inpars.training.retriever import positives_first

    return positives_first(rows, options, progress)


def _known_already(
    rows: Sequence[TripleTexts], make_scorer: Callable[[], PairScorer], progress: Progress
) -> str | None:
    """What is said of a model whose pairwise logistic loss is next to nothing before the first step; None of others.

    Scoring ends as soon as the losses add up to what is worth a training, since none of them is negative.
    """
    try:
        scorer = make_scorer()
    except UntrainedModelError:
        return None
    ahead, max_loss = list[float](), MIN_SHARE * CHANCE * len(rows)
    blocks = progress.track(slices(rows, BLOCK), total=len(rows), description="what the reranker knows", unit="triples")
    for block in blocks:
        scores = scorer.score([(row.query, text) for row in block for text in (row.positive, row.negative)])
        ahead += [positive - negative for positive, negative in zip(scores[::2], scores[1::2], strict=True)]
        progress.advance(len(block))
        if not math.fsum(map(_logistic, ahead)) < max_loss:  # nor NaN
            return None
    loss, right = math.fsum(map(_logistic, ahead)) / len(rows), sum(margin > 0 for margin in ahead)
    return (
        f"it tells {right} of {counted(len(rows), 'positive')} from negatives already (loss {loss:.4f}, by chance "
        f"{CHANCE:.2f}); harder negatives (--ranks) or a teacher would leave it something to learn"
    )


def _logistic(margin: float) -> float:
    """`log(1 + exp(-margin))` of any margin."""
    return max(-margin, 0.0) + math.log1p(math.exp(-abs(margin)))


def _drawn(rows: Sequence[TripleTexts], seed: int, size: int) -> list[TripleTexts]:
    """An even sample of all triples, in their order."""
    positions = random.Random(seed).sample(range(len(rows)), min(size, len(rows)))
    return [rows[position] for position in sorted(positions)]


def _load(options: RerankerOptions, prompt: Prompt | None) -> PairScorer:
    """The model that the training starts from, reading what the training reads."""
    where = options.set_up()
    return load_scorer(
        options.model,
        kind=options.kind,
        max_length=options.max_length,
        true_token=options.true_token,
        false_token=options.false_token,
        prompt=prompt,
        **where,
    )


def _too_few_steps(count: str, batches: int, options: TrainOptions, model: str) -> str | None:
    """What is said of a training that is too short, None of others; what a development set takes away is not known."""
    steps, of_all = steps_of(batches, options), steps_of(batches, replace(options, max_steps=None))
    if steps >= MIN_STEPS:
        return None
    size = options.batch_size * options.gradient_accumulation * processes()
    whole = max(steps, of_all)  # --max-steps may ask for more passes than --epochs
    fact, remedies = f"{count} are {counted(whole, 'step')} of {size}", list[str]()
    if whole < MIN_STEPS:
        times = math.ceil(MIN_STEPS / whole)
        remedies.append(f"write queries for about {times} times as many documents (--max-documents)")
    if steps < whole:
        fact += f", of which {steps} may be taken"
        remedies.append("allow more steps (--max-steps, of a whole run's reranker --reranker-steps)")
    return f"{fact}, and {model} is trained for at least {MIN_STEPS}; {' and '.join(remedies)}"
