"""routing: where each item ends up, in every context; nothing is lost or made up on the way."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pydantic import ValidationError

from kofagent.component import registry
from kofagent.config.errors import ConfigErrors
from kofagent.config.load import load_config
from kofagent.connectors.routing import COMPONENT
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from tests.support.components import Sink, make


def logs(groups: list[tuple[str, list[tuple[str, int]]]], metadata: Any = None) -> Batch:
    """(service, [(body, severity)]) -> a batch."""
    request = ExportLogsServiceRequest()
    for service, records in groups:
        entry = request.resource_logs.add(schema_url="https://x")
        entry.resource.attributes.add(key="service.name").value.string_value = service
        scope = entry.scope_logs.add()
        scope.scope.name = "lib"
        for body, severity in records:
            scope.log_records.add(severity_number=severity).body.string_value = body
    return Batch(Signal.LOGS, request.SerializeToString(), sum(len(r) for _, r in groups), metadata)


def bodies(sink: Sink) -> list[str]:
    request = ExportLogsServiceRequest.FromString(sink.payload(Signal.LOGS))
    found = [r.body.string_value for e in request.resource_logs for s in e.scope_logs for r in s.log_records]
    assert len(found) == sink.count
    return found


async def run(options: dict[str, Any], batch: Batch, *names: str) -> tuple[Any, dict[str, Sink]]:
    connector = make(COMPONENT, options, kind="connectors", id="routing")
    sinks = {name: Sink() for name in names}
    connector.outputs = sinks
    await connector.start()
    await connector.consume(batch)
    return connector, sinks


def unmatched(connector: Any) -> float:
    return connector.context.ledger.total("kofagent_filtered_items_total", component="routing", signal="logs", rule="unmatched")


MIXED = [("a", [("a1", 9), ("a2", 17)]), ("b", [("b1", 9)]), ("c", [("c1", 17)])]


async def test_by_resource() -> None:
    _, sinks = await run(
        {
            "default_pipelines": ["logs/rest"],
            "table": [
                {"context": "resource", "condition": 'attributes["service.name"] == "a"', "pipelines": ["logs/a"]},
                {"statement": 'route() where attributes["service.name"] == "b"', "pipelines": ["logs/b", "logs/a"]},
            ],
        },
        logs(MIXED),
        "logs/a",
        "logs/b",
        "logs/rest",
    )
    assert {n: bodies(s) for n, s in sinks.items()} == {"logs/a": ["a1", "a2", "b1"], "logs/b": ["b1"], "logs/rest": ["c1"]}


async def test_by_record_and_resource() -> None:
    _, sinks = await run(
        {
            "default_pipelines": ["logs/rest"],
            "table": [
                {"context": "log", "condition": "severity_number < SEVERITY_NUMBER_ERROR", "pipelines": ["logs/cheap"]},
                {"condition": 'resource.attributes["service.name"] == "a"', "pipelines": ["logs/a"]},
            ],
        },
        logs(MIXED),
        "logs/a",
        "logs/cheap",
        "logs/rest",
    )
    assert {n: bodies(s) for n, s in sinks.items()} == {"logs/a": ["a2"], "logs/cheap": ["a1", "b1"], "logs/rest": ["c1"]}
    part = ExportLogsServiceRequest.FromString(sinks["logs/cheap"].payload(Signal.LOGS))
    assert [e.schema_url for e in part.resource_logs] == ["https://x"] * 2
    assert part.resource_logs[0].scope_logs[0].scope.name == "lib"


async def test_by_request() -> None:
    options = {
        "default_pipelines": ["logs/rest"],
        "table": [
            {"condition": 'request["X-Tenant"] == "acme"', "pipelines": ["logs/acme"]},
            {"context": "request", "condition": 'request["X-Tenant"] != nil', "pipelines": ["logs/other"]},
        ],
    }
    names = ("logs/acme", "logs/other", "logs/rest")
    for metadata, name in (({"x-tenant": ("acme",)}, "logs/acme"), ({"x-tenant": ("e",)}, "logs/other"), (None, "logs/rest")):
        batch = logs(MIXED, metadata)
        _, sinks = await run(options, batch, *names)
        assert sinks[name].batches == [batch]
        assert sum(s.count for s in sinks.values()) == 4


async def test_by_the_sender_as_newer_releases_write_it() -> None:
    options = {
        "default_pipelines": ["logs/rest"],
        "table": [
            {"condition": 'otelcol.client.metadata["X-Tenant"][0] == "acme"', "pipelines": ["logs/acme"]},
            {
                "context": "log",
                "condition": 'body == "a1" and otelcol.client.auth.attributes["username"] == "anna"',
                "pipelines": ["logs/anna"],
            },
        ],
    }
    for metadata, counts in (({"x-tenant": ("acme",)}, [4, 0, 0]), ({"auth.username": ("anna",)}, [0, 1, 3]), (None, [0, 0, 4])):
        _, sinks = await run(options, logs(MIXED, metadata), "logs/acme", "logs/anna", "logs/rest")
        assert [s.count for s in sinks.values()] == counts


async def test_by_schema_url() -> None:
    """The same resource may come with another one."""
    options = {
        "table": [
            {"condition": 'resource.schema_url == "https://x"', "pipelines": ["logs/x"]},
            {"context": "log", "condition": 'resource.schema_url == "https://y" and body == "a1"', "pipelines": ["logs/y"]},
        ],
        "default_pipelines": ["logs/rest"],
    }
    given_logs = logs(MIXED)
    other = Batch(Signal.LOGS, given_logs.payload.replace(b"https://x", b"https://y"), given_logs.count)
    _, sinks = await run(options, Batch.join([given_logs, other]), "logs/x", "logs/y", "logs/rest")
    assert [sink.count for sink in sinks.values()] == [4, 1, 3]


async def test_copy_leaves_the_data_for_the_routes_below() -> None:
    connector, sinks = await run(
        {
            "table": [
                {"context": "log", "condition": 'body == "a1"', "pipelines": ["logs/audit"], "action": "copy"},
                {"condition": 'attributes["service.name"] == "b"', "pipelines": ["logs/b"]},
            ]
        },
        logs(MIXED),
        "logs/audit",
        "logs/b",
    )
    assert {n: bodies(s) for n, s in sinks.items()} == {"logs/audit": ["a1"], "logs/b": ["b1"]}
    assert unmatched(connector) == 2


async def test_unmatched_is_counted() -> None:
    options = {"table": [{"condition": "false", "pipelines": ["logs/a"], "context": "resource"}]}
    connector, _ = await run(options, logs(MIXED), "logs/a")
    assert unmatched(connector) == 4


async def test_spans() -> None:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for name, kind in (("in", 2), ("out", 3)):
        scope.spans.add(name=name, kind=kind)
    _, sinks = await run(
        {
            "default_pipelines": ["traces/rest"],
            "table": [
                {"context": "log", "condition": 'body == "x"', "pipelines": ["logs"]},
                {"context": "span", "condition": "kind == SPAN_KIND_SERVER", "pipelines": ["traces/server"]},
            ],
        },
        Batch(Signal.TRACES, request.SerializeToString(), 2),
        "traces/server",
        "traces/rest",
        "logs",
    )
    assert sinks["traces/server"].count == sinks["traces/rest"].count == 1 and sinks["logs"].count == 0
    assert b"in" in sinks["traces/server"].payload(Signal.TRACES)


def metrics() -> Batch:
    request = ExportMetricsServiceRequest()
    scope = request.resource_metrics.add().scope_metrics.add()
    for name, values in (("m", (1, 2, 3)), ("n", (1,)), ("empty", ())):
        metric = scope.metrics.add(name=name, unit="By")
        metric.sum.is_monotonic = True
        for value in values:
            metric.sum.data_points.add(as_int=value)
    return Batch(Signal.METRICS, request.SerializeToString(), 4)


def values(sink: Sink) -> list[tuple[str, int]]:
    request = ExportMetricsServiceRequest.FromString(sink.payload(Signal.METRICS))
    all_metrics = [m for e in request.resource_metrics for s in e.scope_metrics for m in s.metrics]
    found = [(m.name, p.as_int) for m in all_metrics for p in m.sum.data_points]
    assert len(found) == sink.count
    assert all(m.sum.is_monotonic and m.unit == "By" for m in all_metrics)
    return found


async def test_metrics_and_points() -> None:
    for context, condition, matched in (
        ("metric", 'name == "m"', [("m", 1), ("m", 2), ("m", 3)]),
        ("datapoint", 'value_int == 1 or metric.name == "n"', [("m", 1), ("n", 1)]),
        ("datapoint", "value_int > 5", []),
        ("datapoint", "value_int > 0", None),
    ):
        _, sinks = await run(
            {
                "default_pipelines": ["metrics/rest"],
                "table": [{"context": context, "condition": condition, "pipelines": ["metrics/a"]}],
            },
            metrics(),
            "metrics/a",
            "metrics/rest",
        )
        everything = [("m", 1), ("m", 2), ("m", 3), ("n", 1)]
        matched = everything if matched is None else matched
        assert values(sinks["metrics/a"]) == matched, condition
        assert sorted(values(sinks["metrics/rest"])) == sorted(set(everything) - set(matched))


@pytest.mark.parametrize("error_mode", ["ignore", "silent"])
async def test_a_condition_that_does_not_fit(error_mode: str, caplog: pytest.LogCaptureFixture) -> None:
    table = [{"context": "log", "condition": 'Len(attributes["x"]) > 1', "pipelines": ["logs/a"]}]
    options = {"table": table, "default_pipelines": ["logs/rest"]}
    _, sinks = await run({**options, "error_mode": error_mode}, logs(MIXED), "logs/a", "logs/rest")
    assert sinks["logs/rest"].count == 4
    assert len(caplog.messages) == (error_mode == "ignore"), "one for many records"
    with pytest.raises(Refused) as refused:
        await run(options, logs(MIXED), "logs/a", "logs/rest")
    assert refused.value.permanent and refused.value.reason == "condition error"


async def test_malformed_and_not_utf8() -> None:
    options = {
        "table": [{"context": "log", "condition": 'IsMatch(body, "^x")', "pipelines": ["logs/a"]}],
        "default_pipelines": ["logs/b"],
    }
    with pytest.raises(Refused) as refused:
        await run(options, Batch(Signal.LOGS, b"\x0a\x05x", 1), "logs/a", "logs/b")
    assert refused.value.permanent and refused.value.reason == "malformed"
    payload = logs([("s", [("xQQ", 1), ("yQQ", 1)])]).payload.replace(b"QQ", b"\xff\xfe")
    _, sinks = await run(options, Batch(Signal.LOGS, payload, 2), "logs/a", "logs/b")
    assert b"x\xff\xfe" in sinks["logs/a"].payload(Signal.LOGS) and b"y\xff\xfe" in sinks["logs/b"].payload(Signal.LOGS)


async def test_refusals_go_back() -> None:
    connector = make(COMPONENT, {"table": [{"condition": "true", "pipelines": ["logs/a"]}]}, kind="connectors")
    sink = Sink()
    sink.refuse = Refused("sending queue full", retry_after=1)
    connector.outputs = {"logs/a": sink}
    with pytest.raises(Refused, match="sending queue full"):
        await connector.consume(logs(MIXED))


def test_a_pipeline_that_does_not_receive_from_it() -> None:
    text = """
      receivers: {nop: }
      exporters: {nop: }
      connectors: {routing: {table: [{condition: "true", pipelines: [logs/acne]}], default_pipelines: [logs/acme, logs]}}
      service: {pipelines: {logs: {receivers: [nop], exporters: [routing]}, logs/acme: {receivers: [routing], exporters: [nop]}}}
    """
    with pytest.raises(ConfigErrors) as caught:
        load_config(["yaml:" + text], registry)
    assert [problem.message + "; " + problem.hint for problem in caught.value.errors] == [
        "the pipeline 'logs/acne' does not receive from 'routing'; did you mean 'logs/acme'?",
        "the pipeline 'logs' does not receive from 'routing'; did you mean 'logs/acme'?",
    ]


RECORDS = st.lists(st.tuples(st.text(max_size=3), st.integers(0, 24)), max_size=4)


@given(st.lists(st.tuples(st.sampled_from("abc"), RECORDS), max_size=5))
async def test_every_record_arrives_once(groups: Any) -> None:
    _, sinks = await run(
        {
            "default_pipelines": ["logs/rest"],
            "table": [
                {"context": "log", "condition": "severity_number > 12", "pipelines": ["logs/a"]},
                {"condition": 'attributes["service.name"] == "a"', "pipelines": ["logs/b"]},
            ],
        },
        logs(groups),
        "logs/a",
        "logs/b",
        "logs/rest",
    )
    given_records = [(service, body, severity) for service, records in groups for body, severity in records]
    assert sorted(bodies(sinks["logs/a"])) == sorted(b for _, b, n in given_records if n > 12)
    assert sorted(bodies(sinks["logs/b"])) == sorted(b for s, b, n in given_records if n <= 12 and s == "a")
    assert sorted(bodies(sinks["logs/rest"])) == sorted(b for s, b, n in given_records if n <= 12 and s != "a")


@pytest.mark.parametrize(
    ("route", "message"),
    [
        ({}, "condition or statement"),
        ({"condition": "true", "statement": "route()"}, "condition or statement"),
        ({"condition": 'atributes["a"] == 1'}, "did you mean 'attributes'"),
        ({"statement": 'set(attributes["a"], 1)'}, "editor set is not known here"),
        ({"statement": 'route("a")'}, "takes no arguments"),
        ({"context": "request", "condition": 'request["a"] > "b"'}, "takes one comparison"),
        ({"condition": "true", "pipelines": []}, "at least 1"),
        ({"statement": 'route() where request["a"] == "b"'}, "takes one comparison"),
        ({"condition": 'scope.name == "x"'}, "cannot be used in a route"),
    ],
)
def test_wrong_routes(route: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make(COMPONENT, {"table": [{"pipelines": ["logs"], **route}]}, kind="connectors")
