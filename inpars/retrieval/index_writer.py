"""Build an index on disk, add and delete documents, and merge small segments; each change is atomic.

An interrupted `add` of the same documents resumes after the last complete block of embeddings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from inpars.batches import chunks
from inpars.errors import ConfigError, DataFormatError, StaleInputError
from inpars.io.corpus import Documents
from inpars.io.formats import read_documents
from inpars.io.storage import storage_errors
from inpars.progress import SILENT, Progress
from inpars.records import Document
from inpars.retrieval.blocks import FillBlocks, SaveBlock, counts_path, fill_here
from inpars.retrieval.index_state import (
    DELETIONS,
    SEGMENTS,
    IndexState,
    SegmentEntry,
    StructureKind,
    commit,
    is_index,
    read_state,
    remove_stale,
    writing,
)
from inpars.retrieval.retrievers import Retriever
from inpars.retrieval.segments import (
    DOCUMENTS,
    VECTORS,
    Embeddings,
    Rows,
    Segment,
    read_texts_at,
    save_array,
    sync_folder,
    write_rows,
    write_vectors,
    write_view,
)
from inpars.retrieval.vector_index import STRUCTURE_FILE, VectorIndex, approximate, choose_structure
from inpars.text.hashing import hex_key

if TYPE_CHECKING:
    from inpars.retrieval.dense import Encoder

DOCUMENTS_PER_BLOCK = 2048  # saved together
VIEW_BLOCK = "windows-"
MAX_SEGMENTS = 8  # beyond which small segments are merged
MAX_DELETED = 0.3  # share of deleted rows beyond which a segment is rewritten


Views: TypeAlias = "Mapping[str, Encoder]"
NO_VIEWS: Views = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Change:
    """Counts of documents changed by a writer."""

    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    deleted: int = 0


def build_index(
    folder: Path,
    documents: Documents,
    encoder: Encoder,
    *,
    structure: str = "auto",
    overwrite: bool = False,
    views: Views = NO_VIEWS,
    fill: FillBlocks | None = None,
    progress: Progress = SILENT,
) -> Change:
    """Build a new index. Raises ConfigError if the folder already contains one, unless `overwrite` is set.

    `views` embed each document again, for instance in windows. With `fill`, other processes embed whole documents and
    `encoder` only identifies the model.
    """
    if not overwrite and is_index(folder):
        raise ConfigError(
            f"{folder} already holds an index; `inpars index add` adds to it, --overwrite builds it again"
        )
    with writing(folder):
        former: IndexState | None = None
        with suppress(DataFormatError):  # missing or damaged
            former = read_state(folder)
        width = encoder.encode_documents(["width"]).shape[1]
        state = IndexState(encoder.name, weights_of(encoder), width, structure=structure)  # type: ignore[arg-type]
        state = replace(state, generation=former.generation if former else 0, views=_weights_of(views))
        entry = _new_segment(folder, former, state, documents, encoder, progress, fill, views)
        commit(folder, state.after(*([entry] if entry else [])))
        remove_stale(folder, read_state(folder))
        return Change(added=entry.documents if entry else 0)


def add_documents(
    folder: Path,
    documents: Documents,
    encoder: Encoder,
    *,
    sync: bool = False,
    views: Views = NO_VIEWS,
    fill: FillBlocks | None = None,
    progress: Progress = SILENT,
) -> Change:
    """Add documents; a document with a known id replaces the old one unless they are equal.

    `sync` also deletes indexed documents that are not in `documents`; `views` are those of the index. Raises
    StaleInputError if the index was built with another model.
    """
    read_state(folder)
    with writing(folder):
        index = VectorIndex(folder)
        check_encoder(index.state, encoder)
        check_views(index.state, views)
        removed: list[str] = []
        unchanged = 0

        def changed() -> Iterator[Document]:
            nonlocal unchanged
            removed.clear()
            unchanged = 0
            for document in documents:
                location = index.find(document.doc_id)
                if location is not None and index.segments[location[0]].document(location[1]) == document:
                    unchanged += 1
                    continue
                if location is not None:
                    removed.append(document.doc_id)
                yield document

        fresh = _Filtered(documents.sha256, changed)
        entry = _new_segment(folder, index.state, index.state, fresh, encoder, progress, fill, views)
        replaced = len(removed)
        if sync:
            removed += [document.doc_id for document in index if document.doc_id not in documents]
        if entry or removed:
            remaining = _without(folder, index, removed)
            commit(folder, index.state.after(*remaining, *([entry] if entry else [])))
        merge_small(folder, progress)
        added = (entry.documents if entry else 0) - replaced
        return Change(added, replaced, unchanged, len(removed) - replaced)


def delete_documents(folder: Path, doc_ids: Iterable[str], *, progress: Progress = SILENT) -> Change:
    """Delete documents; unknown ids count as unchanged."""
    read_state(folder)
    with writing(folder):
        index = VectorIndex(folder)
        unique_ids = list(dict.fromkeys(doc_ids))
        removed = [doc_id for doc_id in unique_ids if doc_id in index]
        if removed:
            commit(folder, index.state.after(*_without(folder, index, removed)))
            merge_small(folder, progress)
        return Change(unchanged=len(unique_ids) - len(removed), deleted=len(removed))


def weights_of(encoder: Retriever) -> str:
    """Identifies an encoder's weights, without its number format."""
    return encoder.fingerprint.rpartition("\0")[0] or encoder.fingerprint


