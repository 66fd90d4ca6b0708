"""The search stage: queries in, a TREC run of BM25, of a bi-encoder or of several fused retrievers out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Unpack

from inpars.batches import slices
from inpars.documents.datasets import Dataset
from inpars.errors import ConfigError
from inpars.evaluation.verdicts import counted
from inpars.fusion.system import BM25
from inpars.io.corpus import Corpus, Documents
from inpars.io.formats import run_lines
from inpars.io.manifest import FileStamp, Manifest, stamp_text
from inpars.io.runs import completed, cut, fuse_z_scores, without_own_document
from inpars.io.storage import write_lines
from inpars.io.topics import Topics
from inpars.negatives.miner import Pair, SearchWithScores
from inpars.options import option
from inpars.progress import SILENT, Progress
from inpars.records import Document, Query, Run
from inpars.retrieval.blocks import FillBlocks, Rows
from inpars.retrieval.bm25 import bm25_index
from inpars.retrieval.index_state import size_on_disk
from inpars.retrieval.index_writer import weights_of
from inpars.retrieval.retrievers import retriever_class
from inpars.retrieval.vector_index import VectorIndex
from inpars.stages.shard_folder import ShardFolder, remove_leftovers
from inpars.stages.stage import Outcome, Running, Stage, model_stamp
from inpars.stages.workers import Bm25Options, ClusterOptions, Workers, check_engine, do_shards

if TYPE_CHECKING:
    from inpars.retrieval.dense import Encoder
    from inpars.retrieval.retrievers import Retriever

STAGE = "search"
DEFAULT_RETRIEVERS = (BM25,)
MIN_WINDOW = 8  # tokens
ZEROS = "z-scores, with zeros for what BM25 did not find"  # missing in earlier versions
QUERIES_PER_BLOCK = 512  # in memory at a time, with their results
Search: TypeAlias = Callable[[Sequence[Query], int], Run]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions(ClusterOptions, Bm25Options):
    """How documents are retrieved."""

    retriever: tuple[str, ...] = option(
        DEFAULT_RETRIEVERS,
        help="bm25, or a bi-encoder, late-interaction or sparse retriever by embedded name, folder or hub id; repeat "
        "it to fuse several",
    )
    k: int = option(1000, help="results per query; 10 for a query typed on the command line", minimum=1)
    fusion_depth: int = option(100, help="documents per retriever to fuse", minimum=1)
    limit: int | None = option(None, help="use only the first N queries, for a quick try", minimum=1)
    max_length: int | None = option(
        None, help="maximum input length of a bi-encoder in tokens (default: the model's limit)", minimum=1
    )
    window_tokens: int | None = option(
        None,
        help="encode documents in overlapping windows of this many tokens; the best counts (default: one "
        "vector per document)",
        minimum=MIN_WINDOW,
    )
    batch_size: int = option(
        64, help="texts per batch; a bi-encoder on a processor reads at most 16", changes_result=False, minimum=1
    )


def search_dataset(
    dataset: Dataset,
    topics: Topics,
    options: SearchOptions,
    *,
    output: Path,
    workers: Workers | None = None,
    **running: Unpack[Running],
) -> Manifest:
    """Write the run of a split's queries; `workers` embed if a bi-encoder has no index yet."""
    inputs = _inputs(dataset.corpus_stamp, topics, options)
    return _search(dataset.name, dataset.corpus, topics, workers, Stage(STAGE, options, output, inputs, **running))


def search_index(
    folder: Path,
    topics: Topics,
    options: SearchOptions,
    *,
    output: Path,
    workers: Workers | None = None,
    **running: Unpack[Running],
) -> Manifest:
    """Like `search_dataset`, over an index on disk; no documents are embedded if the index has the same model."""
    index = VectorIndex(folder)
    inputs = _inputs(FileStamp(str(folder), index.sha256, size_on_disk(folder), len(index)), topics, options)
    return _search(str(folder), index, topics, workers, Stage(STAGE, options, output, inputs, **running))


def _inputs(corpus: FileStamp, topics: Topics, options: SearchOptions) -> dict[str, FileStamp]:
    inputs = {"corpus": corpus, "queries": topics.query_stamp}
    inputs |= {f"retriever {name}": model_stamp(name) for name in options.retriever if name != BM25}
    fuses = BM25 in options.retriever and len(set(options.retriever)) > 1
    return inputs | ({"fusion": stamp_text("fusion", ZEROS)} if fuses else {})


def _search(name: str, corpus: Documents, topics: Topics, workers: Workers | None, stage: Stage) -> Manifest:
    options: SearchOptions = stage.options

    def work() -> Outcome:
        queries = topics.as_queries()[: options.limit]
        if not queries:
            raise ConfigError(f"{name}: there are no queries to search with")
        tag, empty = "+".join(Path(name).name for name in options.retriever), 0

        def lines() -> Iterator[str]:
            nonlocal empty
            for run in retrieve(corpus, queries, options, workers=workers, progress=stage.progress):
                empty += sum(not scores for scores in run.values())
                yield from run_lines(run, tag)

        count = write_lines(stage.output, lines())
        return Outcome(count, {}, {"queries": len(queries), "without_results": empty})

    return stage.run(work)


