"""`sending_queue.storage` of remote write: finished requests on disk, in order, exact to the bit, sent after a restart."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from kofagent.exporters.prometheusremotewrite import COMPONENT
from kofagent.exporters.prometheusremotewrite.config import Config
from kofagent.exporters.prometheusremotewrite.exporter import PrometheusRemoteWrite
from kofagent.extensions.file_storage import COMPONENT as FILE_STORAGE
from kofagent.telemetry.batch import AnyBatch, Batch, MetricBatch, Samples
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.series import STALE_BITS, Exemplar, Series
from kofagent.telemetry.signal import Signal
from tests.support.components import FakeHost, eventually, make
from tests.support.otlp import REQUEST
from tests.support.queue_disk import Disk
from tests.support.remote_write import Backend, series

T0 = 1_795_257_868_000
STALE = struct.unpack("<d", struct.pack("<Q", STALE_BITS))[0]
NAN = struct.unpack("<d", struct.pack("<Q", 0x7FF8DEADBEEF0001))[0]
_made = {name: Series((("__name__", name), ("job", "j"))) for name in ("a", "b", "c")}


def columns(*rows: tuple[str, float, int], resource: dict[str, str] | None = None) -> MetricBatch:
    names, values, times = zip(*rows, strict=True)
    return MetricBatch([Samples([_made[n] for n in names], list(values), list(times), resource)])


def bits(value: float) -> int:
    got: int = struct.unpack("<Q", struct.pack("<d", value))[0]
    return got


@asynccontextmanager
async def running(
    url: str, where: Path | Disk, options: dict[str, Any] | None = None, **queue: Any
) -> AsyncIterator[PrometheusRemoteWrite]:
    host = FakeHost()
    storage: Any = where
    if isinstance(where, Path):
        storage = make(FILE_STORAGE, {"directory": str(where)}, kind="extensions", id="disk", host=host)
        await storage.start()
    host.extensions["disk"] = storage
    exporter = make(
        COMPONENT,
        {
            "endpoint": url,
            "retry_on_failure": {"initial_interval": "5ms", "max_interval": "20ms", "max_elapsed_time": "0s"},
            "sending_queue": {"storage": "disk", **queue},
            **(options or {}),
        },
        kind="exporters",
        id="rw",
        host=host,
    )
    await exporter.start()
    yield exporter
    await exporter.stop()
    if isinstance(where, Path):
        await storage.stop()


def total(exporter: PrometheusRemoteWrite, name: str, **labels: str) -> float:
    return exporter.context.ledger.total(name, **(labels or {"exporter": "rw"}))


def dropped(exporter: PrometheusRemoteWrite, reason: str) -> float:
    return total(exporter, "kofagent_dropped_items_total", component="rw", signal="metrics", reason=reason)


async def test_an_outage_and_a_restart_lose_nothing_and_change_no_bit(tmp_path: Path) -> None:
    values = [1.5, -0.0, float("inf"), 5e-324, NAN, STALE]
    sent = [columns(("a", value, T0 + n), ("b", float(n), T0 + 7 * n)) for n, value in enumerate(values)]
    async with Backend([503] * 10_000) as backend, running(backend.url, tmp_path) as it:
        for batch in sent:
            await it.consume(batch)
        assert total(it, "otelcol_exporter_queue_size") == len(sent)
        assert not backend.requests
    async with Backend() as backend, running(backend.url, tmp_path) as it:
        await it.consume(columns(("a", 99.0, T0 + 99)))
        await eventually(lambda: total(it, "otelcol_exporter_queue_size") == 0)
        assert total(it, "otelcol_exporter_sent_metric_points_total") == 2 * len(sent) + 1
    got = {dict(labels)["__name__"]: samples for labels, samples in backend.samples().items()}
    assert [(bits(v), t) for v, t in got["a"]] == [(bits(v), T0 + n) for n, v in enumerate([*values])] + [(bits(99.0), T0 + 99)]
    assert got["b"] == [(float(n), T0 + 7 * n) for n in range(len(values))]


async def test_order_is_kept_under_failures_and_many_consumers_asked_for(tmp_path: Path) -> None:
    script: list[Any] = [500, "reset", (429, {}, ""), 204, 503, "cut", 204] * 5
    async with Backend(script) as backend, running(backend.url, tmp_path, num_consumers=7) as it:
        for n in range(200):
            await it.consume(columns(("a", float(n), T0 + n)))
        await eventually(lambda: total(it, "otelcol_exporter_queue_size") == 0)
        assert backend.most_under_way == 1
    for samples in backend.samples().values():
        # what was cut off after the backend had it comes again, at once
        assert list(dict.fromkeys(at for _, at in samples)) == [T0 + n for n in range(200)]


async def test_what_waits_goes_together() -> None:
    async with Backend(["stall"]) as backend, running(backend.url, Disk()) as it:
        await it.consume(columns(("a", 0.0, T0)))
        await eventually(lambda: backend.seen)
        for n in range(1, 50):
            await it.consume(columns(("a", float(n), T0 + n)))
        backend.release.set()
        await eventually(lambda: total(it, "otelcol_exporter_queue_size") == 0)
    assert [len(r.timeseries) for r in backend.requests] == [1, 49]


async def test_labels_target_info_and_exemplars_are_those_of_before() -> None:
    batch = MetricBatch(
        [Samples([_made["a"]], [1.0], T0, {"service.name": "j", "x": "y"}, {0: Exemplar((("trace_id", "ab"),), 0.5, None)})]
    )
    async with Backend() as backend, running(backend.url, Disk(), {"external_labels": {"cluster": "c1"}}) as it:
        await it.consume(batch)
        await eventually(lambda: backend.requests)
    sent = {labels["__name__"]: labels for labels, _ in series(backend.requests[0])}
    assert sent["a"] == {"__name__": "a", "cluster": "c1", "job": "j"}
    assert sent["target_info"]["x"] == "y"
    (exemplar,) = [e for s in backend.requests[0].timeseries for e in s.exemplars]
    assert (exemplar.value, exemplar.timestamp) == (0.5, T0)


async def test_otlp_points_and_what_remote_write_cannot_carry_is_counted_once() -> None:
    request = REQUEST["metrics"]()
    metrics = request.resource_metrics.add().scope_metrics.add().metrics
    metrics.add(name="load").gauge.data_points.add(as_double=2.5, time_unix_nano=T0 * 1_000_000)
    delta = metrics.add(name="delta").sum
    delta.aggregation_temporality = 1
    delta.data_points.add(as_int=1, time_unix_nano=T0 * 1_000_000)
    batch = Batch(Signal.METRICS, request.SerializeToString(), 2, {"x-tenant": ("7",)})
    disk = Disk()
    async with Backend() as backend, running(backend.url, disk, {"include_metadata_keys": ["X-Tenant"]}) as it:
        disk.full = True
        with pytest.raises(Refused):
            await it.consume(batch)
        assert dropped(it, "delta temporality") == 0, "the batch is its sender's"
        disk.full = False
        await it.consume(batch)
        await eventually(lambda: backend.requests and not disk.waiting)
        assert dropped(it, "delta temporality") == 1
        assert total(it, "otelcol_exporter_sent_metric_points_total") == 1
        with pytest.raises(Refused) as refused:
            await it.consume(Batch(Signal.METRICS, b"\x0a\xff\xff", 3))
        assert refused.value.permanent and dropped(it, "malformed") == 3
    assert backend.seen[0].headers["X-Tenant"] == "7"
    assert [s for _, s in series(backend.requests[0])] == [[(2.5, T0)]]


async def test_a_batch_of_which_nothing_can_be_sent_is_not_queued() -> None:
    request = REQUEST["metrics"]()
    delta = request.resource_metrics.add().scope_metrics.add().metrics.add(name="delta").sum
    delta.aggregation_temporality = 1
    delta.data_points.add(as_int=1, time_unix_nano=T0 * 1_000_000)
    disk = Disk()
    async with Backend() as backend, running(backend.url, disk) as it:
        await it.consume(Batch(Signal.METRICS, request.SerializeToString(), 1))
        assert not disk.writes and dropped(it, "delta temporality") == 1
        assert not backend.seen


async def test_large_batches_are_cut_as_configured_and_as_the_backend_wants_it() -> None:
    many = [Series((("__name__", "m"), ("i", f"{i:05d}"))) for i in range(1000)]
    batch: AnyBatch = MetricBatch([Samples(many, [float(i) for i in range(1000)], T0)])
    options = {"max_batch_size_bytes": 20_000}
    queue = {"batch": {"min_size": 1, "max_size": 300, "flush_timeout": "1ms"}}
    async with Backend() as backend, running(backend.url, Disk(), options, **queue) as it:
        backend.largest = 9000
        await it.consume(batch)
        await eventually(lambda: total(it, "otelcol_exporter_queue_size") == 0)
        assert total(it, "otelcol_exporter_sent_metric_points_total") == 1000
    assert all(len(r.timeseries) <= 300 for r in backend.requests)
    assert [labels["i"] for r in backend.requests for labels, _ in series(r)] == [f"{i:05d}" for i in range(1000)]


async def test_what_is_on_disk_is_compact() -> None:
    labels = [("code", "200"), ("handler", "/api/v1/query"), ("instance", "10.0.0.1:9090"), ("job", "kubernetes-pods")]
    many = [Series((("__name__", "http_request_duration_seconds_bucket"), *labels, ("le", f"{i / 8}"))) for i in range(2000)]
    disk = Disk()
    async with Backend(["stall"]) as backend, running(backend.url, disk) as it:
        await it.consume(MetricBatch([Samples(many, [i * 1.5 for i in range(2000)], T0)]))
        size = sum(header.length for _, _, header in disk.waiting)
        backend.release.set()
    assert size / 2000 < 40, "a sample has 180 bytes in a request, its columns 40 in memory"


async def test_a_damaged_entry_is_counted_and_the_others_go_on() -> None:
    disk = Disk()
    async with Backend([503] * 10_000) as backend, running(backend.url, disk) as it:
        await it.consume(columns(("a", 1.0, T0)))
        await it.consume(columns(("b", 1.0, T0), ("c", 1.0, T0)))
    disk.flip(1, [60])
    async with Backend() as backend, running(backend.url, disk) as it:
        await eventually(lambda: not disk.waiting)
        assert dropped(it, "queue on disk damaged") == 2
    assert [labels["__name__"] for labels, _ in series(backend.requests[0])] == ["a"]


async def test_wal_is_a_queue_on_disk_in_a_directory(tmp_path: Path) -> None:
    options = {"wal": {"directory": str(tmp_path / "wal")}, "sending_queue": None}
    async with Backend([503] * 10_000) as backend, running(backend.url, Disk(), options) as it:
        await it.consume(columns(("a", 1.0, T0)))
    assert [path.name for path in (tmp_path / "wal").iterdir()] == ["exporter_rw_.queue"]
    async with Backend() as backend, running(backend.url, Disk(), options) as it:
        await eventually(lambda: total(it, "otelcol_exporter_queue_size") == 0)
    assert list(backend.samples().values()) == [[(1.0, T0)]]


@pytest.mark.parametrize(
    "wrong",
    [
        {"wal": {}},
        {"wal": {"directory": "x"}, "sending_queue": {"storage": "s"}},
        {"wal": {"directory": "x"}, "remote_write_queue": {"enabled": False}},
    ],
)
def test_wal_needs_a_directory_and_a_queue(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Config.model_validate({"endpoint": "http://x/w", **wrong})


def test_the_options() -> None:
    config = Config.model_validate({"endpoint": "http://x/w", "sending_queue": {"storage": "s", "queue_size": 7}})
    assert (config.queue.storage, config.queue.queue_size, config.queue.num_consumers) == ("s", 7, 1)
    old = Config.model_validate({"endpoint": "http://x/w", "remote_write_queue": {"queue_size": 9}})
    assert (old.queue.storage, old.queue.queue_size, old.queue.num_consumers) == (None, 9, 1)
    off = Config.model_validate({"endpoint": "http://x/w", "sending_queue": {"enabled": False}})
    assert (off.queue.enabled, off.queue.queue_size, off.queue.block_on_overflow) == (True, 1, True), "in turn, each waits"
