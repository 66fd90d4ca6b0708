"""Select the log-probabilities of the query's tokens from a server's answer: one per token, or none.

Servers send tokens as text, as bytes, or as vocabulary entries (a space is `Ġ` in byte-level vocabularies and `▁` in
SentencePiece), with or without the reasoning before and the stop token after. The tokens are aligned with the text; if
they do not cover the whole query, or a value is invalid, the query has no log-probabilities.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

NONE, FORM, LENGTH, TEXT, VALUE = (f"log_probs_{name}" for name in ("none", "form", "length", "text", "value"))
_ROUNDING = 1e-3  # how far a log-probability may exceed 0
_BROKEN = "�".encode()  # in place of a token with part of a character
_LEAP = 8  # bytes that may be missing between two tokens, a space for instance
_BYTES_TOKEN = re.compile(r"^bytes:((?:\\x[0-9a-fA-F]{2})+)$")
_BYTE = re.compile(r"<0x([0-9a-fA-F]{2})>")


class UnusableError(Exception):
    """No usable log-probabilities; the message is one of the reasons above."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token as sent by the server."""

    text: str
    raw: bytes | None
    value: Any


class Kept(NamedTuple):
    """A query's log-probabilities, and that of the token that ended it, if known."""

    values: tuple[float, ...]
    stop: float | None


def read_tokens(log_probs: Any) -> list[Token]:
    """The tokens in either endpoint's format, which servers mix up. Raises UnusableError."""
    if isinstance(log_probs, dict):
        entries = log_probs.get("content")
        tokens, values = log_probs.get("tokens"), log_probs.get("token_logprobs")
        if not entries and isinstance(tokens, list) and isinstance(values, list) and tokens:
            if len(tokens) != len(values):
                raise UnusableError(LENGTH)
            entries = [{"token": token, "logprob": value} for token, value in zip(tokens, values, strict=True)]
        elif not entries:
            raise UnusableError(FORM if any(log_probs.values()) else NONE)
    else:
        entries = log_probs
    if entries in (None, [], "", False, True):
        raise UnusableError(NONE)
    if not isinstance(entries, list):
        raise UnusableError(FORM)
    return [_token(entry) for entry in entries]


def _token(entry: Any) -> Token:
    text = entry.get("token") if isinstance(entry, dict) else None
    if not isinstance(text, str):
        raise UnusableError(FORM)
    raw = entry.get("bytes")
    whole = isinstance(raw, list) and all(type(byte) is int and 0 <= byte < 256 for byte in raw)
    return Token(text, bytes(raw) if whole else None, entry.get("logprob"))


def keep(tokens: Sequence[Token], text: str, start: int, end: int, *, last: bool = False) -> Kept:
    """The values of the tokens that overlap `text[start:end]`, and of the token after them.

    `last` aligns the text with its last occurrence in the tokens, for use when reasoning precedes it. Raises
    UnusableError unless the tokens cover the span and each has a value.
    """
    raw = text.encode()
    first, stop = len(text[:start].encode()), len(text[:end].encode())
    for pieces in _spellings(tokens):
        spans = _exact(raw, pieces, last=last)
        if spans is not None:
            return _kept_tokens(tokens, pieces, spans, raw, first, stop)
    for pieces in _spellings(tokens):
        try:
            return _kept_tokens(tokens, pieces, _searched(raw, pieces), raw, first, stop)
        except UnusableError as error:
            reason = error
    raise reason


def _kept_tokens(
    tokens: Sequence[Token], pieces: Sequence[bytes], spans: Sequence[tuple[int, int]], raw: bytes, first: int, end: int
) -> Kept:
    positions = [position for position, (begin, stop) in enumerate(spans) if _overlaps(begin, stop, first, end)]
    if first == end:
        following = next((position for position, (begin, _) in enumerate(spans) if begin >= first), len(tokens))
        return Kept((), _stop_value(tokens, following))
    if (
        not positions
        or positions != list(range(positions[0], positions[-1] + 1))
        or not _covered(positions, pieces, spans, raw, first, end)
    ):
        raise UnusableError(TEXT)
    values = tuple(_number(tokens[position].value) for position in positions)
    begin, stop = spans[positions[-1]]
    if stop > end and pieces[positions[-1]][end - begin :].strip(b" "):
        return Kept(values, values[-1])  # one token contains the query's end and the stop
    return Kept(values, _stop_value(tokens, positions[-1] + 1))


