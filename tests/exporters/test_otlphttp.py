"""The otlphttp exporter against a real server that answers as told."""

from __future__ import annotations

import asyncio
import datetime
import email.utils
import gzip
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse

from kofagent.exporters.otlphttp import COMPONENT as OtlpHttpExporter
from kofagent.net.compression import decompress
from kofagent.receivers.otlp import COMPONENT as OtlpReceiver
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from tests.support.certificates import Authority
from tests.support.components import FakeHost, Sink, eventually, make
from tests.support.otlp import log_request, metric_request, trace_request
from tests.support.otlp_backend import FAST, HttpBackend, Sending


def running(options: dict[str, Any], host: FakeHost | None = None) -> Sending:
    return Sending(OtlpHttpExporter, "otlphttp/x", options, host)


async def test_paths_headers_and_bytes() -> None:
    async with (
        HttpBackend() as backend,
        running(
            {"endpoint": backend.url + "/", "logs_endpoint": backend.url + "/insert/v1/logs?x=1", "headers": {"X-Tenant": "t"}}
        ) as r,
    ):
        await r.logs("a")
        await r.exporter.consume(Batch(Signal.TRACES, trace_request(2), 2))
        await r.exporter.consume(Batch(Signal.METRICS, metric_request(2), 2))
        assert [path for path, _, _ in backend.requests] == ["/insert/v1/logs", "/v1/traces", "/v1/metrics"]
        _, headers, body = backend.requests[0]
        assert (headers["Content-Type"], headers["Content-Encoding"]) == ("application/x-protobuf", "gzip")
        assert headers["X-Tenant"] == "t"
        assert gzip.decompress(body) == log_request("a")
        assert r.total("otelcol_exporter_sent_log_records_total") == 1
        assert r.total("otelcol_exporter_sent_spans_total") == 2


@pytest.mark.parametrize("name", ["gzip", "zstd", "deflate", "snappy", "none", ""])
async def test_compressions(name: str) -> None:
    async with HttpBackend() as backend, running({"endpoint": backend.url, "compression": name}) as r:
        await r.logs("a", "b")
        _, headers, body = backend.requests[0]
        assert headers.get("Content-Encoding", "none") == (name or "none")
        assert decompress(name, body, 10000) == log_request("a", "b")


