"""Loads a checkpoint as a pair model; its kind is read from its configuration or given.

The two answer tokens of a generative reranker are looked up in its tokenizer and stored in the checkpoint. A checkpoint
that names none is refused: guessed tokens give plausible scores and a wrong ranking.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
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
from inpars.models.compute_options import Placement
from inpars.models.folders import CAUSAL_ENDINGS, CLASSIFIER_ENDING
from inpars.models.networks import MIN_TOKENS, check_length, learned_positions
from inpars.models.retrievers import CROSS_ENCODER, MULTI_VECTOR, class_saved, retriever_kind
from inpars.prompts.templates import Prompt
from inpars.rerankers.kinds import RERANKERS, SCORER_KINDS, Family, ScorerKind
from inpars.rerankers.pair_model import SETTINGS_KEY, PairModel

Reduction = Literal["mean", "sum"]  # of the query tokens' log-probs
TEXT_SETTINGS = ("prefix", "suffix", "true_token", "false_token")

# true and false tokens of published rerankers, by prefix of the hub id (model cards; pygaggle's table)
PUBLISHED: tuple[tuple[str, str, str], ...] = (
    ("castorini/monot5-", "▁true", "▁false"),
    ("zeta-alpha-ai/monot5-", "▁true", "▁false"),
    ("unicamp-dl/mt5-base-en-msmarco", "▁yes", "▁no"),
    ("unicamp-dl/mt5-base-mmarco-v", "▁yes", "▁no"),
    ("unicamp-dl/mt5-base-en-pt-msmarco-v", "▁yes", "▁no"),
    ("unicamp-dl/ptt5-base-pt-msmarco-", "▁sim", "▁não"),
    ("unicamp-dl/mt5-3B-mmarco-en-pt", "▁true", "▁"),
    ("unicamp-dl/mt5-13b-mmarco-100k", "▁true", "▁"),
)


@dataclass(frozen=True, slots=True)
class Answers:
    """The two answer tokens of a generative reranker."""

    true_token: str
    false_token: str
    true_id: int
    false_id: int

    def settings(self) -> dict[str, Any]:
        return {
            "true_token": self.true_token,
            "false_token": self.false_token,
            "true_token_id": self.true_id,
            "false_token_id": self.false_id,
        }


def find_answers(
    tokenizer: Any, model: str, saved: Mapping[str, Any], true_token: str | None = None, false_token: str | None = None
) -> Answers:
    """The answers given, else saved, else published for this checkpoint. Raises ConfigError if none are known."""
    if (true_token is None) != (false_token is None):
        raise ConfigError("--true-token and --false-token belong together; give both or neither")
    if true_token is None or false_token is None:
        true_token, false_token = _saved_or_published(model, saved)
    answers = Answers(true_token, false_token, _id(tokenizer, true_token, model), _id(tokenizer, false_token, model))
    if answers.true_id == answers.false_id:
        raise ConfigError(f"{model}: {true_token!r} and {false_token!r} are the same token; name two different ones")
    return answers


def _saved_or_published(model: str, saved: Mapping[str, Any]) -> tuple[str, str]:
    if "true_token" in saved and "false_token" in saved:
        return str(saved["true_token"]), str(saved["false_token"])
    for prefix, true_token, false_token in PUBLISHED:
        if model.startswith(prefix):
            return true_token, false_token
    raise UntrainedModelError(
        f"{model}: unknown which two tokens this reranker answers with; name them with --true-token and --false-token "
        "(▁true and ▁false for monoT5), or use a checkpoint trained by inpars"
    )


def _id(tokenizer: Any, token: str, model: str) -> int:
    """The id of a vocabulary entry, or of a word that is tokenized as one token."""
    if token in tokenizer.get_vocab():
        return int(tokenizer.convert_tokens_to_ids(token))
    ids = tokenizer(token, add_special_tokens=False)["input_ids"]
    if len(ids) == 1 and ids[0] != tokenizer.unk_token_id:
        return int(ids[0])
    raise ConfigError(
        f"{model}: {token!r} is not one token of its vocabulary; choose another with --true-token/--false-token"
    )


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A reranker to load, with the caller's settings; `where` is its device and number format."""

    model: str
    config: Any
    saved: Mapping[str, Any]
    where: Placement = field(default_factory=Placement)
    max_length: int | None = None
    true_token: str | None = None
    false_token: str | None = None
    prompt: Prompt | None = None
    for_training: bool = False

    @property
    def limit(self) -> int | None:
        """The maximum input length given, else the saved one."""
        return self.max_length or self.saved.get("max_length")

    @property
    def is_classifier(self) -> bool:
        return any(name.endswith(CLASSIFIER_ENDING) for name in self.config.architectures or [])

    @property
    def family(self) -> Family | None:
        if self.is_classifier:
            return "encoder"
        if self.config.is_encoder_decoder:
            return "encoder-decoder"
        names = self.config.architectures or []
        return "decoder" if any(name.endswith(CAUSAL_ENDINGS) for name in names) else None

    def fits(self, family: Family) -> bool:
        """Whether transformers has a network of this family for the model type; masked LMs are not decoders."""
        model_type = self.config.model_type
        if family == "encoder":
            return model_type in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
        is_seq2seq = model_type in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES
        if is_seq2seq or family == "encoder-decoder":
            return is_seq2seq and family == "encoder-decoder"
        return model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES

    def answers(self, tokenizer: Any, default: tuple[str, str]) -> Answers:
        """The answer tokens; `default` ones if the checkpoint names none and is loaded for training."""
        try:
            return find_answers(tokenizer, self.model, self.saved, self.true_token, self.false_token)
        except ConfigError:
            if not self.for_training or self.true_token is not None or self.false_token is not None:
                raise
            return find_answers(tokenizer, self.model, {}, *default)

    def check_head(self) -> None:
        """Raise UntrainedModelError if the head would be initialized at random."""
        if not self.is_classifier:
            raise UntrainedModelError(
                f"{self.model} has no head that scores pairs; train one with `inpars train reranker --model "
                f"{self.model}`"
            )