def _covered(
    token_positions: Sequence[int],
    pieces: Sequence[bytes],
    spans: Sequence[tuple[int, int]],
    raw: bytes,
    first: int,
    end: int,
) -> bool:
    """Whether only whitespace, or characters that the server sent as broken, are between the tokens."""
    position, broken = first, False
    for number in token_positions:
        begin, stop = spans[number]
        broken = broken or _BROKEN in pieces[number]
        if not _is_skippable(raw[position : max(position, begin)], broken):
            return False
        position = max(position, stop)
        if stop > begin:
            broken = _BROKEN in pieces[number]
    return _is_skippable(raw[position : max(position, end)], broken)


def _is_skippable(gap: bytes, broken: bool) -> bool:
    gap = gap.strip()
    return not gap or (broken and min(gap) >= 0x80)


def _number(value: Any) -> float:
    """A valid log-probability, at most 0. Raises UnusableError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not -math.inf < value <= _ROUNDING:
        raise UnusableError(VALUE)
    return min(float(value), 0.0)


def _stop_value(tokens: Sequence[Token], position: int) -> float | None:
    try:
        return _number(tokens[position].value)
    except (UnusableError, IndexError):
        return None


def _overlaps(begin: int, stop: int, first: int, last: int) -> bool:
    if begin == stop:  # part of a character, sent as empty text
        return first <= begin < last
    return begin < last and stop > first


def _spellings(tokens: Sequence[Token]) -> list[list[bytes]]:
    """The tokens' bytes under each plausible encoding, most plausible first."""
    spellers: list[Callable[[Token], bytes]] = [
        lambda token: _plain(token.text) if token.raw is None else token.raw,
        lambda token: _plain(token.text),
    ]
    if any("▁" in token.text or _BYTE.search(token.text) for token in tokens):
        spellers.append(lambda token: _sentence_piece(token.text))
    if any(not token.text.isascii() for token in tokens):
        spellers.append(lambda token: _byte_level(token.text))
    spellings: list[list[bytes]] = []
    for spell in spellers:
        if (pieces := [spell(token) for token in tokens]) not in spellings:
            spellings.append(pieces)
    return spellings


def _plain(text: str) -> bytes:
    if match := _BYTES_TOKEN.match(text):
        return bytes.fromhex(match[1].replace("\\x", ""))
    return text.encode("utf-8", "replace")


def _sentence_piece(text: str) -> bytes:
    if match := _BYTE.fullmatch(text):
        return bytes.fromhex(match[1])
    return text.replace("▁", " ").encode("utf-8", "replace")


def _byte_level(text: str) -> bytes:
    """The bytes of a byte-level vocabulary entry; the text itself if it is none."""
    table = _byte_characters()
    try:
        return bytes(table[character] for character in text)
    except KeyError:
        return text.encode("utf-8", "replace")


@cache
def _byte_characters() -> dict[str, int]:
    """GPT-2's character for each byte: itself if printable, else the next one from 256 on (Radford et al., 2019)."""
    printed = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printed]
    return {chr(byte): byte for byte in printed} | {chr(256 + number): byte for number, byte in enumerate(others)}


def _exact(raw: bytes, pieces: Sequence[bytes], *, last: bool) -> list[tuple[int, int]] | None:
    """Byte spans of the tokens relative to the text, if their concatenation contains it."""
    joined = b"".join(pieces)
    offset = 0 if joined.startswith(raw) and not last else joined.rfind(raw)
    if offset < 0:
        return None
    spans, position = [], -offset
    for piece in pieces:
        spans.append((position, position + len(piece)))
        position += len(piece)
    return spans


def _searched(raw: bytes, pieces: Sequence[bytes]) -> list[tuple[int, int]]:
    """Byte spans of the tokens, searched one after the other; tokens not found are placed at the text's end."""
    spans, position = [], 0
    for piece in (piece.replace(_BROKEN, b"") for piece in pieces):
        start = raw.find(piece, position, position + len(piece) + _LEAP)
        if start < 0:  # after the text, or a special token
            spans.append((len(raw), len(raw)))
            continue
        spans.append((start, start + len(piece)))
        position = start + len(piece)
    return spans
