from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Exemplar, Metric
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from kofagent.wire import attributes as a
from kofagent.wire import edit
from kofagent.wire.varint import length_delimited
from tests.reference import wire as plain
from tests.support.otlp import attributes, set_attributes, set_value, text, values


@given(values)
def test_value_equals_googles_both_ways(value: Any) -> None:
    official = AnyValue()
    set_value(official, value)
    encoded = a.encode_value(value)
    assert AnyValue.FromString(encoded) == official
    assert a.decode_value(official.SerializeToString()) == value == a.decode_value(encoded)


@given(attributes)
def test_attributes_equal_googles(items: Any) -> None:
    official = Resource()
    set_attributes(official.attributes, items)
    assert Resource.FromString(a.encode_attributes(items)) == official
    assert a.decode_attributes(edit.attributes(official.SerializeToString(), edit.RESOURCE)) == items


def test_the_fields_that_attributes_are_in() -> None:
    def field(message: Any, name: str = "attributes") -> int:
        return message.fields_by_name[name].number

    assert field(Resource.DESCRIPTOR) == edit.RESOURCE and field(LogRecord.DESCRIPTOR) == edit.LOG_RECORD
    spans = [field(message.DESCRIPTOR) for message in (Span, Span.Event, Span.Link)]
    assert spans == [edit.SPAN, edit.SPAN_EVENT, edit.SPAN_LINK]
    assert field(InstrumentationScope.DESCRIPTOR) == edit.SCOPE
    assert field(Exemplar.DESCRIPTOR, "filtered_attributes") == edit.EXEMPLAR
    assert field(Metric.DESCRIPTOR, "metadata") == edit.METRIC_METADATA
    kinds = {kind.name: kind.message_type for kind in Metric.DESCRIPTOR.oneofs_by_name["data"].fields}
    points = {name: field(kind.fields_by_name["data_points"].message_type) for name, kind in kinds.items()}
    assert points == edit.POINT_ATTRIBUTES


def test_values_that_have_no_kind_of_their_own() -> None:
    assert a.decode_value(a.encode_value(1 << 70)) == float(1 << 70)
    assert a.decode_value(a.encode_value(10**400)) == float("inf")
    assert a.decode_value(a.encode_value((1, 2))) == [1, 2]
    assert a.decode_value(a.encode_value(3 + 4j)) == "(3+4j)"
    assert a.encode_value("\ud800\udcff") == a.encode_value("\ufffd")
    assert a.encode_value(a.decode_value(length_delimited(1, b"caf\xe9"))) == length_delimited(1, "caf\ufffd".encode())


def test_depth_is_limited() -> None:
    deep: object = 1
    for _ in range(a.MAX_DEPTH):
        deep = [deep]
    assert a.decode_value(a.encode_value(deep)) == deep
    with pytest.raises(ValueError, match="nested"):
        a.encode_value([deep])
    data = a.encode_value(deep)
    for _ in range(51 - a.MAX_DEPTH):  # two messages each: one more than the hundred that protobuf readers follow
        assert a.decode_value(data)
        data = length_delimited(5, length_delimited(1, data))
    with pytest.raises(ValueError):
        a.decode_value(data)


@given(text, values)
def test_attribute_key(key: str, value: Any) -> None:
    pair = a.encode_attribute(key, value)
    assert a.attribute_key(pair) == plain.attribute_key(pair) == key.encode()
    assert a.decode_attribute(pair) == (key, value)


@given(st.binary(max_size=12))
def test_attribute_key_of_any_bytes(data: bytes) -> None:
    try:
        want = KeyValue.FromString(data).key.encode()
    except Exception:
        return
    assert a.attribute_key(data) == want


@given(attributes, attributes, attributes, attributes, st.lists(text, max_size=3))
def test_patch_is_the_dict_operations(
    items: Any, upsert: dict[str, Any], insert: dict[str, Any], update: dict[str, Any], delete: list[str]
) -> None:
    record = LogRecord(severity_text="x", time_unix_nano=5)
    set_attributes(record.attributes, items)
    want = {k: v for k, v in items.items() if k not in delete}
    want |= upsert
    want = insert | want
    want |= {k: v for k, v in update.items() if k in want}
    got = edit.patch(record.SerializeToString(), edit.LOG_RECORD, upsert=upsert, insert=insert, update=update, delete=delete)
    read = LogRecord.FromString(got)
    assert a.decode_attributes(edit.attributes(got, edit.LOG_RECORD)) == want
    assert (read.severity_text, read.time_unix_nano) == ("x", 5)


def test_patch_keeps_order_and_the_same_object_when_nothing_changes() -> None:
    data = a.encode_attributes({"a": 1, "b": 2, "c": 3})
    assert edit.patch(data, edit.RESOURCE, insert={"a": 9}, update={"z": 1}, delete=["y"], upsert={"b": 2}) is data
    changed = edit.patch(data, edit.RESOURCE, upsert={"b": "x", "d": 4}, delete=["a"])
    assert changed == a.encode_attributes({"b": "x", "c": 3, "d": 4})
    assert edit.append_attributes(data, edit.RESOURCE, [a.encode_attribute("d", 4)]) == data + a.encode_attributes({"d": 4})
