"""The documents nearest to a query's tokens, by faiss: candidates for MaxSim over many documents.

Inverted lists hold all token vectors, one bit per dimension (RaBitQ, Gao and Long, arXiv 2405.12497). A document that
is not among the nearest of a query token counts for it as much as the last of these (XTR, Lee et al., arXiv
2304.01982). The vectors themselves then score the proposed documents exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import faiss
import numpy as np
import numpy.typing as npt

from inpars.errors import DataFormatError
from inpars.io.storage import atomic_file
from inpars.progress import Progress
from inpars.retrieval.segments import Rows

Tokens: TypeAlias = npt.NDArray[np.floating[Any]]  # (tokens, width)
LISTS_PER_ROOT, MAX_LISTS = 4, 4096  # times the square root of the number of tokens, as faiss's guidelines recommend
VECTORS_PER_LIST = 64  # for training the centroids
ITERATIONS = 10
PROBED_SHARE, MIN_PROBED = 1 / 64, 16  # of the lists
TOKENS_PER_RESULT, MIN_TOKENS = 4, 512  # nearest tokens per query token
DOCUMENTS_PER_RESULT, MIN_DOCUMENTS = 4, 200  # proposed


def build_token_lists(parts: Sequence[Tokens], path: Path, progress: Progress) -> None:
    """Write the lists of all token vectors, which `parts` holds in document order."""
    total = sum(map(len, parts))
    lists = max(1, min(total, MAX_LISTS, round(LISTS_PER_ROOT * total**0.5)))
    step = max(1, total // (lists * VECTORS_PER_LIST))
    sample = np.concatenate([np.asarray(part[::step], dtype=np.float32) for part in parts])
    width = sample.shape[1]
    centres = faiss.IndexFlatIP(width)
    index: Any = faiss.IndexIVFRaBitQ(centres, width, lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid, index.cp.niter = 1, ITERATIONS
    index.train(sample)
    for part in progress.track(parts, total=total, description="index of token vectors", unit="tokens"):
        index.add(np.ascontiguousarray(part, dtype=np.float32))
        progress.advance(len(part))
    with atomic_file(path) as working:
        faiss.write_index(index, str(working))


class TokenLists:
    """The lists of a corpus on disk, memory-mapped; safe to search from several threads."""

    def __init__(self, path: Path, counts: npt.NDArray[np.int64]) -> None:
        """Open the file; raises DataFormatError if it is damaged."""
        try:
            self._index: Any = faiss.read_index(str(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
        except RuntimeError as error:  # faiss's
            reason = str(error).splitlines()[0][:200]
            raise DataFormatError(f"damaged ({reason}); remove it and run the same command again", path=path) from None
        self._ends = np.cumsum(counts)

    def propose(self, query: npt.NDArray[np.float32], k: int) -> Rows:
        """Rows of documents that may be among the k best for a query's token vectors, in ascending order."""
        probes = max(MIN_PROBED, round(self._index.nlist * PROBED_SHARE))
        wanted = min(max(MIN_TOKENS, TOKENS_PER_RESULT * k), self._index.ntotal)
        parameters = faiss.SearchParametersIVF(nprobe=probes)
        similarities, tokens = self._index.search(np.ascontiguousarray(query), wanted, params=parameters)
        gains: dict[int, float] = {}
        for near, values in zip(tokens, similarities, strict=True):
            known = near >= 0
            rows = np.searchsorted(self._ends, near[known], side="right")
            documents, first = np.unique(rows, return_index=True)  # the first of a document is its nearest
            least = float(values[known][-1]) if known.any() else 0.0
            for row, value in zip(documents.tolist(), (values[known][first] - least).tolist(), strict=True):
                gains[row] = gains.get(row, 0.0) + value
        count = max(MIN_DOCUMENTS, DOCUMENTS_PER_RESULT * k)
        return np.sort(np.array(sorted(gains, key=lambda row: (-gains[row], row))[:count], dtype=np.int64))
