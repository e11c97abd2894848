"""debug: what it prints at each verbosity, and how it samples."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pydantic import ValidationError

from kofagent.component.protocols import StartError
from kofagent.exporters.debug import COMPONENT
from kofagent.exporters.debug.exporter import Sampler
from kofagent.telemetry.batch import Batch, MetricBatch, Samples
from kofagent.telemetry.series import Family, Series
from kofagent.telemetry.signal import Signal
from tests.support.components import make


def logs(records: int = 2) -> Batch:
    request = ExportLogsServiceRequest()
    resource = request.resource_logs.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "shop"
    scope = resource.scope_logs.add()
    scope.scope.name, scope.scope.version = "lib", "1"
    for i in range(records):
        record = scope.log_records.add(time_unix_nano=1581452773000000789, severity_number=9, severity_text="Info")
        record.body.string_value = f"line {i}"
        record.attributes.add(key="n").value.int_value = i
    return Batch(Signal.LOGS, request.SerializeToString(), records)


def metrics() -> Batch:
    request = ExportMetricsServiceRequest()
    scope = request.resource_metrics.add().scope_metrics.add()
    total = scope.metrics.add(name="total", unit="1")
    total.sum.is_monotonic, total.sum.aggregation_temporality = True, 2
    for value in (1, 2):
        point = total.sum.data_points.add(as_int=value, time_unix_nano=1581452773000000789)
        point.attributes.add(key="k").value.string_value = "v"
    scope.metrics.add(name="level").gauge.data_points.add(as_double=1.5)
    return Batch(Signal.METRICS, request.SerializeToString(), 3)


def columns() -> MetricBatch:
    family = Family("up", "gauge", "Is it up.", "")
    return MetricBatch([Samples([Series((("__name__", "up"), ("job", j)), family) for j in "ab"], [1.0, 0.0], 1581452773000)])


def traces() -> Batch:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    span = scope.spans.add(name="GET /", trace_id=bytes(range(1, 17)), span_id=bytes(range(17, 25)), kind=2)
    span.status.code = 2
    span.status.message = "broken"
    span.events.add(name="boom").attributes.add(key="a").value.bool_value = True
    return Batch(Signal.TRACES, request.SerializeToString(), 1)


async def printed(batch: Any, caplog: pytest.LogCaptureFixture, **options: Any) -> str:
    debug = make(COMPONENT, options, kind="exporters", id="debug")
    await debug.start()
    caplog.clear()
    with caplog.at_level(logging.INFO):
        await debug.consume(batch)
    await debug.stop()
    return "\n".join(r.getMessage() for r in caplog.records) + ("\n" if options.get("verbosity", "basic") != "basic" else "")


@pytest.mark.parametrize(
    ("batch", "line"),
    [
        (logs(5), 'Logs {"resource logs": 1, "log records": 5}'),
        (metrics(), 'Metrics {"resource metrics": 1, "metrics": 2, "data points": 3}'),
        (columns(), 'Metrics {"resource metrics": 1, "metrics": 1, "data points": 2}'),
        (traces(), 'Traces {"resource spans": 1, "spans": 1}'),
        (Batch(Signal.METRICS, b"\x0a\xff\x01\x12", 0), 'Metrics {"resource metrics": 1, "metrics": 0, "data points": 0}'),
    ],
)
async def test_basic(batch: Any, line: str, caplog: pytest.LogCaptureFixture) -> None:
    assert await printed(batch, caplog) == line


def test_sampling_is_zaps() -> None:
    sampler = Sampler(2, 3)
    assert [sampler.take("a", 0.5) for _ in range(9)] == [True, True, False, False, True, False, False, True, False]
    assert sampler.take("b", 0.6)
    assert sampler.take("a", 1.6)
    nothing_after = Sampler(1, 0)
    assert [nothing_after.take("a", 0) for _ in range(3)] == [True, False, False]


async def test_every_batch_counts_as_sent_printed_or_not(caplog: pytest.LogCaptureFixture) -> None:
    debug = make(COMPONENT, {"sampling_initial": 1, "sampling_thereafter": 0}, kind="exporters", id="debug")
    await debug.start()
    with caplog.at_level(logging.INFO):
        for _ in range(4):
            await debug.consume(logs())
    assert len(caplog.records) == 1
    assert debug.context.ledger.total("otelcol_exporter_sent_log_records_total", exporter="debug") == 8


async def test_own_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "out"
    debug = make(COMPONENT, {"use_internal_logger": False, "output_paths": [str(file), "stdout"]}, kind="exporters")
    await debug.start()
    await debug.consume(logs())
    await debug.stop()
    line = 'Logs\t{"resource logs": 1, "log records": 2}\n'
    assert file.read_text() == line
    assert capsys.readouterr().out == line


async def test_an_output_that_cannot_be_opened(tmp_path: Path) -> None:
    debug = make(COMPONENT, {"use_internal_logger": False, "output_paths": [str(tmp_path / "no" / "out")]}, kind="exporters")
    with pytest.raises(StartError, match="No such file"):
        await debug.start()


async def test_a_full_disk_does_not_hold_up(caplog: pytest.LogCaptureFixture) -> None:
    debug = make(COMPONENT, {"use_internal_logger": False, "output_paths": ["/dev/full"]}, kind="exporters", id="debug")
    await debug.start()
    for _ in range(3):
        await debug.consume(logs())
    await debug.stop()
    assert len([r for r in caplog.records if "No space" in r.getMessage()]) == 1
    assert debug.context.ledger.total("otelcol_exporter_sent_log_records_total", exporter="debug") == 6


@pytest.mark.parametrize(
    "options",
    [{"verbosity": "loud"}, {"output_paths": ["x"]}, {"use_internal_logger": False, "output_paths": []}, {"sampling_initial": -1}],
)
def test_wrong_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        make(COMPONENT, options, kind="exporters")


def body_of(output: str) -> str:
    return output.split("\n", 1)[1]


async def test_normal(caplog: pytest.LogCaptureFixture) -> None:
    assert body_of(await printed(logs(), caplog, verbosity="normal")) == (
        "ResourceLog #0 service.name=shop\nScopeLog #0 lib@1\nline 0 n=0\nline 1 n=1\n"
    )
    assert body_of(await printed(metrics(), caplog, verbosity="normal")) == (
        "ResourceMetrics #0\nScopeMetrics #0\ntotal{k=v} 1\ntotal{k=v} 2\nlevel{} 1.5\n"
    )
    assert body_of(await printed(traces(), caplog, verbosity="normal")) == (
        "ResourceTraces #0\nScopeTraces #0\nGET / 0102030405060708090a0b0c0d0e0f10 1112131415161718\n"
    )


async def test_detailed_logs(caplog: pytest.LogCaptureFixture) -> None:
    assert (
        body_of(await printed(logs(1), caplog, verbosity="detailed"))
        == """\
