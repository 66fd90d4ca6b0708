"""Which queries are set aside as a development set: whole clusters of source documents, so that nothing leaks.

Documents that are nearly the same belong to one cluster, and a cluster to one side. What is chosen depends on the seed
and the document ids, not on the order of queries. Pure functions over arrays.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from inpars.documents.selection import sampling_key
from inpars.errors import ConfigError

Numbers = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]


def id_key(doc_id: str) -> int:
    """A 64-bit hash of an id."""
    return int.from_bytes(hashlib.blake2b(doc_id.encode(), digest_size=8).digest(), "little")


def dev_clusters(clusters: Numbers, keys: Keys, queries: Numbers, *, dev_share: float, seed: int) -> Numbers:
    """The clusters of the development side.

    For each document `clusters` has its cluster, `keys` a hash of its id and `queries` the number of its queries.
    Clusters come in an order drawn from the seed and are taken while they fit into the share of all queries; one that
    is too large for what is left is passed over. Raises ConfigError where either side would stay empty.
    """
    names, members = np.unique(clusters, return_inverse=True)
    sizes = np.bincount(members, weights=queries, minlength=len(names)).astype(np.int64)
    firsts = np.full(len(names), np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(firsts, members, keys)  # a cluster is named by its smallest key
    order = sorted(range(len(names)), key=lambda cluster: (sampling_key(seed, str(firsts[cluster])), cluster))
    room = min(round(dev_share * int(queries.sum())), int(queries.sum()) - 1)  # never all of them
    taken: list[int] = []
    for cluster in order:
        if sizes[cluster] <= room:
            taken.append(cluster)
            room -= int(sizes[cluster])
    if not taken or len(taken) == len(names):
        raise ConfigError(
            f"{int(queries.sum())} queries of {len(names)} clusters of documents cannot be split with --dev-share "
            f"{dev_share}: one side would be empty"
        )
    return names[taken]
