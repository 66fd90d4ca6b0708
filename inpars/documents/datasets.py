"""Load collections by name or path: documents and, if available, queries with judgements.

A name is `python-docs`, a BEIR folder or zip, a corpus file, or a name known to `ir_datasets`. Documents stay on disk;
the queries and judgements of one split are in memory.
"""

from __future__ import annotations

import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path, PurePosixPath
from typing import Literal, TypeAlias

from inpars.cache import cache_folder
from inpars.documents import python_docs
from inpars.documents.ir_collections import ir_corpus, ir_dataset, ir_splits, like_named
from inpars.errors import ConfigError, DataFormatError, UnknownNameError
from inpars.io.corpus import Corpus, cached_corpus, file_key
from inpars.io.formats import read_queries
from inpars.io.judgements import read_qrels
from inpars.io.manifest import FileStamp
from inpars.io.model_judgements import origin_of
from inpars.io.packing import PACKED_SUFFIXES, plain_name
from inpars.io.storage import atomic_folder
from inpars.io.topics import DEFAULT_SPLIT, Topics, joined
from inpars.progress import SILENT, Note, Progress
from inpars.records import Qrels

Splits: TypeAlias = Mapping[str, Callable[[], Topics]]
Parts: TypeAlias = tuple[Callable[[], Corpus], Splits]
UnknownJudgements: TypeAlias = Literal["error", "keep", "drop"]
CORPUS_NAMES = ("corpus.jsonl", "corpus.jsonl.gz", "corpus.tsv", "corpus.tsv.gz", "collection.tsv")
FILE_SUFFIXES = {".zip", ".json", ".jsonl", ".tsv", ".csv", ".txt", ".parquet", *PACKED_SUFFIXES}
QUERY_NAMES = ("queries.jsonl", "queries.jsonl.gz", "queries.tsv")
QRELS_NAMES = ("qrels.tsv", "qrels.tsv.gz", "qrels.txt")
MAX_LISTED = 5  # collections in an error message
ZIP_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, NotImplementedError, RuntimeError, ValueError, IndexError),  # the last for an empty name
)
"""What `zipfile` raises for damaged archives."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A corpus with its splits."""

    name: str
    corpus: Corpus
    splits: Splits = field(default_factory=dict)

    def topics(self, split: str = DEFAULT_SPLIT) -> Topics:
        """Queries and judgements of a split. Raises ConfigError if there are no queries at all."""
        return _topics(self.name, self.splits, split)

    @property
    def corpus_stamp(self) -> FileStamp:
        """A stamp of the documents' content."""
        return self.corpus.stamp


def load_dataset(
    name: str | None,
    *,
    corpus: Path | None = None,
    queries: Path | None = None,
    qrels: Path | None = None,
    unknown_judgements: UnknownJudgements = "error",
    progress: Progress = SILENT,
) -> Dataset:
    """Load the named collection; `corpus`, `queries` and `qrels` replace its parts.

    `unknown_judgements` decides about judgements of documents missing from the corpus: raise an error, keep them (like
    trec_eval, they count as relevant documents that no run can find), or drop them. Raises DataFormatError,
    UnknownNameError, BackendError, ConfigError.
    """
    open_corpus, splits = _open_named(name, progress) if name is not None else (_no_documents, {})
    documents = Corpus(corpus) if corpus is not None else open_corpus()
    for remark in documents.remarks:
        progress.note(remark)
    if queries is None and qrels is not None and name is not None and (file := _beir_file(name)) is not None:
        queries = _first_file(file.parent, QUERY_NAMES)  # of all splits
    if queries is not None or qrels is not None:
        splits = {DEFAULT_SPLIT: partial(_replaced, splits, queries, qrels, progress)}
    return Dataset(
        name or str(documents.path),
        documents,
        {split: _checked(load, documents, unknown_judgements, progress) for split, load in splits.items()},
    )


