"""Prompts as token ids: documents cut and filled in, and the prefix that all prompts share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from inpars.errors import ConfigError
from inpars.prompts.mixture import PromptSource
from inpars.records import Document

PROBE_DOCUMENTS = ("The first of two", "another, 2nd one", "(3) Third")


class PromptTokens:
    """A prompt and its tokenizer. `prefix`: token ids that the prompts of most documents start with."""

    def __init__(self, tokenizer: Any, prompt: PromptSource, max_doc_tokens: int) -> None:
        self._tokenizer, self._prompt, self._max_doc_tokens = tokenizer, prompt, max_doc_tokens
        probes = [Document(f"probe {number}", text) for number, text in enumerate(PROBE_DOCUMENTS)]
        self.prefix = common_prefix(self.encode([prompt.for_document(probe).render(probe.text) for probe in probes]))

    def cut(self, documents: Sequence[Document]) -> list[str]:
        """Title and text of each document, truncated to `max_doc_tokens`."""
        return cut_texts(self._tokenizer, [document.full_text for document in documents], self._max_doc_tokens)

    def texts(self, documents: Sequence[Document], prompts: Sequence[PromptSource] | None = None) -> list[str]:
        """The whole prompt of each document; `prompts` replaces the prompt, with one per document."""
        sources = prompts or [self._prompt] * len(documents)
        return [
            source.for_document(document).render(text)
            for source, document, text in zip(sources, documents, self.cut(documents), strict=True)
        ]

    def prompts(self, documents: Sequence[Document]) -> list[list[int]]:
        """Token ids of each document's whole prompt."""
        return self.encode(self.texts(documents))

    @property
    def longest(self) -> int:
        """Length in tokens of the longest prompt (by characters) around a very short document."""
        prompt = self._prompt.longest()
        return max(map(len, self.encode([prompt.render(text) for text in PROBE_DOCUMENTS])))

    def check_room(self, config: Any, name: str, new_tokens: int) -> None:
        """Raise ConfigError if prompt, document and new tokens together exceed the model's maximum length."""
        limit = getattr(config.get_text_config(), "max_position_embeddings", None)
        longest = self._prompt.longest()
        prompt = len(common_prefix(self.encode([longest.render(text) for text in PROBE_DOCUMENTS])))
        needed = prompt + self._max_doc_tokens + new_tokens
        if limit is not None and needed > limit:
            raise ConfigError(
                f"{name} reads {limit} tokens; prompt ({prompt}), document and query need {needed}: "
                "lower --max-doc-tokens or --max-new-tokens, or shorten the prompt's examples"
            )

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of whole prompts, with the tokenizer's leading special tokens.

        An end-of-text token that some tokenizers append (`add_eos_token`) is left out: nothing follows it.
        """
        ids: list[list[int]] = self._tokenizer(list(texts), verbose=False)["input_ids"]
        end = self._tokenizer.eos_token_id
        return [row[:-1] if len(row) > 1 and row[-1] == end else row for row in ids]


def decoded(tokenizer: Any, tokens: Sequence[int]) -> str:
    """The text of the tokens, including special ones."""
    text: str = tokenizer.decode(tokens, clean_up_tokenization_spaces=False)
    return text


def cut_texts(tokenizer: Any, texts: Sequence[str], max_tokens: int) -> list[str]:
    """Each text truncated to `max_tokens` tokens."""
    encoded = tokenizer(
        list(texts), add_special_tokens=False, truncation=True, max_length=max_tokens, return_offsets_mapping=True
    )
    spans = encoded["offset_mapping"]
    return [text[: offsets[-1][1]] if offsets else "" for text, offsets in zip(texts, spans, strict=True)]


def common_prefix(sequences: Sequence[Sequence[int]]) -> list[int]:
    """The longest common prefix of token sequences."""
    equal = takewhile(lambda tokens: len(set(tokens)) == 1, zip(*sequences, strict=False))
    return [tokens[0] for tokens in equal]


def shared_tokens(prefix: Sequence[int], prompts: Sequence[Sequence[int]]) -> int:
    """How many of the prefix's tokens all prompts start with; at least one token of each prompt remains."""
    return len(common_prefix([prefix, *(prompt[:-1] for prompt in prompts)]))