def check_encoder(state: IndexState, encoder: Retriever) -> None:
    """Raise StaleInputError unless the index was built with this encoder."""
    if state.weights != weights_of(encoder):
        raise StaleInputError(
            f"the index was made with {state.model}, and {encoder.name} has other weights or another length limit; "
            "name that model, or build the index again"
        )


def _weights_of(views: Views) -> dict[str, str]:
    return {name: f"{weights_of(view)}\0{view.window_tokens}" for name, view in views.items()}


def check_views(state: IndexState, views: Views) -> None:
    """Raise StaleInputError unless the index was built with these views."""
    if dict(state.views) != _weights_of(views):
        names = ", ".join(sorted(state.views)) or "none"
        raise StaleInputError(f"the index was made with other models or windows (views: {names}); build it again")


def merge_small(folder: Path, progress: Progress = SILENT) -> None:
    """Merge small segments if there are many, rewrite segments with many deleted rows, and remove stale files.

    Embeddings are copied, not recomputed. The caller holds the lock.
    """
    index = VectorIndex(folder)
    rows = [len(segment) for segment in index.segments]
    mostly_deleted = [len(segment) - segment.live_count > MAX_DELETED * len(segment) for segment in index.segments]
    many = len(rows) > MAX_SEGMENTS
    chosen = [
        number for number, count in enumerate(rows) if mostly_deleted[number] or (many and count * 2 <= max(rows))
    ]
    if many and len(chosen) < 2:
        chosen = list(range(len(rows)))
    if chosen:
        progress.note(f"index: {len(chosen)} of {len(rows)} parts are merged")
        entry = _merged(folder, index, chosen)
        remaining = [entry for number, entry in enumerate(index.state.segments) if number not in chosen]
        commit(folder, index.state.after(*remaining, *([entry] if entry else [])))
    remove_stale(folder, read_state(folder))


@dataclass(frozen=True, slots=True)
class _Filtered:
    """A filtered view of documents that keeps their hash; each iteration filters again."""

    sha256: str
    read: Callable[[], Iterator[Document]]

    def __iter__(self) -> Iterator[Document]:
        return self.read()


