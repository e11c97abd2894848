"""Real backends: what was written is read back from VictoriaMetrics and Prometheus through their own APIs."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData

from kofagent.exporters.prometheusremotewrite import COMPONENT
from kofagent.exporters.prometheusremotewrite.translate import STALE
from kofagent.telemetry.batch import AnyBatch, Batch, MetricBatch, Samples
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.series import Series
from kofagent.telemetry.signal import Signal
from tests.support import servers
from tests.support.components import make

PARITY = Path(__file__).parents[2] / "parity"


@pytest.fixture(scope="module")
def victoria(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server, url = servers.victoria_metrics(tmp_path_factory.mktemp("vm"))
    yield url
    server.stop()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server, url = servers.prometheus(
        tmp_path_factory.mktemp("prometheus"),
        {"global": {"scrape_interval": "1h"}},
        "--web.enable-remote-write-receiver",
        "--enable-feature=native-histograms,exemplar-storage",
    )
    yield url
    server.stop()


async def send(url: str, *batches: AnyBatch, **options: Any) -> None:
    exporter = make(COMPONENT, {"endpoint": url, **options}, kind="exporters", id="prometheusremotewrite")
    await exporter.start()
    try:
        for batch in batches:
            await exporter.consume(batch)
    finally:
        await exporter.stop()


def exported(url: str, match: str, count: int) -> dict[tuple[tuple[str, str], ...], list[tuple[float, int]]]:
    def read() -> Any:
        # query first: it flushes what VictoriaMetrics has taken but not made visible
        servers.get(url + "/internal/force_flush")
        body = servers.get(f"{url}/api/v1/export?match[]={match}&reduce_mem_usage=1")[1]
        lines = [json.loads(line) for line in body.splitlines()]
        return lines if len(lines) >= count else None

    lines = servers.wait_until(read, 20, f"{count} series of {match}")
    return {tuple(sorted(x["metric"].items())): list(zip(x["values"], x["timestamps"], strict=True)) for x in lines}


@pytest.mark.server("victoria-metrics")
async def test_columns_into_victoria_metrics(victoria: str) -> None:
    now = int(time.time() * 1000)
    many = [Series((("__name__", "columns"), ("i", str(i)), ("job", "j"))) for i in range(500)]
    batches = [
        MetricBatch([Samples(many, [float(i * step) for i in range(500)], now - 30_000 + step * 1000)]) for step in range(10)
    ]
    await send(victoria + "/api/v1/write", *batches, external_labels={"clusterName": "child1"}, max_batch_size_bytes=10_000)
    got = exported(victoria, "columns", 500)
    assert len(got) == 500
    for labels, samples in got.items():
        assert dict(labels)["clusterName"] == "child1"
        i = int(dict(labels)["i"])
        assert samples == [(i * step, now - 30_000 + step * 1000) for step in range(10)]


@pytest.mark.server("victoria-metrics")
async def test_the_recorded_otlp_metrics_into_victoria_metrics(victoria: str) -> None:
    request = json_format.Parse((PARITY / "otlp-metrics.json").read_text(), ExportMetricsServiceRequest())
    now = time.time_ns()
    _set_times(request, now)
    await send(victoria + "/api/v1/write", Batch(Signal.METRICS, request.SerializeToString(), 13))
    got = exported(victoria, '{job="shop/checkout"}', 19)
    expected = json.loads((PARITY / "otlp-metrics-expected.json").read_text())["default"]
    wanted = {
        tuple(sorted(one["labels"].items())): [(float(v), now // 10**6) for v, _ in one["samples"]]
        for one in expected
        if one["samples"][0][0] != "nan"
    }  # a marker alone is no series there
    assert {k: v for k, v in got.items() if k in wanted} == wanted
    assert all(math.isnan(v or math.nan) for k, samples in got.items() if k not in wanted for v, _ in samples)


def _set_times(message: Any, now: int) -> None:
    for descriptor, value in message.ListFields():
        if descriptor.name == "time_unix_nano":
            message.time_unix_nano = now
        elif descriptor.message_type is not None:
            for one in value if hasattr(value, "append") or hasattr(value, "add") else [value]:
                _set_times(one, now)


def query(url: str, expression: str, at: float) -> list[Any]:
    result = servers.get_json(url + "/api/v1/query", query=expression, time=f"{at:.3f}")
    assert result["status"] == "success", result
    found: list[Any] = result["data"]["result"]
    return found


@pytest.mark.server("prometheus")
async def test_staleness_in_prometheus(prometheus: str) -> None:
    now = int(time.time() * 1000)
    gone, stays = Series((("__name__", "s"), ("x", "gone"))), Series((("__name__", "s"), ("x", "stays")))
    await send(
        prometheus + "/api/v1/write",
        MetricBatch([Samples([gone, stays], [1.0, 2.0], now - 2000)]),
        MetricBatch([Samples([gone, stays], [STALE, 3.0], now - 1000)]),
    )
    before = query(prometheus, "s", (now - 1500) / 1000)
    assert sorted(one["metric"]["x"] for one in before) == ["gone", "stays"]
    after = query(prometheus, "s", now / 1000)
    assert [(one["metric"]["x"], one["value"][1]) for one in after] == [("stays", "3")]


@pytest.mark.server("prometheus")
async def test_native_histograms_in_prometheus(prometheus: str) -> None:
    now = time.time_ns()
    data = MetricsData()
    metric = data.resource_metrics.add().scope_metrics.add().metrics.add(name="lat", unit="s")
    metric.exponential_histogram.aggregation_temporality = 2
    point = metric.exponential_histogram.data_points.add(time_unix_nano=now, count=10, sum=20, scale=0)
    point.positive.offset = 0
    point.positive.bucket_counts.extend([4, 0, 0, 0, 6])  # (1, 2] and (16, 32]
    await send(prometheus + "/api/v1/write", Batch(Signal.METRICS, data.SerializeToString(), 1))
    at = time.time()
    assert query(prometheus, "histogram_count(lat_seconds)", at)[0]["value"][1] == "10"
    assert query(prometheus, "histogram_sum(lat_seconds)", at)[0]["value"][1] == "20"
    assert query(prometheus, "histogram_fraction(1, 2, lat_seconds)", at)[0]["value"][1] == "0.4"
    assert query(prometheus, "histogram_fraction(16, 32, lat_seconds)", at)[0]["value"][1] == "0.6"


@pytest.mark.server("prometheus")
async def test_prometheus_refuses_what_is_out_of_order_and_nothing_is_repeated(prometheus: str) -> None:
    now = int(time.time() * 1000)
    one = Series((("__name__", "late"),))
    exporter = make(COMPONENT, {"endpoint": prometheus + "/api/v1/write"}, kind="exporters", id="prometheusremotewrite")
    await exporter.start()
    await exporter.consume(MetricBatch([Samples([one], [2.0], now)]))
    with pytest.raises(Refused) as caught:
        await exporter.consume(MetricBatch([Samples([one], [1.0], now - 5000)]))
    await exporter.stop()
    assert caught.value.permanent
    assert exporter.context.ledger.sum("otelcol_exporter_prometheusremotewrite_sent_batches_total") == 2
    assert [x["value"][1] for x in query(prometheus, "late", now / 1000 + 1)] == ["2"]


@pytest.mark.server("prometheus")
async def test_a_batch_with_duplicates_and_colliding_names_is_taken_whole(prometheus: str) -> None:
    # Prometheus answers 400 to a whole request where one series has two values at a time
    now = time.time_ns()
    data = MetricsData()
    metrics = data.resource_metrics.add().scope_metrics.add().metrics
    for name in ("col.a", "col_a", "col.b"):
        metric = metrics.add(name=name)
        for value in (1, 2):
            metric.gauge.data_points.add(time_unix_nano=now, as_int=value)
        metric.gauge.data_points.add(time_unix_nano=now - 10**9, as_int=0)
    await send(prometheus + "/api/v1/write", Batch(Signal.METRICS, data.SerializeToString(), 9))
    at = time.time()
    assert [query(prometheus, name, at)[0]["value"][1] for name in ("col_a", "col_b")] == ["1", "1"]
