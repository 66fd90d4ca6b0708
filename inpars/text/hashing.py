"""Hash keys of texts. Stored files depend on every one of them: none may ever give another number."""

from __future__ import annotations

import hashlib


def key64(*parts: str) -> int:
    """64 bits of one or more texts, equal on every machine."""
    return int.from_bytes(hashlib.blake2b("\0".join(parts).encode(), digest_size=8).digest(), "little")


def sampling_key(seed: int, record_id: str) -> int:
    """A 64-bit number that looks random and depends on nothing but the seed and the id."""
    return int.from_bytes(hashlib.blake2b(f"{seed}\0{record_id}".encode(), digest_size=8).digest(), "big")


def hex_key(*parts: str, digits: int = 16) -> str:
    """The name of what was made from such parts, in the cache for instance."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:digits]
