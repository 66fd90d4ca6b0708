"""Groups of a positive and its negatives as batches of token ids, in parts of like length. Knows nothing of losses."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from inpars.rerankers.pair_model import EncodedPair, PairModel, collate
from inpars.training.examples import Group

ROWS_OF_A_PASS = {"cpu": 8}  # pairs of like length that go through the network together
ROWS_ELSEWHERE = 64

Teacher: TypeAlias = Mapping[tuple[str, str], float]
"""(query, document) -> score."""


def with_negatives(group: Group, count: int | None, seed: int) -> Group:
    """The group with at most so many negatives of each positive, drawn by seed and query, in their order."""
    if count is None or len(group.negatives) <= (limit := count * (1 + len(group.more))):
        return group
    drawn = random.Random(f"{seed}\0{group.query}\0{group.positive}").sample(range(len(group.negatives)), limit)
    return replace(group, negatives=tuple(group.negatives[index] for index in sorted(drawn)))


@dataclass(frozen=True, slots=True)
class LabelledGroup:
    """A group's pairs as tokens, positives first, and what each is worth."""

    pairs: Sequence[EncodedPair]
    labels: Sequence[float]


class EncodedGroups(torch.utils.data.Dataset[LabelledGroup]):
    """Groups as tokens, encoded on access."""

    def __init__(self, groups: Sequence[Group], model: PairModel, teacher: Teacher | None) -> None:
        self._groups, self._model, self._teacher = groups, model, teacher

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, position: int) -> LabelledGroup:
        pairs = self._groups[position].pairs
        labels = self._groups[position].labels if self._teacher is None else [self._teacher[pair] for pair in pairs]
        return LabelledGroup(self._model.encode(pairs), labels)


def collate_groups(groups: Sequence[LabelledGroup], pad: int) -> dict[str, Tensor]:
    """All pairs of some groups in one batch; `group` and `column` say where each belongs, place 0 being the best."""
    batch = collate([pair for group in groups for pair in group.pairs], pad)
    batch["group"] = torch.tensor([number for number, group in enumerate(groups) for _ in group.pairs])
    batch["place"] = torch.tensor([column for group in groups for column in range(len(group.pairs))])
    batch["relevance"] = torch.tensor([label for group in groups for label in group.labels])
    return batch


def by_length(inputs: Mapping[str, Tensor], rows: int | None = None) -> list[dict[str, Tensor]]:
    """The batch in parts of like length, each padded no further than its longest, so that little padding is computed.

    The loss of a batch does not depend on its parts.
    """
    lengths = inputs["attention_mask"].sum(1)
    rows = rows or ROWS_OF_A_PASS.get(lengths.device.type, ROWS_ELSEWHERE)
    parts = []
    for chosen in torch.split(lengths.argsort(descending=True, stable=True), rows):
        width = int(lengths[chosen[0]])
        parts.append(
            {name: tensor[chosen][:, :width] if tensor.dim() > 1 else tensor[chosen] for name, tensor in inputs.items()}
        )
    return parts
