"""Who says how well a document answers a query: one protocol, four kinds of model.

`load_scorer` finds the kind from the checkpoint's own configuration. Importing this package loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from inpars.errors import ConfigError
from inpars.protocols import PairScorer, PartScorer, ScoredPart
from inpars.scoring.kinds import SCORER_KINDS, ScorerKind, Windows
from inpars.scoring.parts import score_all, score_in_parts

if TYPE_CHECKING:
    from inpars.models.engine_backend import DtypeName
    from inpars.prompting.templates import Prompt

__all__ = [
    "SCORER_KINDS",
    "PairScorer",
    "PartScorer",
    "ScoredPart",
    "ScorerKind",
    "Windows",
    "load_scorer",
    "score_all",
    "score_in_parts",
]
NEAREST_TOKENS = 96


def load_scorer(
    model: str,
    *,
    kind: ScorerKind | Literal["auto"] = "auto",
    device: str = "auto",
    dtype: DtypeName = "auto",
    max_length: int | None = None,
    batch_tokens: int | None = None,
    true_token: str | None = None,
    false_token: str | None = None,
    prompt: Prompt | None = None,
    windows: Windows | None = None,
    window_tokens: int | None = None,
    window_stride: int | None = None,
    window_retriever: str | None = None,
    trust_remote_code: bool = False,
) -> PairScorer:
    """A scorer from a folder, an embedded name or a hub id.

    `true_token` and `false_token` name the two answers where the checkpoint does not. `prompt` is for untrained query
    likelihood. `batch_tokens` bounds the padded tokens of a batch. `windows` reads long documents in parts;
    `window_retriever` is the bi-encoder that finds the nearest. Raises ConfigError, UnknownNameError, BackendError.
    """
    if windows is None and (window_tokens, window_stride) != (None, None):
        raise ConfigError("--window-tokens and --window-stride say how --windows reads; give that too")
    if windows != "nearest" and window_retriever is not None:
        raise ConfigError("--window-retriever finds the window of --windows nearest; give that too")
    from inpars.scoring.compiled import compiled
    from inpars.scoring.loading import load_pair_model
    from inpars.scoring.packed_likelihood import packed
    from inpars.scoring.pair_model import ModelScorer

    pair_model = load_pair_model(
        model,
        kind=kind,
        device=device,
        dtype=dtype,
        max_length=max_length,
        true_token=true_token,
        false_token=false_token,
        prompt=prompt,
        trust_remote_code=trust_remote_code,
    )
    scorer: PairScorer = packed(pair_model, model, batch_tokens, dtype) or ModelScorer(
        pair_model, model, batch_tokens, compiled(pair_model, model, dtype)
    )
    if windows is None:
        return scorer
    from inpars.scoring.windows import NearestWindowScorer, WindowedScorer, default_tokens

    if windows == "nearest":
        if window_retriever is None or window_stride is not None:
            raise ConfigError("--windows nearest wants --window-retriever MODEL, and no --window-stride")
        from inpars.retrieval.dense import Encoder

        encoder = Encoder(window_retriever, device=device, dtype=dtype, window_tokens=window_tokens or NEAREST_TOKENS)
        return NearestWindowScorer(scorer, encoder)
    tokens = window_tokens or default_tokens(pair_model.max_length)
    return WindowedScorer(scorer, pair_model.tokenizer, windows, tokens=tokens, stride=window_stride)
