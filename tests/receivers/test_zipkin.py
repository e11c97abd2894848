"""The zipkin receiver: what OpenTelemetry's exporters for Zipkin (1.45.1) sent, the formats' documents, statuses, hostile bodies."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kofagent.net.budget import Overloaded
from kofagent.net.decoding import decoded
from kofagent.receivers.zipkin import COMPONENT, v1, v2
from kofagent.receivers.zipkin.fields import START_ABSENT, elements, parsed
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from kofagent.transform.anyvalue import attributes
from kofagent.transform.spans import Spans
from kofagent.wire import lens
from kofagent.wire.expansion import MAX_EXPANSION
from kofagent.wire.varint import length_delimited
from tests.receivers.test_jaeger import spans
from tests.support.components import FakeHost, Sink, make
from tests.support.memory import memory
from tests.support.otlp import REQUEST
from tests.support.thrift import binary

RECORDED = Path(__file__).parent / "recorded" / "zipkin"
JSON, PROTOBUF, THRIFT = ({"Content-Type": f"application/{kind}"} for kind in ("json", "x-protobuf", "x-thrift"))
V1, V2 = "/api/v1/spans", "/api/v2/spans"
DOCUMENT = {
    "traceId": "5982fe77008310cc80f1da5e10147517",
    "name": "get",
    "id": "bd7a977555f6b982",
    "parentId": "90394f6bcffb5d13",
    "kind": "CLIENT",
    "timestamp": 1458702548467000,
    "duration": 386000,
    "localEndpoint": {"serviceName": "frontend", "ipv4": "127.0.0.1", "port": 8080},
    "remoteEndpoint": {"serviceName": "backend", "ipv6": "2001:db8::1", "port": 9000},
    "annotations": [{"timestamp": 1458702548467001, "value": "foo"}],
    "tags": {"http.path": "/api", "n": "3", "host.name": "h"},
}


class Running:
    """A started receiver."""

    def __init__(self, **options: Any) -> None:
        self.host = FakeHost()
        self.sink = Sink()
        self.receiver = make(COMPONENT, {"endpoint": "127.0.0.1:0", **options}, host=self.host)
        self.receiver.outputs = {Signal.TRACES: self.sink}

    async def __aenter__(self) -> Running:
        await self.receiver.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.receiver.stop()

    async def post(self, data: bytes, headers: Any = JSON, path: str = V2) -> tuple[int, str, Any]:
        url = f"http://127.0.0.1:{self.receiver.ports['http']}{path}"
        async with aiohttp.ClientSession() as session, session.post(url, data=data, headers=headers) as answer:
            return answer.status, await answer.text(), answer.headers


def recorded(name: str) -> bytes:
    return (RECORDED / name).read_bytes()


def of(*items: Any, parse_tags: bool = False) -> list[tuple[dict[str, Any], str, Any]]:
    return spans(v2.from_json(json.dumps(items).encode(), parse_tags).payload())


def of_v1(*items: Any, parse_tags: bool = False) -> list[tuple[dict[str, Any], str, Any]]:
    return spans(v1.from_json(json.dumps(items).encode(), parse_tags).payload())


@pytest.mark.parametrize(
    ("file", "headers", "path"), [("v2-{}.json", JSON, V2), ("v2-{}.bin", PROTOBUF, V2), ("v1-{}.json", JSON, V1)]
)
@pytest.mark.parametrize("name", ["child", "parent"])
async def test_what_exporters_sent(name: str, file: str, headers: Any, path: str) -> None:
    async with Running() as running:
        assert (await running.post(recorded(file.format(name)), headers, path))[0] == 202
        ((resource, scope, span),) = spans(running.sink.payload(Signal.TRACES))
    assert span.name == name and len(span.trace_id) == 16 and bool(span.parent_span_id) == (name == "child")
    assert 0 < span.start_time_unix_nano < span.end_time_unix_nano
    assert span.status.code == (2 if name == "child" else 0)
    tags = attributes(span.attributes)
    if path == V1:
        assert resource == {"service.name": "zj1"}
    else:
        assert resource["service.name"] in ("zj2", "zp") and resource["host.name"] == "h1" and scope == "lib"
        assert span.kind == (3 if name == "child" else 2)
        want = {"error": "boom"} if name == "child" else {"a": "1", "b": "true", "c": "1.5", "d": "\u00e4", "e": '["1","2"]'}
        assert tags == want
    if name == "parent":
        assert [e.name for e in span.events] == ['{"ev": {"k": "v|x", "n": 3}}']


def test_the_document_of_version_2() -> None:
    ((resource, scope, span),) = of(DOCUMENT)
    assert resource == {"service.name": "frontend", "host.name": "h"} and scope == ""
    assert (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()) == (
        "5982fe77008310cc80f1da5e10147517",
        "bd7a977555f6b982",
        "90394f6bcffb5d13",
    )
    assert (span.kind, span.start_time_unix_nano, span.end_time_unix_nano) == (3, 1458702548467000000, 1458702548853000000)
    assert attributes(span.attributes) == {
        "http.path": "/api",
        "n": "3",
        "net.host.ip": "127.0.0.1",
        "net.host.port": 8080,
        "peer.service": "backend",
        "net.peer.ip": "2001:db8::1",
        "net.peer.port": 9000,
    }
    assert [(e.name, e.time_unix_nano) for e in span.events] == [("foo", 1458702548467001000)]
    assert attributes(of(DOCUMENT, parse_tags=True)[0][2].attributes)["n"] == 3


def test_spans_are_grouped_by_their_own_resource() -> None:
    found = of(DOCUMENT, {**DOCUMENT, "tags": {"host.name": "other"}}, DOCUMENT, {"traceId": "1", "id": "2"})
    assert [r for r, _, _ in found] == [
        {"service.name": "frontend", "host.name": "h"},
        {"service.name": "frontend", "host.name": "h"},
        {"service.name": "frontend", "host.name": "other"},
        {},
    ]
    ((resource, _, _),) = of({**DOCUMENT, "tags": {"otlp.service.name.source": "faas.name"}})
    assert resource == {"faas.name": "frontend"}


def test_ids_of_64_bits_absent_times_and_a_parent_that_is_the_span_itself() -> None:
    ((_, _, span),) = of({"traceId": "48485a3953bb6124", "id": "a", "parentId": "a", "duration": 5})
    assert span.trace_id.hex() == "0000000000000000" + "48485a3953bb6124" and span.span_id.hex() == "000000000000000a"
    assert span.parent_span_id == b"" and attributes(span.attributes) == {START_ABSENT: True}
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (0, 5000)


@pytest.mark.parametrize(
    ("tags", "code", "message", "left"),
    [
        ({"otel.status_code": "STATUS_CODE_OK"}, 1, "", {}),
        ({"otel.status_code": "Error", "otel.status_description": "d"}, 2, "d", {}),
        ({"error": "true"}, 2, "", {}),
        ({"error": "timeout"}, 2, "", {"error": "timeout"}),
        ({"span.kind": "internal"}, 0, "", {}),
        ({"w3c.tracestate": "a=b"}, 0, "", {}),
    ],
)
def test_tags_with_a_meaning(tags: dict[str, str], code: int, message: str, left: dict[str, Any]) -> None:
    ((_, _, span),) = of({"traceId": "1", "id": "2", "timestamp": 1, "tags": tags})
    assert (span.status.code, span.status.message, attributes(span.attributes)) == (code, message, left)
    assert span.kind == ("span.kind" in tags) and span.trace_state == tags.get("w3c.tracestate", "")


def test_links_and_events_of_exporters_of_otlp_come_back() -> None:
    trace, own = "0" * 31 + "7", "0" * 15 + "8"
    tags = {"otlp.link.0": f'{trace}|{own}|a=b|{{"l":1,"t":"x|y"}}|2', "otlp.link.2": "kept"}
    events = ['ev|{"k":1.5,"b":true}|3', "a|b", "x|not json|1", "plain"]
    ((_, _, span),) = of(
        {"traceId": "1", "id": "2", "timestamp": 1, "tags": tags, "annotations": [{"timestamp": 1, "value": e} for e in events]}
    )
    ((link,),) = (span.links,)
    assert (link.trace_id.hex(), link.span_id.hex(), link.trace_state, link.dropped_attributes_count) == (trace, own, "a=b", 2)
    assert attributes(link.attributes) == {"l": 1, "t": "x|y"} and attributes(span.attributes) == {"otlp.link.2": "kept"}
    assert [(e.name, attributes(e.attributes), e.dropped_attributes_count) for e in span.events] == [
        ("ev", {"k": 1.5, "b": True}, 3),
        ("a|b", {}, 0),
        ("x|not json|1", {}, 0),
        ("plain", {}, 0),
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-12", -12),
        ("9223372036854775807", (1 << 63) - 1),
        ("9223372036854775808", "9223372036854775808"),
        ("1.5", 1.5),
        ("1.", 1.0),
        ("1.2.3", "1.2.3"),
        ("true", True),
        ("false", False),
        ("True", "True"),
        ("", ""),
        ("1e5", "1e5"),
        ("\u00b2", "\u00b2"),
        ("0" * 5000, "0" * 5000),
    ],
)
def test_tags_that_look_like_something_else(text: str, value: Any) -> None:
    assert parsed(text) == value and type(parsed(text)) is type(value)


def test_the_document_of_version_1() -> None:
    host = {"serviceName": "front", "ipv4": "1.2.3.4", "port": 80}
    document = {
        "traceId": "48485a3953bb6124",
        "id": "48485a3953bb6124",
        "name": "get",
        "annotations": [
            {"timestamp": 1000, "value": "sr", "endpoint": host},
            {"timestamp": 1500, "value": "cache miss", "endpoint": {"serviceName": "other"}},
            {"timestamp": 3000, "value": "ss", "endpoint": host},
        ],
        "binaryAnnotations": [{"key": "http.status_code", "value": "500"}, {"key": "error", "value": "true"}],
    }
    ((resource, _, span),) = of_v1(document, parse_tags=True)
    assert resource == {"service.name": "front", "ipv4": "1.2.3.4", "port": "80"}
    assert (span.kind, span.start_time_unix_nano, span.end_time_unix_nano) == (2, 1_000_000, 3_000_000)
    assert [(e.name, e.time_unix_nano) for e in span.events] == [("cache miss", 1_500_000)]
    assert (span.status.code, attributes(span.attributes)) == (2, {"http.status_code": 500})
    ((resource, _, span),) = of_v1({**document, "annotations": [], "binaryAnnotations": [{"key": "lc", "value": "db"}]})
    assert resource == {"service.name": "db"} and attributes(span.attributes) == {"component": "db", START_ABSENT: True}
    assert span.start_time_unix_nano == span.end_time_unix_nano > 1 << 60


async def test_version_1_in_thrift() -> None:
    host = ({1: ("i32", 0x7F000001), 2: ("i16", 8080), 3: ("string", b"front")},)
    tags = [(b"s", b"text", 6), (b"b", b"\x01", 0), (b"i", b"\0\0\0\7", 3), (b"raw", b"\xff", 1)]
    span = {
        1: ("i64", 5),
        3: ("string", b"get"),
        4: ("i64", 6),
        5: ("i64", 7),
        6: ("list", "struct", [({1: ("i64", 1000), 2: ("string", b"cs"), 3: ("struct", *host)},)]),
        8: ("list", "struct", [({1: ("string", k), 2: ("string", v), 3: ("i32", t)},) for k, v, t in tags]),
        10: ("i64", 2000),
        11: ("i64", 3),
        12: ("i64", 1),
    }
    async with Running() as running:
        assert (await running.post(binary(("list", "struct", [(span,)])), THRIFT, V1))[0] == 202
        ((resource, _, found),) = spans(running.sink.payload(Signal.TRACES))
        assert (await running.post(b"\x03\0\0\0\1\1", THRIFT, V1))[0] == 400
    assert resource == {"service.name": "front", "ipv4": "127.0.0.1", "port": "8080"}
    assert (found.trace_id.hex(), found.span_id[-1], found.parent_span_id[-1]) == ("0000000000000001" + "0" * 15 + "5", 6, 7)
    assert (found.kind, found.start_time_unix_nano, found.end_time_unix_nano) == (3, 2_000_000, 2_003_000)
    assert attributes(found.attributes) == {"s": "text", "b": True, "i": 7, "raw": b"\xff"}


BAD = [
    b"",
    b"{}",
    b"[1]",
    b"[{}]",
    b'[{"traceId": "g", "id": "1"}]',
    b'[{"traceId": "0", "id": "1"}]',
    b'[{"traceId": "1", "id": "11111111111111111"}]',
    b'[{"traceId": "1", "id": "1", "tags": {"a": 1}}]',
    b'[{"traceId": "1", "id": "1", "tags": []}]',
    b'[{"traceId": "1", "id": "1", "timestamp": "x"}]',
    b'[{"traceId": "1", "id": "1", "annotations": {}}]',
    b'[{"traceId": "1", "id": "1", "name": 5}]',
    b'[{"traceId": "1", "id": "1", "tags": {"otlp.link.0": "1|2|3|4|5"}}]',
    b"[" * 100_000,
    b"\xff\xfe",
]


@pytest.mark.parametrize("data", BAD)
async def test_a_body_that_is_wrong_is_400_and_counted(data: bytes) -> None:
    async with Running() as running:
        status, text, _ = await running.post(data)
        assert status == 400 and text.strip()
        for path in (V1, "/"):
            assert (await running.post(data, path=path))[0] == 400
        assert not running.sink.batches
        total = running.host.ledger.sum("kofagent_receiver_rejected_requests_total")
        assert total == 3


@pytest.mark.parametrize("name", ["gzip", "deflate", "zlib"])
async def test_compressed_bodies(name: str) -> None:
    data = recorded("v2-parent.json")
    packed = gzip.compress(data) if name == "gzip" else zlib.compress(data)
    async with Running() as running:
        assert (await running.post(packed, {**JSON, "Content-Encoding": name}))[0] == 202
        assert running.sink.count == 1


async def test_statuses_of_refusals() -> None:
    async with Running(max_request_body_size=1000) as running:
        running.sink.refuse = Refused("backlog", retry_after=3)
        status, text, headers = await running.post(recorded("v2-child.json"))
        assert (status, text, headers["Retry-After"]) == (500, '"Internal Server Error"', "3")
        running.sink.refuse = Refused("http 400", permanent=True)
        assert (await running.post(recorded("v2-child.json")))[:2] == (400, '"Bad Request"')
        assert (await running.post(b" " * 1001))[0] == 413
        assert (await running.post(b"[]"))[0] == 202


async def test_a_large_body_needs_memory() -> None:
    data = json.dumps([DOCUMENT] * 1000).encode()
    async with Running() as running:
        assert (await running.post(data))[0] == 202
        assert running.sink.count == 1000
    with memory(16, used_mib=8), pytest.raises(Overloaded):
        await decoded(lambda body: v2.from_json(body, False), data * 3, MAX_EXPANSION)


@pytest.mark.parametrize(
    "body", [b"\x0a\0" * 200_000, length_delimited(1, b"\x5a\0" * 400_000), length_delimited(1, b"\x52\0" * 200_000)]
)
def test_empty_messages_are_counted_before_one_of_them_is_parsed(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed_: list[int] = []
    whole = lens.parse
    monkeypatch.setattr(v2, "parse", lambda kind, data: parsed_.append(len(data)) or whole(kind, data))
    with pytest.raises(ValueError, match="too many structs"):
        v2.from_protobuf(body, False)
    assert len(parsed_) <= 2


def test_an_array_is_read_as_json_reads_it() -> None:
    for text in (
        "[]",
        " [ ] ",
        "[{}]",
        '[{"a": 1} , {} ]\n',
        "[{},]",
        "[{}",
        "[{}]]",
        "[{} {}]",
        "",
        "{}",
        "[1]",
        "[{}] x",
        "\ufeff[]",
    ):
        for data in (text.encode(), text.encode("utf-16")):
            try:
                want = json.loads(data)
            except ValueError:
                want = None
            if isinstance(want, list) and all(isinstance(each, dict) for each in want):
                assert list(elements(data)) == want
            else:
                with pytest.raises(ValueError):
                    list(elements(data))


_leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
_keys = st.sampled_from([*DOCUMENT, "value", "key", "serviceName", "port", "endpoint"])


@given(st.recursive(_leaf, lambda inner: st.lists(inner) | st.dictionaries(_keys, inner), max_leaves=12))
def test_any_json_is_spans_or_an_error(found: Any) -> None:
    bodies = [found, [found], [{**DOCUMENT, "tags": found}], [{**DOCUMENT, "annotations": [found]}]]
    if isinstance(found, dict):
        bodies.append([{**DOCUMENT, **found}])
    for decode in (v1.from_json, v2.from_json):
        for body in bodies:
            try:
                made: Spans = decode(json.dumps(body).encode(), True)
            except ValueError:
                continue
            REQUEST["traces"].FromString(made.payload())
