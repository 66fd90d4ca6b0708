"""Cut blocks into chunks of limited tokens: whole sentences under one heading, on one page, of one record.

Neighbouring chunks share sentences up to the overlap. A chunk becomes a document whose metadata are `source` (file name
or URL), `start` and `end` (characters, see `Block`) and, if they apply, `page`, `headings` (outermost first), `record`
(from 1) and `title` (the file's, if it differs from the document's). Tokens are counted with a model's tokenizer,
without loading the model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

from inpars.batches import chunks as batches
from inpars.documents.blocks import Block, clean
from inpars.errors import ConfigError, MissingDependencyError, reason_of
from inpars.models.folders import EMBEDDED
from inpars.records import Document

MAX_TOKENS, OVERLAP = 200, 32  # MiniLM reads 256, including the title
TITLE_SEPARATOR = " / "
SENTENCES_PER_BATCH = 128
_SENTENCE_END = re.compile(
    r"[.!?\u2026]+[\"'\u201d\u2019)\]]*\s+(?=[^a-z\s])|[\u3002\uff01\uff1f]+[\"'\u201d\u300d\uff09]*"
)
_LINE_END = re.compile(r"\n+")
_WORDS = re.compile(r"\S{1,200}\s*")  # longer words are split
TokenCounter: TypeAlias = Callable[[Sequence[str]], list[int]]
DEFAULT_TOKENIZER, WORDS = "minilm", "words"
_WORD_OR_MARK = re.compile(r"\w+|[^\w\s]")
TOKENIZER_FILE = "tokenizer.json"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive sentences of one page, record and heading; `start` and `end` are offsets as in `Block`."""

    text: str
    start: int
    end: int
    headings: tuple[str, ...] = ()
    page: int | None = None
    record: int | None = None
    title: str = ""
    key: str = ""

    def as_document(self, doc_id: str, source: str, title: str) -> Document:
        """The document, titled by the file's `title` and the path of headings."""
        heading = TITLE_SEPARATOR.join(dict.fromkeys(name for name in (self.title or title, *self.headings) if name))
        metadata: dict[str, Any] = {"source": source}
        if title and title != heading and not self.title:
            metadata["title"] = title
        if self.page is not None:
            metadata["page"] = self.page
        if self.headings:
            metadata["headings"] = list(self.headings)
        if self.record is not None:
            metadata["record"] = self.record
        return Document(doc_id, self.text, heading, metadata | {"start": self.start, "end": self.end})


@dataclass(frozen=True, slots=True)
class _Unit:
    """A sentence, a line of code, or a piece of a long one."""

    text: str
    start: int
    end: int
    tokens: int
    block: Block


def chunks(
    blocks: Iterable[Block], count: TokenCounter, *, max_tokens: int = MAX_TOKENS, overlap: int = OVERLAP
) -> Iterator[Chunk]:
    """Cut blocks; no chunk has more than `max_tokens` unless a single word has."""
    units: list[_Unit] = []
    tokens = 0
    for unit in _units(blocks, count, max_tokens):
        same_origin = bool(units) and unit.block.origin == units[-1].block.origin
        if units and (not same_origin or tokens + unit.tokens > max_tokens):
            yield _chunk(units)
            units = _tail(units, min(overlap, max_tokens - unit.tokens)) if same_origin else []
            tokens = sum(unit.tokens for unit in units)
        units.append(unit)
        tokens += unit.tokens
    if units:
        yield _chunk(units)


def _chunk(units: Sequence[_Unit]) -> Chunk:
    parts = [units[0].text]
    for before, unit in pairwise(units):
        within = unit.block is before.block and unit.block.markup != "code"
        parts += [" " if within else "\n", unit.text]
    block = units[0].block
    origin = (block.headings, block.page, block.record, block.title, block.key)
    return Chunk("".join(parts), units[0].start, units[-1].end, *origin)


