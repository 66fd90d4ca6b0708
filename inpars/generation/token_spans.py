"""Which of a server's log-probabilities belong to the query: one for every token of it, or none at all.

Servers send tokens as text, as bytes, or in their vocabulary's own signs (a blank is `Ġ` in byte-level vocabularies and
`▁` in SentencePiece's), with the thoughts before and the stop token behind, or not. The tokens are laid over the text;
where they do not cover the whole query, or one of them has no proper value, the query has no log-probabilities.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

NONE, FORM, LENGTH, TEXT, VALUE = (f"log_probs_{name}" for name in ("none", "form", "length", "text", "value"))
_ROUNDING = 1e-3  # how far above 0 a logarithm of a probability may lie by rounding
_BROKEN = "�".encode()  # stands for a token that is a part of a letter
_LEAP = 8  # bytes that a vocabulary may leave out between two tokens, a blank for instance
_BYTES_TOKEN = re.compile(r"^bytes:((?:\\x[0-9a-fA-F]{2})+)$")
_BYTE = re.compile(r"<0x([0-9a-fA-F]{2})>")


class UnusableError(Exception):
    """Log-probabilities that are not to be had; its message is one of the reasons above."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token as the server shows it."""

    text: str
    raw: bytes | None
    value: Any


class Kept(NamedTuple):
    """A query's log-probabilities, and that of what ended it where it is known."""

    values: tuple[float, ...]
    stop: float | None


def read_tokens(log_probs: Any) -> list[Token]:
    """The tokens of either endpoint's form, which servers mix. Raises UnusableError."""
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
    """The values of the tokens with a share in `text[start:end]`, and of the one behind them.

    `last` takes the text's last place among the tokens, which holds where thoughts precede it. Raises UnusableError
    unless the tokens cover all of the span and each has a value.
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
    positions = [position for position, (begin, stop) in enumerate(spans) if _shares(begin, stop, first, end)]
    if first == end:
        behind = next((position for position, (begin, _) in enumerate(spans) if begin >= first), len(tokens))
        return Kept((), _stop_value(tokens, behind))
    if (
        not positions
        or positions != list(range(positions[0], positions[-1] + 1))
        or not _covered(positions, pieces, spans, raw, first, end)
    ):
        raise UnusableError(TEXT)
    values = tuple(_number(tokens[position].value) for position in positions)
    begin, stop = spans[positions[-1]]
    if stop > end and pieces[positions[-1]][end - begin :].strip(b" "):
        return Kept(values, values[-1])  # one token holds the query's end and what stopped it
    return Kept(values, _stop_value(tokens, positions[-1] + 1))


def _covered(
    token_positions: Sequence[int],
    pieces: Sequence[bytes],
    spans: Sequence[tuple[int, int]],
    raw: bytes,
    first: int,
    end: int,
) -> bool:
    """Whether nothing but blanks, or letters that the server shows as broken, lies between the tokens."""
    position, broken = first, False
    for number in token_positions:
        begin, stop = spans[number]
        broken = broken or _BROKEN in pieces[number]
        if not _may_lack(raw[position : max(position, begin)], broken):
            return False
        position = max(position, stop)
        if stop > begin:
            broken = _BROKEN in pieces[number]
    return _may_lack(raw[position : max(position, end)], broken)


def _may_lack(gap: bytes, broken: bool) -> bool:
    gap = gap.strip()
    return not gap or (broken and min(gap) >= 0x80)


def _number(value: Any) -> float:
    """A log-probability. Raises UnusableError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not -math.inf < value <= _ROUNDING:
        raise UnusableError(VALUE)
    return min(float(value), 0.0)


def _stop_value(tokens: Sequence[Token], position: int) -> float | None:
    try:
        return _number(tokens[position].value)
    except (UnusableError, IndexError):
        return None


def _shares(begin: int, stop: int, first: int, last: int) -> bool:
    if begin == stop:  # a part of a letter that the server shows as nothing
        return first <= begin < last
    return begin < last and stop > first


def _spellings(tokens: Sequence[Token]) -> list[list[bytes]]:
    """The tokens' bytes in each way that they may be written, the likeliest first."""
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
    """What a byte-level vocabulary's signs stand for; the text itself where they are none."""
    table = _byte_signs()
    try:
        return bytes(table[sign] for sign in text)
    except KeyError:
        return text.encode("utf-8", "replace")


@cache
def _byte_signs() -> dict[str, int]:
    """GPT-2's sign for each byte: itself where it prints, else the next one from 256 on (Radford et al., 2019)."""
    printed = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printed]
    return {chr(byte): byte for byte in printed} | {chr(256 + number): byte for number, byte in enumerate(others)}


def _exact(raw: bytes, pieces: Sequence[bytes], *, last: bool) -> list[tuple[int, int]] | None:
    """Where each token lies in the text, in bytes, where joined they hold it; only what ends a text follows it."""
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
    """Where each token is found, one behind the other; what is not found lies at the text's end."""
    spans, position = [], 0
    for piece in (piece.replace(_BROKEN, b"") for piece in pieces):
        start = raw.find(piece, position, position + len(piece) + _LEAP)
        if start < 0:  # behind the text, or a sign of the model's own
            spans.append((len(raw), len(raw)))
            continue
        spans.append((start, start + len(piece)))
        position = start + len(piece)
    return spans
