"""Attributes of a message changed in place of its bytes: the rest of the message is neither decoded nor lost.

Where a message keeps its attributes (opentelemetry-proto v1) is given by the constants below, the field number of its
`repeated KeyValue`. Keys are compared as bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import Any

from kofagent.wire.attributes import attribute_key, encode_attribute, encode_text
from kofagent.wire.lens import lenses, parse
from kofagent.wire.varint import length_delimited

RESOURCE = 1
SCOPE = 3
LOG_RECORD = 6
SPAN = 9
SPAN_EVENT = 3
SPAN_LINK = 4
NUMBER_POINT = SUMMARY_POINT = EXEMPLAR = 7
HISTOGRAM_POINT = 9
EXPONENTIAL_HISTOGRAM_POINT = 1
METRIC_METADATA = 12

POINT_ATTRIBUTES = {
    "gauge": NUMBER_POINT,
    "sum": NUMBER_POINT,
    "histogram": HISTOGRAM_POINT,
    "summary": SUMMARY_POINT,
    "exponential_histogram": EXPONENTIAL_HISTOGRAM_POINT,
}
"""Field number by the kind of metric, as `otlp.points` names it."""


@cache
def _lens(field: int) -> Any:
    return lenses(f"kofagent.edit{field}", {"Message": {"attributes": (field, "*bytes")}})["Message"]


def attributes(message: bytes, field: int) -> list[bytes]:
    """The KeyValue messages of a message's attributes. ValueError if malformed."""
    return list(parse(_lens(field), message).attributes)


def with_attributes(message: bytes, field: int, pairs: Iterable[bytes]) -> bytes:
    """The message with these KeyValue messages as its attributes, all else as it was. ValueError if malformed."""
    view = parse(_lens(field), message)
    pairs = list(pairs)
    del view.attributes[:]
    view.attributes.extend(pairs)
    return view.SerializeToString()  # type: ignore[no-any-return]


def append_attributes(message: bytes, field: int, pairs: Iterable[bytes]) -> bytes:
    """The message with attributes added that it is known not to have; no look inside."""
    return message + b"".join([length_delimited(field, pair) for pair in pairs])


def patch(
    message: bytes,
    field: int,
    *,
    upsert: Mapping[str, Any] = {},
    insert: Mapping[str, Any] = {},
    update: Mapping[str, Any] = {},
    delete: Collection[str] = (),
) -> bytes:
    """Deletes keys, then sets `upsert`, adds what `insert` has and the message lacks, changes what `update` has and it has.

    Values are Python values (`wire.attributes`). The order of the attributes is kept, new ones come last. The same object
    when nothing changed. ValueError if malformed.
    """
    old = attributes(message, field)
    keys = [attribute_key(pair) for pair in old]
    gone = {encode_text(key) for key in delete}
    pairs: list[bytes | None] = [None if key in gone else pair for key, pair in zip(keys, old, strict=True)]
    where = {key: i for i, key in reversed(list(enumerate(keys))) if pairs[i] is not None}
    for group, when_present, when_absent in ((upsert, True, True), (insert, False, True), (update, True, False)):
        for key, value in group.items():
            raw = encode_text(key)
            at = where.get(raw)
            if at is not None and when_present:
                pairs[at] = encode_attribute(key, value)
            elif at is None and when_absent:
                where[raw] = len(pairs)
                pairs.append(encode_attribute(key, value))
    new = [pair for pair in pairs if pair is not None]
    return message if new == old else with_attributes(message, field, new)
