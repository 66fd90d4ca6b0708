"""What a checkpoint is, by its own configuration."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from inpars.errors import ConfigError

CAUSAL_ENDINGS = ("ForCausalLM", "LMHeadModel")
READER_ENDING = "ForQuestionAnswering"
CLASSIFIER_ENDING = "ForSequenceClassification"

ExportKind: TypeAlias = Literal["bi-encoder", "cross-encoder", "monot5"]


def find_export_kind(model: str, config: Any) -> ExportKind:  # noqa: ANN401 - transformers' configurations
    """Which of the kinds that are exported it is. Raises ConfigError for others."""
    names = config.architectures or []
    if any(name.endswith(CAUSAL_ENDINGS) for name in names):
        raise ConfigError(f"{model} is a decoder; bi-encoders, cross-encoders and monoT5s are exported")
    if any(name.endswith(READER_ENDING) for name in names):
        raise ConfigError(f"{model} is a reader of answers; bi-encoders, cross-encoders and monoT5s are exported")
    if any(name.endswith(CLASSIFIER_ENDING) for name in names):
        return "cross-encoder"
    return "monot5" if config.is_encoder_decoder else "bi-encoder"
