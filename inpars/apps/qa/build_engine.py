"""Build an engine from options: load the models and combine them into systems.

Without Java, BM25 is left out with a note. torch and Java are loaded only when an engine is opened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inpars.apps.qa import extractive
from inpars.apps.qa.engine import Engine, Part, Reader, System, Writer
from inpars.apps.qa.extractive import SENTENCES, Focus, Judge
from inpars.apps.qa.retrievers import LockedScorer, Stage, StoredStage
from inpars.errors import BackendError, ConfigError, MissingDependencyError
from inpars.generation.api.options import ApiOptions, check_api
from inpars.io import corpus as corpora
from inpars.models.compute_options import ComputingOptions, use_engine, use_threads
from inpars.models.folders import refuse_server_model
from inpars.models.retrievers import DENSE, retriever_kind
from inpars.options import SHARE, check, option
from inpars.progress import SILENT, Progress
from inpars.protocols import PairScorer, TextEncoder
from inpars.records import Query, Run
from inpars.retrieval.bm25 import DEFAULT_B, DEFAULT_K1, DEFAULT_LANGUAGE, bm25_index
from inpars.retrieval.retrievers import retriever_class
from inpars.retrieval.vector_index import VectorIndex

if TYPE_CHECKING:
    from inpars.retrieval.dense import Encoder
    from inpars.retrieval.retrievers import Retriever

NO_RETRIEVER = "none"
DEFAULT_RETRIEVER = "minilm"
DEFAULT_WRITER = "smollm2-135m"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions(ComputingOptions):
    """The models and settings that an engine searches with."""

    retriever: str | None = option(
        None,
        help="retriever of any kind: a folder, an embedded name or a hub id; none leaves it out (default: the index's "
        f"own, else {DEFAULT_RETRIEVER})",
    )
    base_retriever: str | None = option(
        None, help="a second retriever to compare with, the untuned one for instance", advanced=True
    )
    reranker: str | None = option(None, help="reranker for the results: folder or hub id")
    bm25: bool = option(True, help="also search with BM25, if Java is available")
    depth: int = option(50, help="results per retriever to fuse and rerank", minimum=1)
    k1: float = option(DEFAULT_K1, help="BM25's k1", minimum=0, advanced=True)
    b: float = option(DEFAULT_B, help="BM25's b", bounds=SHARE, advanced=True)
    language: str = option(DEFAULT_LANGUAGE, help="language of BM25's analyser", advanced=True)
    max_length: int | None = option(
        None,
        help="maximum input length of a bi-encoder in tokens (default: the model's limit)",
        minimum=1,
        advanced=True,
    )
    batch_size: int = option(
        64,
        help="texts per batch; a bi-encoder on a processor reads at most 16",
        changes_result=False,
        minimum=1,
        advanced=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerOptions:
    """The models that answer, and the minimum score of an answer."""

    reader: str | None = option(
        None,
        help="extractive QA model trained on SQuAD 2.0, for instance: folder or hub id (default: none; the "
        "answer is the best-scoring sentence)",
    )
    threshold: float | None = option(
        None,
        help="minimum score of an extractive answer: a --reader's margin over no answer (default: calibrated "
        "in training, else 0), a reranker's margin (0), or the cosine of question and sentence (0.5), "
        "which rejects off-topic questions only",
    )
    names: bool = option(
        True,
        help="without --reader, answer only from sources with all names and numbers of the question",
        advanced=True,
    )
    model: str | None = option(
        None, help=f"language model that writes answers (default: {DEFAULT_WRITER}, where answers are to be written)"
    )
    base_url: str | None = option(
        None, help="OpenAI-compatible server of that model, http://localhost:8000/v1 for instance"
    )
    max_new_tokens: int = option(160, help="maximum length of a generated answer in tokens", minimum=1, advanced=True)
    focus_sentences: int | None = option(
        None,
        help="show the language model only this many sentences, those nearest to the question, and do not ask it where "
        f"none is near; 0: whole sources (default: {SENTENCES}; whole sources with --base-url)",
        minimum=0,
        advanced=True,
    )
    source_tokens: int = option(
        220, help="maximum tokens per source in the language model's prompt", minimum=16, advanced=True
    )
    timeout_seconds: float = option(120.0, help="timeout per request, in seconds", minimum=0, advanced=True)


def open_engine(
    options: EngineOptions,
    *,
    corpus: corpora.Documents | None = None,
    index: Path | None = None,
    answers: AnswerOptions | None = None,
    writes: bool = False,
    progress: Progress = SILENT,
) -> Engine:
    """An engine over a corpus or an index on disk, with all models loaded.

    Without `answers` it only searches; `writes` also loads the language model. Raises ConfigError if there is nothing
    to search with, StaleInputError if the index was built with another model.
    """
    check(options)
    if (corpus is None) == (index is None):
        raise ConfigError("give either documents (--dataset, --corpus) or --index")
    use_compute_options(options)
    stored = VectorIndex(index) if index is not None else None
    documents: Any = stored if stored is not None else corpus
    notes: list[str] = []
    encoders = _encoders(options, stored)
    dense = dense_alone(encoders)
    stages: dict[str, Part] = {
        name: dense_stage(name, documents, stored if name == "dense" else None, encoder, progress)
        for name, encoder in encoders.items()
    }
    lexical = _bm25_stage(options, documents, notes, progress) if options.bm25 else None
    if lexical is not None:
        stages["bm25"] = lexical
    reranker = None
    if options.reranker:
        from inpars.rerankers import load_scorer

        reranker = LockedScorer(load_scorer(options.reranker, **options.placement))
    reader, writer = answerers(options, answers, reranker, dense.get("dense"), writes=writes)
    return Engine(
        documents,
        _systems(stages, encoders, reranker),
        encoders=dense,
        reranker=reranker,
        reader=reader,
        writer=writer,
        notes=notes,
        depth=options.depth,
    )


def use_compute_options(options: EngineOptions) -> None:
    """Set the compute engine and the number of threads."""
    use_engine(options.engine_backend)
    use_threads(options.threads)


def dense_alone(encoders: Mapping[str, Retriever]) -> dict[str, TextEncoder]:
    """The bi-encoders among the retrievers: they score sentences and serve embeddings."""
    dense: Any = {name: encoder for name, encoder in encoders.items() if retriever_kind(encoder.name) == DENSE}
    return dict(dense)


def _encoders(options: EngineOptions, stored: VectorIndex | None) -> dict[str, Retriever]:
    name = options.retriever or (stored.state.model if stored else DEFAULT_RETRIEVER)
    names = {"dense": None if name == NO_RETRIEVER else name, "base": options.base_retriever}
    encoders = {part: load_engine_retriever(model, options) for part, model in names.items() if model is not None}
    if stored is not None and "dense" in encoders:
        from inpars.retrieval.index_writer import check_encoder

        check_encoder(stored.state, encoders["dense"])
    return encoders


def load_engine_retriever(model: str, options: EngineOptions) -> Retriever:
    """A retriever of any kind."""
    settings = {"max_length": options.max_length, "batch_size": options.batch_size}
    return retriever_class(model)(model, **settings, **options.placement)


def load_encoder(model: str, options: EngineOptions) -> Encoder:
    """A bi-encoder. Raises ConfigError for a retriever of another kind."""
    from inpars.retrieval.dense import Encoder  # torch

    return Encoder(model, max_length=options.max_length, batch_size=options.batch_size, **options.placement)


def dense_stage(
    name: str, documents: corpora.Documents, stored: VectorIndex | None, encoder: Retriever, progress: Progress
) -> Part:
    """A retriever over the index `stored`, or over one in the cache, built if needed."""
    if stored is not None:
        bi_encoder: Any = encoder  # like the one the index was built with
        return StoredStage(name, stored, bi_encoder)
    return Stage(name, documents, encoder.index(documents, progress=progress).search)


def _bm25_stage(
    options: EngineOptions, documents: corpora.Documents, notes: list[str], progress: Progress
) -> Part | None:
    """BM25; None, with a note, if this machine cannot run it."""
    try:
        return bm25_stage("bm25", options, documents, progress)
    except (MissingDependencyError, BackendError) as error:
        notes.append(f"BM25 is left out: {error}")
        progress.note(notes[-1])
        return None


def bm25_stage(name: str, options: EngineOptions, documents: corpora.Documents, progress: Progress) -> Stage:
    """Raises MissingDependencyError or BackendError if this machine cannot run BM25."""
    settings: dict[str, Any] = {"k1": options.k1, "b": options.b, "language": options.language}
    index = bm25_index(documents, **settings, threads=options.threads, progress=progress)

    def search(queries: Sequence[Query], k: int) -> Run:
        return index.search(queries, k, threads=options.threads)

    return Stage(name, documents, search, exclusive=True, coverage=index.coverage())


def _systems(
    stages: Mapping[str, Part], encoders: Mapping[str, Retriever], reranker: PairScorer | None
) -> dict[str, System]:
    """All stages together first, then each one alone."""
    labels = {name: encoders[name].name if name in encoders else "BM25" for name in stages}
    alone = {name: System((stages[name],), labels[name]) for name in ("dense", "base", "bm25") if name in stages}
    together = [name for name in ("bm25", "dense") if name in stages]
    if not together or (len(together) == 1 and reranker is None):
        return alone
    text = " + ".join(labels[name] for name in together) + (f", reranked by {reranker.name}" if reranker else "")
    rerankers = () if reranker is None else (reranker,)
    return {"hybrid": System(tuple(stages[name] for name in together), text, rerankers), **alone}


def answerers(
    options: EngineOptions,
    answers: AnswerOptions | None,
    reranker: PairScorer | None,
    encoder: TextEncoder | None,
    *,
    writes: bool,
) -> tuple[Reader | None, Writer | None]:
    """Reader and writer; the reranker scores their sentences, else the bi-encoder, else shared words."""
    if answers is None:
        return None, None
    check(answers)
    if reranker is not None:
        judge = extractive.by_reranker(reranker)
    else:
        judge = extractive.by_encoder(encoder) if encoder is not None else extractive.BY_WORDS
    reader = _reader(options, answers, judge)
    return reader, _writer(options, answers, judge) if writes or answers.model or answers.base_url else None


def _reader(options: EngineOptions, answers: AnswerOptions, judge: Judge) -> Reader:
    if answers.reader is None:
        return extractive.SentenceReader(judge, threshold=answers.threshold, names=answers.names)
    from inpars.apps.qa.local_models import SpanReader  # torch

    return SpanReader(answers.reader, threshold=answers.threshold, **options.placement)


def _writer(options: EngineOptions, answers: AnswerOptions, judge: Judge) -> Writer:
    from inpars.apps.qa.generative import SourceWriter

    model = answers.model or DEFAULT_WRITER
    sentences = answers.focus_sentences
    if answers.base_url is not None:
        from inpars.apps.qa.remote_chat import RemoteChat

        check_api(ApiOptions(base_url=answers.base_url), asks_server=True)
        chat: Any = RemoteChat(model, answers.base_url.rstrip("/"), timeout_seconds=answers.timeout_seconds)
    else:
        refuse_server_model(model, "give the server's --base-url")
        from inpars.apps.qa.local_models import LocalChat  # torch

        chat = LocalChat(model, **options.placement)
        sentences = SENTENCES if sentences is None else sentences
    return SourceWriter(
        chat,
        max_new_tokens=answers.max_new_tokens,
        source_tokens=answers.source_tokens,
        focus=Focus(judge, sentences=sentences) if sentences else None,
    )


def parse_filters(pairs: Sequence[str]) -> dict[str, str]:
    """`field=value` pairs as filters. Raises ConfigError for one without a field or a value, and for a field twice."""
    filters: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise ConfigError(f"--filter {pair!r} is not FIELD=VALUE; write source=guide.pdf, for example")
        if filters.setdefault(name, value) != value:
            raise ConfigError(f"--filter {name} has two values, {filters[name]!r} and {value!r}; give one, or use *")
    return filters
