"""The kinds of rerankers, and the ways in which they read long documents. Loads no torch.

A kind is a module and a line of `RERANKERS`. The module has a pair model, and `load`, which makes one of a
`load.Checkpoint`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

Windows: TypeAlias = Literal["maxp", "firstp", "mean", "nearest"]


Family: TypeAlias = Literal["encoder-decoder", "encoder", "decoder"]


@dataclass(frozen=True, slots=True)
class RerankerKind:
    """What is known of a kind without its module."""

    module: str
    family: Family  # the networks that can be trained to it
    network: str  # the same for --help
    title: str  # of a model card
    detected: bool = True  # whether a checkpoint of that family is taken for this kind
    needs: Literal["answers", "head", ""] = ""  # what an untrained one lacks
    loss: str = "listwise"  # the defaults of a training
    learning_rate: float = 2e-5
    lora_rank: int = 0


RERANKERS: Mapping[str, RerankerKind] = {
    "monot5": RerankerKind(
        *("inpars.rerankers.monot5", "encoder-decoder", "a T5 that answers true or false", "a monoT5 reranker"),
        needs="answers",
        loss="pointwise",
        learning_rate=3e-4,  # with AdamW; the InPars paper's 1e-3 is Adafactor's
    ),
    "cross-encoder": RerankerKind(
        *("inpars.rerankers.cross_encoder", "encoder", "a BERT that reads both texts", "a cross-encoder reranker"),
        needs="head",
        learning_rate=5e-5,
    ),
    "causal": RerankerKind(
        *("inpars.rerankers.yes_no", "decoder", "a decoder that answers yes or no"),
        "a decoder that reranks by answering yes or no",
        detected=False,  # a decoder is useful untrained as the next one
        needs="answers",
        lora_rank=16,
    ),
    "query-likelihood": RerankerKind(
        *("inpars.rerankers.query_likelihood", "decoder", "a decoder that would write the query"),
        "a decoder that reranks by the likelihood of the query",
        lora_rank=16,
    ),
}
SCORER_KINDS = tuple(RERANKERS)

if TYPE_CHECKING:
    ScorerKind: TypeAlias = str
else:
    ScorerKind = Literal[SCORER_KINDS]  # the choices of a flag


def kind_help(subject: str) -> str:
    """The help of a flag that names a kind."""
    kinds = ", ".join(f"{name} ({kind.network})" for name, kind in RERANKERS.items())
    return f"{subject}: {kinds}; auto reads its configuration"


def learning_rates() -> str:
    """The default learning rates of trainings, for --help."""
    rates = {name: f"{kind.learning_rate:.0e}".replace("e-0", "e-") for name, kind in RERANKERS.items()}
    return ", ".join(f"{rate} for {name}" for name, rate in rates.items())
