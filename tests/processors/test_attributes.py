"""The attributes processor: which records it acts on, and that all else of them stays."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from pydantic import ValidationError

from kofagent.component import registry
from kofagent.config.errors import ConfigErrors
from kofagent.config.load import load_config
from kofagent.processors.attributes import COMPONENT, Config
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from kofagent.transform.anyvalue import attributes as to_dict
from kofagent.transform.matching import SEVERITIES, severity
from kofagent.wire import otlp
from tests.processors.support import batch, logs, metrics, pairs, processor, run, spans
from tests.processors.test_resource import ACTIONS, KEYS, VALUES
from tests.reference import attribute_actions

SEEN = {"action": "insert", "key": "seen", "value": True}


async def seen(given_batch: Batch, **match: Any) -> list[bool]:
    """For every record in order: did the action reach it?"""
    out = await run(COMPONENT, {"actions": [SEEN], **match}, given_batch)
    (entries,) = [getattr(out, f.name) for f in out.DESCRIPTOR.fields]
    found = []
    for entry in entries:
        for scope in next(getattr(entry, f.name) for f in entry.DESCRIPTOR.fields if f.name.startswith("scope_")):
            names = [f.name for f in scope.DESCRIPTOR.fields]
            for record in getattr(scope, next(n for n in ("log_records", "spans", "metrics") if n in names)):
                if given_batch.signal is Signal.METRICS:
                    found += ["seen" in to_dict(p.attributes) for p in getattr(record, record.WhichOneof("data")).data_points]
                else:
                    found.append("seen" in to_dict(record.attributes))
    return found


LOGS = batch(
    Signal.LOGS,
    logs(
        {"body": "GET /ready", "severity": 9, "text": "Info", "attributes": {"code": 200, "user": "ann"}},
        {"body": {"m": 1}, "severity": 17, "text": "Error", "attributes": {"code": "200"}},
        {"body": "plain"},
        resource={"service.name": "web", "n": 1},
        scope="lib",
    ),
    logs({"body": "other", "severity": 13}, resource={"service.name": "db"}),
)
SPANS = batch(
    Signal.TRACES,
    spans(
        {"name": "GET", "kind": 2, "attributes": {"http.status": 200}},
        {"name": "db.query", "kind": 3},
        resource={"service.name": "web"},
        scope="lib",
        version="1",
    ),
    spans({"name": "job", "kind": 1}),
)
METRICS = batch(
    Signal.METRICS, metrics("cpu.time", "mem", points=2, resource={"host": "a"}), metrics("cpu.load", resource={"host": "b"})
)


@pytest.mark.parametrize(
    ("given_batch", "match", "want"),
    [
        (LOGS, {}, [True] * 4),
        (LOGS, {"include": {"match_type": "regexp", "log_bodies": ["^GET", "m.:1"]}}, [True, True, False, False]),
        (LOGS, {"include": {"match_type": "strict", "log_bodies": ["plain"]}}, [False, False, True, False]),
        (LOGS, {"include": {"match_type": "strict", "log_severity_texts": ["Error"]}}, [False, True, False, False]),
        (LOGS, {"include": {"log_severity_number": {"min": 13}}}, [False, True, False, True]),
        (LOGS, {"include": {"log_severity_number": {"min": 13, "match_undefined": True}}}, [False, True, True, True]),
        (LOGS, {"include": {"match_type": "strict", "attributes": [{"key": "code", "value": 200}]}}, [True, False, False, False]),
        (LOGS, {"include": {"match_type": "regexp", "attributes": [{"key": "code", "value": "^2"}]}}, [True, True, False, False]),
        (
            LOGS,
            {"include": {"match_type": "strict", "attributes": [{"key": "code"}, {"key": "user"}]}},
            [True, False, False, False],
        ),
        (
            LOGS,
            {"include": {"match_type": "strict", "resources": [{"key": "service.name", "value": "db"}]}},
            [False, False, False, True],
        ),
        (LOGS, {"exclude": {"match_type": "strict", "resources": [{"key": "n", "value": 1}]}}, [False, False, False, True]),
        (
            LOGS,
            {
                "include": {"match_type": "strict", "libraries": [{"name": "lib"}]},
                "exclude": {"match_type": "strict", "log_bodies": ["plain"]},
            },
            [True, True, False, False],
        ),
        (SPANS, {"include": {"match_type": "strict", "services": ["web"]}}, [True, True, False]),
        (SPANS, {"include": {"match_type": "regexp", "services": ["nil-service"]}}, [False, False, True]),
        (SPANS, {"include": {"match_type": "regexp", "span_names": ["^db"]}}, [False, True, False]),
        (SPANS, {"include": {"match_type": "strict", "span_kinds": ["SPAN_KIND_SERVER"]}}, [True, False, False]),
        (SPANS, {"include": {"match_type": "strict", "libraries": [{"name": "lib", "version": "2"}]}}, [False, False, False]),
        (SPANS, {"exclude": {"match_type": "strict", "attributes": [{"key": "http.status", "value": 200}]}}, [False, True, True]),
        (METRICS, {"include": {"match_type": "regexp", "metric_names": ["^cpu"]}}, [True, True, False, False, True]),
        (
            METRICS,
            {
                "include": {
                    "match_type": "strict",
                    "metric_names": ["mem", "cpu.load"],
                    "resources": [{"key": "host", "value": "b"}],
                }
            },
            [False, False, False, False, True],
        ),
    ],
)
async def test_include_and_exclude(given_batch: Batch, match: dict[str, Any], want: list[bool]) -> None:
    assert await seen(given_batch, **match) == want


@pytest.mark.parametrize("kind", ["gauge", "sum", "histogram", "exponential_histogram", "summary"])
async def test_points_of_every_kind(kind: str) -> None:
    actions = [SEEN, {"action": "delete", "key": "n"}]
    out = await run(COMPONENT, {"actions": actions}, batch(Signal.METRICS, metrics("m", points=2, kind=kind)))
    metric = out.resource_metrics[0].scope_metrics[0].metrics[0]
    assert (metric.name, metric.unit) == ("m", "1")
    assert [to_dict(p.attributes) for p in getattr(metric, kind).data_points] == [{"seen": True}] * 2
    assert [p.time_unix_nano for p in getattr(metric, kind).data_points] == [0, 1]


async def test_nothing_reached_is_the_same_batch() -> None:
    nobody = {"match_type": "strict", "log_bodies": ["nobody"]}
    made, sink = processor(COMPONENT, {"actions": [SEEN], "include": nobody}, Signal.LOGS)
    await made.start()
    await made.consume(LOGS)
    assert sink.batches == [LOGS]


def test_properties_of_another_signal_are_an_error_at_their_line() -> None:
    text = """
