"""Who says how well a document answers a query: one protocol, four kinds of model.

`load_scorer` finds the kind from the checkpoint's own configuration. Importing this package loads no torch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from inpars.errors import ConfigError

if TYPE_CHECKING:
    from inpars.models.dtypes import DtypeName
    from inpars.prompting.templates import Prompt

ScorerKind: TypeAlias = Literal["monot5", "cross-encoder", "causal", "query-likelihood"]
Windows: TypeAlias = Literal["maxp", "firstp", "mean", "nearest"]
ScoredPart: TypeAlias = Sequence[tuple[int, float]]
"""Positions of pairs, and their scores."""
NEAREST_TOKENS = 96
SCORER_KINDS: tuple[ScorerKind, ...] = ("monot5", "cross-encoder", "causal", "query-likelihood")


class PairScorer(Protocol):
    """Gives each (query text, document text) pair a relevance score; higher is better."""

    name: str

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Float32 margins, unbounded, in the order of the pairs; comparable within one query."""
        ...


class PartScorer(PairScorer, Protocol):
    """A scorer that hands over its scores while it still computes others."""

    def score_in_parts(self, pairs: Sequence[tuple[str, str]], wanted: Collection[int]) -> Iterator[ScoredPart]:
        """The scores of the pairs at the `wanted` positions, and perhaps of others, batch by batch.

        The batches are those of all pairs, so that a score does not depend on what is wanted.
        """
        ...


def score_in_parts(
    scorer: PairScorer, pairs: Sequence[tuple[str, str]], wanted: Collection[int]
) -> Iterator[ScoredPart]:
    """As `PartScorer.score_in_parts`; one part with all scores where the scorer gives no parts."""
    in_parts = getattr(scorer, "score_in_parts", None)
    if in_parts is not None:
        yield from in_parts(pairs, wanted)
        return
    yield list(enumerate(scorer.score(pairs)))


def score_all(scorer: PartScorer, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """The scores in the order of the pairs."""
    scores = [0.0] * len(pairs)
    for part in scorer.score_in_parts(pairs, range(len(pairs))):
        for position, score in part:
            scores[position] = score
    return scores


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
    from inpars.scoring.loading import for_scoring, load_pair_model
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
    likelihood = packed(pair_model, model, batch_tokens, dtype)
    scorer = likelihood or ModelScorer(for_scoring(pair_model, dtype), name=model, batch_tokens=batch_tokens)
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
