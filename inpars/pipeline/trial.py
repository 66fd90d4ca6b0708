"""The trial behind a budget's plan: under 20 seconds of a run's own work, with its models, on its documents.

What is measured is what this machine has to give at the moment; another program on a core shows in the rates.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from inpars.documents.datasets import Dataset
from inpars.documents.selection import choose_documents
from inpars.errors import ConfigError, UntrainedModelError
from inpars.fusion.system import BM25
from inpars.models.processor import return_freed_memory
from inpars.pipeline.budget import Part, Rates
from inpars.pipeline.options import PipelineOptions
from inpars.progress import SILENT, Progress
from inpars.prompts.mixture import PromptSource, example_prompt_of
from inpars.records import Document
from inpars.stages.estimates import Measurement, measure
from inpars.stages.generate import GenerateOptions, load_generator
from inpars.stages.rerank import RerankOptions, load_run_scorer
from inpars.stages.search import SearchOptions, load_encoder

SAMPLE = 512  # documents drawn at random
SECONDS = {"write": 5.0, "embed": 3.0, "embed windows": 2.0, "rerank": 5.0}  # each, without the start
WRITTEN_TOGETHER, EMBEDDED_TOGETHER, RERANKED_TOGETHER = 8, 128, 40  # several batches, so that all cores have some
QUICK_START = 10.0  # seconds, up to which a first start is taken for any
WARM = 2  # items of the part before the first that is measured
QUERY_WORDS = 8  # of another document stand for a query
BATCH = 16  # texts encoded together, of much the same length as in the run's larger batches


def measure_rates(
    dataset: Dataset, prompt: PromptSource, options: PipelineOptions, progress: Progress = SILENT
) -> tuple[Rates, tuple[Part, ...]]:
    """The seconds of each kind of work, 0 of what the options leave out; and which embeddings the cache holds."""
    embedded: list[Part] = []
    chosen = choose_documents(dataset.corpus, maximum=SAMPLE, seed=options.seed).documents
    if not chosen:
        raise ConfigError(f"{dataset.name}: no document has any text, so there is nothing to measure or to search")
    documents = sorted(chosen, key=lambda document: len(document.full_text))
    write = _measured(functools.partial(_writing, documents, prompt, options), SECONDS["write"])
    return_freed_memory()
    embed: Measurement | None = None
    windows: Measurement | None = None
    rerank: Measurement | None = None
    if options.retriever != BM25:
        progress.note(f"measuring {options.retriever} as it embeds")
        embed = measure(_embedding(documents, options, None, dataset, embedded), SECONDS["embed"])
        tokens = options.window_tokens or None  # loaded once more in any case, as each stage does it
        windows = measure(_embedding(documents, options, tokens, dataset, embedded), SECONDS["embed windows"])
        return_freed_memory()
    try:
        rerank = _measured(functools.partial(_reranking, documents, prompt, options), SECONDS["rerank"])
    except UntrainedModelError:  # nothing is reranked by it, as the run will say
        rerank = None
    return_freed_memory()
    rates = Rates(
        write=write.seconds_per_item,
        embed=_each(embed),
        embed_windows=_each(windows),
        rerank=_each(rerank),
        start_writer=write.startup_seconds,
        start_encoder=_start(windows),
        start_reranker=_start(rerank),
    )
    return rates, tuple(embedded)


def _measured(start: Callable[[], Iterator[Callable[[], int]]], seconds: float) -> Measurement:
    """As `measure`, with the start that the run's stage will have: a first one may convert weights or try engines."""
    measurement = measure(start, seconds)
    if measurement.startup_seconds <= QUICK_START:
        return measurement
    return_freed_memory()
    return replace(measurement, startup_seconds=measure(start, 0.0).startup_seconds)


def _each(measured: Measurement | None) -> float:
    return 0.0 if measured is None else measured.seconds_per_item


def _start(measured: Measurement | None) -> float:
    return 0.0 if measured is None else measured.startup_seconds


def even_parts(documents: Sequence[Document], together: int) -> list[list[Document]]:
    """Parts of so many, each with short and long ones alike, of documents in the order of their lengths.

    A small part to warm up is the first; few documents are taken again until there are two more.
    """
    count = max(2, len(documents) // together)
    parts = [list(documents[first::count]) for first in range(count)]
    parts = [part or list(documents) for part in parts]
    return [list(documents[:WARM]), *parts]


def _writing(
    documents: Sequence[Document], prompt: PromptSource, options: PipelineOptions
) -> Iterator[Callable[[], int]]:
    settings = GenerateOptions(
        model=options.model,
        max_doc_tokens=options.max_doc_tokens,
        max_new_tokens=options.max_new_tokens,
        seed=options.seed,
        **options.clustered,
    )
    generator = load_generator(settings, prompt)
    for part in even_parts(documents, WRITTEN_TOGETHER):
        yield functools.partial(lambda some: len(generator.generate(some)), part)


def _embedding(
    documents: Sequence[Document],
    options: PipelineOptions,
    window_tokens: int | None,
    dataset: Dataset,
    embedded: list[Part],
) -> Callable[[], Iterator[Callable[[], int]]]:
    """Start to embed; the part is added to `embedded` where the cache holds all of it."""

    def start() -> Iterator[Callable[[], int]]:
        from inpars.retrieval.dense import is_embedded

        settings = SearchOptions(
            retriever=(options.retriever,), window_tokens=window_tokens, batch_size=BATCH, **options.clustered
        )
        encoder = load_encoder(options.retriever, settings)
        if is_embedded(dataset.corpus, encoder):
            embedded.append("embed windows" if window_tokens else "embed documents")

        def embed(some: Sequence[Document]) -> int:
            cut = [text for text, part in zip(some, encoder.windows_of(some), strict=True) if part != [text.full_text]]
            encoder.encode_in_windows(cut if window_tokens else some)  # the others have their embedding already
            return len(some)

        for part in even_parts(documents, EMBEDDED_TOGETHER):
            yield functools.partial(embed, part)

    return start


def _reranking(
    documents: Sequence[Document], prompt: PromptSource, options: PipelineOptions
) -> Iterator[Callable[[], int]]:
    windows = options.window_tokens if options.window_tokens and options.retriever != BM25 else None
    settings = RerankOptions(
        model=options.reranker,
        kind=options.reranker_kind,
        max_length=options.reranker_max_length,
        windows="nearest" if windows else None,
        window_retriever=options.retriever if windows else None,
        window_tokens=windows,
        **options.computing,
    )
    scorer = load_run_scorer(settings, example_prompt_of(prompt))
    queries = itertools.cycle(" ".join(document.full_text.split()[:QUERY_WORDS]) for document in reversed(documents))
    for part in even_parts(documents, RERANKED_TOGETHER):
        query = next(queries)  # a query with its documents, as they come
        yield functools.partial(lambda some: len(scorer.score(some)), [(query, one.full_text) for one in part])
