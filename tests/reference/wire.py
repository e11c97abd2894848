"""Plain twins of the hot paths in `kofagent.wire`: by hand over `walk.fields`, level by level."""

from __future__ import annotations

from kofagent.wire.walk import delimited

_METRIC_DATA = (5, 7, 9, 10, 11)


def count(signal: str, payload: bytes) -> int:
    """`otlp.count`."""
    total = 0
    for entry in delimited(payload, 1):
        for scope in delimited(entry, 2):
            for record in delimited(scope, 2):
                total += sum(len(delimited(d, 1)) for n in _METRIC_DATA for d in delimited(record, n)) if signal == "metrics" else 1
    return total


def attribute_key(pair: bytes) -> bytes:
    """`attributes.attribute_key`: of a key that is there twice the last one counts."""
    return ([b"", *delimited(pair, 1)])[-1]
