"""Clusters queries or documents by meaning: mini-batch k-means over bi-encoder embeddings.

Sculley, "Web-scale k-means clustering", 2010. Centres are fitted to a sample, which bounds memory.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt
from sklearn.cluster import MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning

from inpars.batches import chunks

MAX_CLUSTERS = 1000
SAMPLE = 100_000  # maximum number of embeddings to fit the centres to
BLOCK = 10_000
BATCH = 4096  # embeddings per k-means step

Embedding = npt.NDArray[np.float16]
Labels = npt.NDArray[np.int64]


def default_clusters(queries: int) -> int:
    """The square root of the number of queries, from 2 to 1,000."""
    return max(2, min(MAX_CLUSTERS, round(math.sqrt(queries))))


def cluster(
    embeddings: Callable[[], Iterator[Embedding]],
    total: int,
    clusters: int,
    seed: int,
    advance: Callable[[int], None] = lambda _: None,
) -> Iterator[Labels]:
    """The clusters of `total` embeddings, block by block; reads them twice. `advance` gets the size of each block."""
    chosen = np.sort(np.random.default_rng(seed).permutation(total)[:SAMPLE])
    means = MiniBatchKMeans(n_clusters=min(clusters, total), random_state=seed, n_init=3, batch_size=BATCH)
    means.fit(_table(_embeddings_at(embeddings(), chosen)))
    for block in chunks(embeddings(), BLOCK):
        labels = means.predict(_table(block))
        advance(len(labels))
        yield labels.astype(np.int64)


def _embeddings_at(embeddings: Iterator[Embedding], positions: Labels) -> list[Embedding]:
    """The embeddings at ascending positions of a stream."""
    gaps = np.diff(positions, prepend=-1) - 1  # embeddings to skip before each
    return [next(islice(embeddings, int(gap), None)) for gap in gaps]


def _table(embeddings: Sequence[Embedding]) -> npt.NDArray[np.float32]:
    return np.stack(embeddings).astype(np.float32)


def central_positions(embeddings: npt.NDArray[np.float32], count: int, seed: int) -> npt.NDArray[np.int64]:
    """Ascending positions of `count` (documents, width) embeddings, each the nearest to its cluster's centre.

    They represent the collection, as in DUQGen (arXiv 2404.02489). If there are fewer than `count` clusters, as with
    identical documents, the first of the other documents fill up the number.
    """
    total = len(embeddings)
    if count >= total:
        return np.arange(total, dtype=np.int64)
    means = MiniBatchKMeans(n_clusters=count, random_state=seed, n_init=1, batch_size=BATCH)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct documents than clusters
        labels = means.fit_predict(embeddings)
    distances = np.square(embeddings - means.cluster_centers_[labels]).sum(axis=1)
    order = np.lexsort((np.arange(total), distances, labels))  # the nearest of each cluster first
    firsts = order[np.concatenate([[True], labels[order][1:] != labels[order][:-1]])]
    others = np.setdiff1d(np.arange(total), firsts)[: count - len(firsts)]
    return np.sort(np.concatenate([firsts, others])).astype(np.int64)
