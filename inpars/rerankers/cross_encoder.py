"""A BERT-like sequence classifier over query and document; its logit ranks.

Of a classifier with two labels the margin between them is taken (Nogueira and Cho, arXiv 1901.04085): its head is made
one that computes the margin, so that what is saved scores alike in libraries that take one label's logit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from inpars.errors import ConfigError
from inpars.models import loading as models
from inpars.rerankers.kinds import ScorerKind
from inpars.rerankers.load import Checkpoint
from inpars.rerankers.pair_model import Batch, EncodedPair, Pair, distinct_token_ids, token_ids

MAX_LENGTH = 512


class CrossEncoder:
    """A sequence classifier with one label as a pair model; the head of one with two labels is joined in place."""

    kind: ScorerKind = "cross-encoder"
    thread_safe = True

    def __init__(self, network: Any, tokenizer: Any, max_length: int | None = None) -> None:
        if network.config.num_labels > 2:
            raise ConfigError(f"a reranker has one label or two, this classifier has {network.config.num_labels}")
        if network.config.num_labels == 2:
            _join_labels(network)
        self.network, self.tokenizer = network, tokenizer
        self.max_length = max_length or _limit(network.config, tokenizer)
        self._start, self._middle, self._end = _special_ids(tokenizer)
        self.has_segments = "token_type_ids" in tokenizer.model_input_names

    def encode(self, pairs: Sequence[Pair]) -> list[EncodedPair]:
        """`[CLS] query [SEP] document [SEP]` in the model's own special tokens."""
        queries = distinct_token_ids(self.tokenizer, [query for query, _ in pairs], self.max_length)
        documents = distinct_token_ids(self.tokenizer, [document for _, document in pairs], self.max_length)
        return [self._join(query, document) for query, document in zip(queries, documents, strict=True)]

    def _join(self, query: list[int], document: list[int]) -> EncodedPair:
        room = self.max_length - len(self._start) - len(self._middle) - len(self._end)
        query = query[:room]
        second = document[: room - len(query)] + self._end
        return EncodedPair(self._start + query + self._middle + second, len(second))

    def margins(self, batch: Batch, network: nn.Module | None = None) -> Tensor:
        """The logit, (pairs,)."""
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        if self.has_segments:
            inputs["token_type_ids"] = segments(batch)
        logits: Tensor = (network or self.network)(**inputs).logits.float()  # (pairs, 1)
        return logits[:, 0]

    def settings(self) -> dict[str, Any]:
        return {}


def _join_labels(network: Any) -> None:
    """Give the network one label whose logit is the second label's less the first's."""
    body = set(network.base_model.modules())
    heads = [part for part in network.modules() if isinstance(part, nn.Linear) and part not in body]
    last = [head for head in heads if head.out_features == 2]
    if len(last) != 1:
        raise ConfigError(f"a {network.config.model_type} classifier with two labels has no head that can be joined")
    head = last[0]
    for name, values in list(head.named_parameters()):
        joined = (values[1:].float() - values[:1].float()).to(values.dtype)
        setattr(head, name, nn.Parameter(joined.detach(), requires_grad=values.requires_grad))
    head.out_features = network.num_labels = network.config.num_labels = 1


def segments(batch: Batch) -> Tensor:
    """1 on the document and its end token, 0 elsewhere, (pairs, tokens)."""
    mask = batch["attention_mask"]
    ends = mask.sum(1, keepdim=True)
    positions = torch.arange(mask.shape[1], device=mask.device)
    return ((positions >= ends - batch["second_tokens"][:, None]) & (positions < ends)).long()


def _limit(config: Any, tokenizer: Any) -> int:
    """No more positions than network and tokenizer have, and no more than MAX_LENGTH."""
    return int(min(MAX_LENGTH, getattr(config, "max_position_embeddings", MAX_LENGTH), tokenizer.model_max_length))


def _special_ids(tokenizer: Any) -> tuple[list[int], list[int], list[int]]:
    """What the tokenizer puts before, between and after two texts."""
    first, second = token_ids(tokenizer, ["a", "b"])
    ids: list[int] = tokenizer("a", "b")["input_ids"]
    where = _find(ids, first, 0)
    after = _find(ids, second, where + len(first))
    return ids[:where], ids[where + len(first) : after], ids[after + len(second) :]


def _find(ids: list[int], part: list[int], start: int) -> int:
    for position in range(start, len(ids)):
        if ids[position : position + len(part)] == part:
            return position
    raise ConfigError("this tokenizer changes a text when it joins two; it cannot be used for a cross-encoder")


def load(checkpoint: Checkpoint) -> CrossEncoder:
    """The checkpoint as this kind; a head that is yet to be trained has one label."""
    if not checkpoint.for_training:
        checkpoint.check_head()
    labels = int(checkpoint.config.num_labels) if checkpoint.is_classifier else 1
    loaded = models.load_sequence_classifier(checkpoint.model, num_labels=labels, **checkpoint.where)
    return CrossEncoder(*loaded, checkpoint.limit)
