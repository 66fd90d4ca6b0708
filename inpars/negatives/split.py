"""Splits off a development set by whole clusters of source documents, so that nothing leaks.

Near-duplicate documents share a cluster, and a cluster stays on one side. The choice depends on the seed and the
document ids, not on the order of queries. Pure functions over arrays.
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
MIN_FILES = 10  # with fewer files, a split by file leaves little on one side


def dev_clusters(clusters: Numbers, keys: Keys, queries: Numbers, *, dev_share: float, seed: int) -> Numbers:
    """The clusters of the development set.

    Per document, `clusters` holds its cluster, `keys` a hash of its id and `queries` its number of queries. Clusters
    are visited in an order drawn from the seed; one that does not fit into the rest of the share is skipped. Raises
    ConfigError if either side would be empty.
    """
    names, members = np.unique(clusters, return_inverse=True)
    sizes = np.bincount(members, weights=queries, minlength=len(names)).astype(np.int64)
    firsts = np.full(len(names), np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(firsts, members, keys)  # the smallest key identifies a cluster
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
    """Groups documents cut from the same file, or with fewer than `MIN_FILES` from the same page, record or section.

    A document without a source is a group by itself.
    """

    def __init__(self) -> None:
        self._files, self._sections = array("Q"), array("Q")

    def add(self, document: Document) -> None:
        """Add the next document."""
        metadata = document.metadata
        source = metadata.get("source") or document.doc_id
        self._files.append(key64(json.dumps([source], default=str)))
        section = [source, *(metadata.get(name) for name in ("page", "record", "headings"))]
        self._sections.append(key64(json.dumps(section, default=str)))

    @property
    def held_out_by(self) -> HeldOutBy:
        """The unit that is never divided."""
        return "file" if len(set(self._files)) >= MIN_FILES else "page or section"

    def joined(self, clusters: Numbers) -> Numbers:
        """The clusters, joined where documents share a source; (documents,)."""
        sources = np.array(self._files if self.held_out_by == "file" else self._sections, dtype=np.uint64)
        _, first, source = np.unique(sources, return_index=True, return_inverse=True)
        return linked(clusters, np.arange(len(clusters)), first[source])


def linked(clusters: Numbers, one: Numbers, other: Numbers) -> Numbers:
    """The clusters, joined where a pair of documents links them; pairs are given by their positions."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    _, cluster = np.unique(clusters, return_inverse=True)
    size = int(cluster.max()) + 1
    links = coo_array((np.ones(len(one)), (cluster[one], cluster[other])), shape=(size, size))
    labels: Numbers = connected_components(links, directed=False)[1][cluster].astype(np.int64)
    return labels
