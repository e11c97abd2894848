"""Plain twins of the hot paths in `kofagent.wire`: by hand over `walk.fields`, level by level."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kofagent.wire.lens import parse
from kofagent.wire.otlp import checker, request_descriptor
from kofagent.wire.walk import DELIMITED, delimited, fields

IDS = {"trace_id": 16, "span_id": 8, "parent_span_id": 8}
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


def check(signal: str, payload: bytes) -> str:
    """`otlp_check.check`: what is wrong with a payload, the first of `malformed`, `text` and `id`; empty when nothing is."""
    try:
        parse(checker(signal), payload)
    except ValueError:
        return "malformed"
    wrong = set(_wrong(request_descriptor(signal), payload))
    return "text" if "text" in wrong else "id" if "id" in wrong else ""


def _wrong(descriptor: Any, message: bytes) -> Iterator[str]:
    for number, kind, start, end in fields(message):
        field = descriptor.fields_by_number.get(number)
        if field is None or kind != DELIMITED:
            continue
        if field.message_type is not None:
            yield from _wrong(field.message_type, message[start:end])
        elif field.name in IDS and end - start not in (0, IDS[field.name]):
            yield "id"
        elif field.type == field.TYPE_STRING and message[start:end].decode("utf-8", "ignore").encode() != message[start:end]:
            yield "text"
