"""The stage that prepares a corpus: a dataset or a folder of texts in, BEIR's files out.

Beside `corpus.jsonl` lie `queries.jsonl` and `qrels/<split>.tsv` where the dataset has queries.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from inpars.datasets import QUERY_NAMES, Dataset, Topics
from inpars.documents.ingest import MAX_WORDS, FoundFiles, find_files, read_file, relative_name
from inpars.errors import DataFormatError
from inpars.formats import write_documents, write_qrels, write_queries
from inpars.manifest import Manifest, manifest_path, read_manifest
from inpars.options import check, option
from inpars.progress import SILENT, Progress
from inpars.records import Document, Query
from inpars.stages.stage import Outcome, refuse_to_overwrite, run_stage
from inpars.storage import storage_errors

STAGE = "ingest"


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestOptions:
    """What becomes a document."""

    max_words: int = option(
        MAX_WORDS, help="words of a document made from files; paragraphs are kept whole within it", minimum=1
    )
    limit: int | None = option(None, help="only the first N documents, to try things out", minimum=1)


def queries_path(output: Path) -> Path:
    """Where the queries of an ingested corpus lie."""
    return output.with_name("queries.jsonl")


def qrels_path(output: Path, split: str) -> Path:
    """Where the judgements of a split of an ingested corpus lie."""
    return output.with_name("qrels") / f"{split}.tsv"


def ingest_dataset(
    dataset: Dataset,
    options: IngestOptions,
    *,
    output: Path,
    sources: Sequence[Path] = (),
    progress: Progress = SILENT,
    overwrite: bool = False,
) -> Manifest:
    """Write the documents, and beside them queries and judgements; `sources` are input files never to be overwritten.

    With a limit, judgements of documents left out go, and so do the queries that then have none.
    """
    check(options)
    topics = {split: dataset.topics(split) for split in dataset.splits}
    sides = _sides(output, topics)
    refuse_to_overwrite([output, *sides], [*_files_of(dataset), *sources])
    inputs = {"corpus": dataset.corpus_stamp} | {f"{split} topics": found.stamp for split, found in topics.items()}
    former = _former_sides(output)

    def work() -> Outcome:
        track = progress.track(
            _first(dataset.corpus, options.limit), total=len(dataset.corpus), description="ingest", unit="documents"
        )
        doc_ids: set[str] = set()
        count = write_documents(output, _noted(track, doc_ids if options.limit is not None else None))
        kept = {split: found if options.limit is None else _within(found, doc_ids) for split, found in topics.items()}
        written = _write_topics(output, kept)
        _remove(former - set(written))
        return Outcome(
            count,
            {"not_in_limit": len(dataset.corpus) - count},
            {"files": [path.relative_to(output.parent).as_posix() for path in written]},
        )

    redo = overwrite or (output.exists() and not all(path.exists() for path in former))
    return run_stage(STAGE, options, output=output, inputs=inputs, work=work, progress=progress, overwrite=redo)


def ingest_folder(
    folder: Path,
    options: IngestOptions,
    *,
    output: Path,
    progress: Progress = SILENT,
    overwrite: bool = False,
) -> tuple[Manifest, FoundFiles]:
    """Write the texts of a folder as documents, and tell which files were read and which were not."""
    check(options)
    former = _former_sides(output)
    found = find_files(folder, leave_out=[output, manifest_path(output), *former])
    inputs = {"files": found.stamp}

    def work() -> Outcome:
        track = progress.track(found.readable, total=len(found.readable), description="ingest", unit="files")
        documents = (
            document for path in track for document in read_file(path, relative_name(path, folder), options.max_words)
        )
        count = write_documents(output, _first(documents, options.limit))
        if not count:
            with storage_errors(output):
                output.unlink()
            raise DataFormatError("there is no text in any file of this folder", path=folder)
        _remove(former)
        skipped = {"skipped_files": sum(map(len, found.skipped.values()))}
        return Outcome(count, skipped, {"read_files": len(found.readable)})

    manifest = run_stage(
        STAGE, options, output=output, inputs=inputs, work=work, progress=progress, overwrite=overwrite
    )
    return manifest, found


def _first(documents: Iterable[Document], limit: int | None) -> Iterator[Document]:
    return islice(iter(documents), limit)


def _noted(documents: Iterator[Document], doc_ids: set[str] | None) -> Iterator[Document]:
    """The documents, their ids noted where they are asked for."""
    for document in documents:
        if doc_ids is not None:
            doc_ids.add(document.doc_id)
        yield document


def _within(topics: Topics, doc_ids: set[str]) -> Topics:
    """The topics of a corpus that holds these documents alone; those without judgements stay whole."""
    if not topics.qrels:
        return topics
    kept = {
        query_id: {doc_id: grade for doc_id, grade in grades.items() if doc_id in doc_ids}
        for query_id, grades in topics.qrels.items()
    }
    judged = {query_id: grades for query_id, grades in kept.items() if grades}
    return Topics(topics.split, {query_id: topics.queries[query_id] for query_id in judged}, judged)


def _sides(output: Path, topics: Mapping[str, Topics]) -> list[Path]:
    judged = [qrels_path(output, split) for split, found in topics.items() if found.qrels]
    return [queries_path(output), *judged] if topics else []


def _write_topics(output: Path, topics: Mapping[str, Topics]) -> list[Path]:
    """Write the queries of all splits as one file and the judgements of each; a split without any has no file."""
    queries = {query_id: text for found in topics.values() for query_id, text in found.queries.items()}
    sides = _sides(output, topics) if queries else []
    if sides:
        write_queries(queries_path(output), (Query(query_id, text) for query_id, text in queries.items()))
    for split, found in topics.items():
        if found.qrels:
            write_qrels(qrels_path(output, split), found.qrels)
    return sides


def _files_of(dataset: Dataset) -> list[Path]:
    """The files a dataset on disk is read from."""
    folder = dataset.corpus.path.parent
    beside = [*(folder / name for name in QUERY_NAMES), *(folder / "qrels").glob("*.tsv")]
    return [dataset.corpus.path, *(beside if dataset.splits else [])]


def _former_sides(output: Path) -> set[Path]:
    """The files an earlier run wrote beside this output."""
    manifest = read_manifest(output)
    files = manifest.results.get("files", []) if manifest is not None and manifest.stage == STAGE else []
    return {output.parent / name for name in files}


def _remove(paths: set[Path]) -> None:
    for path in paths:
        with storage_errors(path):
            path.unlink(missing_ok=True)
