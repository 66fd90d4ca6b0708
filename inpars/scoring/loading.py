"""From a checkpoint's name to the pair model it is: the kind is read from its own configuration, or forced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Unpack, get_args

from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    MODEL_MAPPING_NAMES,
)

from inpars.errors import ConfigError, UntrainedModelError
from inpars.models import loading as models
from inpars.models.computing import Placement
from inpars.models.kinds import CAUSAL_ENDINGS, CLASSIFIER_ENDING
from inpars.models.networks import LEAST_TOKENS, check_length, learned_positions
from inpars.prompting.templates import Prompt
from inpars.scoring import causal, monot5, query_likelihood
from inpars.scoring.answers import Answers, find_answers
from inpars.scoring.causal import CausalYesNo
from inpars.scoring.cross_encoder import CrossEncoder
from inpars.scoring.kinds import SCORER_KINDS, ScorerKind
from inpars.scoring.monot5 import MonoT5
from inpars.scoring.pair_model import SETTINGS_KEY, PairModel
from inpars.scoring.query_likelihood import QueryLikelihood

TEXTS = ("prefix", "suffix", "true_token", "false_token")


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
    kind, config, saved = _identified(model, kind, trust_remote_code=where.get("trust_remote_code", False))
    limit = max_length or saved.get("max_length")
    answers = (true_token, false_token, saved, for_training)
    if kind == "monot5":
        network, tokenizer = models.load_seq2seq(model, **where)
        found = _answers(tokenizer, model, monot5.TRAINING_TOKENS, *answers)
        return _fitted(MonoT5(network, tokenizer, found, limit or monot5.MAX_LENGTH), model, max_length)
    if kind == "cross-encoder":
        if not for_training:
            _check_head(model, config)
        labels = int(config.num_labels) if _has_head(config) else 1  # a head that is yet to be trained has one
        network, tokenizer = models.load_sequence_classifier(model, num_labels=labels, **where)
        return _fitted(CrossEncoder(network, tokenizer, limit), model, max_length)
    network, tokenizer = models.load_causal_lm(model, **where)
    if kind == "causal":
        found = _answers(tokenizer, model, causal.TRAINING_TOKENS, *answers)
        asking = saved.get("prompt", causal.PROMPT)  # rerankers saved before it was stored were asked like this
        return _fitted(CausalYesNo(network, tokenizer, found, limit or causal.MAX_LENGTH, asking), model, max_length)
    texts = {key: saved[key] for key in ("prefix", "suffix", "reduction") if key in saved}
    if prompt is not None:
        texts |= {"prefix": prompt.prefix, "suffix": prompt.suffix}
    likelihood = QueryLikelihood(network, tokenizer, max_length=limit or query_likelihood.MAX_LENGTH, **texts)
    return _fitted(likelihood, model, max_length, before=len(likelihood.prefix_ids))


def _fitted(found: PairModel, model: str, max_length: int | None, before: int = 0) -> PairModel:
    """The model, whose own limit is no more than it has positions. Raises ConfigError where --max-length is."""
    check_length(found.network, model, max_length, before=before)
    most = learned_positions(found.network)
    if most is not None and found.max_length + before > most:
        found.max_length = most - before
        if found.max_length < LEAST_TOKENS:
            raise ConfigError(f"{model} reads at most {most} tokens, of which the prompt takes {before}; shorten it")
    return found


def check_trained(
    model: str, *, kind: ScorerKind | Literal["auto"] = "auto", trust_remote_code: bool = False
) -> ScorerKind:
    """The kind of reranker that a model is; no weights are loaded.

    Raises UntrainedModelError for a model that `load_pair_model` would refuse as such.
    """
    kind, config, saved = _identified(model, kind, trust_remote_code=trust_remote_code)
    if kind == "cross-encoder":
        _check_head(model, config)
    elif kind != "query-likelihood":
        find_answers(models.load_tokenizer(model, trust_remote_code=trust_remote_code), model, saved, None, None)
    return kind


def _identified(
    model: str, kind: ScorerKind | Literal["auto"], *, trust_remote_code: bool
) -> tuple[ScorerKind, Any, Mapping[str, Any]]:
    """The kind of a checkpoint, its configuration, and what it was saved with."""
    config = models.load_config(model, trust_remote_code=trust_remote_code)
    saved = saved_settings(model, config)
    return find_kind(model, config, saved) if kind == "auto" else _checked(model, config, kind), config, saved


def find_kind(model: str, config: Any, saved: Mapping[str, Any]) -> ScorerKind:  # noqa: ANN401
    """The kind a checkpoint is: what it was saved as, else by its architecture."""
    if saved.get("kind") in SCORER_KINDS:
        return saved["kind"]  # type: ignore[no-any-return]
    names = config.architectures or []
    if _has_head(config):
        return "cross-encoder"
    if config.is_encoder_decoder:
        return "monot5"
    if any(name.endswith(CAUSAL_ENDINGS) for name in names):
        return "query-likelihood"  # useful untrained, which yes or no is not
    if names:
        return "cross-encoder"
    raise ConfigError(f"{model}: its config.json names no architecture; say what it is with --kind")


def saved_settings(model: str, config: Any) -> Mapping[str, Any]:  # noqa: ANN401
    """What a checkpoint of ours says of its scoring, empty for others. Raises ConfigError where it is none of ours."""
    saved = getattr(config, SETTINGS_KEY, None) or {}
    if not isinstance(saved, dict):
        raise ConfigError(f"{model}: config.json: {SETTINGS_KEY} is {saved!r} and no object")
    limit = saved.get("max_length")
    wrong = [name for name in TEXTS if name in saved and not isinstance(saved[name], str)]
    wrong += [] if limit is None or (type(limit) is int and limit > 0) else ["max_length"]
    wrong += [] if saved.get("reduction") in (None, *get_args(query_likelihood.Reduction)) else ["reduction"]
    if wrong:
        raise ConfigError(f"{model}: config.json: {SETTINGS_KEY}.{wrong[0]} cannot be {saved[wrong[0]]!r}")
    return saved


def _checked(model: str, config: Any, kind: str) -> ScorerKind:  # noqa: ANN401
    if kind not in SCORER_KINDS:
        raise ConfigError(f"unknown kind {kind!r} of reranker (known: auto, {', '.join(SCORER_KINDS)})")
    if kind not in (fitting := fitting_kinds(config)):
        family = config.model_type
        raise ConfigError(
            f"--kind {kind}: {model} is a {family}, which cannot be one; kinds that fit: {', '.join(fitting)}"
        )
    return kind


def fitting_kinds(config: Any) -> Sequence[ScorerKind]:  # noqa: ANN401
    """What a network of this architecture can be trained to; all kinds where transformers does not know it."""
    family = config.model_type
    if family not in MODEL_MAPPING_NAMES:
        return SCORER_KINDS
    found: list[ScorerKind] = []
    if family in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
        found = ["monot5"]
    elif family in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and family not in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        found = ["causal", "query-likelihood"]
    classifies = family in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
    return ["cross-encoder", *found] if classifies or not found else found


def _has_head(config: Any) -> bool:  # noqa: ANN401
    return any(name.endswith(CLASSIFIER_ENDING) for name in config.architectures or [])


def _check_head(model: str, config: Any) -> None:  # noqa: ANN401
    if not _has_head(config):
        raise UntrainedModelError(
            f"{model} has no head that scores pairs, a random one would; `inpars train reranker --model {model}` "
            "trains one"
        )


def _answers(
    tokenizer: Any,  # noqa: ANN401
    model: str,
    taught: tuple[str, str],
    true_token: str | None,
    false_token: str | None,
    saved: Mapping[str, Any],
    for_training: bool,
) -> Answers:
    try:
        return find_answers(tokenizer, model, saved, true_token, false_token)
    except ConfigError:
        if not for_training or true_token is not None or false_token is not None:
            raise
        return find_answers(tokenizer, model, {}, *taught)