def saved_settings(model: str, config: Any) -> Mapping[str, Any]:
    """The scoring settings that inpars stored in a checkpoint, else empty. Raises ConfigError if they are invalid."""
    saved = getattr(config, SETTINGS_KEY, None) or {}
    if not isinstance(saved, dict):
        raise ConfigError(f"{model}: config.json: {SETTINGS_KEY} is {saved!r}, not an object")
    limit = saved.get("max_length")
    invalid = [name for name in TEXT_SETTINGS if name in saved and not isinstance(saved[name], str)]
    invalid += [] if limit is None or (type(limit) is int and limit > 0) else ["max_length"]
    invalid += [] if saved.get("reduction") in (None, *get_args(Reduction)) else ["reduction"]
    if invalid:
        raise ConfigError(f"{model}: config.json: {SETTINGS_KEY}.{invalid[0]} cannot be {saved[invalid[0]]!r}")
    return saved


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
    """Load a reranker's network, tokenizer and settings.

    `for_training` accepts an untrained checkpoint, with default answers if it names none. Raises ConfigError,
    UnknownNameError, BackendError.
    """
    checkpoint = _open(
        model,
        where,
        max_length=max_length,
        true_token=true_token,
        false_token=false_token,
        prompt=prompt,
        for_training=for_training,
    )
    pair_model: PairModel = import_module(RERANKERS[find_kind(checkpoint, kind)].module).load(checkpoint)
    _limit_length(pair_model, model, max_length)
    return pair_model


def _open(model: str, where: Placement, **settings: Any) -> Checkpoint:
    config = models.load_config(model, trust_remote_code=where.get("trust_remote_code", False))
    return Checkpoint(model, config, saved_settings(model, config), where, **settings)


