"""Which pairs are judged: the first documents that any of the runs found for a query (pooling, Spärck Jones 1975)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from inpars.errors import ConfigError
from inpars.io.runs import rank
from inpars.records import Run
from inpars.text.hashing import sampling_key


def pooled(runs: Iterable[Run], depth: int) -> dict[str, list[str]]:
    """Documents per query, each once; sorted, so that neither the order of runs nor of ranks shows."""
    found: dict[str, set[str]] = {}
    for run in runs:
        for query_id, scores in run.items():
            found.setdefault(query_id, set()).update(doc_id for doc_id, _ in rank(scores, depth))
    return {query_id: sorted(doc_ids) for query_id, doc_ids in sorted(found.items()) if doc_ids}


def chosen_pairs(
    pool: Mapping[str, Sequence[str]], limit: int | None, maximum: int | None, seed: int
) -> list[tuple[str, str]]:
    """(query_id, doc_id) of the first `limit` queries, of which `maximum` are drawn uniformly; in the pool's order."""
    pairs = [(query_id, doc_id) for query_id, doc_ids in islice(pool.items(), limit) for doc_id in doc_ids]
    if not pairs:
        raise ConfigError("the runs hold no documents; there is nothing to judge")
    if maximum is None or maximum >= len(pairs):
        return pairs
    drawn = set(sorted(pairs, key=lambda pair: (sampling_key(seed, "\n".join(pair)), pair))[:maximum])
    return [pair for pair in pairs if pair in drawn]
