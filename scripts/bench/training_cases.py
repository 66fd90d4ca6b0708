"""What the training benchmarks have in common: one case is two ways of training the same model on the same triples.

`training_retriever.py` and `training_rerankers.py` each have `cases(rows, settings) -> list[Case]`; `training.py` runs
them. A side loads its model anew, trains for one pass, saves what it made into the folder it is given, and says how
long the training itself took, loading and saving left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from inpars.training.examples import TripleTexts


@dataclass(frozen=True, slots=True)
class Settings:
    """What all cases are told; None is each side's own default."""

    model: str | None = None
    batch_size: int | None = None
    max_length: int | None = None
    quick: bool = False


@dataclass(frozen=True, slots=True)
class Trained:
    """One training: how many triples (or groups of them) were seen, and the seconds of its steps."""

    samples: int
    seconds: float

    @property
    def rate(self) -> float:
        """Samples a second."""
        return self.samples / self.seconds


Train: TypeAlias = Callable[[Sequence[TripleTexts], int, Path], Trained]  # rows, seed, folder of the trained model


@dataclass(frozen=True, slots=True)
class Case:
    """Ours against theirs; `name` is that of the ratio line, `kind` says how saved models are judged on dev queries."""

    name: str
    ours: Train
    theirs: Train
    our_title: str
    their_title: str
    kind: str  # "retriever": exact search over the corpus; "reranker": BM25's first 100 reranked by `load_scorer`
