"""Rerankers score (query, document) pairs: one protocol, four kinds of model, and a retriever's MaxSim.

`load_scorer` detects the kind from the checkpoint's configuration. Importing this package loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from inpars.errors import ConfigError
from inpars.models.retrievers import MULTI_VECTOR, retriever_kind
from inpars.protocols import PairScorer
from inpars.rerankers.kinds import ScorerKind, Windows

if TYPE_CHECKING:
    from inpars.models.compute_options import DtypeName
    from inpars.prompts.templates import Prompt

NEAREST_TOKENS = 96


def load_scorer(
    model: str,
    *,
    kind: ScorerKind | Literal["auto", "multi-vector"] = "auto",
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
    """Load a scorer from a folder, a short name or a hub id.

    `kind="multi-vector"` compares the token states of a bi-encoder by MaxSim. `true_token` and `false_token` are the
    answer tokens if the checkpoint names none. `prompt` is for untrained query likelihood. `batch_tokens` limits the
    padded tokens per batch. `windows` splits long documents; `window_retriever` is the bi-encoder that selects the
    nearest window. Raises ConfigError, UnknownNameError, BackendError.
    """
    if windows is None and (window_tokens, window_stride) != (None, None):
        raise ConfigError("--window-tokens and --window-stride need --windows; give that too")
    if windows != "nearest" and window_retriever is not None:
        raise ConfigError("--window-retriever needs --windows nearest; give that too")

    def nearest(scorer: PairScorer) -> PairScorer:
        if window_retriever is None or window_stride is not None:
            raise ConfigError("--windows nearest needs --window-retriever MODEL and takes no --window-stride")
        from inpars.rerankers.windows import NearestWindowScorer
        from inpars.retrieval.dense import Encoder

        encoder = Encoder(
            window_retriever,
            device=device,
            dtype=dtype,
            window_tokens=window_tokens or NEAREST_TOKENS,
            trust_remote_code=trust_remote_code,
        )
        return NearestWindowScorer(scorer, encoder)

    is_multi_vector = retriever_kind(model) == MULTI_VECTOR
    if is_multi_vector or kind == MULTI_VECTOR:
        _check_max_sim(model, kind, windows, true_token or false_token)
        from inpars.rerankers.max_sim import MaxSimScorer

        max_sim: PairScorer = MaxSimScorer(
            model,
            of_encoder=not is_multi_vector,
            device=device,
            dtype=dtype,
            max_length=max_length,
            trust_remote_code=trust_remote_code,
        )
        return max_sim if windows is None else nearest(max_sim)
    from inpars.rerankers.compiled import compiled
    from inpars.rerankers.load import load_pair_model
    from inpars.rerankers.packed_likelihood import packed
    from inpars.rerankers.pair_model import ModelScorer

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
    if windows == "nearest":
        return nearest(scorer)
    from inpars.rerankers.windows import WindowedScorer, default_tokens

    tokens = window_tokens or default_tokens(pair_model.max_length)
    return WindowedScorer(scorer, pair_model.tokenizer, windows, tokens=tokens, stride=window_stride)


def _check_max_sim(model: str, kind: str, windows: Windows | None, answer: str | None) -> None:
    """Raise ConfigError for options that MaxSim does not support."""
    unsupported = {
        f"--kind {kind}": kind not in ("auto", MULTI_VECTOR),
        f"--windows {windows}": windows not in (None, "nearest"),
        "--true-token and --false-token": answer is not None,
    }
    if given := [flag for flag, is_given in unsupported.items() if is_given]:
        raise ConfigError(f"{model} is a {MULTI_VECTOR} retriever, which reranks by MaxSim; leave {given[0]} out")
