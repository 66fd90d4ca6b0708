"""From a checkpoint's name to the pair model it is: the kind is read from its own configuration, or forced.

The two tokens that a generative reranker answers with are looked up in its tokenizer and kept in the checkpoint. One
that names neither is refused: guessed tokens give plausible scores and a wrong order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Unpack, get_args

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
from inpars.models.retrievers import MULTI_VECTOR, retriever_kind
from inpars.prompts.templates import Prompt
from inpars.rerankers.kinds import RERANKERS, SCORER_KINDS, Family, ScorerKind
from inpars.rerankers.pair_model import SETTINGS_KEY, PairModel

if TYPE_CHECKING:
    from inpars.prompts.templates import Prompt

Reduction = Literal["mean", "sum"]  # of a query likelihood

# true and false tokens of published rerankers, by the beginning of the hub id (model cards; pygaggle's table)
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
    """The two answers as tokens of one vocabulary."""

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
    """The answers given, else saved with the checkpoint, else published for it. Raises ConfigError for none."""
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
        f"{model}: nothing says which two tokens this reranker answers with; name them with --true-token and "
        "--false-token (monoT5's own are ▁true and ▁false), or score with a checkpoint that inpars trained"
    )


def _id(tokenizer: Any, token: str, model: str) -> int:
    """The id of a vocabulary entry, or of a word that is one token."""
    if token in tokenizer.get_vocab():
        return int(tokenizer.convert_tokens_to_ids(token))
    ids = tokenizer(token, add_special_tokens=False)["input_ids"]
    if len(ids) == 1 and ids[0] != tokenizer.unk_token_id:
        return int(ids[0])
    raise ConfigError(
        f"{model}: {token!r} is not one token of its vocabulary; name another with --true-token/--false-token"
    )


TEXTS = ("prefix", "suffix", "true_token", "false_token")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a reranker comes from; `where` says in which place and number format it is loaded."""

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
        """The input length from the caller, else the saved one."""
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
        """Whether transformers has such a network of its type; a decoder is none that also fills in blanks."""
        kind = self.config.model_type
        if family == "encoder":
            return kind in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
        if (translates := kind in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES) or family == "encoder-decoder":
            return translates and family == "encoder-decoder"
        return kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES

    def answers(self, tokenizer: Any, taught: tuple[str, str]) -> Answers:
        """The two answers of a generative reranker; one that names none is taught those, where it is trained."""
        try:
            return find_answers(tokenizer, self.model, self.saved, self.true_token, self.false_token)
        except ConfigError:
            if not self.for_training or self.true_token is not None or self.false_token is not None:
                raise
            return find_answers(tokenizer, self.model, {}, *taught)

    def check_head(self) -> None:
        """Raise UntrainedModelError where a head that scores pairs would be a random one."""
        if not self.is_classifier:
            raise UntrainedModelError(
                f"{self.model} has no head that scores pairs, a random one would; `inpars train reranker --model "
                f"{self.model}` trains one"
            )

    def check_trained(self, needs: Literal["answers", "head", ""]) -> None:
        if needs == "head":
            self.check_head()
        elif needs == "answers":
            trusted = self.where.get("trust_remote_code", False)
            find_answers(models.load_tokenizer(self.model, trust_remote_code=trusted), self.model, self.saved)


def saved_settings(model: str, config: Any) -> Mapping[str, Any]:
    """What a checkpoint of ours says of its scoring, empty for others. Raises ConfigError where it is none of ours."""
    saved = getattr(config, SETTINGS_KEY, None) or {}
    if not isinstance(saved, dict):
        raise ConfigError(f"{model}: config.json: {SETTINGS_KEY} is {saved!r} and no object")
    limit = saved.get("max_length")
    wrong = [name for name in TEXTS if name in saved and not isinstance(saved[name], str)]
    wrong += [] if limit is None or (type(limit) is int and limit > 0) else ["max_length"]
    wrong += [] if saved.get("reduction") in (None, *get_args(Reduction)) else ["reduction"]
    if wrong:
        raise ConfigError(f"{model}: config.json: {SETTINGS_KEY}.{wrong[0]} cannot be {saved[wrong[0]]!r}")
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
