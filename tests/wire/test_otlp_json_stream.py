"""OTLP/JSON by windows gives what it gives whole."""

from __future__ import annotations

import json
import re
import tracemalloc
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import example, given
from hypothesis import strategies as st

from kofagent.wire import otlp_json, otlp_json_stream
from kofagent.wire.otlp_json_stream import Conversion
from tests.support.otlp import REQUEST, requests
from tests.wire.test_otlp_json import ids_to_hex, json_values


def streamed(signal: str, text: bytes) -> bytes:
    conversion = Conversion(signal, text)
    for _ in conversion.steps():
        pass
    return conversion.payload()


def outcome(convert: Any, signal: str, text: bytes) -> tuple[bytes, str]:
    """The payload, or what is said to be wrong."""
    try:
        return convert(signal, text), ""
    except ValueError as error:
        return b"", str(error)


@pytest.fixture(params=[8, 40, 300], autouse=True)
def _window(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp_json_stream, "WINDOW", request.param)
    monkeypatch.setattr(otlp_json_stream, "LEAST", 4)
    monkeypatch.setattr(otlp_json_stream, "_TOKEN", 16)
    monkeypatch.setattr(otlp_json_stream, "_CHUNK", 32)


cases = st.one_of([st.tuples(st.just(s), requests(s)) for s in REQUEST])


@given(cases, st.booleans())
def test_googles_json(case: tuple[str, Any], spaced: bool) -> None:
    signal, request = case
    document = json_format.MessageToDict(request)
    ids_to_hex(document)
    text = json.dumps(document, ensure_ascii=spaced, indent=1 if spaced else None).encode("utf-8", "surrogatepass")
    assert REQUEST[signal].FromString(streamed(signal, text)) == request
    assert outcome(streamed, signal, text) == outcome(otlp_json.to_protobuf, signal, text)


@given(json_values, st.integers(0, 400), st.sampled_from([b"", b"]", b"}", b'"', b"x", b",", b"NaN", b"\\", b"\xff", b"\x01"]))
@example({"resourceLogs": None, "resource": None, "scopeLogs": None, "logRecords": "\ud800"}, 158, b"")
def test_any_json_also_cut_and_damaged(document: Any, at: int, damage: bytes) -> None:
    record = {"logRecords": [document, {"body": {"stringValue": "\N{EURO SIGN}" * 9, "unknown": [[1, {"a": None}], {}]}}]}
    whole = json.dumps({"resourceLogs": [{"scopeLogs": [record, {}]}]}, ensure_ascii=False).encode("utf-8", "surrogatepass")
    for text in (whole, whole[:at], whole[:at] + damage + whole[at:]):
        got, expected = outcome(streamed, "logs", text), outcome(otlp_json.to_protobuf, "logs", text)
        assert got[0] == expected[0]
        if "trailing comma" in expected[1]:  # Python 3.13 has words of its own for a comma at the end
            continue
        if b"\xff" in text or (b"\xed" in text and not _is_text(text)):
            # Beside bytes that are no UTF-8, characters count otherwise: half a character is three there, where all is read at once.
            assert re.sub("[0-9]+", "", got[1]) == re.sub("[0-9]+", "", expected[1])
        else:
            assert got[1] == expected[1]


def _is_text(data: bytes) -> bool:
    """Whether it is UTF-8, but for halves of characters."""
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


_LONG = b'{"key":"' + b"k" * 500 + b'","value":{"arrayValue":{"values":[' + b",".join([b'{"intValue":"7"}'] * 90) + b"]}}}"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"[]" + b" " * 300,
        b'{"resourceLogs":[]}x',
        b'{"resourceLogs":null,"resource_logs":[{}]}' + b" " * 300,
        b'{"resourceLogs":[{"schemaUrl":"a"}],"u":{"u":'
        + b"[1," * 99
        + b"2"
        + b"]" * 99
        + b'},"resourceLogs":[{"schemaUrl":"b"}]}',
        b'{"resourceLogs":5,"resourceLogs":[{"schemaUrl":5,"schemaUrl":"' + b"b" * 400 + b'"}]}',
        b'{"resourceLogs":{"a":[' + b"1," * 200 + b"1]}}",
        b'{"resourceLogs":[[' + b"1," * 200 + b'1],{"schemaUrl":"b"}]}',
        b'{"resourceLogs":[{"resource":{"attributes":[' + _LONG + b"," + _LONG + b"]}},null]}",
        b'{"resourceLogs":[{"resource":{"attributes":[' + _LONG + b"," + _LONG + b"]}}]}",
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":'
        + b'{"arrayValue":{"values":[' * 20
        + b'{"intValue":1}' * 1
        + b"]}}" * 20
        + b"}]}]}]}",
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":' + b'{"arrayValue":{"values":[' * 200 + b"]}}" * 200 + b"}]}]}]}",
        b"[" * 100000,
        b'{"resourceLogs":[{"schemaUrl":"\\ud83d\\ude00' + b"\\u20ac" * 90 + b'"}]}',
        b"\xef\xbb\xbf" + b'{"resourceLogs":[{"schemaUrl":"b"}]}',
        '{"resourceLogs":[{"schemaUrl":"\N{EURO SIGN}"}]}'.encode("utf-16"),
        b'{"resourceLogs":[{"schemaUrl":"\xff\xfe' + b"a" * 400 + b'"}]}',
    ],
)
def test_what_is_the_same(text: bytes) -> None:
    assert outcome(streamed, "logs", text) == outcome(otlp_json.to_protobuf, "logs", text)


def _points(count: int) -> bytes:
    point = '{"timeUnixNano":"1","asDouble":1.5,"attributes":[{"key":"k","value":{"stringValue":"v"}}]}'
    metric = '{"name":"m","gauge":{"dataPoints":[' + ",".join([point] * count) + "]}}"
    return ('{"resourceMetrics":[{"scopeMetrics":[{"metrics":[' + metric + "]}]}]}").encode()


def test_its_memory_follows_the_window_and_what_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp_json_stream, "WINDOW", 32 * 1024)
    text = _points(2000)
    conversion = Conversion("metrics", text)
    tracemalloc.start()
    try:
        needed = max(conversion.steps())
        made = len(conversion.payload())
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert needed < len(text) * 4, "asked for before"
    assert most < needed + 3 * made
    assert conversion.made == pytest.approx(made, rel=0.01)
