"""Consistent probability sampling: thresholds, randomness and where a tracestate keeps them (OTEP 235, W3C Trace Context level 2).

A threshold is a number from 0 (always) to NEVER, randomness one below NEVER; an item is sampled if its randomness is not below the
threshold. Upstream: pkg/sampling.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

NEVER = 1 << 56
"""The threshold that no randomness reaches."""
DIGITS = 14
"""Hexadecimal digits of a threshold in full."""
LEAST_PROBABILITY = 1 / NEVER
_HEX = re.compile(r"[0-9a-fA-F]{1,14}\Z")
_W3C_KEY = re.compile(r"(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})\Z")
_W3C_VALUE = re.compile(r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]\Z")
_OT_MEMBER = re.compile(r"([a-z][a-z0-9]*):([A-Za-z0-9._\-]*)\Z")
_MOST_MEMBERS, _LONGEST, _LONGEST_OT = 32, 1024, 256


def threshold_of(probability: float, digits: int = DIGITS) -> int:
    """The threshold of a probability, rounded to so many significant digits. ValueError outside of [2**-56, 1]."""
    if not LEAST_PROBABILITY <= probability <= 1:
        raise ValueError("the probability is out of range")
    if probability == 1:
        return 0
    # Near 0 and 1 there are leading digits 0 or f, which say nothing.
    leading = max(-math.frexp(probability)[1] // 4, -math.frexp(1 - probability)[1] // 4)
    digits = min(DIGITS, digits + leading)
    threshold = NEVER - math.floor(probability * NEVER + 0.5)
    shift = 4 * (DIGITS - digits)
    return (threshold + (1 << shift >> 1)) >> shift << shift if shift else threshold


def probability_of(threshold: int) -> float:
    """The share of items that a threshold lets pass."""
    return (NEVER - threshold) / NEVER


def threshold_text(threshold: int) -> str:
    """As it is written: `c` for 25 %, `0` for all, nothing for NEVER."""
    if threshold >= NEVER:
        return ""
    return f"{threshold:014x}".rstrip("0") or "0"


def read_threshold(text: str) -> int:
    """The threshold of up to 14 digits. ValueError."""
    if not _HEX.match(text):
        raise ValueError("a threshold has 1 to 14 hexadecimal digits")
    return int(text, 16) << 4 * (DIGITS - len(text))


def randomness_text(randomness: int) -> str:
    """As it is written, 14 digits."""
    return f"{randomness:014x}"


def read_randomness(text: str) -> int:
    """The randomness of 14 digits. ValueError."""
    if len(text) != DIGITS or not _HEX.match(text):
        raise ValueError("randomness has 14 hexadecimal digits")
    return int(text, 16)


def randomness_of(trace_id: bytes) -> int:
    """The randomness in a trace ID of 16 bytes: the last 56 bits."""
    return int.from_bytes(trace_id[9:16], "big")


class TraceState:
    """A W3C tracestate; of the member `ot` what is about sampling is apart from the rest."""

    __slots__ = ("_others", "_rest", "randomness", "randomness_text", "threshold")

    def __init__(self, text: str = "") -> None:
        """ValueError where it is not valid."""
        self.threshold: int | None = None
        self.randomness: int | None = None
        self.randomness_text = ""
        self._rest: list[str] = []
        self._others: list[str] = []
        if not text:
            return
        if len(text) > _LONGEST:
            raise ValueError("the tracestate is too long")
        for key, value in members(text):
            if key == "ot":
                self._read(value)
            else:
                self._others.append(f"{key}={value}")

    def _read(self, value: str) -> None:
        if len(value) > _LONGEST_OT:
            raise ValueError("the member ot is too long")
        for member in value.split(";"):
            match = _OT_MEMBER.match(member)
            if match is None:
                raise ValueError("the member ot is not valid")
            if match[1] == "rv":
                self.randomness, self.randomness_text = read_randomness(match[2]), match[2]
            elif match[1] == "th":
                self.threshold = read_threshold(match[2])
            else:
                self._rest.append(member)

    def set_randomness(self, randomness: int) -> None:
        """Writes explicit randomness."""
        self.randomness, self.randomness_text = randomness, randomness_text(randomness)

    def __str__(self) -> str:
        members = [f"rv:{self.randomness_text}"] if self.randomness_text else []
        if self.threshold is not None and (text := threshold_text(self.threshold)):
            members.append(f"th:{text}")
        members += self._rest
        return ",".join([f"ot={';'.join(members)}", *self._others] if members else self._others)


def members(text: str) -> Iterator[tuple[str, str]]:
    """Keys and values of a tracestate. ValueError."""
    parts = text.split(",")
    if len(parts) > _MOST_MEMBERS:
        raise ValueError("the tracestate has too many members")
    for member in parts:
        member = member.strip(" \t")
        if not member:
            continue
        key, equals, value = member.partition("=")
        if not equals or not _W3C_KEY.match(key) or not _W3C_VALUE.match(value):
            raise ValueError("the tracestate is not valid")
        yield key, value
