"""Conditions over Google's protobuf messages: what they say, and what a mistake is answered with."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from kofagent.config.re2 import compile_re2, compile_test
from kofagent.ottl import EvaluationError, OttlError, access, messages, parse_condition, parse_route, parse_statement, parse_value
from kofagent.ottl.types import arithmetic, compare
from kofagent.wire.varint import length_delimited
from tests.support.otlp import set_attributes, values

RESOURCE = Resource(dropped_attributes_count=3)
RESOURCE.attributes.add(key="service.name").value.string_value = "shop"
RESOURCE.attributes.add(key="replicas").value.int_value = 3
SCOPE = InstrumentationScope(name="lib", version="1.2")
LOG = LogRecord(
    severity_number=SeverityNumber.SEVERITY_NUMBER_WARN,
    severity_text="WARN",
    time_unix_nano=1_700_000_000_000_000_000,
    trace_id=bytes(range(16)),
    flags=1,
)
LOG.body.string_value = "GET /cart 500"
LOG.attributes.add(key="status").value.int_value = 500
LOG.attributes.add(key="ratio").value.double_value = 0.5
LOG.attributes.add(key="ok").value.bool_value = False
LOG.attributes.add(key="raw").value.bytes_value = b"\x01\xff"
http = LOG.attributes.add(key="http").value.kvlist_value
http.values.add(key="method").value.string_value = "GET"
items = LOG.attributes.add(key="items").value.array_value
items.values.add(string_value="a")
items.values.add(int_value=2)


@pytest.mark.parametrize(
    "text",
    [
        'attributes["status"] == 500',
        'attributes["status"] == 500.0',
        'log.attributes["status"] >= 500 and body != "x"',
        'attributes["nothing"] == nil',
        'nil == attributes["nothing"]',
        'attributes["status"] != nil',
        'not attributes["ok"] == true',
        'attributes["http"]["method"] == "GET"',
        'attributes["items"][1] == 2',
        'attributes["items"] == ["a", 2]',
        'attributes["http"] == {"method": "GET"}',
        'attributes["raw"] == 0x01ff',
        "severity_number >= SEVERITY_NUMBER_WARN and severity_number < SEVERITY_NUMBER_ERROR",
        'severity_text == "WARN"',
        'resource.attributes["service.name"] == "shop"',
        'instrumentation_scope.name == "lib"',
        'scope.version == "1.2"',
        "resource.dropped_attributes_count == 3",
        'trace_id.string == "000102030405060708090a0b0c0d0e0f"',
        "trace_id == TraceID(0x000102030405060708090a0b0c0d0e0f)",
        "span_id == SpanID(0x0000000000000000)",
        'span_id.string == "0000000000000000"',
        "flags == 1",
        "time_unix_nano == 1700000000000000000",
        "time < Now()",
        'Now() - time > Duration("1h")',
        "UnixSeconds(time) == 1700000000",
        'IsMatch(body, "^GET /c.*5\\\\d\\\\d$")',
        'IsMatch(attributes["status"], "^5")',
        'not IsMatch(attributes["none"], "")',
        'body.string == "GET /cart 500"',
        "IsString(body)",
        'IsInt(attributes["status"])',
        'not IsInt(attributes["ok"])',
        'IsBool(attributes["ok"])',
        'IsDouble(attributes["ratio"])',
        'IsMap(attributes["http"])',
        'IsList(attributes["items"])',
        "Len(body) == 13",
        'Len(attributes["items"]) == 2',
        'Concat([severity_text, attributes["status"]], "-") == "WARN-500"',
        'Concat(vals=["a", "b"], delimiter="") == "ab"',
        'Int("12") == 12',
        'Double("1.5") == 1.5',
        'String(attributes["status"]) == "500"',
        'ToLowerCase(severity_text) == "warn"',
        'ToUpperCase("a") == "A"',
        'ConvertCase("someName", "snake") == "some_name"',
        'Substring(body, 0, 3) == "GET"',
        'HasPrefix(body, "GET")',
        'HasSuffix(body, "500")',
        'Split("a,b", ",")[1] == "b"',
        'Trim(" a ") == "a"',
        'ContainsValue(attributes["items"], 2)',
        'attributes["status"] + 1 == 501',
        'attributes["status"] - 1 == 499',
        "1 + 2 * 3 == 7",
        "(1 + 2) * 3 == 9",
        "7 / 2 == 3",
        "-7 / 2 == -3",
        "7 / 2.0 == 3.5",
        "5-2 == 3",
        '((attributes["status"]) == 500)',
        "(true or false) and not (false)",
        "true",
        "not false",
        "false or true and true",
        '"a" < "b"',
        "true > false",
        'attributes["status"] != "500"',
        '"\\u00e9\\"\\n" != ""',
        '"\\ud7ff\\ue000\\U0010ffff" != ""',
        'attributes[Concat(["sta", "tus"], "")] == 500',
        'cache["x"] == nil',
        "observed_time_unix_nano == 0",
        ".5 == 0.5",
        'HasPrefix(body,\n"GET")',
    ],
)
def test_true_of_the_log(text: str) -> None:
    assert parse_condition(text, "log").matches(RESOURCE, SCOPE, LOG) is True


@pytest.mark.parametrize(
    "text",
    [
        'attributes["status"] == "500"',
        'attributes["status"] < nil',
        'nil < attributes["status"]',
        'attributes["http"] > 1',
        'attributes["ok"] == 0',
        "body == nil",
        'IsMatch(body, "^POST")',
        "false",
        'attributes["status"] == 500 and false',
        'attributes["items"] == ["a", 2.0]',
    ],
)
def test_false_of_the_log(text: str) -> None:
    assert parse_condition(text, "log").matches(RESOURCE, SCOPE, LOG) is False


def span() -> Span:
    made = Span(
        name="GET /",
        kind=Span.SPAN_KIND_SERVER,
        start_time_unix_nano=10,
        end_time_unix_nano=30,
        trace_state="a=1,b=2",
        parent_span_id=b"\0" * 8,
    )
    made.status.code = 2
    made.events.add(name="boom", time_unix_nano=11)
    return made


@pytest.mark.parametrize(
    "text",
    [
        "kind == SPAN_KIND_SERVER",
        'kind.string == "Server"',
        'kind.deprecated_string == "SPAN_KIND_SERVER"',
        "status.code == STATUS_CODE_ERROR",
        'name == "GET /"',
        'span.name == "GET /"',
        "end_time_unix_nano - start_time_unix_nano > 10",
        "IsRootSpan()",
        'trace_state["b"] == "2"',
        'end_time - start_time == Duration("20ns")',
        "Len(events) == 1",
        'status.message == ""',
    ],
)
def test_true_of_the_span(text: str) -> None:
    assert parse_condition(text, "span").matches(RESOURCE, SCOPE, span())


def test_span_event() -> None:
    condition = parse_condition('name == "boom" and span.kind == SPAN_KIND_SERVER and spanevent.time_unix_nano == 11', "spanevent")
    assert condition.matches(RESOURCE, SCOPE, span().events[0], span=span())


def metric() -> Metric:
    made = Metric(name="requests", unit="1", description="d")
    made.sum.is_monotonic, made.sum.aggregation_temporality = True, 2
    point = made.sum.data_points.add(as_int=5, flags=1)
    point.attributes.add(key="path").value.string_value = "/"
    return made


@pytest.mark.parametrize(
    ("context", "text"),
    [
        ("metric", "type == METRIC_DATA_TYPE_SUM and is_monotonic == true"),
        ("metric", 'metric.name == "requests" and unit == "1"'),
        ("metric", "aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE"),
        ("metric", 'HasAttrKeyOnDatapoint("path")'),
        ("metric", 'HasAttrOnDatapoint("path", "/")'),
        ("metric", 'not HasAttrOnDatapoint("path", "/x")'),
        ("metric", "Len(data_points) == 1"),
        ("datapoint", 'metric.name == "requests" and value_int == 5'),
        ("datapoint", 'attributes["path"] == "/"'),
        ("datapoint", "flags == FLAG_NO_RECORDED_VALUE"),
        ("datapoint", "count == nil and metric.type == METRIC_DATA_TYPE_SUM"),
        ("datapoint", "value_double == 0.0"),
    ],
)
def test_true_of_the_metric(context: str, text: str) -> None:
    made = metric()
    record = made if context == "metric" else made.sum.data_points[0]
    assert parse_condition(text, context).matches(RESOURCE, SCOPE, record, made)


def test_histogram_point() -> None:
    made = Metric(name="h")
    point = made.histogram.data_points.add(count=2, sum=3.5, bucket_counts=[1, 1], explicit_bounds=[1.0])
    for text in (
        "count == 2",
        "sum == 3.5",
        "bucket_counts != [1, 1]",
        "Len(bucket_counts) == 2 and Len(explicit_bounds) == 1",
        "value_int == nil",
        "scale == nil",
        "positive.offset == nil",
        "negative.bucket_counts == nil",
    ):
        assert parse_condition(text, "datapoint").matches(RESOURCE, SCOPE, point, made), text


def test_resource_scope_and_request() -> None:
    assert parse_condition('attributes["service.name"] == "shop"', "resource").matches(RESOURCE)
    assert parse_condition('resource.attributes["replicas"] == 3', "resource").matches(RESOURCE)
    assert parse_condition('name == "lib" and resource.attributes["replicas"] == 3', "scope").matches(RESOURCE, SCOPE)
    condition = parse_condition('request["X-Tenant"] == "acme"', "request")
    assert condition.matches(None, metadata={"x-tenant": ("acme", "other")})
    assert not condition.matches(None, metadata=None)
    client = parse_condition(
        'otelcol.client.metadata["X-Tenant"][1] == "other" and otelcol.client.auth.attributes["username"] == "anna"', "log"
    )
    assert client.matches(RESOURCE, SCOPE, LOG, metadata={"x-tenant": ("acme", "other"), "auth.username": ("anna",)})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('attribtes["a"] == 1', "column 1: unknown path attribtes in the log context; did you mean 'attributes'?"),
        ("log.severity == 1", "column 5: unknown path log.severity in the log context; did you mean 'log.severity_text'?"),
        ('body = "x"', "column 6: = is not a comparison; write =="),
        ("body == 'x'", 'column 9: unexpected "\'"; strings are written in "double quotes"'),
        ('body == "x', 'column 9: unterminated string: missing closing "'),
        ("body", "column 5: a condition needs a comparison here (==, !=, <, <=, >, >=)"),
        (
            "severity_number > SEVERITY_NUMBER_WARNING",
            "column 19: unknown name SEVERITY_NUMBER_WARNING; did you mean 'SEVERITY_NUMBER_WARN'?",
        ),
        ('IsMach(body, "x")', "column 1: unknown converter IsMach; did you mean 'IsMatch'?"),
        ("IsMatch(body)", "column 1: IsMatch needs pattern"),
        ('IsMatch(body, "(")', "column 15: IsMatch: pattern: '(' is not a regular expression (RE2): missing ): ("),
        ('IsString(body, "x")', "column 16: IsString takes 1 argument, 2 given"),
        ('set(body, "x") == 1', "column 1: converters begin with a capital letter; set() is an editor and has no value"),
        ('span.name == "x"', "column 1: span.name: the log context cannot see the span"),
        ("body == 1 &&", "column 11: unexpected '&'; write `and`"),
        ("body == ", "column 9: expected a value, found the end"),
        ("body == 1)", "column 10: unexpected ')' after the expression"),
        ('body == "\\d"', "column 10: unknown escape \\d; write \\\\d for a backslash before d"),
        ("body == 99999999999999999999", "column 9: integer exceeds 64 bits"),
        ("body == 0xabc", "column 9: a byte string needs an even number of hex digits"),
        ('Int("x") == 1', "column 5: Int: target: a string that is no integer"),
        ("1e3 == 1000", "column 2"),
        ('HasAttrKeyOnDatapoint("x")', "column 1: the converter HasAttrKeyOnDatapoint is not known in the log context"),
        ("(" * 100 + "true" + ")" * 100, "nested deeper than 60 levels"),
        ("not not true", "column 5: `not not` is not allowed"),
        ("", "column 1: expected a value, found the end"),
        ('body == "ab\\d"', "column 12: unknown escape"),
        ('body == "ab\\ud800"', "column 12: invalid escape"),
        ('body == "\\U00110000"', "column 10: invalid escape"),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    with pytest.raises(OttlError) as error:
        parse_condition(text, "log")
    assert message in str(error.value)


def test_unknown_context() -> None:
    with pytest.raises(ValueError, match="did you mean 'datapoint'"):
        parse_condition("true", "datapoints")


@pytest.mark.parametrize(
    "text",
    [
        "body + 1 == 2",
        'attributes["status"] / (1 - 1) == 1',
        'Len(attributes["status"]) == 1',
        'ToLowerCase(attributes["status"]) == "x"',
        'Substring(body, 0, 99) == ""',
        'attributes["items"][7] == nil',
        "body == 1 / 0",
        'attributes["items"]["x"] == 1',
        "Len(body)",
    ],
)
def test_what_does_not_fit_the_data(text: str) -> None:
    condition = parse_condition(text, "log")
    with pytest.raises(EvaluationError):
        condition.matches(RESOURCE, SCOPE, LOG)


def test_text_that_is_not_utf8_gets_replacement_characters_and_the_rest_stays() -> None:
    record = LogRecord(severity_number=SeverityNumber.SEVERITY_NUMBER_WARN, trace_id=b"\xff" * 16)
    set_attributes(record.attributes, {"empty": {}, "list": [1, "a", []], "raw": b"\xff"})
    got = messages.read("log", record.SerializeToString() + length_delimited(3, b"caf\xe9"))  # severity_text
    record.severity_text = "caf\ufffd"
    assert got == record


def test_an_attribute_is_compared_without_decoding_any(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[Any] = []
    monkeypatch.setattr(access, "to_python", decoded.append)
    assert not parse_condition('attributes["status"] == "500"', "log").matches(RESOURCE, SCOPE, LOG)
    assert parse_condition('attributes["status"] != "500"', "log").matches(RESOURCE, SCOPE, LOG)
    assert not decoded


def test_values_and_statements() -> None:
    assert (
        parse_value('Concat([resource.attributes["service.name"], body], ": ")', "log").get(RESOURCE, SCOPE, LOG)
        == "shop: GET /cart 500"
    )
    edit, where = parse_route('route() where attributes["service.name"] == "shop"', "resource")
    assert edit is None and where is not None and where.matches(RESOURCE)
    assert parse_statement('set(attributes["a"], 1)', "resource").test is None
    with pytest.raises(OttlError, match="begins with an editor"):
        parse_statement("Route()", "resource")


@given(st.text(max_size=60) | st.text(alphabet='()[]{}"=<>! andornot1.5abody,+-*/\\', max_size=60))
def test_any_text_is_an_expression_or_an_error(text: str) -> None:
    try:
        parse_condition(text, "log")
    except OttlError as error:
        assert error.column >= 1  # noqa: PT017 - the error is the expected answer to most texts


@given(st.dictionaries(st.sampled_from("ab"), values, max_size=2), st.sampled_from("ab"), st.sampled_from(["", "x", "a"]))
def test_attributes_compare_as_their_values_do(given_attributes: dict[str, Any], key: str, text: str) -> None:
    record = LogRecord()
    set_attributes(record.attributes, given_attributes)
    value = given_attributes.get(key)
    for op in ("==", "!=", "<", ">="):
        condition = parse_condition(f'attributes["{key}"] {op} "{text}"', "log")
        assert condition.matches(RESOURCE, SCOPE, record) is compare(value, op, text)


@given(st.integers(-(1 << 63), (1 << 63) - 1), st.integers(-(1 << 63), (1 << 63) - 1))
def test_integers_wrap_and_divide_as_in_go(a: int, b: int) -> None:
    total: Any = arithmetic(a, "+", b)
    assert (total - a - b) % (1 << 64) == 0 and -(1 << 63) <= total < 1 << 63
    if b:
        quotient = arithmetic(a, "/", b)
        assert quotient == (abs(a) // abs(b) if (a < 0) == (b < 0) else -(abs(a) // abs(b))) or (a, b) == (-(1 << 63), -1)


@given(
    st.sampled_from(["", "^a", "b$", "a.c", "(?i)A", "x{2,3}|y", "\\bword\\b", "(?:a.{300}|b.{400}|x.{200}){0,1}y", "[^a]"]),
    st.text(alphabet="abxyA \n\u00e9word", max_size=12),
)
def test_is_match_finds_what_re2_finds(pattern: str, text: str) -> None:
    assert compile_test(pattern)(text) is (compile_re2(pattern).search(text) is not None)
