from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from kofagent.wire import otlp_json
from kofagent.wire.otlp_check import check
from kofagent.wire.status import RETRY_INFO, decode_partial_success, decode_status, encode_status
from tests.support.otlp import REQUEST, requests

cases = st.one_of([st.tuples(st.just(s), requests(s)) for s in REQUEST])


@given(cases)
def test_there_and_back(case: tuple[str, Any]) -> None:
    signal, request = case
    text = otlp_json.from_protobuf(signal, request.SerializeToString())
    assert REQUEST[signal].FromString(otlp_json.to_protobuf(signal, text)) == request


@given(cases)
def test_googles_json_is_read_apart_from_ids(case: tuple[str, Any]) -> None:
    signal, request = case
    document = json_format.MessageToDict(request)
    ids_to_hex(document)
    got = REQUEST[signal].FromString(otlp_json.to_protobuf(signal, json.dumps(document).encode()))
    assert got == request


def ids_to_hex(node: Any) -> Any:
    import base64

    if isinstance(node, list):
        for item in node:
            ids_to_hex(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key in ("traceId", "spanId", "parentSpanId"):
                node[key] = base64.b64decode(value).hex().upper()
            else:
                ids_to_hex(value)


def test_the_rules_of_otlp_json() -> None:
    text = b"""{"resourceSpans":[{"scope_spans":[{"spans":[{"traceId":"5B8EFFF798038103D269B633813FC60C",
      "spanId":"eee19b7ec3c1b174",
      "name":"n","kind":2,"startTimeUnixNano":"1544712660000000000","endTimeUnixNano":1544712661000000000,"newField":{"a":[1]},
      "attributes":[{"key":"i","value":{"intValue":"-5"}},{"key":"d","value":{"doubleValue":"NaN"}},{"key":"b","value":
      {"bytesValue":"AAE="}},{"key":"e","value":{"boolValue":false}}],"status":{"code":"STATUS_CODE_ERROR"},"parentSpanId":""}]}]}],
      "unknown":null}"""
    request = REQUEST["traces"].FromString(otlp_json.to_protobuf("traces", text))
    span = request.resource_spans[0].scope_spans[0].spans[0]
    assert span.trace_id.hex() == "5b8efff798038103d269b633813fc60c"
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (1544712660000000000, 1544712661000000000)
    assert span.attributes[0].value.int_value == -5
    assert span.attributes[2].value.bytes_value == b"\x00\x01"
    assert span.attributes[3].value.WhichOneof("value") == "bool_value"
    assert span.status.code == 2


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b"1",
        b'{"resourceLogs":{}}',
        b'{"resourceLogs":[1]}',
        b'{"resourceLogs":[{"schemaUrl":5}]}',
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"traceId":"xyz"}]}]}]}',
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"traceId":"abcd"}]}]}]}',
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"-1"}]}]}]}',
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":1.5}]}]}]}',
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"severityNumber":true}]}]}]}',
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"bytesValue":"!"}}]}]}]}',
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"bytesValue":5}}]}]}]}',
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"boolValue":"yes"}}]}]}]}',
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"doubleValue":"x"}}]}]}]}',
        b"[" * 100000,
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":' + b'{"arrayValue":{"values":[' * 200 + b"]}}" * 200 + b"}]}]}]}",
    ],
)
def test_wrong_json_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError):
        otlp_json.to_protobuf("logs", text)


def test_status_equals_googles() -> None:
    from google.rpc.error_details_pb2 import RetryInfo
    from google.rpc.status_pb2 import Status

    status = Status.FromString(encode_status(14, "try later", 1.5))
    assert (status.code, status.message, status.details[0].type_url) == (14, "try later", RETRY_INFO.decode())
    info = RetryInfo.FromString(status.details[0].value)
    assert (info.retry_delay.seconds, info.retry_delay.nanos) == (1, 500000000)
    assert decode_status(status.SerializeToString()) == (14, "try later", 1.5)
    assert decode_status(encode_status(3, "no")) == (3, "no", None)
    assert decode_status(b"") == (0, "", None)
    with pytest.raises(ValueError):
        decode_status(b"\xff")


def test_partial_success() -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    answer = ExportTraceServiceResponse()
    assert decode_partial_success(answer.SerializeToString()) == (0, "")
    answer.partial_success.rejected_spans = 3
    answer.partial_success.error_message = "too old"
    assert decode_partial_success(answer.SerializeToString()) == (3, "too old")


_names = st.sampled_from(
    [
        "resourceLogs",
        "resource",
        "scopeLogs",
        "logRecords",
        "attributes",
        "key",
        "value",
        "stringValue",
        "intValue",
        "doubleValue",
        "boolValue",
        "bytesValue",
        "arrayValue",
        "kvlistValue",
        "values",
        "timeUnixNano",
        "severityNumber",
        "traceId",
        "flags",
        "body",
    ]
)
json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=4),
        st.sampled_from(["NaN", "-5", "00" * 16, "\ud800"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_names, inner, max_size=4)),
    max_leaves=20,
)


@given(json_values)
def test_any_json_is_converted_or_a_value_error(document: Any) -> None:
    text = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [document]}]}]}).encode()
    try:
        payload = otlp_json.to_protobuf("logs", text)
    except ValueError:
        return
    assert check("logs", payload) == 1
    assert otlp_json.to_protobuf("logs", otlp_json.from_protobuf("logs", payload)) is not None
