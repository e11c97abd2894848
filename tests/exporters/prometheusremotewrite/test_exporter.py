"""The exporter against a backend that answers, misbehaves, breaks and stalls."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from pydantic import ValidationError

from kofagent import __version__
from kofagent.config.tree import Origin, node_of
from kofagent.config.unused import notices
from kofagent.exporters.prometheusremotewrite import COMPONENT
from kofagent.exporters.prometheusremotewrite.config import Config, RemoteWriteHttpBlock
from kofagent.exporters.prometheusremotewrite.exporter import PrometheusRemoteWrite
from kofagent.telemetry.batch import Batch, MetricBatch, Samples
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.series import Exemplar, Family, Series
from kofagent.telemetry.signal import Signal
from tests.support.components import FakeHost, eventually, make, validated
from tests.support.remote_write import Backend, WriteRequest, series

FAST = {"retry_on_failure": {"initial_interval": "5ms", "max_interval": "20ms", "max_elapsed_time": "20s"}}
T0 = 1_795_257_868_000
_series = {name: Series((("__name__", name), ("job", "j"))) for name in ("a", "b", "c")}


def columns(value: float, at: int, *names: str) -> MetricBatch:
    return MetricBatch([Samples([_series[n] for n in names or ("a",)], [value] * len(names or ("a",)), at)])


class Running:
    """An exporter between start and stop, and its ledger."""

    def __init__(self, url: str, options: dict[str, Any] | None = None, host: FakeHost | None = None) -> None:
        self.host = host or FakeHost()
        self.exporter: PrometheusRemoteWrite = make(
            COMPONENT, {"endpoint": url, **FAST, **(options or {})}, kind="exporters", id="prometheusremotewrite", host=self.host
        )

    async def __aenter__(self) -> Running:
        await self.exporter.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.exporter.stop()

    @property
    def sent(self) -> float:
        return self.host.ledger.total("otelcol_exporter_sent_metric_points_total", exporter="prometheusremotewrite")

    def dropped(self, reason: str) -> float:
        return self.host.ledger.total(
            "kofagent_dropped_items_total", component="prometheusremotewrite", signal="metrics", reason=reason
        )


async def test_columns_arrive_with_the_headers_of_the_protocol() -> None:
    async with Backend() as backend, Running(backend.url, {"headers": {"X-Tenant": "7", "user-agent": "no"}}) as it:
        await it.exporter.consume(columns(1.5, T0, "a", "b"))
        assert it.sent == 2
    headers = backend.seen[0].headers
    assert {
        k: headers.getall(k)
        for k in ("Content-Encoding", "Content-Type", "User-Agent", "X-Tenant", "X-Prometheus-Remote-Write-Version")
    } == {
        "Content-Encoding": ["snappy"],
        "Content-Type": ["application/x-protobuf"],
        "User-Agent": [f"kofagent/{__version__}"],
        "X-Tenant": ["7"],
        "X-Prometheus-Remote-Write-Version": ["0.1.0"],
    }
    assert series(backend.requests[0]) == [
        ({"__name__": "a", "job": "j"}, [(1.5, T0)]),
        ({"__name__": "b", "job": "j"}, [(1.5, T0)]),
    ]


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_every_2xx_is_success(status: int) -> None:
    async with Backend([status]) as backend, Running(backend.url) as it:
        await it.exporter.consume(columns(1, T0))
        assert it.sent == 1
        assert len(backend.seen) == 1


@pytest.mark.parametrize("trouble", [500, 503, (429, {"Retry-After": "0"}, "slow down"), "reset"])
async def test_what_may_pass_is_tried_again(trouble: Any) -> None:
    async with Backend([trouble, trouble]) as backend, Running(backend.url) as it:
        await it.exporter.consume(columns(1, T0))
        assert len(backend.seen) == 3
        assert len(backend.requests) == 1
        assert it.sent == 1
        assert it.host.statuses["exporters/prometheusremotewrite"] is None


async def test_retry_after_is_obeyed() -> None:
    loop = asyncio.get_running_loop()
    async with Backend([(429, {"Retry-After": "1"}, "")]) as backend, Running(backend.url) as it:
        before = loop.time()
        await it.exporter.consume(columns(1, T0))
        assert loop.time() - before >= 1
        assert it.sent == 1


@pytest.mark.parametrize("status", [401, 404, 409, 422])
async def test_other_4xx_are_final_counted_and_logged_once(status: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    answer = (status, {}, "bad sample " + "x" * 1000)
    async with Backend([answer, answer]) as backend, Running(backend.url) as it:
        for _ in range(2):
            with pytest.raises(Refused) as caught:
                await it.exporter.consume(columns(1, T0, "a", "b"))
            assert caught.value.permanent
        assert len(backend.seen) == 2
        assert it.dropped(f"http {status}") == 4
        assert it.sent == 0
        await it.exporter.consume(columns(2, T0 + 1))
        assert it.sent == 1
    said = [r.getMessage() for r in caplog.records if "bad sample" in r.getMessage() and r.levelno == logging.ERROR]
    assert len(said) == 1
    assert len(said[0]) < 500


async def test_order_is_kept_under_failures() -> None:
    script: list[Any] = [500, "reset", (429, {}, ""), 204, 503, "reset", 204, 500] * 3
    async with Backend(script) as backend, Running(backend.url) as it:
        calls = []
        for i in range(200):
            calls.append(asyncio.create_task(it.exporter.consume(columns(i, T0 + i, "a", "b"))))
            await asyncio.sleep(0.0005)  # so that they do not all go in one request
        await asyncio.gather(*calls)
        assert it.sent == 400
        assert len(backend.requests) > 5
        assert backend.most_under_way == 1
        for samples in backend.samples().values():
            assert samples == [(float(i), T0 + i) for i in range(200)]


async def test_order_is_kept_without_a_queue() -> None:
    options = {"remote_write_queue": {"enabled": False}}
    async with Backend([500, "reset", 503] * 5) as backend, Running(backend.url, options) as it:
        await asyncio.gather(*[it.exporter.consume(columns(i, T0 + i)) for i in range(20)])
        (samples,) = backend.samples().values()
        assert samples == [(float(i), T0 + i) for i in range(20)]


async def test_waiting_batches_go_in_one_request() -> None:
    async with Backend(["stall"]) as backend, Running(backend.url) as it:
        calls = [asyncio.create_task(it.exporter.consume(columns(0, T0)))]
        await eventually(lambda: backend.seen)
        calls += [asyncio.create_task(it.exporter.consume(columns(i, T0 + i))) for i in range(1, 50)]
        await eventually(lambda: it.host.ledger.total("otelcol_exporter_queue_size", exporter="prometheusremotewrite") == 50)
        backend.release.set()
        await asyncio.gather(*calls)
        assert [len(r.timeseries) for r in backend.requests] == [1, 49]
        assert it.sent == 50


async def test_a_large_batch_is_split_and_only_the_rest_is_tried_again() -> None:
    many = [Series((("__name__", "m"), ("i", str(i)))) for i in range(300)]
    batch = MetricBatch([Samples(many, [float(i) for i in range(300)], T0)])
    async with Backend([204, 500, 204, "reset"]) as backend, Running(backend.url, {"max_batch_size_bytes": 2000}) as it:
        await it.exporter.consume(batch)
        assert it.sent == 300
    assert all(len(r.SerializeToString()) <= 2000 for r in backend.requests)
    assert len(backend.requests) > 4
    got = [labels["i"] for r in backend.requests for labels, _ in series(r)]
    assert got == [str(i) for i in range(300)]  # nothing twice


async def test_a_refused_part_does_not_take_the_rest_along() -> None:
    many = [Series((("__name__", "m"), ("i", str(i)))) for i in range(100)]
    batch = MetricBatch([Samples(many, [1.0] * 100, T0)])
    async with Backend([204, (422, {}, "no")]) as backend, Running(backend.url, {"max_batch_size_bytes": 2000}) as it:
        await it.exporter.consume(batch)
        arrived = sum(len(r.timeseries) for r in backend.requests)
        assert 0 < arrived < 100
        assert it.sent == arrived
        assert it.dropped("http 422") == 100 - arrived


async def test_a_request_too_large_for_the_backend_is_halved_and_later_ones_are_smaller(caplog: pytest.LogCaptureFixture) -> None:
    many = [Series((("__name__", "m"), ("i", f"{i:06d}"))) for i in range(5000)]
    async with Backend([204]) as backend, Running(backend.url) as it:
        backend.largest = 40_000
        for turn in range(2):
            await it.exporter.consume(MetricBatch([Samples(many, [float(i) for i in range(5000)], T0 + turn)]))
            if turn == 0:
                tries, taken = len(backend.seen), len(backend.requests)
                backend.script = ["reset", 503]  # a half is tried again like a whole
        assert it.sent == 10_000
        assert it.host.ledger.sum("kofagent_dropped_items_total") == 0
        assert len(backend.seen) - tries == len(backend.requests) - taken + 2, "no 413 any more"
    assert list(backend.samples().values()) == [[(float(i), T0), (float(i), T0 + 1)] for i in range(5000)]
    assert "max_batch_size_bytes" in caplog.text


async def test_a_series_too_large_by_itself_is_dropped_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    many = [Series((("__name__", "m"), ("i", str(i)), *([("long", "x" * 60_000)] if i == 70 else []))) for i in range(100)]
    async with Backend() as backend, Running(backend.url) as it:
        backend.largest = 40_000
        await it.exporter.consume(MetricBatch([Samples(many, [1.0] * 100, T0)]))
        assert it.sent == 99
        assert it.dropped("http 413") == 1
    assert [labels["i"] for r in backend.requests for labels, _ in series(r)] == [str(i) for i in range(100) if i != 70]
    assert "too large" in caplog.text


async def test_a_stalled_backend_is_a_timeout_and_tried_again() -> None:
    async with Backend(["stall"]) as backend, Running(backend.url, {"timeout": "100ms"}) as it:
        await it.exporter.consume(columns(1, T0))
        assert len(backend.seen) == 2
        assert it.sent == 1


async def test_out_of_retries_gives_the_batch_back() -> None:
    options = {"retry_on_failure": {"initial_interval": "1ms", "max_elapsed_time": "30ms"}}
    async with Backend([503] * 10_000) as backend, Running(backend.url, options) as it:
        with pytest.raises(Refused) as caught:
            await it.exporter.consume(columns(1, T0))
        assert caught.value.reason == "http 503"
        assert not caught.value.permanent
        assert it.sent == 0


async def test_a_full_queue_refuses() -> None:
    async with Backend(["stall"]) as backend, Running(backend.url, {"remote_write_queue": {"queue_size": 1}}) as it:
        first = asyncio.create_task(it.exporter.consume(columns(1, T0)))
        await eventually(lambda: backend.seen)
        with pytest.raises(Refused):
            await it.exporter.consume(columns(2, T0 + 1))
        backend.release.set()
        await first


async def test_external_labels_of_columns_only_where_absent() -> None:
    own = Series((("__name__", "a"), ("cluster", "own")))
    plain = Series((("__name__", "b"), ("zone", "z")))
    batch = MetricBatch([Samples([own, plain], [1.0, 2.0], T0)])
    async with Backend() as backend, Running(backend.url, {"external_labels": {"cluster": "c1", "re.gion": "r"}}) as it:
        for _ in range(2):
            await it.exporter.consume(batch)
    assert [labels for labels, _ in series(backend.requests[1])] == [
        {"__name__": "a", "cluster": "own", "re_gion": "r"},
        {"__name__": "b", "cluster": "c1", "re_gion": "r", "zone": "z"},
    ]


async def test_target_info_and_copied_attributes_of_scraped_targets() -> None:
    up = Series((("__name__", "up"), ("instance", "a:1"), ("job", "j")))
    resource = {"service.name": "j", "service.instance.id": "a:1", "server.port": "1", "url.scheme": "http"}
    batch = MetricBatch([Samples([up], [1.0], T0, resource), Samples([up], [1.0], T0 + 5, resource)])
    async with Backend() as backend, Running(backend.url, {"external_labels": {"cluster": "c1"}}) as it:
        await it.exporter.consume(batch)
    info = {"__name__": "target_info", "cluster": "c1", "instance": "a:1", "job": "j", "server_port": "1", "url_scheme": "http"}
    sent = series(backend.requests[0])
    assert [labels for labels, _ in sent if labels["__name__"] == "target_info"] == [info]
    assert len(sent) == 3
    copied = {"resource_to_telemetry_conversion": {"enabled": True}, "target_info": {"enabled": False}}
    async with Backend() as backend, Running(backend.url, copied) as it:
        await it.exporter.consume(batch)
    labels = series(backend.requests[0])[0][0]
    assert (labels["server_port"], labels["url_scheme"], labels["job"]) == ("1", "http", "j")
    assert len(series(backend.requests[0])) == 2


async def test_columns_with_times_exemplars_and_metadata() -> None:
    family = Family("lat", "histogram", "How long", "seconds")
    both = [Series((("__name__", f"lat_bucket{i}"),), family) for i in range(2)]
    exemplars = {1: Exemplar((("trace_id", "ab"),), 0.5, None), 0: Exemplar((), 0.25, 7)}
    batch = MetricBatch([Samples(both, [1.0, 2.0], [T0, T0 + 5], exemplars=exemplars)])
    async with Backend() as backend, Running(backend.url, {"send_metadata": True}) as it:
        for _ in range(2):
            await it.exporter.consume(batch)
    first, second = backend.requests
    assert [(m.metric_family_name, m.type, m.help, m.unit) for m in first.metadata] == [("lat", 3, "How long", "seconds")]
    assert not second.metadata  # once a minute
    assert [(s.samples[0].timestamp, s.exemplars[0].timestamp, s.exemplars[0].value) for s in first.timeseries] == [
        (T0, 7, 0.25),
        (T0 + 5, T0 + 5, 0.5),
    ]


async def test_undecodable_payload_is_dropped_and_counted() -> None:
    async with Backend() as backend, Running(backend.url) as it:
        with pytest.raises(Refused) as caught:
            await it.exporter.consume(Batch(Signal.METRICS, b"\x0a\xff\xff", 3))
        assert caught.value.permanent
        assert it.dropped("malformed") == 3
        await it.exporter.consume(columns(1, T0))
        assert it.sent == 1


async def test_an_empty_batch_sends_nothing() -> None:
    async with Backend() as backend, Running(backend.url) as it:
        await it.exporter.consume(MetricBatch([]))
        await it.exporter.consume(Batch(Signal.METRICS, b"", 0))
        assert not backend.seen


@pytest.mark.parametrize("compression", ["snappy", "", None])
def test_the_only_compression_may_be_named(compression: str | None) -> None:
    assert RemoteWriteHttpBlock.model_validate({"endpoint": "http://x", "compression": compression}).compression == (
        compression or ""
    )


async def test_metadata_keys_are_forwarded() -> None:
    async with Backend() as backend, Running(backend.url, {"include_metadata_keys": ["X-Scope-OrgID"]}) as it:
        await it.exporter.consume(Batch(Signal.METRICS, _gauge(), 1, {"x-scope-orgid": ("t1",), "cookie": ("c",)}))
    assert backend.seen[0].headers["X-Scope-OrgID"] == "t1"
    assert "cookie" not in backend.seen[0].headers


def _gauge() -> bytes:
    from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData

    data = MetricsData()
    point = data.resource_metrics.add().scope_metrics.add().metrics.add(name="g").gauge.data_points.add()
    point.time_unix_nano, point.as_double = T0 * 1_000_000, 1.0
    encoded: bytes = data.SerializeToString()
    return encoded


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "endpoint is missing"),
        ({"endpoint": "vminsert:8480/api/v1/write"}, "has no scheme"),
        ({"endpoint": "ftp://x/"}, "is not an HTTP URL"),
        ({"http": {"endpoint": "x"}}, "has no scheme"),
        ({"endpoint": "http://x", "compression": "gzip"}, "snappy"),
        ({"endpoint": "http://x", "protobuf_message": "io.prometheus.write.v2.Request"}, "remote write 2.0 is not supported"),
        ({"endpoint": "http://x", "translation_strategy": "NoTranslation"}, "remote write 2.0"),
        ({"endpoint": "http://x", "external_labels": {"a": ""}}, "external_labels"),
        ({"endpoint": "http://x", "remote_write_queue": {"queue_size": 0}}, "queue_size 0"),
        ({"endpoint": "http://x", "max_batch_request_parallelism": 0}, "greater than or equal to 1"),
        ({"endpoint": "http://x", "include_metadata_keys": ["user-agent"]}, "protocol"),
        ({"endpoint": "http://x", "resource_constant_labels": {"enabled": True}}, "resource_to_telemetry_conversion"),
        (
            {
                "endpoint": "http://x",
                "resource_constant_labels": {"included": ["*"]},
                "resource_to_telemetry_conversion": {"enabled": True},
            },
            "cannot be used together",
        ),
        ({"endpoint": "http://x", "nope": 1}, "nope"),
    ],
)
def test_wrong_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        validated(COMPONENT, options)


def test_defaults_are_upstreams() -> None:
    config = validated(COMPONENT, {"endpoint": "http://x/write"})
    assert config.client.timeout == 5
    assert (
        config.retry_on_failure.initial_interval,
        config.retry_on_failure.max_interval,
        config.retry_on_failure.max_elapsed_time,
    ) == (0.05, 30, 300)
    assert (config.remote_write_queue.queue_size, config.remote_write_queue.num_consumers) == (10000, 5)
    assert config.max_batch_size_bytes == 3_000_000
    assert config.target_info.enabled and config.suffixes and not config.disable_scope_info and not config.send_metadata


def test_the_http_block_takes_precedence() -> None:
    config = validated(COMPONENT, {"endpoint": "http://old", "http": {"endpoint": "http://new", "timeout": "1s"}})
    assert (config.client.endpoint, config.client.timeout) == ("http://new", 1)


async def test_headers_of_the_protocol_are_ignored_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    async with Running("http://127.0.0.1:1/", {"headers": {"Content-Type": "x"}}):
        pass
    assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING"] == [
        "headers: Content-Type is set by the protocol, the configured value is ignored"
    ]


def test_options_without_effect_are_warned_of() -> None:
    options = {"endpoint": "http://h", "wal": {"directory": "x", "buffer_size": 7}, "export_created_metric": {"enabled": True}}
    found = notices(Config.model_validate(options), node_of(options, Origin()))
    assert [str(problem) for problem in found] == [
        "wal.buffer_size: has no effect; remove it",
        "export_created_metric: has no effect; remote write 1.0 has no created time",
    ]


async def test_an_authenticator_signs_every_request_also_when_tried_again() -> None:
    class Auth:
        calls = 0

        async def request_headers(self, metadata: object) -> dict[str, str]:
            self.calls += 1
            return {"Authorization": f"Basic {self.calls}"}

    host = FakeHost({"basicauth/metrics": Auth()})
    async with Backend([503]) as backend, Running(backend.url, {"auth": {"authenticator": "basicauth/metrics"}}, host) as it:
        await it.exporter.consume(columns(1, T0))
    assert [r.headers["Authorization"] for r in backend.seen] == ["Basic 1", "Basic 2"]


async def test_an_answer_cut_off_is_tried_again_with_the_same_samples() -> None:
    async with Backend(["cut"]) as backend, Running(backend.url) as it:
        await it.exporter.consume(columns(1, T0))
        assert [r.SerializeToString() for r in backend.requests] == [backend.requests[0].SerializeToString()] * 2
        assert it.sent == 1


async def test_a_stop_gives_back_what_the_backend_does_not_take() -> None:
    async with Backend([503] * 1000) as backend:
        async with Running(backend.url) as it:
            calls = [asyncio.create_task(it.exporter.consume(columns(i, T0 + i))) for i in range(3)]
            await eventually(lambda: backend.seen)
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(r, Refused) and not r.permanent for r in results)


async def test_credentials_in_the_endpoint_are_not_shown() -> None:
    async with Running("http://user:hunter2@127.0.0.1:1/w?token=hunter2") as it:
        shown = str([s for m in it.host.ledger.registry.collect() for s in m.samples])
    assert "hunter2" not in shown
    assert "http://127.0.0.1:1/w" in shown


def test_the_oracle_reads_what_it_writes() -> None:
    assert WriteRequest.FromString(WriteRequest().SerializeToString()) == WriteRequest()
