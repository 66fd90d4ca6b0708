"""Settings that go together under a name, for `inpars train reranker --recipe NAME`; flags that are given override.

Loads no torch.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Literal, TypeAlias

RecipeName: TypeAlias = Literal["none", "inpars", "small"]

RECIPES: MappingProxyType[RecipeName, dict[str, Any]] = MappingProxyType(
    {
        "none": {},
        # InPars (arXiv 2202.05144) and v2 (2301.01820): 156 steps of 128 examples, half of them negatives. The papers
        # say Adafactor at a constant 1e-3; their authors trained with 3e-4 (InPars issue 21), which is AdamW's here.
        "inpars": {
            "model": "castorini/monot5-base-msmarco",
            "loss": "pointwise",
            "max_steps": 156,
            "batch_size": 64,
            "negatives": 1,
            "learning_rate": 3e-4,
            "optimizer": "adamw",
            "schedule": "constant",
            "warmup": 0.0,
            "weight_decay": 0.0,
        },
        # for models of at most some 60 million weights, which learn a ranking sooner than an answer
        "small": {
            "loss": "listwise",
            "epochs": 2.0,
            "batch_size": 16,
            "negatives": 4,
            "learning_rate": 1e-4,
            "optimizer": "adamw",
            "schedule": "linear",
        },
    }
)
OF_RECIPES = frozenset(name for settings in RECIPES.values() for name in settings)


def with_recipe(recipe: RecipeName, settings: dict[str, Any]) -> dict[str, Any]:
    """The recipe's settings beneath those that were given."""
    return {**RECIPES[recipe], **settings}


def described() -> str:
    """The table as one line for `--help`."""
    lines = (
        f"{name}: " + ", ".join(f"{key.replace('_', '-')} {value}" for key, value in settings.items())
        for name, settings in RECIPES.items()
        if settings
    )
    return "; ".join(lines)
