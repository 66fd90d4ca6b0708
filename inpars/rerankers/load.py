"""From a checkpoint's name to the pair model it is: the kind is read from its own configuration, or forced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from typing import Literal, Unpack

from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

from inpars.errors import ConfigError
from inpars.models import loading as models
from inpars.models.compute_options import Placement
from inpars.models.networks import MIN_TOKENS, check_length, learned_positions
from inpars.models.retrievers import MULTI_VECTOR, retriever_kind
from inpars.prompts.templates import Prompt
from inpars.rerankers.checkpoint import Checkpoint, saved_settings
from inpars.rerankers.kinds import RERANKERS, SCORER_KINDS, ScorerKind
from inpars.rerankers.pair_model import PairModel


def load_pair_model(
    model: str,
    *,
    kind: ScorerKind | Literal["auto"] = "auto",
    max_length: int | None = None,
    true_token: str | None = None,
    false_token: str | None = None,
    prompt: Prompt | None = None,
    for_training: bool = False,
    **where: Unpack[Placement],
) -> PairModel:
    """Network, tokenizer and settings of a reranker.

    `for_training` gives a checkpoint that names no answers the ones it will be taught. Raises ConfigError,
    UnknownNameError, BackendError.
    """
    checkpoint = _opened(model, where)
    checkpoint = replace(
        checkpoint,
        max_length=max_length,
        true_token=true_token,
        false_token=false_token,
        prompt=prompt,
        for_training=for_training,
    )
    pair_model: PairModel = import_module(RERANKERS[find_kind(checkpoint, kind)].module).load(checkpoint)
    return _fitted(pair_model, model, max_length, before=len(getattr(pair_model, "prefix_ids", ())))


def _opened(model: str, where: Placement) -> Checkpoint:
    config = models.load_config(model, trust_remote_code=where.get("trust_remote_code", False))
    return Checkpoint(model, config, saved_settings(model, config), where)


def _fitted(pair_model: PairModel, model: str, max_length: int | None, before: int) -> PairModel:
    """The model, whose own limit is no more than it has positions. Raises ConfigError where --max-length is."""
    check_length(pair_model.network, model, max_length, before=before)
    positions = learned_positions(pair_model.network)
    if positions is not None and pair_model.max_length + before > positions:
        pair_model.max_length = positions - before
        if pair_model.max_length < MIN_TOKENS:
            raise ConfigError(
                f"{model} reads at most {positions} tokens, of which the prompt takes {before}; shorten it"
            )
    return pair_model


def check_trained(
    model: str, *, kind: ScorerKind | Literal["auto"] = "auto", trust_remote_code: bool = False
) -> ScorerKind:
    """The kind of reranker that a model is; no weights are loaded.

    Raises UntrainedModelError for a model that `load_pair_model` would refuse as such.
    """
    if kind == "auto" and retriever_kind(model) == MULTI_VECTOR:
        return MULTI_VECTOR
    checkpoint = _opened(model, {"trust_remote_code": trust_remote_code})
    kind = find_kind(checkpoint, kind)
    checkpoint.check_trained(RERANKERS[kind].needs)
    return kind


def find_kind(checkpoint: Checkpoint, kind: ScorerKind | Literal["auto"] = "auto") -> ScorerKind:
    """The kind that is asked for, where the network can be one, or what it was saved as, else by its architecture."""
    if kind != "auto":
        return _checked(checkpoint, kind)
    if checkpoint.saved.get("kind") in RERANKERS:
        return str(checkpoint.saved["kind"])
    if not checkpoint.config.architectures and checkpoint.family is None:
        raise ConfigError(f"{checkpoint.model}: its config.json names no architecture; say what it is with --kind")
    family = checkpoint.family or "encoder"
    return next(name for name, reranker in RERANKERS.items() if reranker.detected and reranker.family == family)


def _checked(checkpoint: Checkpoint, kind: str) -> ScorerKind:
    if kind not in RERANKERS:
        raise ConfigError(f"unknown kind {kind!r} of reranker (known: auto, {', '.join(SCORER_KINDS)})")
    if kind not in (fitting := fitting_kinds(checkpoint)):
        raise ConfigError(
            f"--kind {kind}: {checkpoint.model} is a {checkpoint.config.model_type}, which cannot be one; kinds that "
            f"fit: {', '.join(fitting)}"
        )
    return kind


def fitting_kinds(checkpoint: Checkpoint) -> Sequence[ScorerKind]:
    """What a network of this architecture can be trained to; all kinds where transformers does not know it."""
    if checkpoint.config.model_type not in MODEL_MAPPING_NAMES:
        return SCORER_KINDS
    return [name for name, kind in RERANKERS.items() if checkpoint.fits(kind.family)] or ["cross-encoder"]
