"""From a checkpoint's name to the pair model it is: the kind is read from its own configuration, or forced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch

from inpars.errors import ConfigError
from inpars.models import loading as models
from inpars.models.fused_bert import fuse_bert
from inpars.models.hardware import pick_device, pick_dtype
from inpars.models.kinds import CAUSAL_ENDINGS, CLASSIFIER_ENDING
from inpars.scoring import SCORER_KINDS, ScorerKind, causal, monot5, query_likelihood
from inpars.scoring.answers import Answers, find_answers
from inpars.scoring.causal import CausalYesNo
from inpars.scoring.cross_encoder import CrossEncoder
from inpars.scoring.fused_t5 import FusedMonoT5
from inpars.scoring.monot5 import MonoT5
from inpars.scoring.pair_model import SETTINGS_KEY, PairModel
from inpars.scoring.query_likelihood import QueryLikelihood

if TYPE_CHECKING:
    from inpars.models.dtypes import DtypeName
    from inpars.prompting.templates import Prompt


def load_pair_model(
    model: str,
    *,
    kind: ScorerKind | Literal["auto"] = "auto",
    device: str = "auto",
    dtype: DtypeName = "auto",
    max_length: int | None = None,
    true_token: str | None = None,
    false_token: str | None = None,
    prompt: Prompt | None = None,
    for_training: bool = False,
    trust_remote_code: bool = False,
) -> PairModel:
    """Network, tokenizer and settings of a reranker.

    `for_training` gives a checkpoint that names no answers the ones it will be taught. Raises ConfigError,
    UnknownNameError, BackendError.
    """
    place = pick_device(device)
    config = models.load_config(model, trust_remote_code=trust_remote_code)
    saved: Mapping[str, Any] = getattr(config, SETTINGS_KEY, None) or {}
    kind = find_kind(model, config, saved) if kind == "auto" else _checked(kind)
    limit = max_length or saved.get("max_length")
    common: dict[str, Any] = {
        "device": place,
        "dtype": pick_dtype(dtype, place),
        "trust_remote_code": trust_remote_code,
    }
    answers = (true_token, false_token, saved, for_training)
    if kind == "monot5":
        network, tokenizer = models.load_seq2seq(model, **common)
        found = _answers(tokenizer, model, monot5.TRAINING_TOKENS, *answers)
        return MonoT5(network, tokenizer, found, limit or monot5.MAX_LENGTH)
    if kind == "cross-encoder":
        network, tokenizer = models.load_sequence_classifier(model, num_labels=_labels(config), **common)
        return CrossEncoder(network, tokenizer, limit)
    network, tokenizer = models.load_causal_lm(model, **common)
    if kind == "causal":
        found = _answers(tokenizer, model, causal.TRAINING_TOKENS, *answers)
        asking = saved.get("prompt", causal.PROMPT)  # rerankers saved before it was stored were asked like this
        return CausalYesNo(network, tokenizer, found, limit or causal.MAX_LENGTH, asking)
    texts = {key: saved[key] for key in ("prefix", "suffix", "reduction") if key in saved}
    if prompt is not None:
        texts |= {"prefix": prompt.prefix, "suffix": prompt.suffix}
    return QueryLikelihood(network, tokenizer, max_length=limit or query_likelihood.MAX_LENGTH, **texts)


def for_scoring(model: PairModel) -> PairModel:
    """The model in its fastest form that only scores; where there is none, itself."""
    if isinstance(model, CrossEncoder) and model.network.dtype == torch.bfloat16:
        fuse_bert(model.network.base_model, lambda inputs: model.network(**inputs).logits)
    return FusedMonoT5(model) if isinstance(model, MonoT5) and FusedMonoT5.fits(model.network) else model


def find_kind(model: str, config: Any, saved: Mapping[str, Any]) -> ScorerKind:  # noqa: ANN401
    """The kind a checkpoint is: what it was saved as, else by its architecture."""
    if saved.get("kind") in SCORER_KINDS:
        return saved["kind"]  # type: ignore[no-any-return]
    names = config.architectures or []
    if any(name.endswith(CLASSIFIER_ENDING) for name in names):
        return "cross-encoder"
    if config.is_encoder_decoder:
        return "monot5"
    if any(name.endswith(CAUSAL_ENDINGS) for name in names):
        return "query-likelihood"  # useful untrained, which yes or no is not
    if names:
        return "cross-encoder"
    raise ConfigError(f"{model}: its config.json names no architecture; say what it is with --kind")


def _checked(kind: str) -> ScorerKind:
    if kind not in SCORER_KINDS:
        raise ConfigError(f"unknown kind {kind!r} of reranker (known: auto, {', '.join(SCORER_KINDS)})")
    return kind


def _labels(config: Any) -> int:  # noqa: ANN401
    """A trained classifier's own number of labels; 1 for a checkpoint whose head is yet to be trained."""
    trained = any(name.endswith(CLASSIFIER_ENDING) for name in config.architectures or [])
    return int(config.num_labels) if trained else 1


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
