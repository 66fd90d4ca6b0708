"""How many steps a training takes. Loads no torch."""

from __future__ import annotations

import math
import os

from inpars.training.options import TrainOptions


def processes() -> int:
    """How many train together, as torchrun and accelerate tell each of them, which then has a LOCAL_RANK as well."""
    rank, size = (os.environ.get(name, "") for name in ("LOCAL_RANK", "WORLD_SIZE"))
    return max(1, int(size)) if rank.isdigit() and size.isdigit() else 1


def steps_of(batches: int, options: TrainOptions) -> int:
    """Steps of a training whose every pass has so many batches, which several processes share."""
    a_pass = max(1, -(-batches // (options.gradient_accumulation * processes())))
    return options.max_steps or max(1, math.ceil(options.epochs * a_pass))
