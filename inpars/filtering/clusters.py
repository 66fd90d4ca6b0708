"""Clusters of queries by meaning: embeddings of a bi-encoder, k-means in mini-batches.

Sculley, "Web-scale k-means clustering", 2010. The centres are learnt from a sample, so that memory does not grow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt
from sklearn.cluster import MiniBatchKMeans

from inpars.batches import chunks

MAX_CLUSTERS = 1000
SAMPLE = 100_000  # embeddings that the centres are learnt from at most
BLOCK = 10_000

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
    """Block by block the cluster of each of `total` embeddings, read twice; `advance` hears how many are done."""
    chosen = np.sort(np.random.default_rng(seed).permutation(total)[:SAMPLE])
    means = MiniBatchKMeans(n_clusters=min(clusters, total), random_state=seed, n_init=3, batch_size=4096)
    means.fit(_table(_embeddings_at(embeddings(), chosen)))
    for block in chunks(embeddings(), BLOCK):
        labels = means.predict(_table(block))
        advance(len(labels))
        yield labels.astype(np.int64)


def _embeddings_at(embeddings: Iterator[Embedding], positions: Labels) -> list[Embedding]:
    """Those at ascending places."""
    gaps = np.diff(positions, prepend=-1) - 1  # how many are passed over before each
    return [next(islice(embeddings, int(before), None)) for before in gaps]


def _table(embeddings: Sequence[Embedding]) -> npt.NDArray[np.float32]:
    return np.stack(embeddings).astype(np.float32)
