"""The decisions of `probabilistic_sampler`: randomness of an item against a threshold, and what is written about it."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple, Protocol

from kofagent.processors.probabilistic_sampler.config import Config
from kofagent.transform.sampling import LEAST_PROBABILITY, NEVER, probability_of, randomness_of, threshold_of

_FLOAT = struct.Struct("<f")
_BUCKETS = 1 << 14
ALWAYS_RANDOM = NEVER - 1
"""Randomness that every threshold but NEVER lets pass."""


class Failed(Exception):
    """An item cannot be sampled, as its trace ID is missing or its tracestate is wrong."""


class Carrier(Protocol):
    """Where an item says how it was sampled before, and will say how it was sampled now."""

    threshold: int | None
    randomness: int | None

    def set_randomness(self, randomness: int) -> None:
        """Writes explicit randomness."""
        ...


class Seen(NamedTuple):
    """What is known of an item before it is decided on. `carrier` is None where nothing may be written to it."""

    carrier: Any
    randomness: int | None
    policy: str
    failed: bool


def float32(value: float) -> float:
    """The value as upstream keeps it."""
    return float(_FLOAT.unpack(_FLOAT.pack(min(value, 1e30)))[0])


def fnv(data: bytes, seed: int) -> int:
    """FNV-1a of 32 bits, of the seed and the data."""
    found = 2166136261
    for byte in seed.to_bytes(4, "little") + data:
        found = (found ^ byte) * 16777619 & 0xFFFFFFFF
    return found


def hashed_randomness(data: bytes, seed: int) -> int:
    """56 bits of randomness from a hash; the first 14 decide."""
    hash32 = fnv(data, seed)
    bucket = hash32 & (_BUCKETS - 1)
    others = hash32 >> 18
    return (_BUCKETS - 1 - bucket) << 42 | (others ^ others << 10) << 14 | bucket


class Sampler:
    """One configuration's decisions."""

    def __init__(self, config: Config) -> None:
        percent = min(float32(config.sampling_percentage), 100.0)
        self._ratio = max(percent / 100, LEAST_PROBABILITY)
        self._digits = config.sampling_precision
        self._mode = config.mode or "hash_seed"
        self._seed = config.hash_seed
        self._open = not config.fail_closed
        share = int(float32(percent * float32(_BUCKETS / 100)))
        self.never = percent == 0 or (self._mode == "hash_seed" and share == 0)
        self.hashes = self._mode == "hash_seed" and not self.never
        if self._mode == "hash_seed":
            self._threshold = (_BUCKETS - share) << 42
        else:
            self._threshold = threshold_of(self._ratio, self._digits)

    def hashed(self, data: bytes) -> int:
        """Randomness by the hash."""
        return hashed_randomness(data, self._seed)

    def look(self, carrier: Any, trace_id: bytes, hashed: tuple[str, bytes] | None = None) -> Seen:
        """What is known of an item: `carrier` is None where it could not be read; `hashed` names and has what is hashed."""
        if self.never:
            return Seen(carrier, ALWAYS_RANDOM, "sampling_priority", carrier is None)
        if not self.hashes:
            if carrier is not None and carrier.randomness is not None:
                return Seen(carrier, carrier.randomness, "sampling_randomness", False)
            if carrier is not None and any(trace_id):
                return Seen(carrier, randomness_of(trace_id), "trace_id_w3c", False)
            return Seen(carrier, None, "missing_randomness", True)
        randomness = None if hashed is None else self.hashed(hashed[1])
        policy = "missing_randomness" if hashed is None else hashed[0]
        # An item that says how it was sampled is not for this mode.
        if carrier is None or carrier.randomness is not None or carrier.threshold is not None:
            return Seen(None, randomness, policy, True)
        if randomness is not None:
            carrier.set_randomness(randomness)
        return Seen(carrier, randomness, policy, randomness is None)

    def threshold(self, seen: Seen) -> tuple[int, bool]:
        """The threshold that the item has to reach, and whether sampling it failed."""
        carrier, failed = seen.carrier, seen.failed
        if not failed and carrier is not None and carrier.threshold is not None and carrier.threshold > (seen.randomness or 0):
            carrier.threshold = None  # it would not be here if that were true
            failed = True
        if failed:
            return (0 if self._open else NEVER), True
        if self.never:
            return NEVER, False
        before = carrier.threshold if carrier is not None else None
        if self._mode == "proportional":
            share = self._ratio * (1.0 if before is None else probability_of(before))
            return (threshold_of(share, self._digits) if share >= LEAST_PROBABILITY else NEVER), False
        return self._threshold, False
