"""How likely a language model finds the query once it has read the document: the generator as a reranker.

Needs no training: the prompt that writes queries also scores them. A model trained for it is shown the document alone,
without examples. Ponte and Croft, SIGIR 1998; Sachan et al. (arXiv 2204.07496).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicLayer

from inpars.models import loading as models
from inpars.models.networks import cache_of, evaluating, head_replaced, start_tokens, with_cache
from inpars.rerankers.kinds import ScorerKind
from inpars.rerankers.load import Checkpoint, Reduction
from inpars.rerankers.pair_model import Batch, EncodedPair, Pair, distinct_token_ids, fit, token_ids

BARE_PREFIX = "Document: "  # what a model trained for query likelihood sees
BARE_SUFFIX = "\nRelevant Query:"
MAX_LENGTH = 512  # document, cue and query; the examples before them are not counted
MAX_QUERY_TOKENS = 64


class QueryLikelihood:
    """A causal language model as a pair model; `prefix` and `suffix` stand around the document."""

    kind: ScorerKind = "query-likelihood"

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        *,
        prefix: str = BARE_PREFIX,
        suffix: str = BARE_SUFFIX,
        reduction: Reduction = "sum",
        max_length: int = MAX_LENGTH,
    ) -> None:
        self.network, self.tokenizer, self.max_length = network, tokenizer, max_length
        self.reduction, self._prefix_text, self._suffix_text = reduction, prefix, suffix
        start = start_tokens(tokenizer)
        self.prefix_ids: list[int] = start + token_ids(tokenizer, [prefix.rstrip()])[0]
        self._lead = prefix[len(prefix.rstrip()) :]  # the blank that belongs to the document's first token
        self._suffix = token_ids(tokenizer, [suffix])[0]
        self._cache: Any = None

    def encode(self, pairs: Sequence[Pair]) -> list[EncodedPair]:
        """Document, cue and query; the prefix is shared and not repeated."""
        queries = distinct_token_ids(self.tokenizer, [" " + query.strip() for query, _ in pairs], MAX_QUERY_TOKENS)
        documents = distinct_token_ids(
            self.tokenizer, [self._lead + document.strip() for _, document in pairs], self.max_length
        )
        return [
            EncodedPair(fit([], document, self._suffix + query, self.max_length), len(query))
            for document, query in zip(documents, queries, strict=True)
        ]

    def margins(self, batch: Batch, network: nn.Module | None = None) -> Tensor:
        """Mean or sum of the query tokens' log-probabilities, (pairs,)."""
        pairs, positions = _query_positions(batch)
        context = self._context(batch)
        offset = context.pop("offset")
        with head_replaced(self.network, lambda head, hidden: head(hidden[pairs, positions + offset - 1])[None]):
            logits = (network or self.network)(**context).logits[0]  # (query tokens, vocabulary)
        targets = batch["input_ids"][pairs, positions]
        log_probs = -nn.functional.cross_entropy(logits.float(), targets, reduction="none")
        sums = torch.zeros(len(batch["input_ids"]), device=log_probs.device).index_add(0, pairs, log_probs)
        return sums / batch["second_tokens"].clamp(min=1) if self.reduction == "mean" else sums

    def _context(self, batch: Batch) -> dict[str, Any]:
        """The network's inputs: the prefix as keys and values that all rows share, as tokens where none are kept."""
        ids, mask = batch["input_ids"], batch["attention_mask"]
        prefix = torch.tensor(self.prefix_ids, device=ids.device).expand(len(ids), -1)
        whole_mask = torch.cat([torch.ones_like(prefix), mask], dim=1)
        if torch.is_grad_enabled():
            self._cache = None  # the weights are about to change
            if getattr(self.network, "is_gradient_checkpointing", False):  # which keeps no keys and values
                whole = torch.cat([prefix, ids], dim=1)
                return {"input_ids": whole, "attention_mask": whole_mask, "use_cache": False, "offset": prefix.shape[1]}
            cache = self._read_prefix(ids.device)  # with its gradients, once for all rows of the step
        else:
            cache = copy.deepcopy(self._prefix_cache(ids.device))
        if all(isinstance(layer, DynamicLayer) for layer in cache.layers):
            for layer in cache.layers:  # views: they are copied beside the rows' own keys and values anyway
                layer.keys, layer.values = (part.expand(len(ids), -1, -1, -1) for part in (layer.keys, layer.values))
        else:
            cache.batch_repeat_interleave(len(ids))
        return {
            "input_ids": ids,
            "attention_mask": whole_mask,
            **with_cache(self.network, cache),
            "use_cache": True,
            "offset": 0,
        }

    def _prefix_cache(self, device: torch.device) -> Any:
        """Keys and values of the prefix, computed once; a training step forgets them."""
        if self._cache is None:
            with evaluating(self.network), torch.inference_mode():
                self._cache = self._read_prefix(device)
        return self._cache

    def _read_prefix(self, device: torch.device) -> Any:
        ids = torch.tensor([self.prefix_ids], device=device)
        return cache_of(self.network(input_ids=ids, use_cache=True, logits_to_keep=1))

    def settings(self) -> dict[str, Any]:
        return {"prefix": self._prefix_text, "suffix": self._suffix_text, "reduction": self.reduction}


def _query_positions(batch: Batch) -> tuple[Tensor, Tensor]:
    """Row and column of every query token, two tensors of (query tokens,)."""
    mask = batch["attention_mask"]
    ends = mask.sum(1, keepdim=True)
    columns = torch.arange(mask.shape[1], device=mask.device)
    of_query = (columns >= ends - batch["second_tokens"][:, None]) & (columns < ends)
    pairs, positions = of_query.nonzero(as_tuple=True)
    return pairs, positions


def load(checkpoint: Checkpoint) -> QueryLikelihood:
    """The checkpoint as this kind, shown the prompt that is given, else the one it was saved with."""
    network, tokenizer = models.load_causal_lm(checkpoint.model, **checkpoint.where)
    texts = {key: checkpoint.saved[key] for key in ("prefix", "suffix", "reduction") if key in checkpoint.saved}
    if checkpoint.prompt is not None:
        texts |= {"prefix": checkpoint.prompt.prefix, "suffix": checkpoint.prompt.suffix}
    return QueryLikelihood(network, tokenizer, max_length=checkpoint.limit or MAX_LENGTH, **texts)
