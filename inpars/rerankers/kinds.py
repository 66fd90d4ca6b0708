"""The kinds of rerankers, and their options for long documents. Loads no torch.

A kind is an entry of `RERANKERS` and a module with a pair model and a function `load`, which takes a `load.Checkpoint`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

Windows: TypeAlias = Literal["maxp", "firstp", "mean", "nearest"]
Family: TypeAlias = Literal["encoder-decoder", "encoder", "decoder"]


@dataclass(frozen=True, slots=True)
class RerankerKind:
    """The properties of a kind that are known without importing its module."""

    module: str
    family: Family  # architecture it is trained from
    network: str  # description for --help
    title: str  # title of a model card
    detected: bool = True  # whether `--kind auto` chooses it for checkpoints of the family
    needs: Literal["answers", "head", ""] = ""  # what an untrained checkpoint lacks
    loss: str = "listwise"  # default for training, like the next two
    learning_rate: float = 2e-5
    lora_rank: int = 0
    reads_prompt: bool = False


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
        detected=False,  # an untrained decoder is useful as query-likelihood
        needs="answers",
        lora_rank=16,
    ),
    "query-likelihood": RerankerKind(
        *("inpars.rerankers.query_likelihood", "decoder", "a decoder that would write the query"),
        "a decoder that reranks by the likelihood of the query",
        lora_rank=16,
        reads_prompt=True,
    ),
}
SCORER_KINDS = tuple(RERANKERS)

if TYPE_CHECKING:
    ScorerKind: TypeAlias = str
else:
    ScorerKind = Literal[SCORER_KINDS]  # the choices of a flag


def kind_help(subject: str) -> str:
    """Help text of a flag for the kind."""
    kinds = ", ".join(f"{name} ({kind.network})" for name, kind in RERANKERS.items())
    return f"{subject}: {kinds}; auto reads its configuration"


def learning_rates() -> str:
    """Default learning rates, for --help."""
    rates = {name: f"{kind.learning_rate:.0e}".replace("e-0", "e-") for name, kind in RERANKERS.items()}
    return ", ".join(f"{rate} for {name}" for name, rate in rates.items())
