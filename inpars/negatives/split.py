"""Which queries are set aside as a development set: whole clusters of source documents, so that nothing leaks.

Documents that are nearly the same belong to one cluster, and a cluster to one side. What is chosen depends on the seed
and the document ids, not on the order of queries. Pure functions over arrays.
"""

from __future__ import annotations

import json
from array import array
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from inpars.errors import ConfigError
from inpars.records import Document
from inpars.text.hashing import key64, sampling_key

Numbers = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]
HeldOutBy: TypeAlias = Literal["document", "file", "page or section"]
MIN_FILES = 10  # below, a split by file leaves little on one side


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


class SourceGroups:
    """Which documents were cut out of one file, or where these are few out of one page, record or section of it.

    Neighbours that share sentences are of one page and section. A document that does not say where it comes from is its
    own source.
    """

    def __init__(self) -> None:
        self._files, self._sections = array("Q"), array("Q")

    def add(self, document: Document) -> None:
        """Take in the next document."""
        metadata = document.metadata
        source = metadata.get("source") or document.doc_id
        self._files.append(key64(json.dumps([source], default=str)))
        section = [source, *(metadata.get(name) for name in ("page", "record", "headings"))]
        self._sections.append(key64(json.dumps(section, default=str)))

    @property
    def held_out_by(self) -> HeldOutBy:
        """What is never divided."""
        return "file" if len(set(self._files)) >= MIN_FILES else "page or section"

    def joined(self, clusters: Numbers) -> Numbers:
        """Clusters that also hold together what comes from one source, (documents,)."""
        sources = np.array(self._files if self.held_out_by == "file" else self._sections, dtype=np.uint64)
        _, source = np.unique(sources, return_inverse=True)
        return _components(clusters, source)


def linked(clusters: Numbers, one: Numbers, other: Numbers) -> Numbers:
    """Clusters that also hold pairs of documents together, which are given by their places."""
    _, cluster = np.unique(clusters, return_inverse=True)
    return _connected(cluster, cluster[one], cluster[other], int(cluster.max()) + 1)


def _components(clusters: Numbers, groups: Numbers) -> Numbers:
    """Clusters joined where they share a group."""
    _, cluster = np.unique(clusters, return_inverse=True)
    size = len(clusters)
    return _connected(cluster, cluster, size + groups, 2 * size)


def _connected(cluster: Numbers, one: Numbers, other: Numbers, size: int) -> Numbers:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(one)), (one, other)), shape=(size, size))
    labels: Numbers = connected_components(links, directed=False)[1][cluster].astype(np.int64)
    return labels
