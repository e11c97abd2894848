"""Plain twins of the hot paths in `kofagent.wire`: by hand over `walk.fields`, level by level."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kofagent.wire.lens import parse
from kofagent.wire.otlp import checker, request_descriptor
from kofagent.wire.walk import delimited

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
    """`otlp_check.check`: what is wrong with a payload, in the order in which it is found; empty when nothing is."""
    try:
        request = parse(checker(signal), payload)
    except ValueError:
        return "malformed"
    wrong = set(_wrong(request, {field.name for field in _text_fields(request_descriptor(signal), set())}))
    return "text" if "text" in wrong else "id" if "id" in wrong else ""


def _text_fields(descriptor: Any, seen: set[str]) -> Iterator[Any]:
    if descriptor.full_name in seen:
        return
    seen.add(descriptor.full_name)
    for field in descriptor.fields:
        if field.type == field.TYPE_STRING:
            yield field
        elif field.message_type is not None:
            yield from _text_fields(field.message_type, seen)


def _wrong(message: Any, texts: set[str]) -> Iterator[str]:
    for field, value in message.ListFields():
        for one in value if field.is_repeated else [value]:
            if field.message_type is not None:
                yield from _wrong(one, texts)
            elif field.name in IDS and len(one) not in (0, IDS[field.name]):
                yield "id"
            elif field.name in texts:
                try:
                    one.decode()
                except UnicodeDecodeError:
                    yield "text"
