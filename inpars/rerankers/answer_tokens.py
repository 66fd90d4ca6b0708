"""The two tokens a generative reranker answers with, looked up in each tokenizer and kept in the checkpoint.

A checkpoint that names neither is refused: guessed tokens give plausible scores and a wrong order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from inpars.errors import ConfigError, UntrainedModelError

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
        """What the saved config keeps."""
        return {
            "true_token": self.true_token,
            "false_token": self.false_token,
            "true_token_id": self.true_id,
            "false_token_id": self.false_id,
        }


def find_answers(
    tokenizer: Any,  # noqa: ANN401
    model: str,
    saved: Mapping[str, Any],
    true_token: str | None = None,
    false_token: str | None = None,
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


def _id(tokenizer: Any, token: str, model: str) -> int:  # noqa: ANN401
    """The id of a vocabulary entry, or of a word that is one token."""
    if token in tokenizer.get_vocab():
        return int(tokenizer.convert_tokens_to_ids(token))
    ids = tokenizer(token, add_special_tokens=False)["input_ids"]
    if len(ids) == 1 and ids[0] != tokenizer.unk_token_id:
        return int(ids[0])
    raise ConfigError(
        f"{model}: {token!r} is not one token of its vocabulary; name another with --true-token/--false-token"
    )
