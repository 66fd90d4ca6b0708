"""A reranker's checkpoint before it is loaded: its configuration, what inpars saved in it, what the caller wants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)

from inpars.errors import ConfigError, UntrainedModelError
from inpars.models import loading as models
from inpars.models.compute_options import Placement
from inpars.models.kinds import CAUSAL_ENDINGS, CLASSIFIER_ENDING
from inpars.rerankers.answer_tokens import Answers, Reduction, find_answers
from inpars.rerankers.kinds import Family
from inpars.rerankers.pair_model import SETTINGS_KEY

if TYPE_CHECKING:
    from inpars.prompts.templates import Prompt

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
        """Whether it has a head that classifies."""
        return any(name.endswith(CLASSIFIER_ENDING) for name in self.config.architectures or [])

    @property
    def family(self) -> Family | None:
        """What it is by its architecture."""
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

    def answers(self, tokenizer: Any, taught: tuple[str, str]) -> Answers:  # noqa: ANN401
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
        """Raise UntrainedModelError where it lacks what its kind needs."""
        if needs == "head":
            self.check_head()
        elif needs == "answers":
            trusted = self.where.get("trust_remote_code", False)
            find_answers(models.load_tokenizer(self.model, trust_remote_code=trusted), self.model, self.saved)


def saved_settings(model: str, config: Any) -> Mapping[str, Any]:  # noqa: ANN401
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
