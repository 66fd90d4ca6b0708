"""Hash keys of texts. Files on disk depend on them, so their values must never change."""

from __future__ import annotations

import hashlib


def key64(*parts: str) -> int:
    """A 64-bit hash of one or more texts, equal on every machine."""
    return int.from_bytes(hashlib.blake2b("\0".join(parts).encode(), digest_size=8).digest(), "little")


def sampling_key(seed: int, record_id: str) -> int:
    """A 64-bit pseudo-random number that depends only on the seed and the id."""
    return int.from_bytes(hashlib.blake2b(f"{seed}\0{record_id}".encode(), digest_size=8).digest(), "big")


def hex_key(*parts: str, digits: int = 16) -> str:
    """A hexadecimal hash of some parts, for names in the cache."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:digits]