ResourceLog #0
Resource SchemaURL: \n\
Resource attributes:
     -> service.name: Str(shop)
ScopeLogs #0
ScopeLogs SchemaURL: \n\
InstrumentationScope lib 1
LogRecord #0
ObservedTimestamp: 1970-01-01 00:00:00 +0000 UTC
Timestamp: 2020-02-11 20:26:13.000000789 +0000 UTC
SeverityText: Info
SeverityNumber: Info(9)
Body: Str(line 0)
Attributes:
     -> n: Int(0)
Trace ID: \n\
Span ID: \n\
Flags: 0
"""
    )


async def test_detailed_traces(caplog: pytest.LogCaptureFixture) -> None:
    lines = (await printed(traces(), caplog, verbosity="detailed")).splitlines()
    for line in (
        "    Trace ID       : 0102030405060708090a0b0c0d0e0f10",
        "    Parent ID      : ",
        "    Kind           : Server",
        "    Status code    : Error",
        "    Status message : broken",
        "    DroppedAttributesCount: 0",
        "Events:",
        "SpanEvent #0",
        "     -> Name: boom",
        "     -> Attributes::",
        "          -> a: Bool(true)",
    ):
        assert line in lines
    assert "Links:" not in lines


def all_kinds() -> Batch:
    request = ExportMetricsServiceRequest()
    scope = request.resource_metrics.add().scope_metrics.add()
    point = scope.metrics.add(name="h").histogram.data_points.add(
        count=2, sum=15, min=1, max=14, bucket_counts=[1, 1], explicit_bounds=[2]
    )
    point.exemplars.add(as_double=15, trace_id=b"\1" * 16).filtered_attributes.add(key="e").value.string_value = "x"
    exponential = scope.metrics.add(name="e").exponential_histogram.data_points.add(count=4, scale=1, zero_count=1)
    exponential.negative.offset, exponential.positive.offset = -1, 1
    exponential.negative.bucket_counts.extend([1, 2])
    exponential.positive.bucket_counts.extend([1, 1])
    summary = scope.metrics.add(name="s").summary.data_points.add(count=3, sum=1.5)
    summary.quantile_values.add(quantile=0.5, value=0.4)
    scope.metrics.add(name="none")
    return Batch(Signal.METRICS, request.SerializeToString(), 3)


async def test_detailed_metrics(caplog: pytest.LogCaptureFixture) -> None:
    lines = (await printed(metrics(), caplog, verbosity="detailed")).splitlines()
    at = lines.index("Descriptor:")
    assert lines[at : at + 12] == [
        "Descriptor:",
        "     -> Name: total",
        "     -> Description: ",
        "     -> Unit: 1",
        "     -> DataType: Sum",
        "     -> IsMonotonic: true",
        "     -> AggregationTemporality: Cumulative",
        "NumberDataPoints #0",
        "Data point attributes:",
        "     -> k: Str(v)",
        "StartTimestamp: 1970-01-01 00:00:00 +0000 UTC",
        "Timestamp: 2020-02-11 20:26:13.000000789 +0000 UTC",
    ]
    assert "Value: 1.500000" in lines
    lines = (await printed(all_kinds(), caplog, verbosity="detailed")).splitlines()
    for line in (
        "Count: 2",
        "Sum: 15.000000",
        "Min: 1.000000",
        "Max: 14.000000",
        "ExplicitBounds #0: 2.000000",
        "Buckets #1, Count: 1",
        "Exemplars:",
        "Exemplar #0",
        "     -> Value: 15.000000",
        "     -> FilteredAttributes:",
        "          -> e: Str(x)",
        "Bucket [-1.414214, -1.000000), Count: 2",
        "Bucket [-1.000000, -0.707107), Count: 1",
        "Bucket [0, 0], Count: 1",
        "Bucket (1.414214, 2.000000], Count: 1",
        "Bucket (2.000000, 2.828427], Count: 1",
        "QuantileValue #0: Quantile 0.500000, Value 0.400000",
        "     -> DataType: Empty",
    ):
        assert line in lines, line
    normal = await printed(all_kinds(), caplog, verbosity="normal")
    assert "h{} count=2 sum=15 min=1 max=14 le2=1 1\n" in normal
    assert "e{} count=4 le-1=2 le-0.7071067811865476=1 zero=1 le2=1 le2.82842712474619=1\n" in normal
    assert "s{} count=3 sum=1.500000 q0.5=0.4\n" in normal


async def test_columns_are_shown(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("kofagent.prometheus.otlp")
    output = await printed(columns(), caplog, verbosity="normal")
    assert "up{" in output and "cannot be shown" not in output


async def test_what_cannot_be_decoded_is_said(caplog: pytest.LogCaptureFixture) -> None:
    assert "cannot be shown" in await printed(Batch(Signal.LOGS, b"\x0a\x05x", 1), caplog, verbosity="detailed")
    not_text = Batch(Signal.LOGS, logs(1).payload.replace(b"line", b"\xff\xfe\xfd\xfc"), 1)
    assert "\\xff" in await printed(not_text, caplog, verbosity="normal")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (0.1, "0.1"),
        (1e21, "1e+21"),
        (1e-5, "1e-05"),
        (float("inf"), "+Inf"),
        (123456789.5, "123456789.5"),
        (0.0, "0"),
        (-2.5e-7, "-2.5e-07"),
    ],
)
def test_numbers_as_go_prints_them(value: float, text: str) -> None:
    from kofagent.exporters.debug.text import short

    assert short(value) == text


async def test_trees_stay_trees_in_the_agents_log_and_cannot_pass_for_its_lines(caplog: pytest.LogCaptureFixture) -> None:
    from kofagent.config.model import TelemetryLogs
    from kofagent.pipeline.own_log import LineFormatter

    await printed(Batch(Signal.LOGS, logs(1).payload.replace(b"line 0", b"\nERR 0"), 1), caplog, verbosity="normal")
    lines = LineFormatter(TelemetryLogs()).format(caplog.records[0]).split("\n")
    assert lines[0].endswith('Logs {"resource logs": 1, "log records": 1}')
    assert lines[1:] == ["    ResourceLog #0 service.name=shop", "    ScopeLog #0 lib@1", "    ", "    ERR 0 n=0"]
