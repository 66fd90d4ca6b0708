"""Search structures for many vectors, by faiss: HNSW graphs and inverted lists.

They hold the vectors in half precision and only propose rows, which the caller compares exactly. Several threads build
a graph in another order each time, so that two builds may miss different neighbours. HNSW: Malkov and Yashunin (arXiv
1603.09320); inverted lists: Jégou, Douze and Schmid, TPAMI 2011; faiss: arXiv 2401.08281.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeAlias

import faiss
import numpy as np
import numpy.typing as npt

from inpars.retrieval.segments import Embeddings, Rows

Approximation: TypeAlias = Literal["hnsw", "ivf"]
LINKS = 32  # of a vector in a graph
BUILD_WIDTH = 128  # candidates looked at while a graph is built
SEARCH_WIDTH = 128  # and while it is searched, or twice k where that is more
LISTS_PER_ROOT = 4  # lists for the square root of the number of vectors, as faiss's guidelines have it
PROBED_SHARE = 1 / 16  # of the lists
VECTORS_PER_LIST = 64  # that a list's centre is learnt from
ROWS_PER_BLOCK = 65_536
_READ = faiss.IO_FLAG_READ_ONLY


def build_structure(kind: Approximation, vectors: Embeddings, path: Path) -> None:
    """Write the structure of all vectors to a file."""
    count, width = vectors.shape
    half = faiss.ScalarQuantizer.QT_fp16
    if kind == "hnsw":
        index: Any = faiss.IndexHNSWSQ(width, half, LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = BUILD_WIDTH
        index.train(_sample(vectors, VECTORS_PER_LIST))
    else:
        lists = max(1, min(count, round(LISTS_PER_ROOT * count**0.5)))
        centres = faiss.IndexFlatIP(width)
        index = faiss.IndexIVFScalarQuantizer(centres, width, lists, half, faiss.METRIC_INNER_PRODUCT)
        index.cp.min_points_per_centroid = 1
        index.train(_sample(vectors, lists * VECTORS_PER_LIST))
    for start in range(0, count, ROWS_PER_BLOCK):
        index.add(np.ascontiguousarray(vectors[start : start + ROWS_PER_BLOCK]))
    faiss.write_index(index, str(path))


class Structure:
    """A structure on disk, mapped into memory where faiss can; safe to search from several threads."""

    def __init__(self, kind: Approximation, path: Path) -> None:
        self._kind = kind
        flags = faiss.IO_FLAG_MMAP_IFC if kind == "hnsw" else faiss.IO_FLAG_MMAP | _READ
        self._index: Any = faiss.read_index(str(path), flags)

    def propose(self, queries: Embeddings, k: int, allowed: npt.NDArray[np.bool_]) -> list[Rows]:
        """About the k nearest allowed rows of each query, fewer where it finds no more."""
        bits = np.packbits(allowed, bitorder="little")
        selector = faiss.IDSelectorBitmap(bits)
        _, rows = self._index.search(np.ascontiguousarray(queries), k, params=self._settings(selector, k))
        return [neighbours[neighbours >= 0] for neighbours in rows]

    def _settings(self, selector: Any, k: int) -> Any:
        if self._kind == "hnsw":
            return faiss.SearchParametersHNSW(sel=selector, efSearch=max(SEARCH_WIDTH, 2 * k))
        return faiss.SearchParametersIVF(sel=selector, nprobe=max(8, round(self._index.nlist * PROBED_SHARE)))


def _sample(vectors: Embeddings, size: int) -> Embeddings:
    """That many vectors, evenly spread."""
    step = max(1, len(vectors) // max(1, size))
    return np.ascontiguousarray(vectors[::step])
