"""Cross-encoder: a BERT-like sequence classifier over query and document, ranked by its logit.

A classifier with two labels is ranked by the margin between them (Nogueira and Cho, arXiv 1901.04085). Its head is
replaced by one that computes the margin, so that other libraries get the same scores from a saved model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from inpars.errors import ConfigError
from inpars.models import loading as models
from inpars.models.networks import pad_id
from inpars.rerankers.kinds import ScorerKind
from inpars.rerankers.load import Checkpoint
from inpars.rerankers.pair_model import Batch, EncodedPair, Pair, distinct_token_ids, second_text_mask, token_ids

MAX_LENGTH = 512


class CrossEncoder:
    """A sequence classifier as a pair model; a head with two labels is merged into one in place."""

    kind: ScorerKind = "cross-encoder"
    thread_safe = True

    def __init__(self, network: Any, tokenizer: Any, max_length: int | None = None) -> None:
        if network.config.num_labels > 2:
            raise ConfigError(f"a reranker has one label or two; this classifier has {network.config.num_labels}")
        if network.config.num_labels == 2:
            _merge_labels(network)
        network.config.pad_token_id = pad_id(tokenizer)  # by which a decoder finds the last token of each pair
        self.network, self.tokenizer = network, tokenizer
        positions = getattr(network.config, "max_position_embeddings", MAX_LENGTH)
        self.max_length = max_length or int(min(MAX_LENGTH, positions, tokenizer.model_max_length))
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


def _merge_labels(network: Any) -> None:
    """Replace two labels by one whose logit is the second's minus the first's."""
    body = set(network.base_model.modules())
    linear = [module for module in network.modules() if isinstance(module, nn.Linear) and module not in body]
    heads = [module for module in linear if module.out_features == 2]
    if len(heads) != 1:
        raise ConfigError(f"no head of this {network.config.model_type} classifier can merge its two labels into one")
    head = heads[0]
    for name, values in list(head.named_parameters()):
        merged = (values[1:].float() - values[:1].float()).to(values.dtype)
        setattr(head, name, nn.Parameter(merged.detach(), requires_grad=values.requires_grad))
    head.out_features = network.num_labels = network.config.num_labels = 1


def segments(batch: Batch) -> Tensor:
    """1 on the document and its end token, 0 elsewhere, (pairs, tokens)."""
    return second_text_mask(batch).long()


def _special_ids(tokenizer: Any) -> tuple[list[int], list[int], list[int]]:
    """The tokenizer's special tokens before, between and after two texts."""
    first, second = token_ids(tokenizer, ["a", "b"])
    ids: list[int] = tokenizer("a", "b")["input_ids"]
    first_start = _find(ids, first, 0)
    first_end = first_start + len(first)
    second_start = _find(ids, second, first_end)
    return ids[:first_start], ids[first_end:second_start], ids[second_start + len(second) :]


def _find(ids: list[int], part: list[int], start: int) -> int:
    for position in range(start, len(ids)):
        if ids[position : position + len(part)] == part:
            return position
    raise ConfigError("this tokenizer changes texts when it joins them, so it cannot be used for a cross-encoder")


def load(checkpoint: Checkpoint) -> CrossEncoder:
    """Load the checkpoint; an untrained head gets one label."""
    if not checkpoint.for_training:
        checkpoint.check_head()
    labels = int(checkpoint.config.num_labels) if checkpoint.is_classifier else 1
    network, tokenizer = models.load_sequence_classifier(
        checkpoint.model, num_labels=labels, new_head=checkpoint.for_training, **checkpoint.where
    )
    return CrossEncoder(network, tokenizer, checkpoint.limit)