def load_judged(
    name: str | None, qrels: Path | None, split: str = DEFAULT_SPLIT, progress: Progress = SILENT
) -> Topics:
    """Judgements and their origin, from a file (then without the queries' texts) or a named collection.

    The documents are not opened unless necessary.
    """
    if qrels is not None:
        return Topics(split, {}, _given_qrels(qrels, progress), origin=origin_of(qrels))
    if name is None:
        raise ConfigError("no judgements named: give --dataset NAME or --qrels FILE")
    topics = load_topics(name, split)
    if not topics.qrels:
        raise ConfigError(f"{name}: split {split!r} has no judgements; give them with --qrels FILE")
    topics.say_remarks(progress)
    return topics


def load_topics(name: str, split: str = DEFAULT_SPLIT) -> Topics:
    """Queries and judgements of a named collection, without opening its documents (except for python-docs).

    Judgements of documents missing from the corpus are kept.
    """
    return _topics(name, _open_named(name, SILENT)[1], split)


def _topics(name: str, splits: Splits, split: str) -> Topics:
    if not splits:
        raise ConfigError(f"{name}: there are no queries here; give them with --queries FILE")
    if split not in splits:
        raise UnknownNameError(f"split of {name}", split, splits, "give one of these with --split")
    return splits[split]()


def _no_documents() -> Corpus:
    raise ConfigError("no documents named: give --dataset NAME or --corpus FILE")


def _open_named(name: str, progress: Progress) -> Parts:
    """A function that opens the documents, and the splits; opens nothing yet."""
    if name == python_docs.NAME:
        return _python_docs()
    if (file := _beir_file(name)) is not None:
        return lambda: Corpus(file), _beir_splits(file, progress.note)
    path = Path(name).expanduser()
    if path.is_file():
        return lambda: Corpus(path), {}
    if path.suffix in FILE_SUFFIXES or path.is_absolute() or name.startswith((".", "~")):
        raise DataFormatError("no such dataset; check the path", path=name)
    dataset = ir_dataset(name)
    if like := like_named(name):
        progress.note(f"--dataset {name} is ir_datasets' own; {' or '.join(like)} is another collection of that name")
    return lambda: ir_corpus(dataset, name), ir_splits(dataset, name)


def _python_docs() -> Parts:
    corpus = cache(lambda: cached_corpus(python_docs.cache_key(), python_docs.documents))

    def load(split: python_docs.Split) -> Topics:
        qrels, missing = python_docs.qrels(split, corpus())
        remark = f"python-docs: {len(missing)} judged ids do not exist in this Python, left out"
        remarks = (f"{remark} ({missing[0]}, ...)",) if missing else ()
        texts = {query.query_id: query.text for query in python_docs.queries(split)}
        return Topics(split, {query_id: texts[query_id] for query_id in qrels}, qrels, remarks)

    return corpus, {"test": lambda: load("test"), "dev": lambda: load("dev")}


def _beir_file(name: str) -> Path | None:
    """The corpus of a BEIR folder or zip, None for other names."""
    path = Path(name).expanduser()
    if name == python_docs.NAME or not (path.is_dir() or (path.is_file() and path.suffix == ".zip")):
        return None
    return beir_corpus(path if path.is_dir() else unpacked(path, cache_folder()), name)


def beir_corpus(folder: Path, name: str) -> Path:
    """The corpus in the folder or, as in many zips, one level below. Raises DataFormatError."""
    if (corpus := _first_file(folder, CORPUS_NAMES)) is not None:
        return corpus
    found = [file for child in sorted(folder.iterdir()) if (file := _first_file(child, CORPUS_NAMES)) is not None]
    if len(found) > 1:
        several = ", ".join(file.parent.name for file in found[:MAX_LISTED])
        raise DataFormatError(f"{len(found)} collections here ({several}); name the folder of one", path=name)
    if not found:
        raise DataFormatError(f"no corpus here; a BEIR folder has one of {', '.join(CORPUS_NAMES)}", path=name)
    return found[0]


