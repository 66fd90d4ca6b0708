"""What a format is: how it is read, how it is written, and one line that says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from inpars.contrib.interchange.items import Item
from inpars.contrib.interchange.source import Source

Layout = Literal["triplet", "n-tuple", "pair", "labeled-pair", "labeled-list", "scored-pair", "margin"]


@dataclass(slots=True)
class Written:
    """How many records went into each file, what could not go, by reason, and what of the others could not."""

    counts: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    not_kept: Counter[str] = field(default_factory=Counter)


Reader = Callable[[Path], Iterator[Item]]
Writer = Callable[[Source, Path, Layout, Written], None]


@dataclass(frozen=True, slots=True)
class Format:
    """One toolkit's files.

    `read` is absent where a format is only written. `made_ids` names the ids that the format lacks and an import makes;
    `folder` says that an export is a folder, and `positives_only` that it has pairs that belong together, without
    grades.
    """

    holds: str
    read: Reader | None
    write: Writer
    made_ids: str = ""
    folder: bool = False
    positives_only: bool = False
