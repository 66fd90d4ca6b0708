"""A decoder asked whether the document answers the query, ranked by the margin between yes and no.

Only the document, which comes first, is cut to the length limit. Pointwise relevance from a decoder's vocabulary:
Ma et al., RankLLaMA (arXiv 2310.08319); Zhuang et al. (2310.14122).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from inpars.errors import ConfigError
from inpars.models import loading as models
from inpars.models.networks import float32_rows, head_replaced, start_tokens
from inpars.rerankers.kinds import ScorerKind
from inpars.rerankers.load import Answers, Checkpoint
from inpars.rerankers.pair_model import Batch, EncodedPair, Pair, distinct_token_ids, fit, token_ids

DOCUMENT, QUERY = "{document}", "{query}"
PROMPT = "Document: {document}\nQuery: {query}\nDoes the document answer the query? Answer:"
TRAINING_TOKENS = (" yes", " no")
MAX_LENGTH = 512


class CausalYesNo:
    """A causal language model as a pair model."""

    kind: ScorerKind = "causal"

    def __init__(
        self, network: Any, tokenizer: Any, answers: Answers, max_length: int = MAX_LENGTH, prompt: str = PROMPT
    ) -> None:
        """`prompt` contains `{document}` once, then `{query}` once; others raise ConfigError."""
        self.network, self.tokenizer, self.answers, self.max_length = network, tokenizer, answers, max_length
        head, self._tail = _around_document(prompt)
        self._prompt, self._lead = prompt, head[len(head.rstrip()) :]  # the space is part of the document's first token
        self._head = start_tokens(tokenizer) + token_ids(tokenizer, [head.rstrip()])[0]

    def encode(self, pairs: Sequence[Pair]) -> list[EncodedPair]:
        texts = [self._tail.replace(QUERY, query) for query, _ in pairs]
        tails = distinct_token_ids(self.tokenizer, texts, self.max_length)
        texts = [self._lead + text.strip() for _, text in pairs]
        documents = distinct_token_ids(self.tokenizer, texts, self.max_length)
        return [
            EncodedPair(fit(self._head, document, tail, self.max_length))
            for document, tail in zip(documents, tails, strict=True)
        ]

    def margins(self, batch: Batch, network: nn.Module | None = None) -> Tensor:
        """Logit of yes minus logit of no after the last token, (pairs,)."""
        rows = (self.answers.false_id, self.answers.true_id)
        last = batch["attention_mask"].sum(1) - 1
        pairs = torch.arange(len(last), device=last.device)
        with head_replaced(self.network, lambda head, hidden: float32_rows(head, hidden[pairs, last], rows)[:, None]):
            logits = (network or self.network)(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False
            ).logits  # (pairs, 1, 2)
        return logits[:, 0, 1] - logits[:, 0, 0]  # type: ignore[no-any-return]

    def settings(self) -> dict[str, Any]:
        return {**self.answers.settings(), "prompt": self._prompt}


def _around_document(prompt: Any) -> tuple[str, str]:
    """The prompt before and after the document."""
    if isinstance(prompt, str) and prompt.count(DOCUMENT) == 1:
        head, tail = prompt.split(DOCUMENT)
        if QUERY not in head and tail.count(QUERY) == 1:
            return head, tail
    raise ConfigError(
        f"config.json: the prompt of a yes/no reranker must contain {DOCUMENT} once, then {QUERY} once, not {prompt!r}"
    )


def load(checkpoint: Checkpoint) -> CausalYesNo:
    """Load the checkpoint; early ones store no prompt and were trained with the default."""
    network, tokenizer = models.load_causal_lm(checkpoint.model, **checkpoint.where)
    answers, prompt = checkpoint.answers(tokenizer, TRAINING_TOKENS), checkpoint.saved.get("prompt", PROMPT)
    return CausalYesNo(network, tokenizer, answers, checkpoint.limit or MAX_LENGTH, prompt)
