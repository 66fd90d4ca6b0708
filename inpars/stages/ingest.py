"""The ingest stage: a dataset, or files and web pages in, BEIR's files out.

Writes `queries.jsonl` and `qrels/<split>.tsv` next to `corpus.jsonl` if the dataset, or a file in SQuAD's format, has
queries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Unpack

from inpars.cache import cache_folder
from inpars.documents.chunks import tokenizer_name
from inpars.documents.collection import ChunkOptions, Collected, collect
from inpars.documents.datasets import QUERY_NAMES, Dataset
from inpars.documents.folder import FoundFiles, find_files
from inpars.documents.readers import ReadOptions, kind_of
from inpars.documents.web_pages import Fetched, FetchOptions, fetch
from inpars.errors import DataFormatError
from inpars.io.formats import write_documents, write_queries
from inpars.io.judgements import write_qrels
from inpars.io.manifest import Manifest, manifest_path, read_manifest, stamp_text
from inpars.io.storage import storage_errors
from inpars.io.topics import DEFAULT_SPLIT, Topics
from inpars.options import check, option
from inpars.progress import SILENT, Progress
from inpars.records import Document, Query
from inpars.stages.stage import Outcome, Running, Stage, refuse_to_overwrite

STAGE = "ingest"
NAMES_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestOptions(ChunkOptions, ReadOptions, FetchOptions):
    """How documents are read and cut."""

    limit: int | None = option(None, help="use only the first N documents, for a quick try", minimum=1)


def queries_path(output: Path) -> Path:
    """The query file of an ingested corpus."""
    return output.with_name("queries.jsonl")


def qrels_path(output: Path, split: str) -> Path:
    """The qrels file of a split of an ingested corpus."""
    return output.with_name("qrels") / f"{split}.tsv"


def ingest_dataset(
    dataset: Dataset, options: IngestOptions, *, output: Path, sources: Sequence[Path] = (), **running: Unpack[Running]
) -> Manifest:
    """Write documents, queries and qrels; `sources` are further input files that must not be overwritten.

    A limit also drops the judgements of documents beyond it, and queries left without judgements.
    """
    topics = {split: dataset.topics(split) for split in dataset.splits}
    inputs = {"corpus": dataset.corpus_stamp} | {
        f"{split} topics": split_topics.stamp for split, split_topics in topics.items()
    }
    refuse_to_overwrite(_sides(output, topics), read := [*_files_of(dataset), *sources])
    stage = Stage(STAGE, options, output, inputs, _former_sides(output), read, **running)

    def work() -> Outcome:
        for split_topics in topics.values():
            split_topics.say_remarks(stage.progress)
        documents, total = islice(iter(dataset.corpus), options.limit), len(dataset.corpus)
        doc_ids: set[str] = set()
        track = stage.progress.track(documents, total=total, description="ingest", unit="documents")
        count = write_documents(output, track if options.limit is None else _with_ids_noted(track, doc_ids))
        limited = {
            split: split_topics if options.limit is None else _within(split_topics, doc_ids)
            for split, split_topics in topics.items()
        }
        return Outcome(count, {"not_in_limit": total - count}, {"files": _write_topics(stage, limited)})

    return stage.run(work)


def ingest_files(
    sources: Sequence[Path],
    options: IngestOptions,
    *,
    output: Path,
    urls: Sequence[str] = (),
    leave_out: Sequence[Path] = (),
    before: Callable[[], None] = lambda: None,
    progress: Progress = SILENT,
    overwrite: bool = False,
) -> tuple[Manifest, FoundFiles]:
    """Write the texts of files, folders and web pages as documents; also returns the files found.

    The manifest's `results` and `dropped` list what was read, unreadable and dropped. Below the sources, the output and
    what is in `leave_out` are not read. `before` is called if there is work to do, and may raise.
    """
    check(options)
    former = _former_sides(output)
    files, fetched = _find(sources, urls, options, [output, manifest_path(output), *former, *leave_out], progress)
    for kind in {kind_of(file.path, options) for file in files.readable}:
        if kind is not None:
            kind.check()
    tokenizer = tokenizer_name(options.tokenizer)
    inputs = {"files": files.stamp, "tokenizer": stamp_text(tokenizer, tokenizer)}
    stage = Stage(STAGE, options, output, inputs, former, progress=progress, overwrite=overwrite)

    def work() -> Outcome:
        before()
        collected = collect(files.readable, options, options, tokenizer, cache=cache_folder(), progress=progress)
        found = int(collected.keep.sum())
        if options.limit is not None:
            collected.keep &= collected.keep.cumsum() <= options.limit
        total = int(collected.keep.sum())
        collected.dropped["not_in_limit"] += found - total
        track = progress.track(collected.documents(), total=total, description="write", unit="documents")
        count = write_documents(output, track)
        if not count:
            with storage_errors(output):
                output.unlink()
            unreadable = collected.unreadable.items()
            reasons = "; ".join(f"{reason}: {', '.join(names[:NAMES_SHOWN])}" for reason, names in unreadable)
            raise DataFormatError(
                "there is no text in any file here" + (f" ({reasons})" if reasons else ""), path=files.where
            )
        topics = {DEFAULT_SPLIT: Topics(DEFAULT_SPLIT, collected.queries, collected.qrels)} if collected.qrels else {}
        return _outcome(count, collected, files, fetched, _write_topics(stage, topics))

    return stage.run(work), files


def _find(
    sources: Sequence[Path], urls: Sequence[str], options: IngestOptions, leave_out: Sequence[Path], progress: Progress
) -> tuple[FoundFiles, Fetched]:
    """The files found in the sources, followed by the fetched pages."""
    fetched = fetch(urls, options, cache=cache_folder(), progress=progress) if urls else Fetched([], {}, {})
    if urls and not fetched.files and not sources:
        reasons = "; ".join(f"{reason}: {names[0]}" for reason, names in fetched.failed.items())
        raise DataFormatError(f"no page could be fetched ({reasons})", path=", ".join(urls))
    files = find_files(sources, options, leave_out) if sources else FoundFiles(", ".join(urls), [])
    files.readable.extend(fetched.files)
    return files, fetched


def _outcome(count: int, collected: Collected, files: FoundFiles, fetched: Fetched, sides: Sequence[str]) -> Outcome:
    unreadable = collected.unreadable | fetched.failed
    dropped = +collected.dropped
    dropped["skipped_files"] = sum(map(len, files.skipped.values()))
    dropped["unreadable_files"] = sum(map(len, unreadable.values()))
    results: dict[str, Any] = {
        "read_files": len(collected.files),
        "read_anew": collected.read_anew,
        "unreadable": unreadable,
        "remarks": collected.remarks | fetched.remarks,
        "files": list(sides),
    }
    return Outcome(count, dict(+dropped), results)


def _with_ids_noted(documents: Iterator[Document], doc_ids: set[str]) -> Iterator[Document]:
    for document in documents:
        doc_ids.add(document.doc_id)
        yield document


def _within(topics: Topics, doc_ids: set[str]) -> Topics:
    """The topics limited to these documents; topics without judgements are unchanged."""
    if not topics.qrels:
        return topics
    qrels = {
        query_id: {doc_id: grade for doc_id, grade in grades.items() if doc_id in doc_ids}
        for query_id, grades in topics.qrels.items()
    }
    judged = {query_id: grades for query_id, grades in qrels.items() if grades}
    return replace(topics, queries={query_id: topics.queries[query_id] for query_id in judged}, qrels=judged)


def _sides(output: Path, topics: Mapping[str, Topics]) -> list[Path]:
    judged = [qrels_path(output, split) for split, split_topics in topics.items() if split_topics.qrels]
    return [queries_path(output), *judged] if topics else []


def _write_topics(stage: Stage, topics: Mapping[str, Topics]) -> list[str]:
    """Write the queries of all splits to one file and the qrels of each split; remove files of an earlier run.

    Returns the names of the written files; a split without judgements has none.
    """
    queries = {query_id: text for split_topics in topics.values() for query_id, text in split_topics.queries.items()}
    sides = _sides(stage.output, topics) if queries else []
    if sides:
        write_queries(queries_path(stage.output), (Query(query_id, text) for query_id, text in queries.items()))
    for split, split_topics in topics.items():
        if split_topics.qrels:
            write_qrels(qrels_path(stage.output, split), split_topics.qrels)
    for path in set(stage.sides) - set(sides):
        with storage_errors(path):
            path.unlink(missing_ok=True)
    return [path.relative_to(stage.output.parent).as_posix() for path in sides]


def _files_of(dataset: Dataset) -> list[Path]:
    """The files of a dataset on disk."""
    folder = dataset.corpus.path.parent
    topic_files = [*(folder / name for name in QUERY_NAMES), *(folder / "qrels").glob("*.tsv")]
    return [dataset.corpus.path, *(topic_files if dataset.splits else [])]


def _former_sides(output: Path) -> list[Path]:
    manifest = read_manifest(output)
    files = manifest.results.get("files", []) if manifest is not None and manifest.stage == STAGE else []
    return [output.parent / name for name in files]
