"""Local models for answers: a language model that writes them and a reader that marks them in texts.

The language model decodes greedily with its chat template. A reader trained on SQuAD 2.0 or similar scores a span by
its logits minus those of "no answer" (`rerankers.answerability`): above 0 it prefers the span. Readers of
`inpars train reader` come with a calibrated threshold. The best span of all hits is the answer, whatever its rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Unpack

import torch

from inpars.apps.qa.extractive import NO_HITS, best_answer, unanswered
from inpars.apps.qa.generative import Message
from inpars.apps.qa.records import Answer, Hit, Span
from inpars.errors import ConfigError
from inpars.generation.causal_lm import end_tokens
from inpars.models import loading as models
from inpars.models.compute_options import Placement
from inpars.models.networks import pad_id
from inpars.rerankers.answerability import AnswerabilityScorer

PLAIN_END = "\n\nAnswer:"  # for models without a chat template


class LocalChat:
    """A local language model; thread-safe, callers take turns."""

    def __init__(self, model: str, **where: Unpack[Placement]) -> None:
        self.name, self._lock = model, Lock()
        self._network, self._tokenizer = models.load_causal_lm(model, **where)
        self._limit = int(getattr(self._network.config, "max_position_embeddings", None) or 2048)

    def reply(self, messages: Sequence[Message], max_new_tokens: int) -> str:
        """The reply's text. Raises ConfigError if messages and reply do not fit the model's input length."""
        with self._lock, torch.inference_mode():
            ids = self._ids(messages)
            if len(ids) + max_new_tokens > self._limit:
                raise ConfigError(
                    f"{self.name} reads {self._limit} tokens, the sources and the answer need {len(ids)} and "
                    f"{max_new_tokens}; lower --k or --source-tokens"
                )
            prompt = torch.tensor([ids], device=self._network.device)  # (1, tokens)
            generated = self._network.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                eos_token_id=end_tokens(self._network, self._tokenizer) or None,
                pad_token_id=pad_id(self._tokenizer),
            )
            return str(self._tokenizer.decode(generated[0, len(ids) :], skip_special_tokens=True))

    def close(self) -> None:
        """There is nothing to release."""

    def _ids(self, messages: Sequence[Message]) -> list[int]:
        if not self._tokenizer.chat_template:
            text = "\n\n".join(message["content"] for message in messages) + PLAIN_END
            return list(self._tokenizer(text)["input_ids"])
        text = self._tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])


class SpanReader:
    """Marks the answer in the text of a hit; thread-safe, callers take turns."""

    closest = False

    def __init__(self, model: str, *, threshold: float | None = None, **where: Unpack[Placement]) -> None:
        """Load the model. Raises ConfigError for a model that is not an extractive reader."""
        self._scorer = AnswerabilityScorer(model, **where)
        self.name, self._lock = f"span marked by {model}", Lock()
        self.threshold = self._scorer.threshold if threshold is None else threshold

    def read(self, question: str, hits: Sequence[Hit]) -> Answer:
        """The best span of all hits."""
        if not hits:
            return unanswered(question, self.name, hits, NO_HITS)
        with self._lock:
            spans = self._scorer.spans([(question, hit.document.text) for hit in hits])
        candidates = [
            (number, Span(span.start, span.end), span.margin)
            for number, (span, hit) in enumerate(zip(spans, hits, strict=True), start=1)
            if hit.document.text[span.start : span.end].strip()
        ]
        if not candidates:
            return unanswered(question, self.name, hits, "no source has any text")
        return best_answer(question, hits, candidates, self.name, self.threshold)