def _first_file(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _beir_splits(corpus: Path, note: Note) -> Splits:
    """The splits next to a corpus file; without judgements all queries form one split."""
    folder = corpus.parent
    queries = _first_file(folder, QUERY_NAMES)
    if queries is None:
        return {}
    files = sorted((folder / "qrels").glob("*.tsv*"), reverse=True)  # an unpacked file comes last and wins
    judged = {plain_name(file).removesuffix(".tsv"): file for file in files if plain_name(file).endswith(".tsv")}
    if not judged and (qrels := _first_file(folder, QRELS_NAMES)) is not None:
        judged = {DEFAULT_SPLIT: qrels}
    splits = {split: partial(_topics_of_files, split, queries, file, note) for split, file in sorted(judged.items())}
    return splits or {DEFAULT_SPLIT: partial(_topics_of_files, DEFAULT_SPLIT, queries, None, note)}


def _topics_of_files(split: str, queries: Path, qrels: Path | None, note: Note) -> Topics:
    texts = {query.query_id: query.text for query in read_queries(queries, note)}
    if qrels is None:
        return joined(split, texts, {}, str(queries))
    return joined(split, texts, read_qrels(qrels), str(queries), origin_of(qrels))


def _replaced(
    splits: Mapping[str, Callable[[], Topics]], queries: Path | None, qrels: Path | None, progress: Progress
) -> Topics:
    """The default split with queries, judgements or both from files."""
    if queries is None:
        if DEFAULT_SPLIT not in splits:
            raise ConfigError("--qrels without queries: give --queries FILE too, or a --dataset that has them")
        texts, where = splits[DEFAULT_SPLIT]().queries, "the dataset's queries"
    else:
        texts, where = {query.query_id: query.text for query in read_queries(queries, progress.note)}, str(queries)
        if not texts:
            raise DataFormatError("no queries in this file", path=queries)
    if qrels is None:
        return joined(DEFAULT_SPLIT, texts, {}, where)
    return joined(DEFAULT_SPLIT, texts, _given_qrels(qrels, progress), where, origin_of(qrels))


def _given_qrels(path: Path, progress: Progress) -> Qrels:
    """The judgements of a file. Raises DataFormatError if there are none."""
    judged = read_qrels(path, progress)
    if not judged:
        raise DataFormatError("no judgements in this file", path=path)
    return judged


def _checked(
    load: Callable[[], Topics], corpus: Corpus, policy: UnknownJudgements, progress: Progress
) -> Callable[[], Topics]:
    """Apply the policy for judgements of documents missing from the corpus."""

    def loaded() -> Topics:
        topics = load()
        judged = dict.fromkeys(doc_id for grades in topics.qrels.values() for doc_id in grades)
        unknown = [doc_id for doc_id in judged if doc_id not in corpus]
        if not unknown or policy == "keep":
            return topics
        problem = f"{len(unknown)} of {len(judged)} judged documents are not in the corpus, {unknown[0]!r} first"
        where = f"{corpus.path} ({topics.split} judgements)"
        if policy == "error":
            raise DataFormatError(
                f"{problem}; check that they belong together, or go on with --unknown-judgements keep or drop",
                path=where,
            )
        if len(unknown) == len(judged):
            raise DataFormatError(f"{problem}; none would be left", path=where)
        progress.note(f"{problem}; their judgements are dropped")
        missing = set(unknown)
        qrels = {
            query_id: {doc_id: grade for doc_id, grade in grades.items() if doc_id not in missing}
            for query_id, grades in topics.qrels.items()
        }
        return replace(topics, qrels={query_id: grades for query_id, grades in qrels.items() if grades})

    return loaded


def unpacked(path: Path, cache: Path) -> Path:
    """The folder in the cache with the archive's files, unpacked the first time.

    Raises DataFormatError for a damaged archive, or one with an entry outside its folder.
    """
    target = cache / "archives" / file_key(path)
    if not target.exists():
        with atomic_folder(target) as working:
            _unpack(path, working)
    return target


def _unpack(path: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                _reject_escape(entry, path)
            archive.extractall(folder)
    except ZIP_DAMAGE as error:
        raise DataFormatError(f"not a whole zip archive ({error}); fetch it again", path=path) from None


def _reject_escape(entry: zipfile.ZipInfo, path: Path) -> None:
    parts = PurePosixPath(entry.filename.replace("\\", "/"))
    drive = ":" in (parts.parts[0] if parts.parts else "")
    if parts.is_absolute() or drive or ".." in parts.parts:
        raise DataFormatError(
            "an entry points outside the archive's folder; the archive is refused", path=path, excerpt=entry.filename
        )
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise DataFormatError("an entry is a link; the archive is refused", path=path, excerpt=entry.filename)
