"""Documents in their prompts, as a model's tokens: cut, filled in, and what all prompts begin with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from inpars.errors import ConfigError
from inpars.prompts.mixture import PromptSource
from inpars.records import Document

PROBE_DOCUMENTS = ("The first of two", "another, 2nd one", "(3) Third")


class PromptTokens:
    """One tokenizer's view of a prompt; `prefix` are the tokens that are likely to begin every document's prompt."""

    def __init__(self, tokenizer: Any, prompt: PromptSource, max_doc_tokens: int) -> None:
        self._tokenizer, self._prompt, self._max_doc_tokens = tokenizer, prompt, max_doc_tokens
        probes = [Document(f"probe {number}", text) for number, text in enumerate(PROBE_DOCUMENTS)]
        self.prefix = common_prefix(self.encode([self._prompt.for_document(d).render(d.text) for d in probes]))

    def cut(self, documents: Sequence[Document]) -> list[str]:
        """Title and text of each document up to its last allowed token."""
        texts = [document.full_text for document in documents]
        encoded = self._tokenizer(
            texts,
            add_special_tokens=False,
            truncation=True,
            max_length=self._max_doc_tokens,
            return_offsets_mapping=True,
        )
        return [
            text[: offsets[-1][1]] if offsets else ""
            for text, offsets in zip(texts, encoded["offset_mapping"], strict=True)
        ]

    def texts(self, documents: Sequence[Document], prompts: Sequence[PromptSource] | None = None) -> list[str]:
        """Each document's whole prompt; `prompts` are other ones, one per document."""
        named = prompts or [self._prompt] * len(documents)
        return [
            prompt.for_document(document).render(text)
            for prompt, document, text in zip(named, documents, self.cut(documents), strict=True)
        ]

    def prompts(self, documents: Sequence[Document]) -> list[list[int]]:
        """Tokens of each document's whole prompt."""
        return self.encode(self.texts(documents))

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt around a few words of a document, as far as characters tell."""
        prompt = self._prompt.longest()
        return max(map(len, self.encode([prompt.render(text) for text in PROBE_DOCUMENTS])))

    def shared(self, prompts: Sequence[Sequence[int]]) -> int:
        """How many of the prefix's tokens all these prompts begin with, short of a whole prompt."""
        return min(shared_tokens(self.prefix, prompt) for prompt in prompts)

    def check_room(self, config: Any, name: str, new_tokens: int) -> None:
        """Raise ConfigError where the longest prompt, a document and new tokens are more than the model reads."""
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
        """Tokens of whole prompts, with those that the tokenizer puts before every text."""
        ids: list[list[int]] = self._tokenizer(list(texts), verbose=False)["input_ids"]
        return ids


def decoded(tokenizer: Any, tokens: Sequence[int]) -> str:
    """The text of tokens as it stands, special ones too."""
    text: str = tokenizer.decode(tokens, clean_up_tokenization_spaces=False)
    return text


def common_prefix(prompts: Sequence[Sequence[int]]) -> list[int]:
    """The longest beginning of all prompts that leaves something of each."""
    first = list(prompts[0])
    shortest = min(len(prompt) for prompt in prompts) - 1
    shared = min([shared_tokens(first, prompt) for prompt in prompts])
    return first[: max(0, min(shared, shortest))]


def shared_tokens(prefix: Sequence[int], prompt: Sequence[int]) -> int:
    """How many of the prefix's tokens the prompt begins with, short of the whole prompt."""
    count = 0
    for mine, theirs in zip(prefix, prompt[:-1], strict=False):
        if mine != theirs:
            break
        count += 1
    return count
