"""Measure this machine's rates for a budget's plan, in under 20 seconds, with the run's models and documents.

Rates reflect the current load: another program on a core slows them down.
"""

from __future__ import annotations

import contextlib
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
SECONDS = {"write": 5.0, "embed": 3.0, "embed windows": 2.0, "rerank": 5.0}  # per kind of work, without the start
WRITTEN_TOGETHER, EMBEDDED_TOGETHER, RERANKED_TOGETHER = 8, 128, 40  # several batches, to use all cores
QUICK_START = 10.0  # seconds; a slower first start is measured again
WARM = 2  # documents of the warm-up
QUERY_WORDS = 8  # words of another document that serve as a query
BATCH = 16  # small, so that lengths vary as little as in the run's larger batches
NO_WORK = Measurement(startup_seconds=0.0, parts=((1, 0.0),))


def measure_rates(
    dataset: Dataset, prompt: PromptSource, options: PipelineOptions, progress: Progress = SILENT
) -> tuple[Rates, tuple[Part, ...]]:
    """Measure the seconds of each kind of work (0 if the options exclude it), and find which embeddings are cached."""
    embedded: list[Part] = []
    chosen = choose_documents(dataset.corpus, maximum=SAMPLE, seed=options.seed).documents
    if not chosen:
        raise ConfigError(f"{dataset.name}: no document has any text, so there is nothing to measure or to search")
    documents = sorted(chosen, key=lambda document: len(document.full_text))
    write = _measured(functools.partial(_writing, documents, prompt, options), SECONDS["write"])
    return_freed_memory()
    embed = windows = rerank = NO_WORK
    if options.retriever != BM25:
        progress.note(f"measuring {options.retriever} as it embeds")
        embed = measure(_embedding(documents, options, None, dataset, embedded), SECONDS["embed"])
        tokens = options.window_tokens or None  # measured even without windows, for the start of a later stage
        windows = measure(_embedding(documents, options, tokens, dataset, embedded), SECONDS["embed windows"])
        return_freed_memory()
    with contextlib.suppress(UntrainedModelError):  # the run will not rerank then, and says so
        rerank = _measured(functools.partial(_reranking, documents, prompt, options), SECONDS["rerank"])
    return_freed_memory()
    rates = Rates(
        write=write.seconds_per_item,
        embed=embed.seconds_per_item,
        embed_windows=windows.seconds_per_item,
        rerank=rerank.seconds_per_item,
        start_writer=write.startup_seconds,
        start_encoder=windows.startup_seconds,
        start_reranker=rerank.startup_seconds,
    )
    return rates, tuple(embedded)


def _measured(start: Callable[[], Iterator[Callable[[], int]]], seconds: float) -> Measurement:
    """Like `measure`, but repeat a slow start: a first one may convert weights or try engines."""
    measurement = measure(start, seconds)
    if measurement.startup_seconds <= QUICK_START:
        return measurement
    return_freed_memory()
    return replace(measurement, startup_seconds=measure(start, 0.0).startup_seconds)


def even_parts(documents: Sequence[Document], together: int) -> list[list[Document]]:
    """Split documents, sorted by length, into parts of about `together` with the same mix of lengths.

    The first part is a small warm-up; at least two more follow, which repeat documents if there are too few.
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
    """A function that starts embedding; it adds the part to `embedded` if all its embeddings are cached."""

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
            encoder.encode_in_windows(cut if window_tokens else some)  # uncut documents are already embedded
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
    from inpars.rerankers.load import has_own_prompt  # torch

    own = has_own_prompt(options.reranker, trust_remote_code=options.trust_remote_code)
    scorer = load_run_scorer(settings, None if own else example_prompt_of(prompt))
    queries = itertools.cycle(" ".join(document.full_text.split()[:QUERY_WORDS]) for document in reversed(documents))
    for part in even_parts(documents, RERANKED_TOGETHER):
        query = next(queries)  # one query per part, as when reranking
        yield functools.partial(lambda some: len(scorer.score(some)), [(query, one.full_text) for one in part])