receivers: {nop: }
exporters: {nop: }
processors:
  attributes:
    actions: [{key: a, action: delete}]
    include:
      match_type: strict
      span_names: [x]
service:
  pipelines:
    logs: {receivers: [nop], processors: [attributes], exporters: [nop]}
    traces: {receivers: [nop], processors: [attributes], exporters: [nop]}
"""
    with pytest.raises(ConfigErrors) as caught:
        load_config(["yaml:" + text], registry)
    (error,) = caught.value.errors
    assert (error.path, error.place.line) == (("processors", "attributes", "include", "span_names"), 9)
    assert error.message == "logs do not have this property"


async def test_malformed_is_refused_for_good_and_counted() -> None:
    made, _ = processor(COMPONENT, {"actions": [SEEN]}, Signal.LOGS)
    await made.start()
    bad = otlp.build_resource([otlp.build_scope([b"\x32\x7f"])])  # attributes longer than the record
    with pytest.raises(Refused):
        await made.consume(Batch(Signal.LOGS, bad, 1))
    assert made.context.ledger.total("kofagent_dropped_items_total", component="p", signal="logs", reason="malformed") == 1


async def test_text_that_is_not_utf8_is_kept() -> None:
    record = LogRecord(body=pairs({"b": b"\xff\xfe"})[0].value).SerializeToString().replace(b"\x3a\x02\xff", b"\x0a\x02\xff")
    payload = otlp.build_resource([otlp.build_scope([record])])
    made, sink = processor(COMPONENT, {"actions": [SEEN], "include": {"match_type": "regexp", "log_bodies": ["."]}}, Signal.LOGS)
    await made.start()
    await made.consume(Batch(Signal.LOGS, payload, 1))
    assert b"\xff\xfe" in sink.payload(Signal.LOGS) and b"seen" in sink.payload(Signal.LOGS)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "actions"),
        ({"actions": []}, "actions"),
        ({"actions": [SEEN], "include": {}}, "no property to match"),
        ({"actions": [SEEN], "include": {"services": ["a"]}}, "match_type is required"),
        ({"actions": [SEEN], "include": {"match_type": "regexp", "services": ["("]}}, "not a regular expression"),
        ({"actions": [SEEN], "include": {"match_type": "strict", "span_kinds": ["server"]}}, "is not a kind of span"),
        ({"actions": [SEEN], "include": {"log_severity_number": {"min": "LOUD"}}}, "is not a severity"),
        ({"actions": [SEEN], "include": {"match_type": "regexp", "attributes": [{"key": "a", "value": 1}]}}, "must be a string"),
    ],
)
def test_wrong_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Config.model_validate(options)


def test_in_words() -> None:
    made, _ = processor(COMPONENT, {"actions": [SEEN], "include": {"match_type": "strict", "span_names": ["x"]}}, Signal.TRACES)
    assert made.explain().splitlines() == ["include {'match_type': 'strict', 'span_names': ['x']}", "insert seen = True"]


def test_severities() -> None:
    assert (SEVERITIES["TRACE"], SEVERITIES["INFO"], SEVERITIES["INFO2"], SEVERITIES["FATAL4"], len(SEVERITIES)) == (
        1,
        9,
        10,
        24,
        24,
    )
    assert [severity(x) for x in ("info2", "17", 13, "24", 24, 0)] == [10, 17, 13, 24, 24, 0]
    for wrong in ("25", 25, -1, "LOUD", True, "\u00b2"):
        with pytest.raises(ValueError, match="is not a severity"):
            severity(wrong)


@given(st.lists(st.tuples(KEYS, VALUES), max_size=5), st.lists(ACTIONS, min_size=1, max_size=3))
async def test_equals_the_plain_twin(attributes: list[tuple[str, Any]], actions: list[dict[str, Any]]) -> None:
    request = spans({"name": "s", "events": ["e"]}, {"name": "t"})
    span: Span = request.resource_spans[0].scope_spans[0].spans[0]
    for key, value in attributes:
        span.attributes.extend(pairs({key: value}))
    metadata = {"tenant": ("one", "two")}
    out = await run(COMPONENT, {"actions": actions}, batch(Signal.TRACES, request, metadata=metadata))
    for each in request.resource_spans[0].scope_spans[0].spans:
        attribute_actions.apply(each.attributes, actions, metadata)
    assert out.SerializeToString(deterministic=True) == request.SerializeToString(deterministic=True)
