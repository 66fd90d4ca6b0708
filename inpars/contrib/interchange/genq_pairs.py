"""GenQ's training pairs: numbered shards of tab-separated queries and passages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

from inpars.io.fields import one_line
from inpars.io.storage import storage_errors, write_lines
from inpars.records import SyntheticQuery

PAIRS_PER_SHARD = 1024


def write_pairs(folder: Path, queries: Iterable[SyntheticQuery], text: Callable[[str], str]) -> int:
    """Write `pairs_00000.tsv` and so on with one query and passage per line, and return the number of pairs.

    Skips empty queries and removes shards that an earlier, longer export left.
    """
    lines = (f"{one_line(query.text)}\t{one_line(text(query.doc_id))}" for query in queries if query.text.strip())
    written: list[Path] = []
    count = 0
    while shard := list(islice(lines, PAIRS_PER_SHARD)):
        written.append(folder / f"pairs_{len(written):05}.tsv")
        count += write_lines(written[-1], shard)
    with storage_errors(folder):
        for path in set(folder.glob("pairs_*.tsv")) - set(written):
            path.unlink()
    return count
