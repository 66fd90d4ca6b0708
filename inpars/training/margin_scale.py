"""A teacher's margins on the student's scale, for margin-MSE.

A cosine lies between -1 and 1 and cannot reach differences of logits, so all margins are multiplied by one number. By
default it makes them spread (standard deviation) as the untrained student's own margins do; their zero, where teacher
and student see no difference, stays where it is.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from inpars.batches import slices
from inpars.errors import ConfigError
from inpars.training.embedding_batches import Autocast, Collator, embed, in_place, on_device
from inpars.training.embedding_losses import margins_of
from inpars.training.examples import TripleTexts

MEASURED = 512  # triples
AT_ONCE = 64


def automatic_scale(
    margins: Mapping[TripleTexts, float],
    rows: Sequence[TripleTexts],
    collator: Collator,
    autocast: Autocast,
    *,
    seed: int,
) -> float:
    """The student's standard deviation over the teacher's on some triples. Raises ConfigError where one is 0."""
    chosen = random.Random(seed).sample(list(rows), min(len(rows), MEASURED))
    teachers = torch.tensor([margins[row] for row in chosen])
    students = torch.cat([untrained_margins(part, collator, autocast) for part in slices(chosen, AT_ONCE)])
    if len(chosen) < 2 or not teachers.std() > 0 or not students.std() > 0:
        raise ConfigError(f"the margins of {len(chosen)} triples do not differ; give --margin-scale")
    return float(students.std() / teachers.std())


def untrained_margins(rows: Sequence[TripleTexts], collator: Collator, autocast: Autocast) -> Tensor:
    """What the model gives now, (rows,)."""
    model, batch = collator.model, collator(rows)
    with torch.no_grad(), autocast():
        parts = [embed(model, on_device(features, model.device)) for features in batch["batches"]]
    embedded = in_place(torch.cat(parts).cpu(), batch["places"], batch["queries"])
    return margins_of(embedded.of_unit_length() if model.similarity_fn_name != "dot" else embedded)
