"""Which two words a generative checkpoint is taught to answer with where it names none. Loads no torch.

A vocabulary decides: mT5's has no single token for `false`. FLAN-T5 has learnt to answer yes or no (Chung et al.,
arXiv 2210.11416). The words are saved with the trained model, so that no name is looked at when it scores.
"""

from __future__ import annotations

from typing import Any

from inpars.errors import ConfigError
from inpars.scoring.answers import PUBLISHED

YES, TRUE = ("▁yes", "▁no"), ("▁true", "▁false")
OF_FAMILY = {"t5": TRUE, "mt5": YES, "umt5": YES}  # by model_type of config.json
INSTRUCTED = "flan"  # in the name of a T5 that answers yes or no


def taught_answers(model: str, config: Any) -> tuple[str, str] | None:  # noqa: ANN401 - a transformers config
    """The answers to give an encoder-decoder; None where it names its own. Raises ConfigError for other families."""
    saved = getattr(config, "inpars", None) or {}
    if "true_token" in saved or any(model.startswith(prefix) for prefix, *_ in PUBLISHED):
        return None
    family = getattr(config, "model_type", "")
    if family not in OF_FAMILY:
        raise ConfigError(
            f"{model}: nothing is known of the answers of a {family or 'nameless'!s} checkpoint; name two words of its "
            "vocabulary, each one token, with --true-token and --false-token"
        )
    return YES if family == "t5" and INSTRUCTED in model.lower() else OF_FAMILY[family]
