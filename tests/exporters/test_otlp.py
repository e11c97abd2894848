"""The otlp exporter (gRPC) against real gRPC servers: one that answers as told, and our own receiver."""

import asyncio

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
from tests.support.components import FakeHost, Sink, eventually, make
from tests.support.otlp import log_request, metric_request, trace_request

FAST = {"initial_interval": "10ms", "max_interval": "20ms", "max_elapsed_time": "20s"}
LOGS = "opentelemetry.proto.collector.logs.v1.LogsService"


class Backend:
    """`answers` are bytes, or (code, details bytes or None); then empty answers."""

    def __init__(self):
        self.requests, self.answers, self.hold = [], [], None

    async def __aenter__(self):
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(LOGS, {"Export": grpc.unary_unary_rpc_method_handler(self._export)}),)
        )
        self.endpoint = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        return self

    async def __aexit__(self, *_):
        await self._server.stop(0)

    async def _export(self, message, call):
        self.requests.append((message, dict(call.invocation_metadata())))
        if self.hold is not None:
            await self.hold.wait()
        answer = self.answers.pop(0) if self.answers else b""
        if not isinstance(answer, bytes):
            code, details = answer
            await call.abort(code, "as told", (("grpc-status-details-bin", details),) if details else ())
        return answer


class Running:
    def __init__(self, options, host=None):
        self.host = host or FakeHost()
        self.exporter = make(OtlpExporter, {"retry_on_failure": FAST, **options}, kind="exporters", id="otlp/x", host=self.host)

    async def __aenter__(self):
        await self.exporter.start()
        return self

    async def __aexit__(self, *_):
        await self.exporter.stop()

    async def logs(self, *bodies):
        await self.exporter.consume(Batch(Signal.LOGS, log_request(*bodies), len(bodies)))

    def total(self, name, **labels):
        return self.host.ledger.total(name, **(labels or {"exporter": "otlp/x"}))

    def dropped(self, reason):
        return self.total("kofagent_dropped_items_total", component="otlp/x", signal="logs", reason=reason)


def plain(backend, **options):
    return Running({"endpoint": backend.endpoint, "tls": {"insecure": True}, **options})


@pytest.mark.parametrize("compression", ["gzip", "none"])
async def test_bytes_and_metadata(compression):
    async with Backend() as backend, plain(backend, headers={"X-Tenant": "t"}, compression=compression) as r:
        await r.logs("a")
        ((message, metadata),) = backend.requests
        assert message == log_request("a")
        assert metadata["x-tenant"] == "t"
        assert metadata["user-agent"].startswith("kofagent/")
        assert r.total("otelcol_exporter_sent_log_records_total") == 1


@pytest.mark.parametrize("code", ["CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"])
async def test_codes_that_are_tried_again(code):
    async with Backend() as backend, plain(backend) as r:
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
async def test_codes_that_are_final(code):
    async with Backend() as backend, plain(backend) as r:
        backend.answers = [(grpc.StatusCode[code], None)]
        with pytest.raises(Refused) as refused:
            await r.logs("a", "b")
        assert refused.value.permanent
        assert len(backend.requests) == 1
        assert r.dropped(f"grpc {code}") == 2


async def test_a_method_nobody_has_is_final():
    async with Backend() as backend, plain(backend) as r:
        with pytest.raises(Refused) as refused:
            await r.exporter.consume(Batch(Signal.TRACES, trace_request(1), 1))
        assert refused.value.permanent
        assert refused.value.reason == "grpc UNIMPLEMENTED"


@pytest.mark.parametrize("code", ["RESOURCE_EXHAUSTED", "UNAVAILABLE"])
async def test_retry_info_is_obeyed(code):
    loop = asyncio.get_running_loop()
    async with Backend() as backend, plain(backend) as r:
        backend.answers = [(grpc.StatusCode[code], encode_status(8, "later", 0.8))]
        start = loop.time()
        await r.logs("a")
        assert loop.time() - start >= 0.8
        assert len(backend.requests) == 2


async def test_details_that_are_no_status_are_ignored():
    async with Backend() as backend, plain(backend) as r:
        backend.answers = [(grpc.StatusCode.UNAVAILABLE, b"\xff\xff")]
        await r.logs("a")
        assert len(backend.requests) == 2


async def test_partial_success(caplog):
    answer = ExportLogsServiceResponse()
    answer.partial_success.rejected_log_records = 2
    answer.partial_success.error_message = "two are too old"
    async with Backend() as backend, plain(backend) as r:
        backend.answers = [answer.SerializeToString(), answer.SerializeToString(), b"\xff"]
        for _ in range(3):
            await r.logs("a", "b", "c")
        assert r.dropped("partial success") == 4
        assert r.total("otelcol_exporter_sent_log_records_total") == 5
        assert caplog.text.count("two are too old") == 1


async def test_the_timeout_is_retryable():
    async with Backend() as backend, plain(backend, timeout="100ms") as r:
        backend.hold = asyncio.Event()
        task = asyncio.create_task(r.logs("a"))
        await eventually(lambda: len(backend.requests) > 1)
        backend.hold.set()
        await task
        assert r.dropped("grpc DEADLINE_EXCEEDED") == 0


async def test_headers_of_an_authenticator():
    class Signer:
        async def request_headers(self, metadata):
            return {"Authorization": "Bearer " + (metadata or {"t": ("none",)})["t"][0]}

    host = FakeHost({"signer": Signer()})
    async with Backend() as backend:
        options = {
            "endpoint": "http://" + backend.endpoint,
            "auth": {"authenticator": "signer"},
            "headers": {"authorization": "old"},
        }
        async with Running(options, host) as r:
            await r.exporter.consume(Batch(Signal.LOGS, log_request("a"), 1, {"t": ("x",)}))
            assert backend.requests[0][1]["authorization"] == "Bearer x"


async def test_our_receiver_as_the_backend_all_signals_and_waiting_for_it():
    sink = Sink()
    receiver = make(OtlpReceiver, {"protocols": {"grpc": {"endpoint": "127.0.0.1:0"}}}, id="otlp")
    receiver.outputs = dict.fromkeys(Signal, sink)
    await receiver.start()
    try:
        async with Running({"endpoint": f"http://127.0.0.1:{receiver.ports['grpc']}"}) as r:
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


async def test_mutual_tls(tmp_path):
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
        async with Running({"endpoint": where, "tls": right}) as r:
            await r.logs("a")
        async with Running({"endpoint": "https://" + where, "tls": {**own, "insecure_skip_verify": True}}) as r:
            await r.logs("b")
        assert sink.count == 2
        for wrong in (
            {**own, "ca_file": good.cert},
            {**own, "ca_file": other.cert, "server_name_override": "backend.example.com"},
            {"ca_file": good.cert, "server_name_override": "backend.example.com"},
        ):
            async with Running({"endpoint": where, "tls": wrong, "retry_on_failure": {"enabled": False}}) as r:
                with pytest.raises(Refused, match="UNAVAILABLE"):
                    await r.logs("c")
        assert sink.count == 2
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
def test_endpoints(endpoint, want, no_tls):
    config = OtlpExporter.Config.model_validate({"endpoint": endpoint})
    assert target(config.endpoint) == want
    assert is_plain(config) is no_tls
    insecure = OtlpExporter.Config.model_validate({"endpoint": endpoint, "tls": {"insecure": True}})
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
    ],
)
def test_wrong_options(options):
    with pytest.raises(ValueError):
        OtlpExporter.Config.model_validate(options)
