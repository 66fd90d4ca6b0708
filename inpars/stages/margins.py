"""GPL's margins as a teacher's scores: `margins.tsv`, as `inpars import` writes what `gpl-training-data.tsv` holds.

A margin is a difference, so positives score 0 here and negatives minus their margin. GPL draws margins for some of its
hard negatives; the other triples have no score.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from inpars.errors import ConfigError, DataFormatError
from inpars.fields import checked_id, finite_number
from inpars.interchange.folder import MARGINS
from inpars.records import Triple
from inpars.stages.teaching import TeacherScores
from inpars.stages.triple_rows import read_triple_rows
from inpars.storage import read_lines


def margins_path(triples: Path) -> Path:
    """`margins.tsv` in the folder of the triples."""
    return triples.with_name(MARGINS)


def read_margins(triples: Path) -> TeacherScores:
    """Scores of the pairs that `margins.tsv` knows. Raises ConfigError where it knows none."""
    path = margins_path(triples)
    margins, found = dict(_read(path)), dict[tuple[str, str], float]()
    for row in read_triple_rows(triples):
        if row.ids in margins:
            found[row.texts.query, row.texts.positive] = 0.0
            found[row.texts.query, row.texts.negative] = -margins[row.ids]
    if not found:
        raise ConfigError(f"{path}: its margins are of none of these triples, or {triples.name} has no ids beside it")
    return found


def _read(path: Path) -> Iterator[tuple[Triple | None, float]]:
    for number, line in read_lines(path):
        fields = line.split("\t")
        if len(fields) != 4:
            problem = f"{len(fields)} tab-separated columns, 4 are needed: query, positive, negative, margin"
            raise DataFormatError(problem, path=path, line=number, excerpt=line)
        yield Triple(*(checked_id(field, path, number) for field in fields[:3])), finite_number(fields[3], path, number)
