"""The filter processor: match lists, OTTL conditions, what is counted and what stays."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from kofagent.processors.filter import COMPONENT
from kofagent.processors.filter.config import Config
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from kofagent.transform.anyvalue import attributes as to_dict
from kofagent.wire import otlp
from tests.processors.support import REQUESTS, batch, logs, metrics, processor, run, spans
from tests.support.components import FakeHost

LOGS = [
    logs(
        {"body": "a", "severity": 9, "text": "Info", "attributes": {"k": 1}},
        {"body": "b", "severity": 17, "text": "Error"},
        {"body": "c"},
        resource={"service.name": "web"},
    ),
    logs({"body": "d", "severity": 5}, resource={"service.name": "db", "n": 2}),
]
SPANS = [spans({"name": "GET", "kind": 2, "events": ["keep", "drop"]}, {"name": "db", "kind": 3}, resource={"service.name": "web"})]
METRICS = [metrics("cpu.time", "mem.used", points=3, resource={"host": "a"}), metrics("cpu.load", resource={"host": "b"})]


def bodies(request: Any) -> str:
    return "".join(r.body.string_value for e in request.resource_logs for s in e.scope_logs for r in s.log_records)


def names(request: Any) -> list[str]:
    return [
        f"{m.name}:{''.join(str(to_dict(p.attributes)['n']) for p in getattr(m, m.WhichOneof('data')).data_points)}"
        for e in request.resource_metrics
        for s in e.scope_metrics
        for m in s.metrics
    ]


def span_names(request: Any) -> list[str]:
    found = [x for e in request.resource_spans for s in e.scope_spans for x in s.spans]
    return [f"{x.name}:{','.join(e.name for e in x.events)}" for x in found]


@pytest.mark.parametrize(
    ("options", "want", "rules"),
    [
        ({}, "abcd", {}),
        ({"include": {"match_type": "strict", "bodies": ["a", "d"]}}, "ad", {"logs.include": 2}),
        ({"exclude": {"match_type": "regexp", "bodies": ["[ab]"]}}, "cd", {"logs.exclude": 2}),
        ({"include": {"match_type": "regexp", "severity_texts": ["."]}}, "ab", {"logs.include": 2}),
        ({"include": {"severity_number": {"min": "INFO"}}}, "ab", {"logs.include": 2}),
        ({"exclude": {"severity_number": {"min": "warn", "match_undefined": True}}}, "ad", {"logs.exclude": 2}),
        ({"include": {"match_type": "strict", "record_attributes": [{"key": "k", "value": 1}]}}, "a", {"logs.include": 3}),
        (
            {"exclude": {"match_type": "strict", "resource_attributes": [{"key": "service.name", "value": "web"}]}},
            "d",
            {"logs.exclude": 3},
        ),
        ({"include": {"match_type": "strict"}}, "abcd", {}),
        (
            {
                "include": {"match_type": "strict", "resource_attributes": [{"key": "n"}]},
                "exclude": {"match_type": "strict", "bodies": ["d"]},
            },
            "",
            {"logs.include": 3, "logs.exclude": 1},
        ),
        (
            {"log_record": ['body == "a"', "severity_number >= SEVERITY_NUMBER_ERROR"]},
            "cd",
            {"logs.log_record[0]": 1, "logs.log_record[1]": 1},
        ),
        (
            {"log_record": ['attributes["k"] == 1 and resource.attributes["service.name"] == "web"']},
            "bcd",
            {"logs.log_record[0]": 1},
        ),
        ({"resource": ['attributes["service.name"] == "web"']}, "d", {"logs.resource[0]": 3}),
    ],
)
async def test_logs(options: dict[str, Any], want: str, rules: dict[str, int]) -> None:
    host = FakeHost()
    out = await run(COMPONENT, {"logs": options}, batch(Signal.LOGS, *LOGS), host)
    assert bodies(out) == want
    assert len(out.resource_logs) == len({letter == "d" for letter in want})  # an emptied resource goes too
    for rule, items in rules.items():
        assert host.ledger.total("kofagent_filtered_items_total", component="p", signal="logs", rule=rule) == items
    assert host.ledger.sum("kofagent_filtered_items_total") == sum(rules.values()) == 4 - len(want)
    assert host.ledger.total("otelcol_processor_outgoing_items_total", processor="p", otel_signal="logs") == len(want)
    assert host.ledger.total("otelcol_processor_filter_logs_filtered_total", filter="p") == 4 - len(want)


@pytest.mark.parametrize(
    ("options", "want", "filtered"),
    [
        (
            {"include": {"match_type": "regexp", "metric_names": ["^cpu"], "regexp": {"cacheenabled": True}}},
            ["cpu.time:012", "cpu.load:0"],
            3,
        ),
        ({"exclude": {"match_type": "strict", "metric_names": ["mem.used"]}}, ["cpu.time:012", "cpu.load:0"], 3),
        (
            {
                "include": {
                    "match_type": "strict",
                    "metric_names": ["cpu.load"],
                    "resource_attributes": [{"key": "host", "value": "a"}],
                }
            },
            [],
            7,
        ),
        (
            {
                "exclude": {
                    "match_type": "strict",
                    "metric_names": ["mem.used"],
                    "resource_attributes": [{"key": "host", "value": "b"}],
                }
            },
            ["cpu.time:012"],
            4,
        ),
        ({"include": {"match_type": "regexp", "resource_attributes": [{"key": "host", "value": "[b]"}]}}, ["cpu.load:0"], 6),
        ({"metric": ['name == "cpu.time"']}, ["mem.used:012", "cpu.load:0"], 3),
        ({"datapoint": ['attributes["n"] == 1', 'metric.name == "cpu.load"']}, ["cpu.time:02", "mem.used:02"], 3),
        ({"resource": ['attributes["host"] == "a"']}, ["cpu.load:0"], 6),
    ],
)
async def test_metrics(options: dict[str, Any], want: list[str], filtered: int) -> None:
    host = FakeHost()
    out = await run(COMPONENT, {"metrics": options}, batch(Signal.METRICS, *METRICS), host)
    assert names(out) == want
    assert host.ledger.sum("kofagent_filtered_items_total") == filtered


@pytest.mark.parametrize(
    ("options", "want", "filtered"),
    [
        ({"spans": {"include": {"match_type": "strict", "span_names": ["db"]}}}, ["db:"], 1),
        ({"spans": {"exclude": {"match_type": "strict", "services": ["web"]}}}, [], 2),
        ({"traces": {"span": ['name == "db"']}}, ["GET:keep,drop"], 1),
        ({"traces": {"span": ["kind == SPAN_KIND_SERVER"]}}, ["db:"], 1),
        ({"traces": {"spanevent": ['name == "drop"']}}, ["GET:keep", "db:"], 0),
    ],
)
async def test_traces(options: dict[str, Any], want: list[str], filtered: int) -> None:
    host = FakeHost()
    out = await run(COMPONENT, options, batch(Signal.TRACES, *SPANS), host)
    assert span_names(out) == want
    assert host.ledger.sum("kofagent_filtered_items_total") == filtered


@pytest.mark.parametrize(
    ("signal", "conditions", "want", "rules"),
    [
        (
            Signal.LOGS,
            ['log.body == "a"', 'resource.attributes["service.name"] == "db"'],
            "bc",
            {"log_conditions[0]": 1, "log_conditions[1]": 1},
        ),
        (
            Signal.LOGS,
            ['resource.attributes["service.name"] == "web" and log.severity_number > 10'],
            "acd",
            {"log_conditions[0]": 1},
        ),
        (Signal.LOGS, ['scope.name == ""'], "", {"log_conditions[0]": 4}),
        (
            Signal.LOGS,
            [{"context": "log", "conditions": ['body == "a"']}, {"conditions": ['log.body == "b"']}],
            "cd",
            {"log_conditions[0].conditions[0]": 1, "log_conditions[1].conditions[0]": 1},
        ),
        (
            Signal.LOGS,
            [{"context": "log", "conditions": ['attributes["k"] + Len("x") == attributes["none"] + 1'], "error_mode": "silent"}],
            "abcd",
            {},
        ),
        (
            Signal.METRICS,
            ['datapoint.attributes["n"] == 0', 'metric.name == "mem.used"'],
            ["cpu.time:12"],
            {"metric_conditions[0]": 2, "metric_conditions[1]": 3},
        ),
        (Signal.TRACES, ['spanevent.name == "drop"', 'span.name == "db"'], ["GET:keep"], {"trace_conditions[1]": 1}),
    ],
)
async def test_conditions_of_an_inferred_context(signal: Signal, conditions: list[Any], want: Any, rules: dict[str, int]) -> None:
    host = FakeHost()
    given_batch, read, name = {
        Signal.LOGS: (LOGS, bodies, "log"),
        Signal.METRICS: (METRICS, names, "metric"),
        Signal.TRACES: (SPANS, span_names, "trace"),
    }[signal]
    out = await run(COMPONENT, {f"{name}_conditions": conditions}, batch(signal, *given_batch), host)
    assert read(out) == want
    for rule, items in rules.items():
        assert host.ledger.total("kofagent_filtered_items_total", component="p", signal=signal.value, rule=rule) == items
    assert host.ledger.sum("kofagent_filtered_items_total") == sum(rules.values())


def test_rules_in_words() -> None:
    options: dict[str, Any] = {"logs": {"exclude": {"match_type": "strict", "bodies": ["a"]}}}
    assert processor(COMPONENT, options, Signal.LOGS)[0].explain().splitlines() == ["logs.exclude"]
    made, _ = processor(COMPONENT, {"log_conditions": ['log.body == "b"']}, Signal.LOGS)
    assert made.explain().startswith('log_conditions[0] (log): log.body == "b"\n    def bind(')


async def test_what_stays_is_the_same_batch_and_what_goes_reaches_nobody() -> None:
    made, sink = processor(COMPONENT, {"logs": {"exclude": {"match_type": "strict", "bodies": ["nobody"]}}}, Signal.LOGS)
    await made.start()
    same = batch(Signal.LOGS, *LOGS)
    await made.consume(same)
    assert sink.batches == [same]
    made, sink = processor(COMPONENT, {"logs": {"exclude": {"match_type": "regexp", "bodies": ["."]}}}, Signal.LOGS)
    await made.start()
    await made.consume(same)
    assert sink.batches == []


async def test_a_refused_batch_that_comes_again_is_counted_once() -> None:
    made, sink = processor(COMPONENT, {"logs": {"exclude": {"match_type": "strict", "bodies": ["a"]}}}, Signal.LOGS)
    await made.start()
    sink.refuse = Refused("sending queue full")
    with pytest.raises(Refused):
        await made.consume(batch(Signal.LOGS, *LOGS))
    sink.refuse = None
    await made.consume(batch(Signal.LOGS, *LOGS))
    assert made.context.ledger.sum("kofagent_filtered_items_total") == 1


FAILS = 'attributes["k"] + Len("x") == attributes["none"] + 1'


@pytest.mark.parametrize("mode", ["ignore", "silent"])
async def test_a_condition_that_fails_leaves_the_item(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    out = await run(COMPONENT, {"error_mode": mode, "logs": {"log_record": [FAILS]}}, batch(Signal.LOGS, *LOGS))
    assert bodies(out) == "abcd"
    assert len([r for r in caplog.records if "could not be evaluated" in r.message]) == (1 if mode == "ignore" else 0)


async def test_a_condition_that_fails_drops_the_payload_if_it_shall() -> None:
    made, _ = processor(COMPONENT, {"error_mode": "propagate", "logs": {"log_record": [FAILS]}}, Signal.LOGS)
    await made.start()
    with pytest.raises(Refused) as refused:
        await made.consume(batch(Signal.LOGS, *LOGS))
    assert refused.value.permanent
    assert made.context.ledger.total("kofagent_dropped_items_total", component="p", signal="logs", reason="condition error") == 4


async def test_schema_urls_can_be_asked_for() -> None:
    given_logs = logs({"body": "a"})
    given_logs.resource_logs[0].schema_url, given_logs.resource_logs[0].scope_logs[0].schema_url = "https://r", "https://s"
    for text, left in (
        ('resource.schema_url == "https://r"', ""),
        ('scope.schema_url == "https://s" and log.body == "a"', ""),
        ('resource.schema_url == ""', "a"),
    ):
        assert bodies(await run(COMPONENT, {"log_conditions": [text]}, batch(Signal.LOGS, given_logs))) == left, text


async def test_text_that_is_not_utf8_stays_whatever_the_mode() -> None:
    payload = otlp.build_resource([otlp.build_scope([b"\x2a\x04\x0a\x02\xff\xfe"])])
    made, sink = processor(COMPONENT, {"logs": {"log_record": ['body == "a"']}}, Signal.LOGS)
    await made.start()
    await made.consume(Batch(Signal.LOGS, payload, 1))
    assert sink.payload(Signal.LOGS) == payload


async def test_malformed_is_refused_for_good_and_counted() -> None:
    made, _ = processor(COMPONENT, {"logs": {"exclude": {"match_type": "strict", "bodies": ["a"]}}}, Signal.LOGS)
    await made.start()
    with pytest.raises(Refused):
        await made.consume(Batch(Signal.LOGS, otlp.build_resource([otlp.build_scope([b"\x2a\x7f"])]), 1))
    assert made.context.ledger.total("kofagent_dropped_items_total", component="p", signal="logs", reason="malformed") == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"metrics": {"include": {"match_type": "expr", "expressions": ["x ="]}}}, "expression"),
        ({"metrics": {"include": {"match_type": "strict", "expressions": ["x"]}}}, "need match_type: expr"),
        ({"log_conditions": ['log.body == "x"'], "logs": {"log_record": ['body == "y"']}}, "cannot be combined"),
        ({"metrics": {"include": {"metric_names": ["x"]}}}, "match_type is required"),
        ({"metrics": {"include": {"match_type": "regexp", "metric_names": ["("]}}}, "not a regular expression"),
        ({"logs": {"include": {"match_type": "strict", "severity_number": {"min": "LOUD"}}}}, "is not a severity"),
        ({"logs": {"log_record": ['bdy == "x"']}}, "body"),
        (
            {"logs": {"log_record": ['body == "x"'], "include": {"match_type": "strict", "bodies": ["x"]}}},
            "cannot be combined",
        ),
        (
            {"traces": {"span": ['name == "x"']}, "spans": {"include": {"match_type": "strict", "span_names": ["x"]}}},
            "cannot be combined",
        ),
        ({"spans": {"include": {"match_type": "strict", "log_bodies": ["x"]}}}, "spans do not have log_bodies"),
        ({"error_mode": "loud"}, "error_mode"),
        ({"log_conditions": ['body == "x"']}, "must begin with its context"),
        ({"log_conditions": ['span.name == "x"']}, "not one of this signal"),
        ({"log_conditions": ['log.body == "x"', {"conditions": ['log.body == "y"']}]}, "cannot be mixed"),
        ({"log_conditions": [{"context": "span", "conditions": ["true"]}]}, "not a context of logs"),
        ({"log_conditions": ["1 == 1"]}, "no path that shows its context"),
        ({"trace_conditions": ["span.nme == 1"]}, "unknown path"),
    ],
)
def test_wrong_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Config.model_validate(options)


@given(
    st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 24)), max_size=4), max_size=3),
    st.sampled_from("abc"),
    st.integers(1, 24),
)
async def test_equals_the_plain_twin(resources: list[list[tuple[str, int]]], body: str, level: int) -> None:
    requests = [logs(*({"body": b, "severity": s} for b, s in records), resource={"i": i}) for i, records in enumerate(resources)]
    options = {"include": {"severity_number": {"min": level}}, "exclude": {"match_type": "strict", "bodies": [body]}}
    given_batch = batch(Signal.LOGS, *requests)
    out = await run(COMPONENT, {"logs": options}, given_batch)
    before = REQUESTS[Signal.LOGS].FromString(given_batch.payload)
    want = [
        (resource, record.SerializeToString())
        for resource, record in flat(before)
        if record.severity_number >= level and record.body.string_value != body
    ]
    assert [(resource, record.SerializeToString()) for resource, record in flat(out)] == want


def flat(request: Any) -> list[tuple[bytes, Any]]:
    return [(e.resource.SerializeToString(), r) for e in request.resource_logs for s in e.scope_logs for r in s.log_records]


def test_the_schema_takes_what_the_options_take() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema comes with the test extra's moto[server]")
    schema = Config.model_json_schema()
    for options in (
        {"log_conditions": ['log.body == "a"']},
        {"log_conditions": [{"context": "log", "conditions": ['body == "a"']}]},
        {"logs": {"include": {"severity_number": {"min": "INFO"}}}},
    ):
        Config.model_validate(options)
        jsonschema.validate(options, schema)
