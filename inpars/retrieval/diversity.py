"""Documents that stand for all of a collection: k-means over their embeddings, and of each cluster the most central.

As DUQGen (arXiv 2404.02489) takes the documents that queries are written for.
"""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt

BATCH = 4096


def central_positions(embeddings: npt.NDArray[np.float32], count: int, seed: int) -> npt.NDArray[np.int64]:
    """Ascending places of `count` of (documents, width) embeddings, each the nearest to the centre of its cluster.

    Where clusters are fewer, as of equal documents, the first others make up the number.
    """
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning

    total = len(embeddings)
    if count >= total:
        return np.arange(total, dtype=np.int64)
    means = MiniBatchKMeans(n_clusters=count, random_state=seed, n_init=1, batch_size=BATCH)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of fewer distinct documents than clusters
        labels = means.fit_predict(embeddings)
    distances = np.square(embeddings - means.cluster_centers_[labels]).sum(axis=1)
    order = np.lexsort((np.arange(total), distances, labels))  # the nearest of each cluster first
    firsts = order[np.concatenate([[True], labels[order][1:] != labels[order][:-1]])]
    others = np.setdiff1d(np.arange(total), firsts)[: count - len(firsts)]
    return np.sort(np.concatenate([firsts, others])).astype(np.int64)
