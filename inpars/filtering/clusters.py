"""Clusters of queries by meaning: embeddings of a bi-encoder, k-means in mini-batches.

Sculley, "Web-scale k-means clustering", 2010. The centres are learnt from a sample, so that memory does not grow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from sklearn.cluster import MiniBatchKMeans

MOST_CLUSTERS = 1000
SAMPLE = 100_000  # embeddings that the centres are learnt from at most
BLOCK = 10_000

Embeddings = npt.NDArray[np.float16]
Labels = npt.NDArray[np.int64]


def default_clusters(queries: int) -> int:
    """The square root of the number of queries, from 2 to 1,000."""
    return max(2, min(MOST_CLUSTERS, round(math.sqrt(queries))))


def cluster(
    embeddings: Embeddings, clusters: int, seed: int, told: Callable[[int], None] = lambda _: None
) -> Iterator[Labels]:
    """The cluster of each embedding, block by block; `told` hears how many are done. The array may lie on disk."""
    total = len(embeddings)
    chosen = np.sort(np.random.default_rng(seed).permutation(total)[:SAMPLE])
    sample = np.asarray(embeddings[chosen], dtype=np.float32)
    means = MiniBatchKMeans(n_clusters=min(clusters, total), random_state=seed, n_init=3, batch_size=4096)
    means.fit(sample)
    for start in range(0, total, BLOCK):
        labels = means.predict(np.asarray(embeddings[start : start + BLOCK], dtype=np.float32))
        told(len(labels))
        yield labels.astype(np.int64)
