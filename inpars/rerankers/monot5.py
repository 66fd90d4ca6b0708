"""monoT5: an encoder-decoder that answers true or false, ranked by the margin between them.

Only one decoder step is run, and only two logits are computed. Nogueira, Jiang, Pradeep, Lin (arXiv 2003.06713).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from inpars.models import loading as models
from inpars.models.networks import float32_rows, head_replaced
from inpars.rerankers.kinds import ScorerKind
from inpars.rerankers.load import Answers, Checkpoint
from inpars.rerankers.pair_model import Batch, EncodedPair, Pair, distinct_token_ids, fit, token_ids

HEAD = "Query: {query} Document:"
CUE = " Relevant:"
MAX_LENGTH = 512
TRAINING_TOKENS = ("▁true", "▁false")  # answers for a checkpoint that names none


class MonoT5:
    """A T5, FLAN-T5, mT5 or UMT5 network as a pair model."""

    kind: ScorerKind = "monot5"

    def __init__(self, network: Any, tokenizer: Any, answers: Answers, max_length: int = MAX_LENGTH) -> None:
        self.network, self.tokenizer, self.answers, self.max_length = network, tokenizer, answers, max_length
        end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        self._tail = token_ids(tokenizer, [CUE])[0] + end

    def encode(self, pairs: Sequence[Pair]) -> list[EncodedPair]:
        """`Query: q Document: d Relevant:` and the end token."""
        heads = distinct_token_ids(self.tokenizer, [HEAD.format(query=query) for query, _ in pairs], self.max_length)
        documents = distinct_token_ids(self.tokenizer, [document for _, document in pairs], self.max_length)
        return [
            EncodedPair(fit(head, document, self._tail, self.max_length))
            for head, document in zip(heads, documents, strict=True)
        ]

    def margins(self, batch: Batch, network: nn.Module | None = None) -> Tensor:
        """Logit of true minus logit of false at the first decoder step, (pairs,)."""
        rows = (self.answers.false_id, self.answers.true_id)
        with head_replaced(self.network, lambda head, hidden: float32_rows(head, hidden, rows)):
            logits = self._first_step(batch, network)  # (pairs, 2)
        return logits[:, 1] - logits[:, 0]

    def answer_loss(self, batch: Batch, relevant: Tensor, network: nn.Module | None = None) -> Tensor:
        """Cross-entropy of the correct answer over the whole vocabulary, so that `generate` gives it too."""
        answers = torch.where(relevant, self.answers.true_id, self.answers.false_id)
        logits = self._first_step(batch, network)  # (pairs, vocabulary)
        return nn.functional.cross_entropy(logits.float(), answers.to(logits.device))

    def _first_step(self, batch: Batch, network: nn.Module | None) -> Tensor:
        logits: Tensor = (network or self.network)(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            decoder_input_ids=torch.full_like(batch["input_ids"][:, :1], self.network.config.decoder_start_token_id),
            use_cache=False,
        ).logits
        return logits[:, 0]

    def settings(self) -> dict[str, Any]:
        return self.answers.settings()


def load(checkpoint: Checkpoint) -> MonoT5:
    """Load the checkpoint with its own answers, or default ones for training."""
    network, tokenizer = models.load_seq2seq(checkpoint.model, **checkpoint.where)
    return MonoT5(network, tokenizer, checkpoint.answers(tokenizer, TRAINING_TOKENS), checkpoint.limit or MAX_LENGTH)
