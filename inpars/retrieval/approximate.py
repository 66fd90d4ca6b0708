"""Approximate nearest-neighbour search with faiss: HNSW graphs, inverted lists and quantized vectors.

Vectors are quantized to half precision, 8 bits (`int8`) or one bit (`binary`) per dimension. The structures only
propose rows, which the caller scores exactly. Threads build a graph in varying order, so two builds may miss different
neighbours. HNSW: Malkov and Yashunin (arXiv 1603.09320); inverted lists: Jégou, Douze and Schmid, TPAMI 2011; one bit:
RaBitQ, Gao and Long (arXiv 2405.12497); faiss: arXiv 2401.08281.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import faiss
import numpy as np
import numpy.typing as npt

from inpars.retrieval.segments import Embeddings, Rows

Approximation: TypeAlias = Literal["hnsw", "ivf", "int8", "binary"]
PROPOSED: Mapping[Approximation, int] = {"hnsw": 2, "ivf": 2, "int8": 2, "binary": 20}  # candidates per result
LINKS = 32  # HNSW's M
BUILD_WIDTH = 128  # HNSW's efConstruction
SEARCH_WIDTH = 128  # HNSW's minimum efSearch
LISTS_PER_ROOT = 4  # times the square root of the number of vectors, as faiss's guidelines recommend
PROBED_SHARE = 1 / 16  # of the lists
VECTORS_PER_LIST = 64  # for training the centroids
TRAINED_ON = 65_536  # vectors for training the quantizers
ROWS_PER_BLOCK = 65_536
_READ = faiss.IO_FLAG_READ_ONLY


def build_structure(kind: Approximation, vectors: Embeddings, path: Path) -> None:
    """Build a structure of all vectors and write it to a file."""
    count, width = vectors.shape
    half = faiss.ScalarQuantizer.QT_fp16
    if kind == "hnsw":
        index: Any = faiss.IndexHNSWSQ(width, half, LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = BUILD_WIDTH
        index.train(_sample(vectors, VECTORS_PER_LIST))
    elif kind == "int8":
        index = faiss.IndexScalarQuantizer(width, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
        index.train(_sample(vectors, TRAINED_ON))
    elif kind == "binary":
        index = faiss.IndexRaBitQ(width, faiss.METRIC_INNER_PRODUCT)
        index.train(_sample(vectors, TRAINED_ON))
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
    """A structure on disk, memory-mapped if faiss supports it; safe to search from several threads."""

    def __init__(self, kind: Approximation, path: Path) -> None:
        self._kind = kind
        flags = faiss.IO_FLAG_MMAP | _READ if kind == "ivf" else faiss.IO_FLAG_MMAP_IFC
        self._index: Any = faiss.read_index(str(path), flags)

    def propose(self, queries: Embeddings, k: int, allowed: npt.NDArray[np.bool_]) -> list[Rows]:
        """Candidates for the k nearest allowed rows per query, possibly fewer than k."""
        bits = np.packbits(allowed, bitorder="little")
        selector, count = faiss.IDSelectorBitmap(bits), min(PROPOSED[self._kind] * k, len(allowed))
        _, rows = self._index.search(np.ascontiguousarray(queries), count, params=self._settings(selector, count))
        return [neighbours[neighbours >= 0] for neighbours in rows]

    def _settings(self, selector: Any, k: int) -> Any:
        if self._kind == "hnsw":
            return faiss.SearchParametersHNSW(sel=selector, efSearch=max(SEARCH_WIDTH, 2 * k))
        if self._kind == "int8":
            return faiss.SearchParameters(sel=selector)
        if self._kind == "binary":
            return faiss.RaBitQSearchParameters(sel=selector)
        return faiss.SearchParametersIVF(sel=selector, nprobe=max(8, round(self._index.nlist * PROBED_SHARE)))


def _sample(vectors: Embeddings, size: int) -> Embeddings:
    """About `size` evenly spaced vectors."""
    step = max(1, len(vectors) // max(1, size))
    return np.ascontiguousarray(vectors[::step])
