"""The otlp exporter (gRPC) against real gRPC servers: one that answers as told, and our own receiver."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from kofagent.exporters.otlp import COMPONENT as OtlpExporter
from kofagent.net.grpc_client import is_plain, target
from kofagent.receivers.otlp import COMPONENT as OtlpReceiver
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from kofagent.wire.status import encode_status
from tests.support.certificates import Authority
from tests.support.components import FakeHost, Sink, eventually, make, validated
from tests.support.otlp import log_request, metric_request, trace_request
from tests.support.otlp_backend import FAST, GrpcBackend, Sending


def running(options: dict[str, Any], host: FakeHost | None = None) -> Sending:
    return Sending(OtlpExporter, "otlp/x", {"retry_on_failure": FAST, **options}, host)


def plain(backend: GrpcBackend, **options: Any) -> Sending:
    return running({"endpoint": backend.endpoint, "tls": {"insecure": True}, **options})


@pytest.mark.parametrize("compression", ["gzip", "none"])
async def test_bytes_and_metadata(compression: str) -> None:
    async with GrpcBackend() as backend, plain(backend, headers={"X-Tenant": "t"}, compression=compression) as r:
        await r.logs("a")
        ((message, metadata),) = backend.requests
        assert message == log_request("a")
        assert metadata["x-tenant"] == "t"
        assert metadata["user-agent"].startswith("kofagent/")
        assert r.total("otelcol_exporter_sent_log_records_total") == 1


async def test_the_user_agent_is_an_option() -> None:
    async with GrpcBackend() as backend, plain(backend, user_agent="mine/1") as r:
        await r.logs("a")
        assert backend.requests[0][1]["user-agent"].startswith("mine/1")


@pytest.mark.parametrize("code", ["CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"])
async def test_codes_that_are_tried_again(code: str) -> None:
    async with GrpcBackend() as backend, plain(backend) as r:
        backend.answers = [(grpc.StatusCode[code], None)] * 2
        await r.logs("a")
        assert len(backend.requests) == 3
        assert r.total("otelcol_exporter_sent_log_records_total") == 1


@pytest.mark.parametrize(
    "code",
    [
        "INVALID_ARGUMENT",
        "UNAUTHENTICATED",
        "PERMISSION_DENIED",
        "INTERNAL",
        "UNKNOWN",
        "RESOURCE_EXHAUSTED",
        "NOT_FOUND",
        "FAILED_PRECONDITION",
    ],
)
async def test_codes_that_are_final(code: str) -> None:
    async with GrpcBackend() as backend, plain(backend) as r:
        backend.answers = [(grpc.StatusCode[code], None)]
        with pytest.raises(Refused) as refused:
            await r.logs("a")
        assert refused.value.permanent
        assert len(backend.requests) == 1
        assert r.dropped(f"grpc {code}") == 1


async def test_a_method_nobody_has_is_final() -> None:
    async with GrpcBackend() as backend, plain(backend) as r:
        with pytest.raises(Refused) as refused:
            await r.exporter.consume(Batch(Signal.TRACES, trace_request(1), 1))
        assert refused.value.permanent
        assert refused.value.reason == "grpc UNIMPLEMENTED"


@pytest.mark.parametrize("code", ["RESOURCE_EXHAUSTED", "UNAVAILABLE"])
async def test_retry_info_is_obeyed(code: str) -> None:
    loop = asyncio.get_running_loop()
    async with GrpcBackend() as backend, plain(backend) as r:
        backend.answers = [(grpc.StatusCode[code], encode_status(8, "later", 0.8))]
        start = loop.time()
        await r.logs("a")
        assert loop.time() - start >= 0.8
        assert len(backend.requests) == 2


async def test_details_that_are_no_status_are_ignored() -> None:
    async with GrpcBackend() as backend, plain(backend) as r:
        backend.answers = [(grpc.StatusCode.UNAVAILABLE, b"\xff\xff")]
        await r.logs("a")
        assert len(backend.requests) == 2


async def test_partial_success(caplog: pytest.LogCaptureFixture) -> None:
    answer = ExportLogsServiceResponse()
    answer.partial_success.rejected_log_records = 2
    answer.partial_success.error_message = "two are too old"
    async with GrpcBackend() as backend, plain(backend) as r:
        backend.answers = [answer.SerializeToString(), answer.SerializeToString(), b"\xff"]
        for _ in range(3):
            await r.logs("a", "b", "c")
        assert r.dropped("partial success") == 4
        assert r.total("otelcol_exporter_sent_log_records_total") == 5
        assert caplog.text.count("two are too old") == 1


async def test_the_timeout_is_retryable() -> None:
    async with GrpcBackend() as backend, plain(backend, timeout="100ms") as r:
        backend.hold = asyncio.Event()
        task = asyncio.create_task(r.logs("a"))
        await eventually(lambda: len(backend.requests) > 1)
        backend.hold.set()
        await task
        assert r.dropped("grpc DEADLINE_EXCEEDED") == 0


async def test_headers_of_an_authenticator() -> None:
    class Signer:
        async def request_headers(self, metadata: Any) -> Any:
            return {"Authorization": "Bearer " + (metadata or {"t": ("none",)})["t"][0]}

    host = FakeHost({"signer": Signer()})
    async with GrpcBackend() as backend:
        options = {
            "endpoint": "http://" + backend.endpoint,
            "auth": {"authenticator": "signer"},
            "headers": {"authorization": "old"},
        }
        async with running(options, host) as r:
            await r.exporter.consume(Batch(Signal.LOGS, log_request("a"), 1, {"t": ("x",)}))
            assert backend.requests[0][1]["authorization"] == "Bearer x"


@pytest.mark.parametrize("compression", ["gzip", "zstd", "snappy"])
async def test_our_receiver_as_the_backend_all_signals_and_waiting_for_it(compression: str) -> None:
    sink = Sink()
    receiver = make(OtlpReceiver, {"protocols": {"grpc": {"endpoint": "127.0.0.1:0"}}}, id="otlp")
    receiver.outputs = dict.fromkeys(Signal, sink)
    await receiver.start()
    try:
        endpoint = f"http://127.0.0.1:{receiver.ports['grpc']}"
        async with running({"endpoint": endpoint, "compression": compression}) as r:
            await r.logs("a")
            await r.exporter.consume(Batch(Signal.TRACES, trace_request(3), 3))
            await r.exporter.consume(Batch(Signal.METRICS, metric_request(2), 2))
            sink.refuse = Refused("sending queue full", retry_after=0.1)
            task = asyncio.create_task(r.logs("b"))
            await eventually(
                lambda: receiver.context.ledger.total(
                    "otelcol_receiver_refused_log_records_total", receiver="otlp", transport="grpc"
                )
            )
            sink.refuse = None
            await task
        got = [(b.signal, b.count) for b in sink.batches]
        assert got == [(Signal.LOGS, 1), (Signal.TRACES, 3), (Signal.METRICS, 2), (Signal.LOGS, 1)]
    finally:
        await receiver.stop()


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
async def test_mutual_tls(tmp_path: Path, compression: str) -> None:
    good, other = Authority(tmp_path, "good"), Authority(tmp_path, "other")
    server, client = good.issue("server", dns=("backend.example.com",), addresses=()), good.issue("client")
    sink = Sink()
    tls = {"cert_file": server.cert, "key_file": server.key, "client_ca_file": good.cert}
    receiver = make(OtlpReceiver, {"protocols": {"grpc": {"endpoint": "127.0.0.1:0", "tls": tls}}}, id="otlp")
    receiver.outputs = {Signal.LOGS: sink}
    await receiver.start()
    own = {"cert_file": client.cert, "key_file": client.key}
    try:
        where = f"127.0.0.1:{receiver.ports['grpc']}"
        right = {**own, "ca_file": good.cert, "server_name_override": "backend.example.com"}
        packed = {"compression": compression}
        async with running({"endpoint": where, "tls": right, **packed}) as r:
            await r.logs("a")
        async with running({"endpoint": "https://" + where, "tls": {**own, "insecure_skip_verify": True}, **packed}) as r:
            await r.logs("b")
        assert sink.count == 2
        for wrong in (
            {**own, "ca_file": good.cert},
            {**own, "ca_file": other.cert, "server_name_override": "backend.example.com"},
            {"ca_file": good.cert, "server_name_override": "backend.example.com"},
        ):
            async with running({"endpoint": where, "tls": wrong, "retry_on_failure": {"enabled": False}, **packed}) as r:
                with pytest.raises(Refused, match="UNAVAILABLE"):
                    await r.logs("c")
        assert sink.count == 2
    finally:
        await receiver.stop()


async def test_certificates_that_are_replaced_on_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The client shows its new certificate, the server shows and trusts others, without a restart of either."""
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    names = {"server": "s", "client": "c"}

    def put(authority: Authority, *whose: str) -> None:
        for who in whose:
            pair = authority.issue(f"{who}-{authority.cert[-7:-4]}")
            for source, kind in ((pair.cert, "crt"), (pair.key, "key"), (authority.cert, "ca")):
                fresh = tmp_path / f"{names[who]}.{kind}.new"
                fresh.write_bytes(Path(source).read_bytes())
                fresh.rename(tmp_path / f"{names[who]}.{kind}")

    def files(letter: str) -> dict[str, str]:
        return {"cert_file": str(tmp_path / f"{letter}.crt"), "key_file": str(tmp_path / f"{letter}.key"), "reload_interval": "1ms"}

    put(old, "server", "client")
    sink = Sink()
    tls = {**files("s"), "client_ca_file": str(tmp_path / "s.ca")}
    receiver = make(OtlpReceiver, {"protocols": {"grpc": {"endpoint": "127.0.0.1:0", "tls": tls}}}, id="otlp")
    receiver.outputs = {Signal.LOGS: sink}
    await receiver.start()
    try:
        own = {"endpoint": f"127.0.0.1:{receiver.ports['grpc']}", "tls": {**files("c"), "ca_file": str(tmp_path / "c.ca")}}
        async with running({**own, "retry_on_failure": {"enabled": False}}) as r:
            await r.logs("a")
            (tmp_path / "c.crt").write_text("half")
            await r.logs("b")  # what is not usable changes nothing
            assert "stay in use" in caplog.text
            put(new, "client")
            with pytest.raises(Refused, match="UNAVAILABLE"):
                await r.logs("c")  # the server is still the old one
            put(new, "server")
            async with asyncio.timeout(20):
                while sink.count < 3:  # the library waits a second before it connects again
                    with contextlib.suppress(Refused):
                        await r.logs("d")
    finally:
        await receiver.stop()


@pytest.mark.parametrize(
    "endpoint,want,no_tls",
    [
        ("localhost:4317", "localhost:4317", False),
        ("http://localhost:4317", "localhost:4317", True),
        ("https://h:4317/", "h:4317", False),
        ("dns:///h:4317", "dns:///h:4317", False),
        ("unix:///run/x", "unix:/run/x", False),
        ("[::1]:4317", "[::1]:4317", False),
    ],
)
def test_endpoints(endpoint: str, want: str, no_tls: bool) -> None:
    config = validated(OtlpExporter, {"endpoint": endpoint})
    assert target(config.endpoint) == want
    assert is_plain(config) is no_tls
    insecure = validated(OtlpExporter, {"endpoint": endpoint, "tls": {"insecure": True}})
    assert is_plain(insecure) is not endpoint.startswith("https")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"endpoint": ""},
        {"endpoint": "localhost"},
        {"endpoint": "localhost:x"},
        {"endpoint": ":4317"},
        {"endpoint": "unix://"},
        {"endpoint": "h:1", "compression": "br"},
        {"endpoint": "h:1", "compression": "deflate"},
    ],
)
def test_wrong_options(options: Any) -> None:
    with pytest.raises(ValueError):
        validated(OtlpExporter, options)
