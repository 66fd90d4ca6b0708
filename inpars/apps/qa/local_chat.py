"""A language model in this process, for written answers: greedy, with the model's own chat template."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Any, Unpack

import torch

from inpars.apps.qa.generative import Message
from inpars.errors import ConfigError
from inpars.generation.causal_lm import end_tokens
from inpars.models import loading as models
from inpars.models.compute_options import Placement
from inpars.models.networks import pad_id

PLAIN_END = "\n\nAnswer:"  # for models that have no chat template


class LocalChat:
    """Replies to messages; safe to call from several threads, which take turns."""

    def __init__(self, model: str, **where: Unpack[Placement]) -> None:
        self.name, self._lock = model, Lock()
        self._network, self._tokenizer = models.load_causal_lm(model, **where)
        self._limit = int(getattr(self._network.config, "max_position_embeddings", None) or 2048)

    def reply(self, messages: Sequence[Message], max_new_tokens: int) -> str:
        """The reply's text. Raises ConfigError where messages and reply do not fit the model."""
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

    def _ids(self, messages: Sequence[Message]) -> list[int]:
        if not self._tokenizer.chat_template:
            text = "\n\n".join(message["content"] for message in messages) + PLAIN_END
            return list(self._tokenizer(text)["input_ids"])
        form: Any = self._tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
        return list(self._tokenizer(form, add_special_tokens=False)["input_ids"])
