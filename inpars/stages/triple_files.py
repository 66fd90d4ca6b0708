"""Reads and writes the files of triples: texts and, line by line, their ids and the origins of the negatives.

Streams; memory holds a few numbers per triple.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from inpars.errors import ConfigError, DataFormatError, StaleInputError
from inpars.io.storage import atomic_writer, open_lines, read_jsonl, to_json_line
from inpars.io.triples import read_triple_ids, triple_id_lines
from inpars.records import Triple
from inpars.text.hashing import key64
from inpars.training.examples import TripleTexts, stream_triple_texts

GRADE = "positive_grade"
GRADE_FIELD = f'"{GRADE}"'.encode()


def ids_path(triples: Path) -> Path:
    """The ids of a file of triples: `triples.ids.tsv` for `triples.tsv`."""
    return beside_triples(triples, "ids.tsv")


def negatives_path(triples: Path) -> Path:
    """Sources and scores of the negatives: `triples.negatives.jsonl` for `triples.tsv`."""
    return beside_triples(triples, "negatives.jsonl")


def beside_triples(triples: Path, ending: str) -> Path:
    """A file next to a file of triples: `triples.ENDING` for `triples.tsv`."""
    return triples.with_name(f"{triples.name.removesuffix('.gz').removesuffix('.tsv')}.{ending}")


@dataclass(frozen=True, slots=True)
class TripleRow:
    """The same line of triples.tsv, triples.ids.tsv and triples.negatives.jsonl; None for a missing file."""

    texts: TripleTexts
    ids: Triple | None
    origin: dict[str, Any] | None


@contextmanager
def triple_writer(output: Path, *, with_ids: bool) -> Iterator[Callable[[TripleRow], None]]:
    """A function that writes a triple to all files; these appear only if the block succeeds."""
    with ExitStack() as stack:
        texts = stack.enter_context(atomic_writer(output))
        side_paths = [ids_path(output), negatives_path(output)] if with_ids else []
        sides = [stack.enter_context(atomic_writer(path)) for path in side_paths]

        def write(row: TripleRow) -> None:
            texts.write(f"{row.texts.query}\t{row.texts.positive}\t{row.texts.negative}\n")
            if sides and row.ids is not None:
                sides[0].writelines(f"{line}\n" for line in triple_id_lines([row.ids]))
            if sides:
                sides[1].write(to_json_line(row.origin or {}) + "\n")

        yield write


def read_triple_rows(source: Path) -> Iterator[TripleRow]:
    """Triples with the lines of the files next to them. Raises StaleInputError if these do not match."""
    texts = stream_triple_texts(source)
    ids = read_triple_ids(ids_path(source)) if ids_path(source).exists() else None
    path = negatives_path(source)
    origins = (row for _, row in read_jsonl(path)) if ids is not None and path.exists() else None
    for line in texts:
        triple = next(ids, None) if ids is not None else None
        origin = next(origins, None) if origins is not None else None
        if (ids is not None and triple is None) or (origins is not None and not _fits(origin, triple)):
            break
        yield TripleRow(line, triple, origin)
    else:
        if (ids is None or next(ids, None) is None) and (origins is None or next(origins, None) is None):
            return
    raise StaleInputError(
        f"{source}: its ids or the origins of its negatives belong to other triples; mine again, or remove "
        f"{ids_path(source).name} and {path.name}"
    )


def read_grades(source: Path) -> dict[tuple[str, str], int]:
    """Grades by texts of query and positive; empty if none are stored next to the triples.

    Raises DataFormatError for an invalid grade, StaleInputError if the files do not match.
    """
    if not has_grades(source):
        return {}
    grades: dict[tuple[str, str], int] = {}
    for number, row in enumerate(read_triple_rows(source), start=1):
        grade = (row.origin or {}).get(GRADE, 1)
        if type(grade) is not int or grade < 1:
            path = negatives_path(source)
            problem = "must be a whole number above 0"
            raise DataFormatError(problem, path=path, line=number, field=GRADE, excerpt=repr(grade))
        grades[row.texts.query, row.texts.positive] = grade
    return grades


def has_grades(source: Path) -> bool:
    """Whether grades of positives are stored next to the triples."""
    path = negatives_path(source)
    if not path.exists() or not ids_path(source).exists():
        return False
    with open_lines(path) as stream:
        return any(GRADE_FIELD in line for line in stream)


def _fits(origin: dict[str, Any] | None, triple: Triple | None) -> bool:
    if origin is None or triple is None:
        return False
    ids = (origin.get("query_id"), origin.get("positive_doc_id"), origin.get("negative_doc_id"))
    return ids == (triple.query_id, triple.positive_doc_id, triple.negative_doc_id)


@dataclass(frozen=True, slots=True)
class PairKeys:
    """Two entries per triple, positive and negative: whether the pair is new, and the number of the pair."""

    first: npt.NDArray[np.bool_]
    number: npt.NDArray[np.int64]

    @property
    def pairs(self) -> int:
        """Number of distinct pairs, which are numbered by first appearance."""
        return int(self.first.sum())


def scan_pairs(source: Path, *, check_order: bool) -> PairKeys:
    """The distinct pairs of query and document; `check_order` requires the triples of a query to be adjacent."""
    pair_keys, queries = array("Q"), array("Q")
    for row in read_triple_rows(source):
        pair_keys.extend(_key(row.texts.query, text) for text in (row.texts.positive, row.texts.negative))
        queries.append(_key(row.ids.query_id if row.ids else "", row.texts.query))
    if not pair_keys:
        raise ConfigError(f"{source}: there are no triples to audit")
    if check_order:
        hashes = np.frombuffer(queries, dtype=np.uint64)
        begins = hashes[np.flatnonzero(np.concatenate([[True], hashes[1:] != hashes[:-1]]))]
        if len(np.unique(begins)) != len(begins):
            raise DataFormatError("the triples of a query are not adjacent; sort the file by query", path=source)
    _, index, inverse = np.unique(np.frombuffer(pair_keys, dtype=np.uint64), return_index=True, return_inverse=True)
    first = np.zeros(len(pair_keys), dtype=np.bool_)
    first[index] = True
    numbers = np.empty(len(index), dtype=np.int64)
    numbers[np.argsort(index)] = np.arange(len(index))
    return PairKeys(first, numbers[inverse])


def _key(query: str, text: str) -> int:
    return key64(str(len(query)), query + text)
