"""The otlp receiver over real sockets: statuses, limits, encodings, TLS, authentication, official SDK exporters."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
import threading
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
import snappy
import zstandard
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from kofagent.component.protocols import StartError, Unauthorized
from kofagent.memory.account import ACCOUNT
from kofagent.memory.pressure import PRESSURE, Level
from kofagent.receivers.otlp import COMPONENT as OtlpReceiver
from kofagent.telemetry.batch import AnyBatch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from kofagent.wire import otlp, otlp_check, walk
from kofagent.wire.varint import length_delimited
from tests.support import servers
from tests.support.certificates import Authority
from tests.support.components import FakeHost, Sink, eventually, make, validated
from tests.support.memory import MIB, memory
from tests.support.otlp import REQUEST, log_request, metric_request, trace_request

TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
PROTOBUF = {"Content-Type": "application/x-protobuf"}
JSON = {"Content-Type": "application/json"}


class Running:
    """A started receiver with a sink for the signals asked for."""

    def __init__(self, protocols: Any, signals: Any = tuple(Signal), host: FakeHost | None = None, **options: Any) -> None:
        self.host = host or FakeHost()
        self.sink = Sink()
        self.receiver = make(OtlpReceiver, {"protocols": protocols, **options}, id="otlp", host=self.host)
        self.receiver.outputs = dict.fromkeys(signals, self.sink)

    async def __aenter__(self) -> Running:
        await self.receiver.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.receiver.stop()

    def url(self, path: str = "/v1/traces", scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{self.receiver.ports['http']}{path}"

    def total(self, name: str, **labels: str) -> float:
        return self.host.ledger.total(name, receiver="otlp", **labels)

    async def post(
        self, body: bytes | AsyncIterator[bytes], headers: dict[str, str] = PROTOBUF, path: str = "/v1/traces", **kwargs: Any
    ) -> Any:
        async with aiohttp.ClientSession() as session, session.post(self.url(path), data=body, headers=headers, **kwargs) as answer:
            return answer.status, dict(answer.headers), await answer.read()

    async def call(self, message: bytes, method: str = TRACES, channel: Any = None, **kwargs: Any) -> Any:
        channel = channel or grpc.aio.insecure_channel(f"127.0.0.1:{self.receiver.ports['grpc']}", kwargs.pop("options", None))
        async with channel:
            return await channel.unary_unary(method)(message, timeout=20, **kwargs)


def http(**options: Any) -> Running:
    return Running({"http": {"endpoint": "127.0.0.1:0", **options}})


def rpc(**options: Any) -> Running:
    return Running({"grpc": {"endpoint": "127.0.0.1:0", **options}})


@pytest.mark.parametrize(
    "path,payload,signal,count",
    [
        ("/v1/traces", trace_request(3), Signal.TRACES, 3),
        ("/v1/logs", log_request("a", "b"), Signal.LOGS, 2),
        ("/v1/metrics", metric_request(4), Signal.METRICS, 4),
    ],
)
async def test_http_passes_the_bytes_on_as_they_came(path: str, payload: bytes, signal: Signal, count: int) -> None:
    async with http() as r:
        status, headers, body = await r.post(payload, path=path)
        assert (status, body, headers["Content-Type"]) == (200, b"", "application/x-protobuf")
        (batch,) = r.sink.batches
        assert (batch.payload, batch.count, batch.signal, batch.metadata) == (payload, count, signal, None)
        assert r.total(f"otelcol_receiver_accepted_{signal.items}_total", transport="http") == count


ENCODERS = {
    "gzip": gzip.compress,
    "zstd": zstandard.compress,
    "deflate": zlib.compress,
    "zlib": zlib.compress,
    "snappy": snappy.compress,
    "identity": bytes,
    "GZIP": gzip.compress,
}


@pytest.mark.parametrize("name", ENCODERS)
async def test_http_encodings(name: str) -> None:
    payload = trace_request(5)
    async with http() as r:
        status, _, _ = await r.post(ENCODERS[name](payload), {**PROTOBUF, "Content-Encoding": name})
        assert status == 200
        assert r.sink.batches[0].payload == payload


@pytest.mark.parametrize("name", ["gzip", "zstd", "deflate", "snappy"])
async def test_a_bomb_is_413_and_the_next_good_one_works(name: str) -> None:
    bomb = ENCODERS[name](bytes(30_000_000))
    async with http() as r:
        status, _, body = await r.post(bomb, {**PROTOBUF, "Content-Encoding": name})
        assert status == 413
        assert Status.FromString(body).code == 8
        assert (await r.post(trace_request(1)))[0] == 200
        assert r.total("kofagent_receiver_rejected_requests_total", transport="http", reason="too large") == 1
        assert r.sink.count == 1


async def test_http_body_too_large_by_length_and_in_chunks() -> None:
    async with http(max_request_body_size=1000) as r:
        assert (await r.post(bytes(1001)))[0] == 413

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(11):
                yield bytes(100)

        assert (await r.post(chunks()))[0] == 413
        assert not r.sink.batches


BAD_BODIES = [
    (trace_request(2)[:-3], {}),
    (b"\xff\xff\xff", {}),
    (b"not gzip", {"Content-Encoding": "gzip"}),
    (gzip.compress(trace_request(1))[:-10], {"Content-Encoding": "gzip"}),
    (b"x", {"Content-Encoding": "zstd"}),
    (trace_request(1), {"Content-Encoding": "br"}),
]


@pytest.mark.parametrize("body,headers", BAD_BODIES)
async def test_undecodable_is_400_with_a_status_message(body: bytes, headers: dict[str, str]) -> None:
    async with http() as r:
        status, answer, content = await r.post(body, {**PROTOBUF, **headers})
        assert status == 400
        assert answer["Content-Type"] == "application/x-protobuf"
        assert Status.FromString(content).code == 3
        assert Status.FromString(content).message
        assert (await r.post(trace_request(1)))[0] == 200


async def test_malformed_is_counted_always_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async with http() as r:
        for _ in range(5):
            assert (await r.post(b"\xff"))[0] == 400
        assert r.total("kofagent_receiver_rejected_requests_total", transport="http", reason="malformed") == 5
        assert len([record for record in caplog.records if "cannot be decoded" in record.message]) == 1


async def test_wrong_type_method_and_path() -> None:
    async with Running({"http": {"endpoint": "127.0.0.1:0"}}, signals=[Signal.TRACES]) as r:
        assert (await r.post(b"", {"Content-Type": "text/plain"}))[0] == 415
        assert (await r.post(b"", {"Content-Type": ""}))[0] == 415
        assert (await r.post(b"", path="/v1/logs"))[0] == 404  # nobody takes logs
        assert (await r.post(b"", path="/v1/nothing"))[0] == 404
        async with aiohttp.ClientSession() as session, session.get(r.url()) as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "POST")
        assert (await r.post(b""))[0] == 200
        assert (await r.post(b"{}", {"Content-Type": "application/json; charset=utf-8"}))[:1] == (200,)
        assert not r.sink.batches


async def test_json_requests_and_their_errors() -> None:
    body = {
        "resourceSpans": [
            {
                "scopeSpans": [
                    {
                        "spans": [
                            {
                                "traceId": "0" * 31 + "1",
                                "spanId": "0" * 15 + "1",
                                "name": "n",
                                "kind": 2,
                                "startTimeUnixNano": "5",
                                "x": 1,
                            }
                        ]
                    }
                ]
            }
        ]
    }
    async with http() as r:
        status, headers, content = await r.post(json.dumps(body).encode(), JSON)
        assert (status, headers["Content-Type"], content) == (200, "application/json", b"{}")
        assert r.sink.count == 1
        status, headers, content = await r.post(b'{"resourceSpans": 5}', JSON)
        assert (status, headers["Content-Type"]) == (400, "application/json")
        assert json.loads(content)["code"] == 3


async def test_refusals() -> None:
    async with http() as r:
        r.sink.refuse = Refused("sending queue full", retry_after=2.2)
        status, headers, body = await r.post(trace_request(2))
        assert (status, headers["Retry-After"], Status.FromString(body).code) == (503, "3", 14)
        r.sink.refuse = Refused("http 400", permanent=True)
        status, headers, body = await r.post(trace_request(2))
        assert (status, "Retry-After" in headers, Status.FromString(body).code) == (400, False, 3)
        r.sink.refuse = Refused("condition error", permanent=True)
        status, _, body = await r.post(trace_request(1))
        assert (status, Status.FromString(body).code) == (503, 14)
        assert r.total("otelcol_receiver_refused_spans_total", transport="http") == 5
        assert r.total("otelcol_receiver_accepted_spans_total", transport="http") == 0


async def test_all_bodies_in_flight_together_are_limited() -> None:
    payload = trace_request(20)
    async with Running({"http": {"endpoint": "127.0.0.1:0"}}, max_in_flight_size=len(payload) + 100) as r:
        r.sink.gate = asyncio.Event()
        first = asyncio.create_task(r.post(payload))
        await eventually(lambda: r.receiver.budget.used)
        status, headers, _ = await r.post(payload)
        assert (status, headers["Retry-After"]) == (503, "1")
        assert (await r.post(gzip.compress(payload), {**PROTOBUF, "Content-Encoding": "gzip"}))[0] == 503
        r.sink.gate.set()
        assert (await first)[0] == 200
        assert (await r.post(payload))[0] == 200
        assert r.receiver.budget.used == 0


async def test_clients_are_told_to_come_back_when_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """From REQUESTS on, over both protocols, with the time to wait; counted; and before, where a request does not fit with its copies."""
    monkeypatch.setattr("kofagent.net.budget.WAIT_SECONDS", 0.1)
    payload = trace_request(3)
    large = trace_request(2000)
    both = {"http": {"endpoint": "127.0.0.1:0"}, "grpc": {"endpoint": "127.0.0.1:0"}}
    with memory(100, 84) as said:
        async with Running(both) as r:
            assert (await r.post(payload))[0] == 200
            said.used = 86 * MIB
            assert PRESSURE.look() is Level.REQUESTS
            status, headers, body = await r.post(payload)
            assert (status, headers["Retry-After"], Status.FromString(body).code) == (503, "1", 14)
            code, details = await _fails(r, payload)
            assert code == "UNAVAILABLE"
            assert RetryInfo.FromString(details.details[0].value).retry_delay.ToMilliseconds() == 1000
            assert r.total("kofagent_receiver_rejected_requests_total", transport="http", reason="overloaded") == 1
            assert r.total("kofagent_receiver_rejected_requests_total", transport="grpc", reason="overloaded") == 1
            said.used = 81 * MIB
            assert PRESSURE.look() is Level.TAILS
            assert (await r.post(payload))[0] == 200
            assert r.receiver.budget.used == 0
    with memory(100, 10):
        PRESSURE.set(10 * MIB + 5 * len(large))
        PRESSURE.level = Level.TAILS
        async with Running(both) as r:
            r.sink.gate = asyncio.Event()
            first = asyncio.create_task(r.post(large))
            await r.sink.called.wait()
            assert ACCOUNT.owners()["requests"] == 3 * len(large)
            assert (await r.post(large))[0] == 503
            r.sink.gate.set()
            assert (await first)[0] == 200
            assert ACCOUNT.owners()["requests"] == 0


async def test_json_whose_objects_do_not_fit_is_refused_before_it_is_decoded() -> None:
    body = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[%s{}]}]}]}' % (b"{}," * 100_000)
    with memory(128, 100):
        async with http() as r:
            status, headers, _ = await r.post(body, JSON, "/v1/logs")
            assert (status, headers["Retry-After"]) == (503, "1")
            assert ACCOUNT.owners()["decoders"] == 0 and PRESSURE.refusals()["decoders"] > 0
    with memory(128, 50):
        async with http() as r:
            assert (await r.post(body, JSON, "/v1/logs"))[0] == 200
            assert r.sink.count == 100_001


async def test_very_many_empty_items_are_refused_where_they_do_not_fit_and_taken_otherwise() -> None:
    many = 400_000
    body = otlp.build_resource([otlp.build_scope([b""] * many)])
    both = {"http": {"endpoint": "127.0.0.1:0"}, "grpc": {"endpoint": "127.0.0.1:0"}}
    with memory(128, 108):
        async with Running(both) as r:
            status, headers, _ = await r.post(body)
            assert (status, headers["Retry-After"]) == (503, "1")
            assert (await _fails(r, body))[0] == "UNAVAILABLE"
            for transport in both:
                assert r.total("kofagent_receiver_rejected_requests_total", transport=transport, reason="overloaded") == 1
            assert PRESSURE.refusals()["decoders"] > 0 and ACCOUNT.owners()["decoders"] == 0
            assert (await r.post(trace_request(5000)))[0] == 200  # of this size, but with something in it
    with memory(128, 80):
        async with Running(both) as r:
            r.sink.gate = asyncio.Event()
            first = asyncio.create_task(r.post(body))
            await r.sink.called.wait()
            assert ACCOUNT.owners()["decoders"] == many * 32 - 2 * len(body)
            r.sink.gate.set()
            assert (await first)[0] == 200
            assert r.sink.count == many
            assert ACCOUNT.owners()["decoders"] == 0


@pytest.mark.parametrize(
    ("signal", "part"),
    [
        ("metrics", otlp.build_scope([b""] * 70_000)),
        ("metrics", otlp.build_scope([b"\x2a\x02\x0a\x00"] * 30_000)),
        ("traces", otlp.build_scope([b"\x2a\x01a"] * 500_000)),
    ],
    ids=["empty metrics", "empty points", "small spans"],
)
async def test_what_takes_long_to_check_does_not_hold_up_the_loop(
    signal: str, part: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []

    def placed(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
        threads.append(threading.get_ident())
        return walk.placed(data, start, end)

    monkeypatch.setattr(otlp_check, "placed", placed)
    async with http() as r:
        assert (await r.post(otlp.build_resource([part]), path=f"/v1/{signal}"))[0] == 200
    assert threads and threading.get_ident() not in threads


async def test_a_client_that_goes_away_cancels_the_delivery() -> None:
    cancelled = asyncio.Event()
    entered = asyncio.Event()

    class Slow:
        async def consume(self, batch: AnyBatch) -> None:
            entered.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise

    for protocol in ("http", "grpc"):
        entered.clear(), cancelled.clear()
        r = Running({protocol: {"endpoint": "127.0.0.1:0"}})
        r.receiver.outputs = {Signal.TRACES: Slow()}
        async with r:
            task = asyncio.create_task(r.post(trace_request(1)) if protocol == "http" else r.call(trace_request(1)))
            await asyncio.wait_for(entered.wait(), 10)
            task.cancel()
            await asyncio.wait_for(cancelled.wait(), 10)
            assert r.receiver.budget.used == 0


async def test_cors() -> None:
    async with http(cors={"allowed_origins": ["https://*.example.com"], "allowed_headers": ["X-Key"], "max_age": 60}) as r:
        ask = {
            "Origin": "https://app.example.com",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "x-key",
        }
        async with aiohttp.ClientSession() as session:
            async with session.options(r.url(), headers=ask) as answer:
                assert answer.status == 204
                assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example.com"
                assert answer.headers["Access-Control-Allow-Headers"] == "x-key"
                assert answer.headers["Access-Control-Max-Age"] == "60"
            for change in (
                {"Origin": "https://example.org"},
                {"Access-Control-Request-Headers": "x-other"},
                {"Access-Control-Request-Method": "DELETE"},
                {"Origin": "https://app.example.com.evil.org"},
            ):
                async with session.options(r.url(), headers={**ask, **change}) as answer:
                    assert "Access-Control-Allow-Origin" not in answer.headers, change
        _, headers, _ = await r.post(trace_request(1), {**PROTOBUF, "Origin": "https://a.example.com"})
        assert headers["Access-Control-Allow-Origin"] == "https://a.example.com"
        _, headers, _ = await r.post(trace_request(1), {**PROTOBUF, "Origin": "https://evil.org"})
        assert "Access-Control-Allow-Origin" not in headers


class Door:
    async def authenticate(self, headers: dict[str, str]) -> Any:
        if headers.get("authorization") != "Bearer good":
            raise Unauthorized("not authorized")
        return {"auth.who": ("me",)}


async def test_authentication_and_metadata() -> None:
    host = FakeHost({"door": Door()})
    options = {"endpoint": "127.0.0.1:0", "auth": {"authenticator": "door"}, "include_metadata": True}
    async with Running({"http": {**options, "response_headers": {"X-Y": "z"}}, "grpc": options}, host=host) as r:
        status, headers, body = await r.post(trace_request(1))
        assert (status, Status.FromString(body).code, headers["X-Y"]) == (401, 16, "z")
        assert (await r.post(trace_request(1), {**PROTOBUF, "Authorization": "Bearer good", "X-Tenant": "t"}))[0] == 200
        first = r.sink.batches[0].metadata or {}
        assert (first["x-tenant"], first["auth.who"]) == (("t",), ("me",))
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await r.call(trace_request(1))
        assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED
        await r.call(trace_request(1), metadata=(("authorization", "Bearer good"), ("x-tenant", "u")))
        assert (r.sink.batches[1].metadata or {})["x-tenant"] == ("u",)


async def test_an_unknown_authenticator_is_a_start_error() -> None:
    with pytest.raises(StartError):
        async with http(auth={"authenticator": "nobody"}):
            pass


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_grpc_passes_the_bytes_on_as_they_came(compression: str) -> None:
    payload = trace_request(7)
    async with rpc() as r:
        assert await r.call(payload, compression=compression) == b""
        assert r.sink.batches[0].payload == payload
        assert r.total("otelcol_receiver_accepted_spans_total", transport="grpc") == 7


async def _fails(r: Running, message: bytes, **kwargs: Any) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await r.call(message, **kwargs)
    details = dict(error.value.trailing_metadata() or ()).get("grpc-status-details-bin")
    return error.value.code().name, Status.FromString(details) if details else None


async def test_grpc_errors() -> None:
    async with Running({"grpc": {"endpoint": "127.0.0.1:0"}}, signals=[Signal.TRACES]) as r:
        assert await _fails(r, trace_request(1)[:-1]) == ("INVALID_ARGUMENT", None)
        assert (await _fails(r, b"", method=TRACES.replace("Trace", "Logs").replace("trace", "logs")))[0] == "UNIMPLEMENTED"
        assert await _fails(r, bytes(5 << 20)) == ("RESOURCE_EXHAUSTED", None)
        assert await _fails(r, bytes(30_000_000), compression=grpc.Compression.Gzip) == ("RESOURCE_EXHAUSTED", None)
        assert await _fails(r, bytes(30_000_000), compression=grpc.Compression.Deflate) == ("RESOURCE_EXHAUSTED", None)
        r.sink.refuse = Refused("sending queue full", retry_after=1.5)
        code, status = await _fails(r, trace_request(1))
        assert code == "UNAVAILABLE"
        assert RetryInfo.FromString(status.details[0].value).retry_delay.ToMilliseconds() == 1500
        r.sink.refuse = Refused("http 400", permanent=True)
        assert await _fails(r, trace_request(1)) == ("INVALID_ARGUMENT", None)
        r.sink.refuse = Refused("condition error", permanent=True)
        code, _ = await _fails(r, trace_request(1))
        assert code == "UNAVAILABLE"
        r.sink.refuse = None
        assert await r.call(b"") == b""
        assert not r.sink.batches
        await r.call(trace_request(1))
        assert r.sink.count == 1


async def test_grpc_takes_a_bigger_message_when_told_so() -> None:
    payload = trace_request(1, name="x" * (5 << 20))
    async with rpc(max_recv_msg_size_mib=8) as r:
        await r.call(payload)
        assert r.sink.count == 1


async def test_a_port_in_use_is_a_clear_start_error() -> None:
    async with http() as r, rpc() as g:
        used, other = r.receiver.ports["http"], g.receiver.ports["grpc"]
        for protocol, port in (("http", used), ("grpc", used), ("grpc", other)):
            with pytest.raises(StartError, match="in use"):
                async with Running({protocol: {"endpoint": f"127.0.0.1:{port}"}}):
                    pass


@pytest.mark.parametrize("endpoint", ["192.0.2.1:0", "no.such.host.invalid:1"])
async def test_unusable_endpoints_are_start_errors(endpoint: str) -> None:
    for protocol in ("http", "grpc"):
        with pytest.raises(StartError, match="otlp"):
            async with Running({protocol: {"endpoint": endpoint}}):
                pass


def test_configuration() -> None:
    config = validated(OtlpReceiver, {"protocols": {"grpc": None, "http": {"logs_url_path": "logs"}}})
    assert (config.protocols.grpc.endpoint, config.protocols.http.endpoint) == ("localhost:4317", "localhost:4318")
    assert (config.protocols.http.logs_url_path, config.protocols.http.traces_url_path) == ("/logs", "/v1/traces")
    for wrong in ({}, {"protocols": None}, {"protocols": {}}):
        with pytest.raises(ValueError, match="no protocol"):
            validated(OtlpReceiver, wrong)
    only = validated(OtlpReceiver, {"protocols": {"http": None}})
    assert only.protocols.grpc is None


async def test_stop_is_idempotent_and_frees_the_port() -> None:
    async with http() as r:
        port = r.receiver.ports["http"]
    await r.receiver.stop()
    async with Running({"http": {"endpoint": f"localhost:{port}"}}):
        pass


async def test_unix_sockets(tmp_path: Path) -> None:
    path = str(tmp_path / "otlp.sock")
    async with Running({"http": {"endpoint": path, "transport": "unix"}}) as r:
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as session,
            session.post("http://x/v1/traces", data=trace_request(1), headers=PROTOBUF) as answer,
        ):
            assert answer.status == 200
        assert r.sink.count == 1
    async with Running({"grpc": {"endpoint": path, "transport": "unix"}}) as r:
        await r.call(trace_request(2), channel=grpc.aio.insecure_channel("unix:" + path))
        assert r.sink.count == 2


async def test_mutual_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server, client = authority.issue("server"), authority.issue("client")
    tls = {"cert_file": server.cert, "key_file": server.key, "client_ca_file": authority.cert}
    async with Running({"http": {"endpoint": "127.0.0.1:0", "tls": tls}, "grpc": {"endpoint": "127.0.0.1:0", "tls": tls}}) as r:
        context = ssl.create_default_context(cafile=authority.cert)
        with pytest.raises(aiohttp.ClientError):
            await _post_tls(r, context)
        context.load_cert_chain(client.cert, client.key)
        assert await _post_tls(r, context) == 200
        where = f"127.0.0.1:{r.receiver.ports['grpc']}"
        anonymous = grpc.ssl_channel_credentials(Path(authority.cert).read_bytes())
        with pytest.raises(grpc.aio.AioRpcError):
            await r.call(trace_request(1), channel=grpc.aio.secure_channel(where, anonymous))
        known = grpc.ssl_channel_credentials(*(Path(p).read_bytes() for p in (authority.cert, client.key, client.cert)))
        await r.call(trace_request(1), channel=grpc.aio.secure_channel(where, known))
        assert r.sink.count == 2


async def _post_tls(r: Running, context: ssl.SSLContext) -> Any:
    async with (
        aiohttp.ClientSession() as session,
        session.post(r.url(scheme="https"), data=trace_request(1), headers=PROTOBUF, ssl=context) as answer,
    ):
        return answer.status


async def test_tls_without_a_usable_certificate(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("nothing")
    for tls in ({"cert_file": str(tmp_path / "x"), "key_file": str(tmp_path / "x")}, {"cert_file": "/no", "key_file": "/no"}):
        for protocol in ("http", "grpc"):
            with pytest.raises(StartError, match="tls"):
                async with Running({protocol: {"endpoint": "127.0.0.1:0", "tls": tls}}):
                    pass


async def test_a_connection_that_never_sends_headers_is_closed() -> None:
    async with http(read_header_timeout="200ms") as r:
        reader, writer = await asyncio.open_connection("127.0.0.1", r.receiver.ports["http"])
        writer.write(b"POST /v1/tra")
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()


async def test_official_sdk_exporters() -> None:
    async with Running({"http": {"endpoint": "127.0.0.1:0"}, "grpc": {"endpoint": "127.0.0.1:0"}}) as r:
        await asyncio.to_thread(_send_with_sdk, r.receiver.ports)
        by = {signal: sum(b.count for b in r.sink.batches if b.signal is signal) for signal in Signal}
        assert by == {Signal.TRACES: 6, Signal.METRICS: 2, Signal.LOGS: 4}


def _send_with_sdk(ports: dict[str, int]) -> None:
    import logging

    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogs
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetrics
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans
    from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    base, where = f"http://127.0.0.1:{ports['http']}", f"http://127.0.0.1:{ports['grpc']}"
    for spans, metrics, logs in (
        (
            HttpSpans(base + "/v1/traces", compression=Compression.Gzip),
            HttpMetrics(base + "/v1/metrics"),
            HttpLogs(base + "/v1/logs"),
        ),
        (
            GrpcSpans(where, insecure=True, compression=grpc.Compression.Gzip),
            GrpcMetrics(where, insecure=True),
            GrpcLogs(where, insecure=True),
        ),
    ):
        traces = TracerProvider()
        traces.add_span_processor(BatchSpanProcessor(spans))
        for i in range(3):
            with traces.get_tracer("t").start_as_current_span(f"s{i}"):
                pass
        traces.shutdown()
        meters = MeterProvider([PeriodicExportingMetricReader(metrics)])
        meters.get_meter("m").create_counter("c").add(1)
        meters.shutdown()
        loggers = LoggerProvider()
        loggers.add_log_record_processor(BatchLogRecordProcessor(logs))
        logger = logging.Logger("sdk")
        logger.addHandler(LoggingHandler(logger_provider=loggers))
        logger.warning("one")
        logger.error("two")
        loggers.shutdown()


@pytest.mark.server("telemetrygen")
@pytest.mark.parametrize("transport", ["grpc", "http"])
@pytest.mark.parametrize(
    "kind,signal,options,items",
    [
        ("traces", Signal.TRACES, ["--traces", "5"], 10),
        ("logs", Signal.LOGS, ["--logs", "5"], 5),
        ("metrics", Signal.METRICS, ["--metrics", "5"], 5),
    ],
)
async def test_telemetrygen(transport: str, kind: str, signal: Signal, options: Any, items: int) -> None:
    async with Running({transport: {"endpoint": "127.0.0.1:0"}}) as r:
        arguments = [
            kind,
            *options,
            "--otlp-insecure",
            "--otlp-endpoint",
            f"127.0.0.1:{r.receiver.ports[transport]}",
            "--rate",
            "0",
        ]
        process = await asyncio.create_subprocess_exec(
            str(servers.find("telemetrygen")),
            *arguments,
            *(["--otlp-http"] if transport == "http" else []),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert await asyncio.wait_for(process.wait(), 30) == 0
        assert sum(b.count for b in r.sink.batches if b.signal is signal) == items
        assert r.total(f"otelcol_receiver_accepted_{signal.items}_total", transport=transport) == items


async def test_big_json_is_taken_too() -> None:
    span = {"traceId": "0" * 31 + "1", "spanId": "0" * 15 + "1", "name": "n" * 200}
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span] * 2000}]}]}).encode()
    async with http() as r:
        assert (await r.post(body, JSON))[0] == 200
        assert r.sink.count == 2000
        assert (await r.post(body[:-5], JSON))[0] == 400


async def test_expect_100_continue_and_pieces_of_any_size() -> None:
    payload = trace_request(3)
    async with http() as r:
        reader, writer = await asyncio.open_connection("127.0.0.1", r.receiver.ports["http"])
        head = (
            f"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nExpect: 100-continue\r\n"
            f"Content-Length: {len(payload)}\r\n\r\n"
        )
        writer.write(head.encode())
        assert b" 100 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        for at in range(0, len(payload), 100):
            writer.write(payload[at : at + 100])
            await writer.drain()
        assert b" 200 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        writer.close()
        assert r.sink.batches[0].payload == payload


async def test_a_connection_that_breaks_in_the_body_leaves_nothing_behind() -> None:
    async with http() as r:
        _, writer = await asyncio.open_connection("127.0.0.1", r.receiver.ports["http"])
        writer.write(
            b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: 5000\r\n\r\nabc"
        )
        room = r.receiver.budget
        await eventually(lambda: room.used == 3)
        writer.transport.abort()
        await eventually(lambda: room.used == 0)
        assert (await r.post(trace_request(1)))[0] == 200
        assert r.sink.count == 1


async def test_bodies_that_are_announced_and_do_not_come_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kofagent.net.budget.PATIENCE", 0.0)
    head = b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: 16777216\r\n\r\n"
    room = 1 << 20
    async with Running({"http": {"endpoint": "127.0.0.1:0"}}, max_in_flight_size=room) as r:
        # first some that send a byte, then some that send most of the room and stop
        for sent in (1, 1, 1, 1, room // 2, room // 2, room // 2):
            _, writer = await asyncio.open_connection("127.0.0.1", r.receiver.ports["http"])
            writer.write(head + bytes(sent))
            await writer.drain()
        await eventually(lambda: r.receiver.budget.used > room // 3)
        for _ in range(20):
            assert (await r.post(trace_request(20)))[0] == 200
            assert r.receiver.budget.used <= room


async def test_a_body_that_stops_coming_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kofagent.net.server.STALL_SECONDS", 0.1)
    async with http() as r:
        reader, writer = await asyncio.open_connection("127.0.0.1", r.receiver.ports["http"])
        writer.write(b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: 9\r\n\r\nx")
        assert b" 408 " in await asyncio.wait_for(reader.readline(), 10)
        writer.close()
        stalled = {"transport": "http", "reason": "stalled"}
        await eventually(lambda: r.total("kofagent_receiver_rejected_requests_total", **stalled) == 1)
        assert r.receiver.budget.used == 0


async def test_others_are_served_while_large_bodies_are_unpacked() -> None:
    """A small request that comes later is answered before any of eight large ones."""
    large = gzip.compress(trace_request(1, name="x" * 15_000_000))
    async with Running({"http": {"endpoint": "127.0.0.1:0"}}, max_in_flight_size=1 << 30) as r:
        done: list[str] = []

        async def post(name: str, body: bytes, headers: dict[str, str]) -> None:
            assert (await r.post(body, headers))[0] == 200
            done.append(name)

        eight = [asyncio.create_task(post("large", large, {**PROTOBUF, "Content-Encoding": "gzip"})) for _ in range(8)]
        await eventually(lambda: r.receiver.budget.used > 1_000_000)
        await asyncio.gather(post("small", trace_request(1), PROTOBUF), *eight)
        assert done[0] == "small"
        assert r.receiver.budget.used == 0


BAD_TEXT = otlp.build_resource(
    [otlp.build_scope([length_delimited(5, b"before\xc3\x28\xed\xa0\x80after"), length_delimited(5, b"good")])]
)
JSON_TEXT = b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"before%s(%safter"},{"name":"good"}]}]}]}'


@pytest.mark.parametrize(
    "body,headers",
    [
        (BAD_TEXT, PROTOBUF),
        (JSON_TEXT % (b"\xc3", b"\\udcff"), JSON),
        (JSON_TEXT % (b"\\udcc3", b"\\ud800"), JSON),
    ],
)
async def test_text_that_is_not_utf8_is_repaired_and_counted(
    body: bytes, headers: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    async with Running({"http": {"endpoint": "127.0.0.1:0"}, "grpc": {"endpoint": "127.0.0.1:0"}}) as r:
        for _ in range(3):
            assert (await r.post(body, headers))[0] == 200
        if headers is PROTOBUF:
            assert await r.call(body) == b""
            assert r.total("kofagent_receiver_repaired_strings_total", transport="grpc") == 1
        for batch in r.sink.batches:
            spans = REQUEST["traces"].FromString(batch.payload).resource_spans[0].scope_spans[0].spans
            assert [span.name for span in spans] == ["before\ufffd(\ufffdafter", "good"]
        assert r.total("kofagent_receiver_repaired_strings_total", transport="http") == 3
        assert len([record for record in caplog.records if "sent by 127.0.0.1" in record.message]) == 2 - (headers is JSON)


async def test_ids_of_a_wrong_length_are_refused_at_the_door() -> None:
    span = otlp.build_resource([otlp.build_scope([length_delimited(1, b"8 bytes.")])])
    link = otlp.build_resource([otlp.build_scope([length_delimited(13, length_delimited(2, b"9 bytes ."))])])
    async with Running({"http": {"endpoint": "127.0.0.1:0"}, "grpc": {"endpoint": "127.0.0.1:0"}}) as r:
        for body in (span, link):
            assert (await r.post(body))[0] == 400
            with pytest.raises(grpc.aio.AioRpcError) as info:
                await r.call(body)
            assert (info.value.code(), "bytes" in str(info.value.details())) == (grpc.StatusCode.INVALID_ARGUMENT, True)
        for field, hex in (("traceId", "ab" * 8), ("spanId", "ab" * 16), ("parentSpanId", "ab")):
            answer = await r.post(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [{field: hex}]}]}]}).encode(), JSON)
            assert (answer[0], b"bytes" in answer[2]) == (400, True)
        assert r.sink.batches == []


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "1e400"])
async def test_json_has_no_numbers_that_are_none(word: str) -> None:
    gauge = '{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"gauge":{"dataPoints":[{"asDouble":%s}]}}]}]}]}'
    async with http() as r:
        assert (await r.post((gauge % word).encode(), JSON, "/v1/metrics"))[0] == 400
        if word != "1e400":
            assert (await r.post((gauge % f'"{word}"').encode(), JSON, "/v1/metrics"))[0] == 200