async def test_json() -> None:
    async with HttpBackend() as backend, running({"endpoint": backend.url, "encoding": "json", "compression": "none"}) as r:
        request = ExportLogsServiceRequest.FromString(log_request("a"))
        request.resource_logs[0].scope_logs[0].log_records[0].trace_id = bytes(range(16))
        await r.exporter.consume(Batch(Signal.LOGS, request.SerializeToString(), 1))
        _, headers, body = backend.requests[0]
        assert headers["Content-Type"] == "application/json"
        record = json.loads(body)["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]
        assert record == {"body": {"stringValue": "a"}, "traceId": bytes(range(16)).hex()}


@pytest.mark.parametrize("status", [401, 403, 404, 500, 501, 505])
async def test_other_errors_are_final_and_counted(status: int, caplog: pytest.LogCaptureFixture) -> None:
    message = Status(code=3, message="schema not known").SerializeToString()
    async with HttpBackend() as backend, running({"endpoint": backend.url, "retry_on_failure": FAST}) as r:
        backend.answers = [web.Response(status=status, body=message, content_type="application/x-protobuf")]
        with pytest.raises(Refused) as refused:
            await r.logs("a", "b")
        assert refused.value.permanent
        assert len(backend.requests) == 1
        assert r.dropped(f"http {status}") == 2
        assert r.total("otelcol_exporter_send_failed_log_records_total") == 2
        assert "schema not known" in caplog.text
        await r.logs("c")
        assert r.total("otelcol_exporter_sent_log_records_total") == 1


@pytest.mark.parametrize("status", [429, 502, 503, 504, 0])
async def test_what_is_tried_again(status: int) -> None:
    async with HttpBackend() as backend, running({"endpoint": backend.url, "retry_on_failure": FAST}) as r:
        backend.answers = [web.Response(status=status) if status else "reset" for _ in range(3)]
        await r.logs("a")
        assert len(backend.requests) == 4
        assert r.total("otelcol_exporter_sent_log_records_total") == 1
        assert r.total("otelcol_exporter_send_failed_log_records_total") == 0


@pytest.mark.parametrize("status", [200, 201, 202, 204])
async def test_every_2xx_is_success(status: int) -> None:
    async with HttpBackend() as backend, running({"endpoint": backend.url}) as r:
        backend.answers = [web.Response(status=status)]
        await r.logs("a")
        assert r.total("otelcol_exporter_sent_log_records_total") == 1


@pytest.mark.parametrize("as_date", [False, True])
async def test_retry_after_is_obeyed(as_date: bool) -> None:
    loop = asyncio.get_running_loop()
    date = datetime.datetime.now(datetime.UTC).replace(microsecond=0) + datetime.timedelta(seconds=2)
    value = email.utils.format_datetime(date, usegmt=True) if as_date else "1"
    async with HttpBackend() as backend, running({"endpoint": backend.url, "retry_on_failure": FAST}) as r:
        backend.answers = [web.Response(status=503, headers={"Retry-After": value})]
        start = loop.time()
        await r.logs("a")
        if as_date:  # which may be near when a slow machine gets to ask
            assert datetime.datetime.now(datetime.UTC) > date - datetime.timedelta(seconds=0.1)
        else:
            assert loop.time() - start > 0.9
        assert len(backend.requests) == 2


async def test_out_of_retries_gives_the_data_back() -> None:
    retry = {**FAST, "max_elapsed_time": "50ms"}
    async with HttpBackend() as backend, running({"endpoint": backend.url, "retry_on_failure": retry}) as r:
        backend.answers = [web.Response(status=503) for _ in range(1000)]
        with pytest.raises(Refused) as refused:
            await r.logs("a")
        assert not refused.value.permanent
        assert r.dropped("http 503") == 0


async def test_partial_success_is_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    answer = ExportLogsServiceResponse()
    answer.partial_success.rejected_log_records = 2
    answer.partial_success.error_message = "two are too old"
    in_json = json.dumps({"partialSuccess": {"rejectedLogRecords": "1", "errorMessage": "x"}}).encode()
    async with HttpBackend() as backend, running({"endpoint": backend.url}) as r:
        backend.answers = [
            web.Response(body=answer.SerializeToString(), content_type="application/x-protobuf"),
            web.Response(body=in_json, content_type="application/json"),
            web.Response(body=b"\xff\xff", content_type="application/x-protobuf"),
            web.Response(body=b"[" * 60000, content_type="application/json"),
            web.Response(body=in_json.replace(b'"1"', b"1e400"), content_type="application/json"),
        ]
        for _ in range(5):
            await r.logs("a", "b", "c")
        assert r.dropped("partial success") == 3
        assert r.total("otelcol_exporter_sent_log_records_total") == 12
        assert caplog.text.count("the backend rejected") == 1
        assert "two are too old" in caplog.text


async def test_a_huge_answer_costs_little() -> None:
    async with HttpBackend() as backend, running({"endpoint": backend.url, "retry_on_failure": FAST}) as r:
        backend.answers = [web.Response(status=503, body=bytes(5_000_000)), web.Response(body=bytes(5_000_000))]
        await r.logs("a")
        assert r.total("otelcol_exporter_sent_log_records_total") == 1


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def test_nobody_listens_then_somebody_does(free_port: int) -> None:
    async with running({"endpoint": f"http://127.0.0.1:{free_port}", "retry_on_failure": FAST}) as r:
        task = asyncio.create_task(r.logs("a"))
        await eventually(lambda: r.host.statuses.get("exporters/otlphttp/x"))
        sink = Sink()
        receiver = make(OtlpReceiver, {"protocols": {"http": {"endpoint": f"127.0.0.1:{free_port}"}}}, id="otlp")
        receiver.outputs = {Signal.LOGS: sink}
        await receiver.start()
        await task
        assert sink.count == 1
        await receiver.stop()


async def test_cancelling_the_caller_withdraws_what_waits() -> None:
    async with HttpBackend() as backend, running({"endpoint": backend.url, "sending_queue": {"num_consumers": 1}}) as r:
        backend.hold = asyncio.Event()
        first = asyncio.create_task(r.logs("a"))
        await eventually(lambda: backend.requests)
        second = asyncio.create_task(r.logs("b"))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        backend.hold.set()
        await first
        await r.logs("c")
        assert [gzip.decompress(body) for _, _, body in backend.requests] == [log_request("a"), log_request("c")]


async def test_tls_and_a_wrong_authority(tmp_path: Path) -> None:
    good, other = Authority(tmp_path, "good"), Authority(tmp_path, "other")
    pair = good.issue("server")
    sink = Sink()
    tls = {"cert_file": pair.cert, "key_file": pair.key}
    receiver = make(OtlpReceiver, {"protocols": {"http": {"endpoint": "127.0.0.1:0", "tls": tls}}}, id="otlp")
    receiver.outputs = {Signal.LOGS: sink}
    await receiver.start()
    try:
        url = f"https://localhost:{receiver.ports['http']}"
        for block in ({"ca_file": good.cert}, {"insecure_skip_verify": True}):
            async with running({"endpoint": url, "tls": block}) as r:
                await r.logs("a")
        assert sink.count == 2
        async with running({"endpoint": url, "tls": {"ca_file": other.cert}, "retry_on_failure": {"enabled": False}}) as r:
            with pytest.raises(Refused, match="TLS"):
                await r.logs("a")
        assert sink.count == 2
    finally:
        await receiver.stop()


@pytest.mark.parametrize(
    "options,words",
    [
        ({}, "no endpoint"),
        ({"endpoint": "localhost:4318"}, "the URL 'localhost:4318' has no scheme"),
        ({"endpoint": "ftp://x"}, "not an HTTP URL"),
        ({"endpoint": "http://"}, "has no host"),
        ({"endpoint": "http://[x"}, "is not valid"),
        ({"logs_endpoint": "http://x:99999999"}, "is not valid"),
        ({"endpoint": "http://x", "encoding": "xml"}, "proto"),
        ({"endpoint": "http://x", "endpiont": "y"}, "endpiont"),
    ],
)
def test_wrong_options(options: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        OtlpHttpExporter.Config.model_validate(options)


async def test_a_batch_in_the_queue_is_cut_and_joined() -> None:
    options = {"sending_queue": {"num_consumers": 1, "batch": {"max_size": 2, "min_size": 2}}}
    async with HttpBackend() as backend, running({"endpoint": backend.url, **options}) as r:
        await r.logs("a", "b", "c", "d", "e")
        sizes = [len(_bodies(body)) for _, _, body in backend.requests]
        assert sizes == [2, 2, 1]
        backend.requests.clear()
        backend.hold = asyncio.Event()
        tasks = [asyncio.create_task(r.logs(str(i))) for i in range(3)]
        await eventually(lambda: backend.requests)
        backend.hold.set()
        await asyncio.gather(*tasks)
        got = [_bodies(body) for _, _, body in backend.requests]
        assert len(got) == 2  # of three, two were joined
        assert [body for bodies in got for body in bodies] == ["0", "1", "2"]


async def test_one_part_refused_for_good_leaves_the_others() -> None:
    options = {"sending_queue": {"batch": {"min_size": 1, "max_size": 1}}}
    async with HttpBackend() as backend, running({"endpoint": backend.url, **options}) as r:
        backend.answers = [web.Response(), web.Response(status=400)]
        await r.logs("a", "b", "c")
        assert (r.total("otelcol_exporter_sent_log_records_total"), r.dropped("http 400")) == (2, 1)
        backend.answers = [web.Response(status=400), web.Response(status=400)]
        with pytest.raises(Refused):
            await r.logs("a", "b")
        assert r.dropped("http 400") == 3


def _bodies(body: bytes) -> list[str]:
    request = ExportLogsServiceRequest.FromString(gzip.decompress(body))
    return [
        record.body.string_value for entry in request.resource_logs for scope in entry.scope_logs for record in scope.log_records
    ]


async def test_a_signal_without_an_endpoint_is_dropped_and_counted() -> None:
    async with HttpBackend() as backend, running({"traces_endpoint": backend.url}) as r:
        with pytest.raises(Refused) as refused:
            await r.logs("a")
        assert refused.value.permanent
        assert r.dropped("no endpoint") == 1