def _new_segment(
    folder: Path,
    former: IndexState | None,
    state: IndexState,
    documents: Documents | _Filtered,
    encoder: Encoder,
    progress: Progress,
    fill: FillBlocks | None,
    views: Views,
) -> SegmentEntry | None:
    """Write documents and embeddings as a segment that is not in the state yet; None without documents."""
    key = f"{state.weights}\0{state.structure}\0{state.digest}\0{state.generation}\0{documents.sha256}"
    key += "".join(f"\0{name}\0{weights}" for name, weights in state.views.items())
    name = f"{state.generation + 1:06}-{hex_key(key, digits=12)}"
    remove_stale(folder, former, keep=name)
    working = folder / SEGMENTS / name
    with storage_errors(working):
        working.mkdir(exist_ok=True)
        count = write_rows(working, iter(documents))
        if not count:
            return None
        numbers = range(-(-count // DOCUMENTS_PER_BLOCK))
        if not (working / VECTORS).exists():
            blocks = [working / f"block-{number:06}.npy" for number in numbers]
            if fill is not None:
                fill(SegmentRows(working.absolute()), blocks, DOCUMENTS_PER_BLOCK, count, progress)
            _encode(working, blocks, count, encoder, progress)
            write_vectors(working, (np.load(block) for block in blocks), count, state.width)
        for view, view_encoder in views.items():
            if not (working / f"view-{view}.npy").exists():
                blocks = [working / f"{VIEW_BLOCK}{view}-{number:06}.npy" for number in numbers]
                _encode(working, blocks, count, view_encoder, progress)
                windows = ((np.load(block), np.load(counts_path(block))) for block in blocks)
                write_view(working, view, windows)
        for block in [*working.glob("block-*"), *working.glob(f"{VIEW_BLOCK}*")]:
            block.unlink()
    return _finish(folder, working, choose_structure(state.structure, count), progress)


def _encode(working: Path, blocks: Sequence[Path], count: int, encoder: Encoder, progress: Progress) -> None:
    """Embed the rows block by block, skipping blocks that exist; for window blocks also save the window counts."""

    def save(block: Path, documents: Sequence[Document]) -> None:
        if block.name.startswith(VIEW_BLOCK):
            vectors, sizes = encoder.encode_in_windows(documents, progress)
            save_array(counts_path(block), sizes)
        else:
            vectors = encoder.encode_documents([document.full_text for document in documents], progress)
        save_array(block, vectors)  # last, as it marks the block as complete

    parts = chunks(read_documents(working / DOCUMENTS), DOCUMENTS_PER_BLOCK)
    for _ in fill_here(blocks, parts, save, DOCUMENTS_PER_BLOCK, count, encoder.name, progress):
        pass


@dataclass(frozen=True, slots=True)
class SegmentRows:
    """The rows of a segment; pickled as its path."""

    folder: Path

    def open(self) -> SaveBlock:
        return lambda encoder, rows, block: save_array(
            block, encoder.encode_documents(read_texts_at(self.folder, rows))
        )


def _finish(folder: Path, working: Path, kind: StructureKind, progress: Progress) -> SegmentEntry:
    """Build the search structure, flush everything to disk, and return the segment's entry."""
    segment = Segment(working)
    if kind != "exact":
        progress.note(f"index: building {kind} of {len(segment)} documents")
        approximate().build_structure(kind, segment.vectors, working / STRUCTURE_FILE)
    with storage_errors(working):
        sync_folder(working)
        sync_folder(folder / SEGMENTS)
    return SegmentEntry(working.name, len(segment), kind)


def _without(folder: Path, index: VectorIndex, doc_ids: Iterable[str]) -> list[SegmentEntry]:
    """The entries of all segments after deleting documents; writes the lists of deleted rows."""
    dead = [~segment.live for segment in index.segments]
    touched: set[int] = set()
    for doc_id in doc_ids:
        if (location := index.find(doc_id)) is not None:
            dead[location[0]][location[1]] = True
            touched.add(location[0])
    entries = list(index.state.segments)
    for number in sorted(touched):
        name = f"{index.state.generation + 1:06}-{entries[number].name}.npy"
        save_array(folder / DELETIONS / name, np.flatnonzero(dead[number]))
        entries[number] = replace(entries[number], deleted=name)
    if touched:
        sync_folder(folder / DELETIONS)
    return entries


def _merged(folder: Path, index: VectorIndex, chosen: Sequence[int]) -> SegmentEntry | None:
    """Merge the live rows of several segments into one; None if there are none."""
    parts = [index.segments[number] for number in chosen]
    working = folder / SEGMENTS / f"{index.state.generation + 1:06}-merged"
    with storage_errors(working):
        working.mkdir(exist_ok=True)
        count = write_rows(working, (document for part in parts for document in part.documents()))
        if not count:
            return None
        vectors = (np.asarray(rows) for part in parts for rows in _live_vectors(part))
        write_vectors(working, vectors, count, index.state.width)
        for view in index.state.views:
            write_view(working, view, (_live_windows(part, view) for part in parts))
    return _finish(folder, working, choose_structure(index.state.structure, count), SILENT)


def _live_windows(segment: Segment, view: str) -> tuple[Embeddings, Rows]:
    vectors, counts = segment.view(view)
    return np.asarray(vectors[np.repeat(segment.live, counts)]), np.asarray(counts[segment.live])


def _live_vectors(segment: Segment) -> Iterator[Embeddings]:
    for start in range(0, len(segment), DOCUMENTS_PER_BLOCK):
        stop = start + DOCUMENTS_PER_BLOCK
        yield segment.vectors[start:stop][segment.live[start:stop]]