def _tail(units: Sequence[_Unit], overlap: int) -> list[_Unit]:
    """The last sentences that fit into the overlap, without the first sentence."""
    first, tokens = len(units), 0
    while first > 1 and tokens + units[first - 1].tokens <= overlap:
        first -= 1
        tokens += units[first].tokens
    return list(units[first:])


def _units(blocks: Iterable[Block], count: TokenCounter, max_tokens: int) -> Iterator[_Unit]:
    sentences = ((block, *span) for block in blocks for span in _sentences(block))
    for batch in batches(sentences, SENTENCES_PER_BATCH):
        texts = [clean(block.text[first:last], block.markup) for block, first, last in batch]
        for (block, first, last), text, tokens in zip(batch, texts, count(texts), strict=True):
            if not text.strip():
                continue
            if tokens <= max_tokens:
                yield _Unit(text, block.start + first, block.start + last, tokens, block)
            else:
                yield from _pieces(block, first, last, count, max_tokens)


def _sentences(block: Block) -> Iterator[tuple[int, int]]:
    """Start and end of each sentence, or of each line of code."""
    pattern = _LINE_END if block.markup == "code" else _SENTENCE_END
    first = 0
    for match in [*pattern.finditer(block.text), None]:
        last = match.end() if match else len(block.text)
        yield from _trimmed(block, first, last)
        first = last


def _trimmed(block: Block, first: int, last: int) -> Iterator[tuple[int, int]]:
    text = block.text[first:last]
    if text.strip():
        lead = 0 if block.markup == "code" else len(text) - len(text.lstrip())
        yield first + lead, first + len(text.rstrip())


def _pieces(block: Block, first: int, last: int, count: TokenCounter, max_tokens: int) -> Iterator[_Unit]:
    """Split a long sentence between words into the longest pieces allowed."""
    words = [(first + match.start(), first + match.end()) for match in _WORDS.finditer(block.text[first:last])]
    sizes = count([clean(block.text[begin:end], block.markup) for begin, end in words])
    begin, tokens = first, 0
    for (start, _), size in zip([*words, (last, last)], [*sizes, max_tokens + 1], strict=True):
        if tokens and tokens + size > max_tokens:
            for one, other in _trimmed(block, begin, start):
                text = clean(block.text[one:other], block.markup)
                if text.strip():
                    yield _Unit(text, block.start + one, block.start + other, tokens, block)
            begin, tokens = start, 0
        tokens += size


def tokenizer_name(name: str | None) -> str:
    """The given tokenizer; by default the embedded one, or words if that is not installed."""
    if name is not None:
        return name
    return DEFAULT_TOKENIZER if find_spec("tokenizers") is not None and EMBEDDED[DEFAULT_TOKENIZER].installed else WORDS


def token_counter(name: str) -> TokenCounter:
    """A function that counts tokens per text, without special tokens; `words` counts words and punctuation marks.

    Raises ConfigError for an unknown tokenizer, MissingDependencyError.
    """
    if name == WORDS:
        return lambda texts: [sum(1 for _ in _WORD_OR_MARK.finditer(text)) for text in texts]
    if find_spec("tokenizers") is None:
        raise MissingDependencyError(
            "tokenizers", "to count tokens (or give --tokenizer words)", "pip install tokenizers"
        )
    from tokenizers import Tokenizer

    folder = EMBEDDED[name].locate()[0] if name in EMBEDDED else Path(name).expanduser()
    try:
        tokenizer = (
            Tokenizer.from_file(str(folder / TOKENIZER_FILE)) if folder.is_dir() else Tokenizer.from_pretrained(name)
        )
    except Exception as error:  # the library defines no exceptions
        problem = f"no tokenizer there ({reason_of(error)}); give words or {DEFAULT_TOKENIZER}"
        raise ConfigError(f"--tokenizer {name}: {problem}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda texts: [
        len(encoding.ids) for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False)
    ]
