"""The jaeger receiver: what OpenTelemetry's exporters for Jaeger (1.21.0) sent, over real sockets; refusals, limits, hostile datagrams."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from kofagent.component.protocols import StartError
from kofagent.receivers.jaeger import COMPONENT, proto, thrift
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from kofagent.transform.anyvalue import attributes
from kofagent.transform.spans import Spans
from kofagent.wire import lens
from kofagent.wire.varint import length_delimited
from tests.support.components import FakeHost, Sink, eventually, make, validated
from tests.support.otlp import REQUEST
from tests.support.thrift import binary, compact

RECORDED = Path(__file__).parent / "recorded" / "jaeger"
THRIFT = {"Content-Type": "application/x-thrift"}
POST = "/jaeger.api_v2.CollectorService/PostSpans"
ANY_PORT = {"endpoint": "127.0.0.1:0"}


class Running:
    """A started receiver."""

    def __init__(self, *protocols: str, sink: Sink | None = None, **options: Any) -> None:
        self.host = FakeHost()
        self.sink = sink or Sink()
        self.receiver = make(COMPONENT, {"protocols": {name: {**ANY_PORT, **options} for name in protocols}}, host=self.host)
        self.receiver.outputs = {Signal.TRACES: self.sink}

    async def __aenter__(self) -> Running:
        await self.receiver.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.receiver.stop()

    async def post(
        self, data: bytes, headers: Any = THRIFT, path: str = "/api/traces?format=jaeger.thrift"
    ) -> tuple[int, str, Any]:
        url = f"http://127.0.0.1:{self.receiver.ports['thrift_http']}{path}"
        async with aiohttp.ClientSession() as session, session.post(url, data=data, headers=headers) as answer:
            return answer.status, await answer.text(), answer.headers

    def datagram(self, name: str, *data: bytes) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for each in data:
                sender.sendto(each, ("127.0.0.1", self.receiver.ports[name]))

    def dropped(self, reason: str) -> float:
        return self.host.ledger.total("kofagent_dropped_items_total", component="test", signal="traces", reason=reason)

    def rejected(self, transport: str, reason: str) -> float:
        name = "kofagent_receiver_rejected_requests_total"
        return self.host.ledger.total(name, receiver="test", transport=transport, reason=reason)


def spans(payload: bytes) -> list[tuple[dict[str, Any], str, Any]]:
    """(resource, scope, span) of each."""
    return [
        (attributes(r.resource.attributes), s.scope.name, span)
        for r in REQUEST["traces"].FromString(payload).resource_spans
        for s in r.scope_spans
        for span in s.spans
    ]


def recorded(name: str) -> bytes:
    return (RECORDED / f"{name}.bin").read_bytes()


def looks(payload: bytes) -> dict[str, Any]:
    """What is the same in all recordings: everything but ids and times."""
    ((resource, scope, span),) = spans(payload)
    assert len(span.trace_id) == 16 and len(span.span_id) == 8
    assert 0 < span.start_time_unix_nano < span.end_time_unix_nano
    sdk = ("telemetry.sdk.language", "telemetry.sdk.name", "telemetry.sdk.version", "service.name", "host.name")
    return {
        "service": resource["service.name"],
        "scope": scope,
        "name": span.name,
        "kind": span.kind,
        "has parent": bool(span.parent_span_id),
        "tags": {k: v for k, v in attributes(span.attributes).items() if k not in sdk},
        "events": [attributes(e.attributes) for e in span.events],
        "links": [(link.span_id == span.parent_span_id, attributes(link.attributes)) for link in span.links],
        "status": (span.status.code, span.status.message),
    }


def want(name: str, service: str) -> dict[str, Any]:
    parent = name == "parent"
    return {
        "service": service,
        "scope": "lib",
        "name": name,
        "kind": 2 if parent else 3,
        "has parent": not parent,
        "tags": {"a": 1, "b": True, "c": 1.5, "d": "\u00e4", "e": "(1, 2)"} if parent else {},
        "events": [{"k": "v|x", "n": 3, "message": "ev"}] if parent else [],
        "links": [] if parent else [(True, {"opentracing.ref_type": "follows_from"})],
        "status": (0, "") if parent else (2, "boom"),
    }


@pytest.mark.parametrize("name", ["child", "parent"])
async def test_what_exporters_sent_over_each_protocol(name: str) -> None:
    async with Running("grpc", "thrift_http", "thrift_compact", "thrift_binary") as running:
        assert (await running.post(recorded(f"binary-{name}")))[0] == 202
        assert looks(running.sink.payload(Signal.TRACES)) == want(name, "jt-http")
        running.sink.batches.clear()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{running.receiver.ports['grpc']}") as channel:
            assert await channel.unary_unary(POST)(recorded(f"grpc-{name}"), timeout=20) == b""
        assert looks(running.sink.payload(Signal.TRACES)) == want(name, "jg")
        running.sink.batches.clear()
        running.datagram("thrift_compact", recorded(f"compact-{name}"))
        await eventually(lambda: running.sink.batches)
        assert looks(running.sink.payload(Signal.TRACES)) == want(name, "jt-udp")
        running.sink.batches.clear()
        call = (
            b"\x80\x01\x00\x04" + b"\x00\x00\x00\x09emitBatch" + b"\0\0\0\1" + b"\x0c\x00\x01" + recorded(f"binary-{name}") + b"\0"
        )
        running.datagram("thrift_binary", call)
        await eventually(lambda: running.sink.batches)
        assert looks(running.sink.payload(Signal.TRACES)) == want(name, "jt-http")


def tag(key: str, value: Any) -> tuple[dict[int, Any]]:
    kinds: dict[type, tuple[int, int, str]] = {
        str: (0, 3, "string"),
        float: (1, 4, "double"),
        bool: (2, 5, "bool"),
        int: (3, 6, "i64"),
        bytes: (4, 7, "string"),
    }
    number, field, kind = kinds[type(value)]
    raw = value.encode() if isinstance(value, str) else value
    return ({1: ("string", key.encode()), 2: ("i32", number), field: (kind, raw)},)


def jaeger_span(tags: dict[str, Any] | None = None, **more: Any) -> tuple[dict[int, Any]]:
    fields = {
        1: ("i64", more.get("low", 2)),
        2: ("i64", more.get("high", 1)),
        3: ("i64", more.get("id", -1)),
        4: ("i64", more.get("parent", 0)),
        5: ("string", b"op"),
        6: ("list", "struct", more.get("references", [])),
        7: ("i32", 1),
        8: ("i64", more.get("start", 1_700_000_000_000_000)),
        9: ("i64", 5),
        10: ("list", "struct", [tag(key, value) for key, value in (tags or {}).items()]),
        11: ("list", "struct", more.get("logs", [])),
    }
    return (fields,)


def batch(*items: Any, service: bytes = b"shop", tags: dict[str, Any] | None = None) -> dict[int, Any]:
    process = {1: ("string", service), 2: ("list", "struct", [tag(key, value) for key, value in (tags or {}).items()])}
    return {1: ("struct", process), 2: ("list", "struct", list(items))}


def read(*items: Any, **more: Any) -> list[tuple[dict[str, Any], str, Any]]:
    return spans(thrift.body(binary(("struct", batch(*items, **more)))).payload())


def test_ids_times_references_and_logs() -> None:
    child_of = ({1: ("i32", 0), 2: ("i64", 2), 3: ("i64", 1), 4: ("i64", 7)},)
    other = ({1: ("i32", 0), 2: ("i64", 9), 3: ("i64", 0), 4: ("i64", 8)},)
    log = ({1: ("i64", 3), 2: ("list", "struct", [tag("event", "retry"), tag("n", 1)])},)
    ((_, _, span),) = read(jaeger_span(parent=7, references=[child_of, other], logs=[log]))
    assert span.trace_id.hex() == "00000000000000010000000000000002" and span.span_id.hex() == "ffffffffffffffff"
    assert span.parent_span_id.hex() == "0000000000000007"
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (1_700_000_000_000_000_000, 1_700_000_000_000_005_000)
    assert [(link.span_id[-1], attributes(link.attributes)) for link in span.links] == [(8, {"opentracing.ref_type": "child_of"})]
    assert [(e.name, e.time_unix_nano, attributes(e.attributes)) for e in span.events] == [("retry", 3000, {"n": 1})]


def test_the_process() -> None:
    ((resource, _, _),) = read(jaeger_span(), tags={"hostname": "h", "jaeger.version": "Go-2", "ip": "10.0.0.1", "b": b"\xff"})
    want = {"service.name": "shop", "host.name": "h", "opencensus.exporterversion": "Jaeger-Go-2", "ip": "10.0.0.1", "b": b"\xff"}
    assert resource == want
    assert read(jaeger_span(), service=b"OTLPResourceNoServiceName")[0][0] == {}


@pytest.mark.parametrize(
    ("tags", "code", "message", "left"),
    [
        ({}, 0, "", {}),
        ({"error": True}, 2, "", {}),
        ({"error": False}, 0, "", {"error": False}),
        ({"error": "yes"}, 0, "", {"error": "yes"}),
        ({"error": True, "otel.status_code": "OK", "otel.status_description": "d"}, 2, "d", {}),
        ({"error": True, "http.status_message": "m"}, 2, "m", {"http.status_message": "m"}),
        ({"otel.status_code": "ok"}, 1, "", {}),
        ({"otel.status_code": "ERROR", "otel.status_description": "d"}, 2, "d", {}),
        ({"http.status_code": 503}, 2, "", {"http.status_code": 503}),
        ({"http.status_code": "404", "span.kind": "client"}, 2, "", {"http.status_code": "404"}),
        ({"http.status_code": 404, "span.kind": "server"}, 0, "", {"http.status_code": 404}),
        ({"http.status_code": 200}, 0, "", {"http.status_code": 200}),
        ({"http.status_code": "x"}, 0, "", {"http.status_code": "x"}),
    ],
)
def test_status(tags: dict[str, Any], code: int, message: str, left: dict[str, Any]) -> None:
    ((_, _, span),) = read(jaeger_span(tags))
    assert (span.status.code, span.status.message, attributes(span.attributes)) == (code, message, left)


def test_scope_state_and_processes_of_spans() -> None:
    tags = {"otel.scope.name": "s", "otel.scope.version": "1", "otel.library.name": "s", "w3c.tracestate": "a=b", "x": 1}
    ((_, scope, span),) = read(jaeger_span(tags))
    assert (scope, span.trace_state, attributes(span.attributes)) == ("s", "a=b", {"x": 1})
    request = proto._messages["PostSpansRequest"]()
    request.batch.process.service_name = b"a"
    for service in (b"", b"b", b"a"):
        span = proto._messages["Span"](trace_id=bytes(15) + b"\1", span_id=bytes(7) + b"\1")
        if service:
            span.process.service_name = service
        request.batch.spans.append(span.SerializeToString())
    found = spans(proto.request(request.SerializeToString()).payload())
    assert sorted(resource["service.name"] for resource, _, _ in found) == ["a", "a", "b"]
    assert len(REQUEST["traces"].FromString(proto.request(request.SerializeToString()).payload()).resource_spans) == 2


def test_times_that_otlp_cannot_say_are_clamped() -> None:
    ((_, _, span),) = read(jaeger_span(start=-5))
    assert span.start_time_unix_nano == 0
    ((_, _, span),) = read(jaeger_span(start=(1 << 63) - 1))
    assert span.start_time_unix_nano == (1 << 64) - 1


@pytest.mark.parametrize(
    "wrong",
    [
        {2: ("list", "byte", [1])},
        {2: ("string", b"x")},
        {2: ("i32", 3), 6: ("struct", {5: ("i64", 1)})},
        {2: ("i32", 0), 3: ("i64", 1)},
    ],
)
def test_a_tag_with_fields_of_other_types_is_an_error(wrong: dict[int, Any]) -> None:
    span = jaeger_span()
    span[0][10] = ("list", "struct", [({1: ("string", b"k"), **wrong},)])
    with pytest.raises(ValueError, match="type"):
        read(span)


@given(st.binary(max_size=300))
def test_any_datagram_is_spans_or_an_error(data: bytes) -> None:
    for name in ("compact-parent", "binary-parent", "grpc-parent"):
        whole = recorded(name)
        changed = bytearray(whole)
        for i, byte in enumerate(data[:8]):
            changed[(byte * 31 + i * 97) % len(changed)] ^= data[-1] or 1
        for given_ in (data, bytes(changed), whole[: len(data)]):
            for decode in (lambda d: thrift.datagram(d, True), lambda d: thrift.datagram(d, False), thrift.body, proto.request):
                try:
                    REQUEST["traces"].FromString(decode(given_).payload())
                except ValueError:
                    continue


@pytest.mark.parametrize("field", [(1,), (1, 8), (1, 9), (1, 9, 2), (1, 4), (2, 2)])
def test_empty_messages_are_counted_before_one_of_them_is_parsed(field: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    body = length_delimited(field[-1], b"") * 200_000
    for number in (*reversed(field[:-1]), 1):
        body = length_delimited(number, body)
    parsed: list[int] = []
    whole = lens.parse
    monkeypatch.setattr(proto, "parse", lambda kind, data: parsed.append(len(data)) or whole(kind, data))
    with pytest.raises(ValueError, match="too many structs"):
        proto.request(body)
    assert len(parsed) <= 3


@pytest.mark.parametrize(
    ("data", "headers", "path", "status"),
    [
        (b"\x0c", THRIFT, "/api/traces", 400),
        (b"\0", {"Content-Type": "application/json"}, "/api/traces", 400),
        (b"\0", THRIFT, "/api/nothing", 404),
        (b"\0" * 2000, THRIFT, "/api/traces", 413),
        (b"\0", {"Content-Type": "application/vnd.apache.thrift.binary; charset=x"}, "/api/traces", 202),
    ],
)
async def test_answers_over_http(data: bytes, headers: Any, path: str, status: int) -> None:
    async with Running("thrift_http", max_request_body_size=1000) as running:
        assert (await running.post(data, headers, path))[0] == status
        assert not running.sink.batches


async def test_refusals_are_passed_on() -> None:
    sink = Sink()
    async with Running("thrift_http", "grpc", sink=sink) as running:
        sink.refuse = Refused("backlog", retry_after=7)
        status, text, headers = await running.post(recorded("binary-child"))
        assert (status, headers["Retry-After"]) == (503, "7") and "backlog" in text
        async with grpc.aio.insecure_channel(f"127.0.0.1:{running.receiver.ports['grpc']}") as channel:
            for expected, data in (
                (grpc.StatusCode.UNAVAILABLE, recorded("grpc-child")),
                (grpc.StatusCode.INVALID_ARGUMENT, b"\x0a\x7f"),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as raised:
                    await channel.unary_unary(POST)(data, timeout=20)
                assert raised.value.code() is expected
        assert running.rejected("grpc", "malformed") == 1


async def test_datagrams_wait_for_the_pipeline_in_order_and_what_is_too_much_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kofagent.component.offering.FIRST_WAIT", 0.01)
    sink = Sink()
    sink.refuse = Refused("backlog")
    call = {service: _call(service) for service in (b"one", b"two", b"three")}
    async with Running("thrift_compact", sink=sink, queue_size=2) as running:
        running.datagram("thrift_compact", *call.values())
        await eventually(lambda: running.dropped("backlog") == 1)
        sink.refuse = None
        await eventually(lambda: len(sink.batches) == 2)
        assert [spans(b.payload)[0][0]["service.name"] for b in sink.batches] == ["one", "two"]


def _call(service: bytes) -> bytes:
    arguments = ("struct", {1: ("struct", batch(jaeger_span(), service=service))})
    return b"\x82\x81\x00\x09emitBatch" + compact(arguments)


async def test_what_waits_when_the_receiver_stops_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kofagent.receivers.jaeger.udp._STOP_SECONDS", 0.05)
    sink = Sink()
    sink.refuse = Refused("backlog")
    async with Running("thrift_compact", sink=sink) as running:
        running.datagram("thrift_compact", _call(b"one"), _call(b"two"))
        (endpoint,) = running.receiver._endpoints
        await eventually(lambda: len(endpoint._waiting) == 2)
    assert running.dropped("shutdown") == 2


async def test_datagrams_that_are_no_batch_or_too_long_are_counted() -> None:
    async with Running("thrift_compact", "thrift_binary", max_packet_size=200) as running:
        running.datagram("thrift_compact", b"\x82\x81\x00\x04ping\x00", b"", b"\xff" * 100, b"\0" * 201)
        running.datagram("thrift_binary", b"\0\0\0\4ping\1\0\0\0\0\0")
        compact_, binary_ = "udp_thrift_compact", "udp_thrift_binary"
        await eventually(lambda: running.rejected(compact_, "malformed") == 3 and running.rejected(binary_, "malformed") == 1)
        await eventually(lambda: running.rejected(compact_, "too large") == 1)
        assert not running.sink.batches


async def test_datagrams_that_take_long_leave_others_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    turns: list[int] = []
    monkeypatch.setattr("kofagent.receivers.jaeger.udp.time.monotonic", lambda: clock[0])

    def slow(data: bytes) -> Spans:
        clock[0] += 0.015
        turns[-1] += 1
        return Spans()

    async with Running("thrift_compact") as running:
        (endpoint,) = running.receiver._endpoints
        monkeypatch.setattr(endpoint, "_decode", slow)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(5):
                sender.sendto(b"x", ("127.0.0.1", running.receiver.ports["thrift_compact"]))
        while sum(turns) < 5:
            turns.append(0)
            endpoint._readable()
    assert turns == [2, 2, 1]


async def test_a_port_that_is_taken() -> None:
    async with Running("thrift_compact") as running:
        other = make(
            COMPONENT, {"protocols": {"thrift_binary": {"endpoint": f"127.0.0.1:{running.receiver.ports['thrift_compact']}"}}}
        )
        other.outputs = {Signal.TRACES: Sink()}
        with pytest.raises(StartError, match=r"protocols\.thrift_binary\.endpoint"):
            await other.start()


def test_options() -> None:
    config = validated(COMPONENT, {"protocols": {"grpc": None, "thrift_compact": {"workers": 5}}})
    assert config.protocols.grpc is not None and config.protocols.grpc.endpoint == "localhost:14250"
    assert config.protocols.thrift_compact is not None and config.protocols.thrift_compact.endpoint == "localhost:6831"
    assert config.protocols.thrift_http is None
    with pytest.raises(ValidationError, match="no protocol is enabled"):
        COMPONENT.Config.model_validate({"protocols": {}})
