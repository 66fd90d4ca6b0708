"""The kinds of rerankers, and the ways in which they read long documents."""

from __future__ import annotations

from typing import Literal, TypeAlias

ScorerKind: TypeAlias = Literal["monot5", "cross-encoder", "causal", "query-likelihood"]
Windows: TypeAlias = Literal["maxp", "firstp", "mean", "nearest"]
SCORER_KINDS: tuple[ScorerKind, ...] = ("monot5", "cross-encoder", "causal", "query-likelihood")
