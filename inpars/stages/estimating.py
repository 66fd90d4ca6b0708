"""The measurement behind an estimate: random documents, done in the parts a stage computes together, in random order.

Chunks of similar length, short ones first, would tell of the short ones alone: so parts are shuffled.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Literal, TypeAlias

from inpars.batches import slices
from inpars.corpus import Corpus
from inpars.documents.selection import choose_documents
from inpars.generation import generate_each
from inpars.models.computing import ComputingOptions
from inpars.options import SEED, check, option
from inpars.prompting.prompts import load_prompt
from inpars.records import Document
from inpars.stages.estimates import Measurement, measure
from inpars.stages.generating import GenerateOptions, load_generator
from inpars.stages.reranking import RerankOptions, load_run_scorer

Work: TypeAlias = Literal["generate", "embed", "rerank"]
DEFAULT_MODELS: dict[Work, str] = {"generate": "smollm2-135m", "embed": "minilm", "rerank": "smollm2-135m"}
ITEMS: dict[Work, str] = {"generate": "documents", "embed": "documents", "rerank": "pairs"}
SAMPLE = 4096  # documents drawn at random
EMBEDDED_TOGETHER, RERANKED_TOGETHER = 256, 128
QUERY_WORDS = 8  # of another document stand for a query


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateOptions(ComputingOptions):
    """What is measured, and what for."""

    work: Work = option("generate", help="queries for documents, embeddings of documents, or pairs of a run")
    model: str | None = option(None, help="embedded name, folder or hub id (default: smollm2-135m; minilm to embed)")
    seconds: float = option(60.0, help="time to measure, without the start", minimum=0.1)
    items: int | None = option(None, help="documents, or pairs to rerank (default: the corpus' documents)", minimum=1)
    workers: int = option(1, help="workers as fast as this machine that share them", minimum=1)
    price_per_hour: float | None = option(None, help="of one worker; the cost is then told", minimum=0)
    prompt: str = option("inpars", help="shipped prompt or prompt file, to generate", metavar="NAME|PATH")
    max_doc_tokens: int = option(256, help="tokens of a document that the generator is shown", minimum=1)
    max_new_tokens: int = option(64, help="maximum number of tokens per query", minimum=1)
    batch_size: int | None = option(None, help="documents computed together (default: the stage's)", minimum=1)
    seed: int = option(0, help="seed of the documents and of their order", bounds=SEED)

    @property
    def model_name(self) -> str:
        """The model, or the default of the work."""
        return self.model or DEFAULT_MODELS[self.work]


@dataclass(frozen=True, slots=True)
class Started:
    """Loaded work: its parts, and where it computes."""

    device: str
    parts: Sequence[Callable[[], int]]


def measure_work(corpus: Corpus, options: EstimateOptions) -> tuple[Measurement, str]:
    """The measurement and the device it was made on."""
    check(options)
    documents = choose_documents(corpus, maximum=SAMPLE, seed=options.seed).documents
    device = ""

    def start() -> Iterator[Callable[[], int]]:
        nonlocal device
        started = _START[options.work](documents, options)
        device = started.device
        parts = list(started.parts)
        random.Random(options.seed).shuffle(parts)
        return iter(parts)

    return measure(start, options.seconds), device


def _start_generating(documents: Sequence[Document], options: EstimateOptions) -> Started:
    settings = GenerateOptions(
        model=options.model_name,
        max_doc_tokens=options.max_doc_tokens,
        max_new_tokens=options.max_new_tokens,
        batch_size=options.batch_size,
        **options.computing,
    )
    generator = load_generator(settings, load_prompt(options.prompt))
    chunks = generator.plan(documents)
    random.Random(options.seed).shuffle(chunks)  # here already: several may be under way at once
    written = generate_each(generator, ([documents[place] for place in chunk] for chunk in chunks))
    return Started(generator.device, [lambda: len(next(written))] * len(chunks))


def _start_embedding(documents: Sequence[Document], options: EstimateOptions) -> Started:
    from inpars.models.hardware import compute_with, describe, pick_device, pick_dtype
    from inpars.retrieval.dense import DEFAULT_BATCH_SIZE, Encoder

    compute_with(options.threads, options.engine_backend)
    encoder = Encoder(
        options.model_name,
        batch_size=options.batch_size or DEFAULT_BATCH_SIZE,
        **options.placement,
    )
    place = pick_device(options.device)
    texts = [document.full_text for document in documents]

    def part(some: Sequence[str]) -> Callable[[], int]:
        return lambda: len(encoder.encode_documents(some))

    return Started(
        describe(place, pick_dtype(options.dtype, place)), [part(p) for p in slices(texts, EMBEDDED_TOGETHER)]
    )


def _start_reranking(documents: Sequence[Document], options: EstimateOptions) -> Started:
    from inpars.models.hardware import describe, pick_device, pick_dtype

    scorer = load_run_scorer(RerankOptions(model=options.model_name, **options.computing))
    place = pick_device(options.device)
    queries = [" ".join(document.full_text.split()[:QUERY_WORDS]) for document in documents]
    others = islice(cycle(documents), 1, None)  # the next document
    pairs = [(query, document.full_text) for query, document in zip(queries, others, strict=False)]

    def part(some: Sequence[tuple[str, str]]) -> Callable[[], int]:
        return lambda: len(scorer.score(some))

    return Started(
        describe(place, pick_dtype(options.dtype, place)), [part(p) for p in slices(pairs, RERANKED_TOGETHER)]
    )


_START: dict[Work, Callable[[Sequence[Document], EstimateOptions], Started]] = {
    "generate": _start_generating,
    "embed": _start_embedding,
    "rerank": _start_reranking,
}
