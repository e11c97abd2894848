"""Quantities of the Kubernetes API (`100m`, `1.5Gi`, `2e3`) as numbers. Grammar: k8s.io/apimachinery/pkg/api/resource."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal

from kofagent.memory.memo import Memo

_FORM = re.compile(r"([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(?:([eE][+-]?[0-9]{1,4})|([KMGTPE]i|[numkMGTPE]?))")
_FACTORS: dict[str, Decimal] = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{suffix: Decimal(1000) ** n for n, suffix in enumerate("kMGTPE", 1)},
    **{f"{suffix}i": Decimal(1024) ** n for n, suffix in enumerate("KMGTPE", 1)},
}
_MOST = (1 << 63) - 1


def _parse(text: str) -> Decimal:
    match = _FORM.fullmatch(text) if len(text) <= 100 else None
    if match is None:
        raise ValueError(f"{text[:100]!r} is not a Kubernetes quantity")
    if match[2]:
        return Decimal(match[1] + match[2])
    return Decimal(match[1]) * _FACTORS[match[3]]


parse = Memo("kubernetes.quantities", _parse, entries=4096, size=1 << 20).__getitem__
"""The exact value. ValueError when it is not a quantity."""


def _whole(text: str) -> int:
    return _ceiling(parse(text))


def _milli(text: str) -> int:
    return _ceiling(parse(text) * 1000)


whole = Memo("kubernetes.whole", _whole, entries=4096, size=1 << 20).__getitem__
"""Units, rounded up, as the API's own Value(); at most 2**63 - 1. ValueError when it is not a quantity."""
milli = Memo("kubernetes.milli", _milli, entries=4096, size=1 << 20).__getitem__
"""Thousandths, rounded up, as the API's own MilliValue(); at most 2**63 - 1. ValueError when it is not a quantity."""


def cores(text: str) -> float:
    """CPUs, to the thousandth."""
    return milli(text) / 1000


def _ceiling(value: Decimal) -> int:
    # A huge exponent must not become a huge integer.
    if abs(value) > _MOST:
        return _MOST if value > 0 else -_MOST
    return int(value.to_integral_value(ROUND_CEILING))
