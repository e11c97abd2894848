"""The local region takes what a KOF region takes and can be asked for it."""

import json
import struct
from collections.abc import AsyncIterator

import aiohttp
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from kofagent.net.compression import compress
from kofagent.region.server import Region
from kofagent.region.stores import LogStore, SampleStore, SpanStore
from kofagent.telemetry.series import STALE_BITS, Series
from kofagent.wire.remote_write import encode_samples

STALE = struct.unpack("<d", struct.pack("<Q", STALE_BITS))[0]


@pytest.fixture
async def region() -> AsyncIterator[Region]:
    it = Region("127.0.0.1:0")
    await it.start()
    yield it
    await it.stop()


async def test_remote_write_is_read_back_by_a_selector(region: Region) -> None:
    series = [Series((("__name__", "up"), ("job", job))) for job in ("a", "b", "gone")]
    body = b"".join(encode_samples([s.wire for s in series], [1.0, 0.5, STALE], 1_700_000_000_000))
    async with aiohttp.ClientSession() as session:
        url = f"http://{region.endpoint}"
        async with session.post(
            url + "/vm/insert/0/prometheus/api/v1/write", data=compress("snappy", body), headers={"Content-Encoding": "snappy"}
        ) as answer:
            assert answer.status == 204
        async with session.get(url + "/api/v1/query", params={"query": 'up{job=~"a|b"}'}) as answer:
            result = (await answer.json())["data"]["result"]
        assert [(r["metric"]["job"], r["value"]) for r in result] == [
            ("a", [1_700_000_000.0, "1"]),
            ("b", [1_700_000_000.0, "0.5"]),
        ]
        async with session.get(url + "/api/v1/query", params={"query": 'up{job="gone"}'}) as answer:
            assert (await answer.json())["data"]["result"] == []
        for wrong in ("rate(up[5m])", "up{job}", 'up{job="a" & x="b"}'):
            async with session.get(url + "/api/v1/query", params={"query": wrong}) as answer:
                assert answer.status == 422


async def test_logs_and_traces_are_read_back(region: Region) -> None:
    logs = ExportLogsServiceRequest()
    resource = logs.resource_logs.add()
    resource.resource.attributes.add(key="k8s.pod.name").value.string_value = "web-0"
    record = resource.scope_logs.add().log_records.add(time_unix_nano=5, severity_text="INFO")
    record.body.string_value = "Hello there"
    resource.scope_logs[0].log_records.add(time_unix_nano=6).body.bytes_value = b"\x00\xff"
    traces = ExportTraceServiceRequest()
    spans = traces.resource_spans.add()
    spans.resource.attributes.add(key="service.name").value.string_value = "shop"
    spans.scope_spans.add().spans.add(
        trace_id=b"\x01" * 16, span_id=b"\x02" * 8, name="GET /", start_time_unix_nano=1000, end_time_unix_nano=5000
    )
    async with aiohttp.ClientSession() as session:
        url = f"http://{region.endpoint}"
        async with session.post(
            url + "/vls/insert/opentelemetry/v1/logs",
            data=compress("gzip", logs.SerializeToString()),
            headers={"Content-Encoding": "gzip"},
        ) as answer:
            assert answer.status == 200
        async with session.post(url + "/collector/v1/traces", data=traces.SerializeToString()) as answer:
            assert answer.status == 200
        async with session.get(url + "/select/logsql/query", params={"query": "hello k8s.pod.name:web-0"}) as answer:
            lines = [json.loads(line) for line in (await answer.text()).splitlines()]
        assert [(r["_msg"], r["_time"], r["severity"]) for r in lines] == [("Hello there", "5", "INFO")]
        for limit, count in (("1", 1), ("2", 2), ("0", 1), ("many", 2)):
            async with session.get(url + "/select/logsql/query", params={"query": "*", "limit": limit}) as answer:
                assert len(lines := (await answer.text()).splitlines()) == count
        assert {json.loads(line)["_msg"] for line in lines} == {"Hello there", "00ff"}
        async with session.get(url + "/api/services") as answer:
            assert (await answer.json())["data"] == ["shop"]
        async with session.get(url + "/api/traces", params={"service": "shop"}) as answer:
            trace = (await answer.json())["data"][0]
        assert (trace["traceID"], trace["spans"][0]["operationName"], trace["spans"][0]["duration"]) == ("01" * 16, "GET /", 4)


async def test_malformed_bodies_are_4xx(region: Region) -> None:
    async with aiohttp.ClientSession() as session:
        url = f"http://{region.endpoint}"
        for path, body, encoding, status in (
            ("/api/v1/write", b"\xff\xff", "snappy", 400),
            ("/api/v1/write", b"\x0a\xff", "", 400),
            ("/v1/traces", b"\xff", "", 400),
            ("/insert/opentelemetry/v1/logs", b"x", "br", 415),
        ):
            headers = {"Content-Encoding": encoding} if encoding else {}
            async with session.post(url + path, data=body, headers=headers) as answer:
                assert answer.status == status, path


def test_stores_are_bounded() -> None:
    samples = SampleStore(series=2, depth=3)
    for name in "abc":
        samples.add((("__name__", name),), [(t, 0.0) for t in range(5)])
    assert (len(samples), samples.forgotten) == (2, 1)
    assert [len(s) for _, s in samples.select('{__name__!=""}')] == [3, 3]
    logs = LogStore(most_bytes=1000)
    for _ in range(100):
        logs.add({"_msg": "x" * 100})
    assert len(logs) + logs.forgotten == 100
    assert len(logs) <= 5
    spans = SpanStore(most=2, spans_per_trace=1)
    for id in ("a", "a", "b", "c"):
        spans.add({"traceID": id, "process": {"serviceName": id}})
    assert (len(spans), spans.forgotten) == (2, 2)
