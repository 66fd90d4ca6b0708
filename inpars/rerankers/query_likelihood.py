"""Query likelihood: ranks documents by a language model's probability of the query given the document.

Needs no training: the prompt that generates queries also scores them. A model trained for it needs no examples.
Ponte and Croft, SIGIR 1998; Sachan et al. (arXiv 2204.07496).
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
from inpars.rerankers.pair_model import Batch, EncodedPair, Pair, distinct_token_ids, fit, second_text_mask, token_ids

BARE_PREFIX = "Document: "  # for models trained for query likelihood
BARE_SUFFIX = "\nRelevant Query:"
MAX_LENGTH = 512  # tokens of document, cue and query, without the examples before them
MAX_QUERY_TOKENS = 64


class QueryLikelihood:
    """A causal language model as a pair model; `prefix` and `suffix` enclose the document."""

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
        self.prefix_ids = start_tokens(tokenizer) + token_ids(tokenizer, [prefix.rstrip()])[0]
        self._lead = prefix[len(prefix.rstrip()) :]  # the space is part of the document's first token
        self._suffix = token_ids(tokenizer, [suffix])[0]
        self._cache: Any = None

    def encode(self, pairs: Sequence[Pair]) -> list[EncodedPair]:
        """Document, cue and query; all pairs share the prefix, which is not included."""
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
        pairs, positions = second_text_mask(batch).nonzero(as_tuple=True)  # (query tokens,) each
        context, offset = self._context(batch)
        with head_replaced(self.network, lambda head, hidden: head(hidden[pairs, positions + offset - 1])[None]):
            logits = (network or self.network)(**context).logits[0]  # (query tokens, vocabulary)
        targets = batch["input_ids"][pairs, positions]
        log_probs = -nn.functional.cross_entropy(logits.float(), targets, reduction="none")
        sums = torch.zeros(len(batch["input_ids"]), device=log_probs.device).index_add(0, pairs, log_probs)
        return sums / batch["second_tokens"].clamp(min=1) if self.reduction == "mean" else sums

    def _context(self, batch: Batch) -> tuple[dict[str, Any], int]:
        """The network's inputs with the prefix, and how many columns it occupies in the output.

        The prefix is a key-value cache shared by all rows (0 columns), or tokens if gradient checkpointing forbids one.
        """
        ids, mask = batch["input_ids"], batch["attention_mask"]
        prefix = torch.tensor(self.prefix_ids, device=ids.device).expand(len(ids), -1)
        whole_mask = torch.cat([torch.ones_like(prefix), mask], dim=1)
        if torch.is_grad_enabled():
            self._cache = None  # training changes the weights
            if getattr(self.network, "is_gradient_checkpointing", False):
                inputs = torch.cat([prefix, ids], dim=1)
                return {"input_ids": inputs, "attention_mask": whole_mask, "use_cache": False}, prefix.shape[1]
            cache = self._read_prefix(ids.device)  # with gradients, once for all rows of the step
        else:
            if self._cache is None:
                with evaluating(self.network), torch.inference_mode():
                    self._cache = self._read_prefix(ids.device)
            cache = copy.deepcopy(self._cache)
        if all(isinstance(layer, DynamicLayer) for layer in cache.layers):
            for layer in cache.layers:  # views suffice: the network concatenates them with the rows' keys and values
                layer.keys, layer.values = (part.expand(len(ids), -1, -1, -1) for part in (layer.keys, layer.values))
        else:
            cache.batch_repeat_interleave(len(ids))
        past = with_cache(self.network, cache)
        return {"input_ids": ids, "attention_mask": whole_mask, **past, "use_cache": True}, 0

    def _read_prefix(self, device: torch.device) -> Any:
        ids = torch.tensor([self.prefix_ids], device=device)
        return cache_of(self.network(input_ids=ids, use_cache=True, logits_to_keep=1))

    def settings(self) -> dict[str, Any]:
        return {"prefix": self._prefix_text, "suffix": self._suffix_text, "reduction": self.reduction}


def load(checkpoint: Checkpoint) -> QueryLikelihood:
    """Load the checkpoint with the prompt given, else the saved one, else the bare one."""
    network, tokenizer = models.load_causal_lm(checkpoint.model, **checkpoint.where)
    texts = {key: checkpoint.saved[key] for key in ("prefix", "suffix", "reduction") if key in checkpoint.saved}
    if checkpoint.prompt is not None:
        texts |= {"prefix": checkpoint.prompt.prefix, "suffix": checkpoint.prompt.suffix}
    return QueryLikelihood(network, tokenizer, max_length=checkpoint.limit or MAX_LENGTH, **texts)
