"""Hashes and identifiers."""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from typing import Any

from kofagent.ottl.errors import EvaluationError
from kofagent.ottl.functions.core import converter


def _data(target: str) -> bytes:
    return target.encode("utf-8", "surrogatepass")


@converter("MD5(target S)")
def md5(target: str) -> str:
    """MD5 in hex digits."""
    return hashlib.md5(_data(target), usedforsecurity=False).hexdigest()


@converter("SHA1(target S)")
def sha1(target: str) -> str:
    """SHA-1 in hex digits."""
    return hashlib.sha1(_data(target), usedforsecurity=False).hexdigest()


@converter("SHA256(target S)")
def sha256(target: str) -> str:
    """SHA-256 in hex digits."""
    return hashlib.sha256(_data(target)).hexdigest()


@converter("SHA512(target S)")
def sha512(target: str) -> str:
    """SHA-512 in hex digits."""
    return hashlib.sha512(_data(target)).hexdigest()


@converter("FNV(target S)")
def fnv(target: str) -> int:
    """FNV-1a of 64 bits, as a signed integer."""
    value = 0xCBF29CE484222325
    for byte in _data(target):
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value - (1 << 64) if value >> 63 else value


def _mmh3(**_: Any) -> Any:
    try:
        import mmh3
    except ImportError:
        raise EvaluationError("it needs the package mmh3: pip install 'kofagent[ottl]'") from None
    return mmh3


@converter("Murmur3Hash(target S)", check=_mmh3)
def murmur3(target: str) -> str:
    """Murmur3 of 32 bits in hex digits."""
    return str(_mmh3().hash(_data(target), signed=False).to_bytes(4, "little").hex())


@converter("Murmur3Hash128(target S)", check=_mmh3)
def murmur3_128(target: str) -> str:
    """Murmur3 of 128 bits in hex digits."""
    return str(_mmh3().hash_bytes(_data(target)).hex())


def _xxhash(**_: Any) -> Any:
    try:
        import xxhash
    except ImportError:
        raise EvaluationError("it needs the package xxhash: pip install 'kofagent[ottl]'") from None
    return xxhash


@converter("XXH3(target S)", check=_xxhash)
def xxh3(target: str) -> str:
    """XXH3 of 64 bits in hex digits."""
    return str(_xxhash().xxh3_64(_data(target)).hexdigest())


@converter("XXH128(target S)", check=_xxhash)
def xxh128(target: str) -> str:
    """XXH3 of 128 bits in hex digits."""
    return str(_xxhash().xxh3_128(_data(target)).hexdigest())


@converter("UUID()")
def uuid4() -> str:
    """A random UUID."""
    return str(uuid.uuid4())


@converter("UUIDv7()")
def uuid7() -> str:
    """A UUID that begins with the time."""
    value = (time.time_ns() // 10**6 & (1 << 48) - 1) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(3 << 62) | 2 << 62
    return str(uuid.UUID(int=value))