def _limit_length(pair_model: PairModel, model: str, max_length: int | None) -> None:
    """Lower the model's default length to its positions. Raises ConfigError if --max-length exceeds them."""
    prefix = len(getattr(pair_model, "prefix_ids", ()))
    check_length(pair_model.network, model, max_length, before=prefix)
    positions = learned_positions(pair_model.network)
    if positions is not None and pair_model.max_length + prefix > positions:
        pair_model.max_length = positions - prefix
        if pair_model.max_length < MIN_TOKENS:
            raise ConfigError(f"{model} reads at most {positions} tokens and the prompt takes {prefix}; shorten it")


def check_trained(
    model: str, *, kind: ScorerKind | Literal["auto"] = "auto", trust_remote_code: bool = False
) -> ScorerKind:
    """The kind of a reranker, without loading its weights.

    Raises UntrainedModelError if `load_pair_model` would.
    """
    if kind == "auto" and retriever_kind(model) == MULTI_VECTOR:
        return MULTI_VECTOR
    checkpoint = _open(model, {"trust_remote_code": trust_remote_code})
    kind = find_kind(checkpoint, kind)
    needs = RERANKERS[kind].needs
    if needs == "head":
        checkpoint.check_head()
    elif needs == "answers":
        find_answers(models.load_tokenizer(model, trust_remote_code=trust_remote_code), model, checkpoint.saved)
    return kind


def check_prompt_is_read(model: str, kind: ScorerKind | Literal["auto"] = "auto", **where: Unpack[Placement]) -> None:
    """Raise ConfigError for a kind of reranker that reads pairs without a prompt."""
    if kind == "auto" and retriever_kind(model) == MULTI_VECTOR:
        kind = MULTI_VECTOR
    if kind != MULTI_VECTOR:
        kind = find_kind(_open(model, where), kind)
    if kind == MULTI_VECTOR or not RERANKERS[kind].reads_prompt:
        raise ConfigError(f"--prompt: {model} is a {kind}, which reads no prompt; leave it out or name another --kind")


def has_own_prompt(model: str, *, trust_remote_code: bool = False) -> bool:
    """Whether a query likelihood was saved with the prompt it was trained with, without loading its weights."""
    return "prefix" in _open(model, {"trust_remote_code": trust_remote_code}).saved


def find_kind(checkpoint: Checkpoint, kind: ScorerKind | Literal["auto"] = "auto") -> ScorerKind:
    """The kind given, if the network supports it; else the saved kind; else the kind of its architecture."""
    if kind != "auto":
        return _checked(checkpoint, kind)
    if checkpoint.saved.get("kind") in RERANKERS:
        return str(checkpoint.saved["kind"])
    if not checkpoint.config.architectures and checkpoint.family is None:
        raise ConfigError(f"{checkpoint.model}: its config.json names no architecture; give its --kind")
    family = checkpoint.family or "encoder"
    if family == "decoder" and class_saved(checkpoint.model) == CROSS_ENCODER:
        raise ConfigError(
            f"{checkpoint.model} answers by one of two tokens; give --kind causal, --true-token and --false-token"
        )
    return next(name for name, reranker in RERANKERS.items() if reranker.detected and reranker.family == family)


def _checked(checkpoint: Checkpoint, kind: str) -> ScorerKind:
    if kind not in RERANKERS:
        raise ConfigError(f"unknown kind {kind!r} of reranker (known: auto, {', '.join(SCORER_KINDS)})")
    model_type = checkpoint.config.model_type
    if model_type not in MODEL_MAPPING_NAMES:  # an architecture of its own, which may be any kind
        return kind
    supported = [name for name, reranker in RERANKERS.items() if checkpoint.fits(reranker.family)] or ["cross-encoder"]
    if kind not in supported:
        raise ConfigError(
            f"--kind {kind}: {checkpoint.model} is a {model_type} and supports only: {', '.join(supported)}"
        )
    return kind