def retrieve(
    corpus: Documents,
    queries: Sequence[Query],
    options: SearchOptions,
    *,
    load: Callable[[str, SearchOptions], Retriever] | None = None,
    workers: Workers | None = None,
    progress: Progress = SILENT,
) -> Iterator[Run]:
    """The k best documents of each query without the query itself; one run per block of queries.

    `load` may return retrievers that are already loaded.
    """
    searches = [_open(name, corpus, options, workers, progress, load or load_retriever) for name in options.retriever]
    lexical = [name == BM25 for name in options.retriever]
    blocks, left_out = list(slices(queries, QUERIES_PER_BLOCK)), list[str]()
    for block in progress.track(blocks, total=len(queries), description="search", unit="queries"):
        document_queries = own_documents({query.query_id: query.text for query in block}, corpus)
        left_out += sorted(document_queries)
        depth = options.k if len(searches) == 1 else options.fusion_depth
        runs = [
            cut(without_own_document(search(block, depth + bool(document_queries)), document_queries), depth)
            for search in searches
        ]
        yield runs[0] if len(runs) == 1 else fuse_z_scores(completed(runs, lexical, depth), options.k)
        progress.advance(len(block))
    if left_out:
        count = counted(len(left_out), "query is a document", "queries are documents")
        first = f"({left_out[0]!r} first)"
        progress.note(f"search: {count} of the corpus by id and text {first}, which is left out of its own results")


def _open(
    name: str,
    corpus: Documents,
    options: SearchOptions,
    workers: Workers | None,
    progress: Progress,
    load: Callable[[str, SearchOptions], Retriever],
) -> Search:
    """A retriever's search function; builds the index if needed."""
    if name == BM25:
        index = bm25_index(corpus, **options.bm25, threads=options.threads, progress=progress)
        return lambda queries, k: index.search(queries, k, threads=options.threads)
    if isinstance(corpus, VectorIndex) and options.window_tokens is not None:
        raise ConfigError("an index has one vector a passage; leave --window-tokens out, or search its --corpus")
    encoder = load(name, options)
    if isinstance(corpus, VectorIndex) and corpus.state.weights == weights_of(encoder):
        stored: Any = encoder  # the index's bi-encoder

        def search(queries: Sequence[Query], k: int) -> Run:
            results = corpus.search(stored.encode_queries([query.text for query in queries]), k)
            return {query.query_id: scores for query, scores in zip(queries, results, strict=True)}

        return search
    return encoder.index(corpus, fill=encode_by(workers, name, options), progress=progress).search


def load_retriever(name: str, options: SearchOptions) -> Retriever:
    """The retriever of that name, of any kind."""
    return retriever_class(name)(name, **_settings(options))


def load_encoder(name: str, options: SearchOptions) -> Encoder:
    """The bi-encoder of that name. Raises ConfigError for another kind."""
    where = _settings(options)
    from inpars.retrieval.dense import Encoder

    return Encoder(name, **where)


def _settings(options: SearchOptions) -> dict[str, Any]:
    names = ("max_length", "window_tokens", "batch_size")
    return {**{name: getattr(options, name) for name in names}, **options.set_up()}


def encode_by(workers: Workers | None, name: str, options: SearchOptions) -> FillBlocks | None:
    """The workers that embed with the retriever; None if this process embeds."""
    check_engine(options, workers)
    if workers is None:
        return None
    return functools.partial(_fill_by, workers, functools.partial(load_retriever, name, options.for_worker()))


def search_with_scores(
    name: str, corpus: Corpus, options: SearchOptions, workers: Workers | None, progress: Progress
) -> SearchWithScores:
    """A search with BM25 or the retriever of that name that also returns the scores of given pairs."""
    if name != BM25:
        encoder, fill = load_retriever(name, options), encode_by(workers, name, options)
        return encoder.index(corpus, fill=fill, progress=progress).search_with_scores
    index = bm25_index(corpus, **options.bm25, threads=options.threads, progress=progress)

    def search(queries: Sequence[Query], k: int, pairs: Sequence[Pair]) -> tuple[Run, Mapping[Pair, float]]:
        run = index.search(queries, k, threads=options.threads)
        return run, {(q, doc_id): run[q][doc_id] for q, doc_id in pairs if doc_id in run.get(q, {})}

    return search


def own_documents(queries: Mapping[str, str], corpus: Documents) -> set[str]:
    """Queries that are documents of the corpus: same id, and the query is its title, its text or most of it.

    A few shared words are not enough: queries and documents are often both numbered from 1.
    """
    return {query_id for query_id, text in queries.items() if query_id in corpus and _is_of(text, corpus[query_id])}


def _is_of(query: str, document: Document) -> bool:
    text, whole = squeezed(query), squeezed(document.full_text)
    if not text or text not in whole:
        return False
    return text in (squeezed(document.title), whole) or 2 * len(text) >= len(squeezed(document.text))


def squeezed(text: str) -> str:
    """The text in lower case, with single spaces."""
    return " ".join(text.lower().split())


def _fill_by(
    workers: Workers,
    load: Callable[[], Retriever],
    rows: Rows,
    blocks: Sequence[Path],
    size: int,
    count: int,
    progress: Progress,
) -> None:
    """`retrieval.blocks.FillBlocks` on workers; `load` is pickled and loads the encoder in each."""
    output, files = blocks[0].absolute().with_name("blocks"), tuple(block.absolute() for block in blocks)
    folder = ShardFolder.open(output, f"{size}", size, count, progress)
    make = functools.partial(EncodeWorker, rows, files, size, load)
    do_shards(make, folder, folder.items, workers, description="encode", unit="documents", progress=progress)
    remove_leftovers(output)


class EncodeWorker:
    """A bi-encoder in a worker's process."""

    device = ""

    def __init__(self, rows: Rows, blocks: Sequence[Path], size: int, make: Callable[[], Retriever]) -> None:
        self._blocks, self._size, self._save, self._encoder = blocks, size, rows.open(), make()

    def write(self, shard: range, partial: Path, output: Path) -> Mapping[str, Any]:
        block = self._blocks[shard.start // self._size]
        if not block.exists():
            self._save(self._encoder, shard, block)
        return {}
