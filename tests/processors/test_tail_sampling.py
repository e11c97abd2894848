"""tail_sampling: each policy, the decision that is made of them, and what becomes of the spans meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pydantic import ValidationError

from kofagent.processors.tail_sampling import COMPONENT, policies, processor
from kofagent.processors.tail_sampling.config import Config, Policy
from kofagent.processors.tail_sampling.policies import Bucket, Trace, compile_policy, fnv64
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from tests.processors.support import batch, pairs
from tests.processors.support import processor as made_processor
from tests.support.components import FakeHost, eventually

MS = 10**6
ALL = {"name": "all", "type": "always_sample"}
LONG = {"decision_wait": "1h"}


def request(*spans: dict[str, Any], resource: dict[str, Any] | None = None) -> ExportTraceServiceRequest:
    """A span has trace, name, ms (start, end), code, attributes, state, flags, parent and events (names)."""
    made = ExportTraceServiceRequest()
    entry = made.resource_spans.add()
    entry.resource.attributes.extend(pairs(resource or {}))
    scope = entry.scope_spans.add()
    scope.scope.name = "s"
    for one in spans:
        start, end = one.get("ms", (0, 1))
        span = scope.spans.add(trace_id=one.get("trace", "a").encode().rjust(16, b"\0"), name=one.get("name", "n"))
        span.start_time_unix_nano, span.end_time_unix_nano = (1000 + start) * MS, (1000 + end) * MS
        span.status.code, span.trace_state, span.flags = one.get("code", 0), one.get("state", ""), one.get("flags", 0)
        span.parent_span_id = b"p" * 8 if one.get("parent", True) else b""
        span.attributes.extend(pairs(one.get("attributes", {})))
        for name in one.get("events", ()):
            span.events.add(name=name)
    return made


def asked(policy: dict[str, Any], *spans: dict[str, Any], resource: dict[str, Any] | None = None) -> bool:
    """What a policy says of a trace."""
    payload = request(*spans, resource=resource).SerializeToString()
    decide = compile_policy(Policy.model_validate({"name": "p", **policy}))
    return decide(Trace(b"\0" * 15 + b"a", payload, len(spans)))


NUMBER = {"type": "numeric_attribute", "numeric_attribute": {"key": "k", "min_value": 50, "max_value": 100}}
TEXT = {"type": "string_attribute", "string_attribute": {"key": "k", "values": ["v1", "v2"]}}
REGEX = {"type": "string_attribute", "string_attribute": {"key": "k", "values": ["^v\\d$"], "enabled_regex_matching": True}}
TRUTH = {"type": "boolean_attribute", "boolean_attribute": {"key": "k", "value": True}}


def inverted(policy: dict[str, Any]) -> dict[str, Any]:
    return {**policy, policy["type"]: {**policy[policy["type"]], "invert_match": True}}


def having(value: Any) -> dict[str, Any]:
    return {"attributes": {"k": value}}


@pytest.mark.parametrize(
    ("policy", "yes", "no"),
    [
        ({"type": "latency", "latency": {"threshold_ms": 5}}, [{"ms": (0, 3)}, {"ms": (3, 6)}], [{"ms": (0, 5)}]),
        (
            {"type": "latency", "latency": {"threshold_ms": 5, "upper_threshold_ms": 10}},
            [{"ms": (0, 10)}],
            [{"ms": (0, 11)}],
        ),
        (NUMBER, [{}, having(50)], [having(49)]),
        (NUMBER, [having(99.5)], [having(100.5)]),
        (NUMBER, [having(100)], [having("70")]),
        (inverted(NUMBER), [having(49)], [{}, having(70)]),
        ({"type": "numeric_attribute", "numeric_attribute": {"key": "k", "min_value": 50}}, [having(10**9)], [having(True)]),
        ({"type": "status_code", "status_code": {"status_codes": ["ERROR", "UNSET"]}}, [{"code": 1}, {"code": 2}], [{"code": 1}]),
        (TEXT, [having("v2")], [having("v3")]),
        (inverted(TEXT), [having("v3")], [having("v3"), having("v1")]),
        (REGEX, [having("v3")], [having("v33")]),
        (REGEX, [having("v1")], [having(1)]),
        (TRUTH, [having(True)], [having(False)]),
        (inverted(TRUTH), [having(False)], [having(True)]),
        ({"type": "trace_state", "trace_state": {"key": "t", "values": ["1", "2"]}}, [{"state": "a=1, t=2"}], [{"state": "t=3"}]),
        (
            {"type": "trace_state", "trace_state": {"key": "t", "values": ["2"]}},
            [{"state": "bad"}, {"state": "t=2"}],
            [{"state": "=2"}],
        ),
        ({"type": "trace_flags"}, [{"flags": 0}, {"flags": 0x101}], [{"flags": 0x102}]),
        ({"type": "span_count", "span_count": {"min_spans": 2}}, [{}] * 2, [{}]),
        ({"type": "span_count", "span_count": {"min_spans": 2, "max_spans": 3}}, [{}] * 3, [{}] * 4),
        (
            {"type": "ottl_condition", "ottl_condition": {"span": ['attributes["k"] == 1', 'span.name == "x"']}},
            [{"name": "x"}],
            [{"name": "y"}],
        ),
        (
            {"type": "ottl_condition", "ottl_condition": {"spanevent": ['spanevent.name == "exception"']}},
            [{"events": ["a", "exception"]}],
            [{"events": ["a"]}],
        ),
        (
            {
                "type": "and",
                "and": {
                    "and_sub_policy": [{"name": "1", **NUMBER}, {"name": "2", "type": "span_count", "span_count": {"min_spans": 2}}]
                },
            },
            [having(60), {}],
            [having(60)],
        ),
        ({"type": "not", "not": {"not_sub_policy": {"name": "1", **TEXT}}}, [having("v3")], [having("v1")]),
        (
            {
                "type": "and",
                "and": {"and_sub_policy": [{"name": "1", "type": "not", "not": {"not_sub_policy": {"name": "2", **TEXT}}}]},
            },
            [{}],
            [having("v1")],
        ),
        ({"type": "drop", "drop": {"drop_sub_policy": [{"name": "1", **REGEX}]}}, [having("v1")], [{}]),
        ({"type": "probabilistic", "probabilistic": {"sampling_percentage": 100}}, [{}], []),
    ],
)
def test_policies(policy: dict[str, Any], yes: list[dict[str, Any]], no: list[dict[str, Any]]) -> None:
    assert asked(policy, *yes)
    assert not no or not asked(policy, *no)


@pytest.mark.parametrize(("policy", "value"), [(NUMBER, 60), (TEXT, "v1"), (TRUTH, True)])
def test_attributes_of_resources_count_as_those_of_spans(policy: dict[str, Any], value: Any) -> None:
    assert asked(policy, {}, resource={"k": value}) and not asked(policy, {}, resource={"other": value})
    assert not asked(inverted(policy), {}, resource={"k": value})


def test_the_share_of_a_hash() -> None:
    assert fnv64(b"foobar") == 0x85944171F73967E8
    counts = {}
    for percentage in (0, 30, 100):
        decide = compile_policy(
            Policy.model_validate({"name": "p", "type": "probabilistic", "probabilistic": {"sampling_percentage": percentage}})
        )
        counts[percentage] = sum(decide(Trace(hashlib.md5(b"%d" % i).digest(), b"", 1)) for i in range(1000))
    assert counts[0] == 0 and counts[100] == 1000 and 250 < counts[30] < 350


def test_limits_are_buckets_that_fill_up() -> None:
    now = 0.0
    bucket = Bucket(10, 20, lambda: now)
    assert bucket.take(20) and not bucket.take(1)
    now = 0.5
    assert bucket.take(5) and not bucket.take(1)
    now = 100.0
    assert not bucket.take(21) and bucket.take(20)


@pytest.mark.parametrize(
    "policy",
    [
        {"type": "rate_limiting", "rate_limiting": {"spans_per_second": 3}},
        {"type": "rate_limiting", "rate_limiting": {"spans_per_second": 1, "burst_capacity": 6}},
        {"type": "bytes_limiting", "bytes_limiting": {"bytes_per_second": 150}},
    ],
)
def test_limiting_policies_let_twice_their_rate_pass_at_once(policy: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kofagent.processors.tail_sampling.policies.time.monotonic", lambda: 1.0)
    decide = compile_policy(Policy.model_validate({"name": "p", **policy}))
    trace = Trace(b"t" * 16, b"x" * 100, 2)
    assert [decide(trace) for _ in range(4)] == [True, True, True, False]


def test_a_composite_shares_its_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    block = {
        "max_total_spans_per_second": 10,
        "policy_order": ["second", "first"],
        "composite_sub_policy": [
            {"name": "first", "type": "always_sample"},
            {"name": "second", **TEXT},
            {"name": "third", "type": "and", "and": {"and_sub_policy": [{"name": "x", **TEXT}]}},
        ],
        "rate_allocation": [{"policy": "second", "percent": 50}],
    }
    options = Policy.model_validate({"name": "p", "type": "composite", "composite": block}).composite
    decide = policies._composite(options, lambda: now)

    def trace(count: int, value: str) -> Trace:
        return Trace(b"t" * 16, request(*[having(value)] * count).SerializeToString(), count)

    assert decide(trace(4, "v1")) and not decide(trace(4, "v1")) and decide(trace(1, "v1")), "half for the one that is asked first"
    assert decide(trace(3, "other")) and not decide(trace(1, "other")), "an equal share for those without one"
    now = 1.2
    assert decide(trace(5, "v1"))


class Line:
    """A processor of which the test says when it decides."""

    def __init__(self, host: FakeHost | None = None, **options: Any) -> None:
        self.host = host or FakeHost()
        self.went_back = 0
        self.made, self.sink = made_processor(COMPONENT, {"policies": [ALL], **LONG, **options}, Signal.TRACES, self.host)

    async def __aenter__(self) -> Line:
        await self.made.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.made.stop()
        assert self.host.reserved == 0
        total = self.host.ledger.sum
        gone = total("kofagent_filtered_items_total") + total("kofagent_dropped_items_total")
        incoming = total("otelcol_processor_incoming_items_total")
        assert incoming == total("otelcol_processor_outgoing_items_total") + gone + self.went_back

    async def send(self, *spans: dict[str, Any], **more: Any) -> None:
        await self.made.consume(batch(Signal.TRACES, request(*spans, **more)))

    async def decide(self) -> None:
        self.made._decide(list(self.made._traces.due(float("inf"))))
        await eventually(lambda: not self.made._senders)

    @property
    def names(self) -> list[str]:
        found = [ExportTraceServiceRequest.FromString(b.payload) for b in self.sink.batches if isinstance(b, Batch)]
        return [span.name for r in found for e in r.resource_spans for s in e.scope_spans for span in s.spans]

    def filtered(self, rule: str) -> float:
        return self.host.ledger.total("kofagent_filtered_items_total", component="p", signal="traces", rule=rule)

    def dropped(self, reason: str) -> float:
        return self.host.ledger.total("kofagent_dropped_items_total", component="p", signal="traces", reason=reason)


async def test_a_trace_is_held_until_it_is_decided_on_as_a_whole() -> None:
    async with Line(policies=[{"name": "errors", "type": "status_code", "status_code": {"status_codes": ["ERROR"]}}]) as line:
        await line.send({"trace": "a", "name": "a1"}, {"trace": "b", "name": "b1"}, resource={"service.name": "x"})
        await line.send({"trace": "a", "name": "a2", "code": 2})
        assert line.names == [] and line.host.ledger.sum("kofagent_processor_held_items") == 3 and line.host.reserved > 0
        await line.decide()
        assert line.names == ["a1", "a2"]
        kept = ExportTraceServiceRequest.FromString(line.sink.payload(Signal.TRACES)).resource_spans[0]
        assert kept.resource.attributes[0].value.string_value == "x" and kept.scope_spans[0].scope.name == "s"
        assert line.host.ledger.sum("kofagent_processor_held_items") == 0 == line.host.reserved
        assert line.filtered("not sampled") == 1
        total, name = line.host.ledger.total, "otelcol_processor_tail_sampling_{}_total"
        assert total(name.format("global_count_traces_sampled"), processor="p", sampled="true", decision="sampled") == 1
        labels = {"processor": "p", "policy": "errors", "sampled": "false", "decision": "not_sampled"}
        assert total(name.format("count_spans_sampled"), **labels) == 1
        assert total(name.format("new_trace_id_received"), processor="p") == 2


async def test_the_timer_decides_and_the_root_hastens_it() -> None:
    async with Line(decision_wait="1ms") as line:
        await line.send({"name": "soon"})
        await line.sink.wait_for(lambda sink: line.names == ["soon"])
    async with Line(decision_wait_after_root_received="1ms") as line:
        await line.send({"trace": "a", "name": "waits"}, {"trace": "b", "name": "child"})
        await line.send({"trace": "b", "name": "root", "parent": False})
        await line.sink.wait_for(lambda sink: sorted(line.names) == ["child", "root"])
        assert list(line.made._traces.waiting) == [b"a".rjust(16, b"\0")]


async def test_spans_that_come_after_a_decision_follow_it() -> None:
    policy = {"name": "count", "type": "span_count", "span_count": {"min_spans": 2}}
    async with Line(policies=[policy]) as line:
        await line.send({"trace": "a"}, {"trace": "a"}, {"trace": "b"})
        await line.decide()
        await line.send({"trace": "a", "name": "late"}, {"trace": "b", "name": "gone"}, {"trace": "c", "name": "new"})
        assert line.names == ["n", "n", "late"] and line.filtered("not sampled") == 2
        assert line.host.ledger.sum("kofagent_processor_held_items") == 1
        line.sink.refuse = Refused("sending queue full", retry_after=3)
        with pytest.raises(Refused) as refused:
            await line.send({"trace": "a", "name": "later"}, {"trace": "c", "name": "not twice"})
        assert refused.value.retry_after == 3
        line.sink.refuse, line.went_back = None, 2
        await line.send({"trace": "a", "name": "later"}, {"trace": "c", "name": "not twice"})
        assert line.names[-1] == "later" and line.host.ledger.sum("kofagent_processor_held_items") == 2


async def test_decisions_are_remembered_as_long_as_asked_for_and_over_a_reload() -> None:
    host = FakeHost()
    cache = {"decision_cache": {"sampled_cache_size": 2, "non_sampled_cache_size": 2}}
    async with Line(host, **cache) as line:
        for name in "abcdefgh":
            await line.send({"trace": name})
            await line.decide()
        known = [name for name in "abcdefgh" if line.made._decisions.of(name.encode().rjust(16, b"\0")) is not None]
        assert known[-2:] == ["g", "h"] and len(known) <= 4
    async with Line(host, **cache) as line:
        await line.send({"trace": "h", "name": "late"})
        assert line.names == ["late"]


async def test_a_drop_policy_has_the_last_word() -> None:
    drop = {"name": "health", "type": "drop", "drop": {"drop_sub_policy": [{"name": "x", **TEXT}]}}
    async with Line(policies=[ALL, drop]) as line:
        await line.send({"trace": "a", **having("v1")}, {"trace": "b", "name": "b"})
        await line.decide()
        assert line.names == ["b"] and line.filtered("dropped") == 1
        assert line.made.explain() == "drop by health\nsample by all\n"


@pytest.mark.parametrize(("first", "rates"), [(False, [1, 0]), (True, [1, 1])])
async def test_all_policies_are_asked_unless_the_first_match_counts(first: bool, rates: list[int]) -> None:
    """A policy that is asked takes from its bucket."""
    limited = {"name": "limited", "type": "rate_limiting", "rate_limiting": {"spans_per_second": 0, "burst_capacity": 1}}
    async with Line(policies=[{"name": "t", **TEXT}, limited], sample_on_first_match=first) as line:
        await line.send({"trace": "a", "name": "a", **having("v1")})
        await line.decide()
        await line.send({"trace": "b", "name": "b"})
        await line.decide()
        assert [line.names.count(name) for name in "ab"] == rates


async def test_a_policy_that_fails_samples_nothing_and_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    broken: dict[str, Any] = {"name": "b", "type": "ottl_condition", "ottl_condition": {"span": ['Len(attributes["k"]) > 0']}}
    async with Line(policies=[broken]) as line:
        await line.send({})
        await line.decide()
        assert line.names == [] and "the policy b could not be asked" in caplog.text
        assert line.host.ledger.sum("otelcol_processor_tail_sampling_sampling_policy_evaluation_error_total") == 1
    ignoring = {**broken, "ottl_condition": {**broken["ottl_condition"], "error_mode": "ignore"}}
    async with Line(policies=[ignoring, ALL]) as line:
        await line.send({"name": "kept"})
        await line.decide()
        assert line.names == ["kept"]


async def test_the_oldest_trace_makes_room_and_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    async with Line(num_traces=2) as line:
        for name in "abc":
            await line.send({"trace": name, "name": name})
        assert line.dropped("evicted") == 1 and "num_traces" in caplog.text
        await line.decide()
        assert line.names == ["b", "c"]


async def test_or_new_ones_are_refused_for_now() -> None:
    host = FakeHost()
    line = Line(host, num_traces=2, block_on_overflow=True)
    await line.made.start()
    await line.send({"trace": "a", "name": "a"}, {"trace": "b", "name": "b"})
    with pytest.raises(Refused) as refused:
        await line.send({"trace": "c", "name": "c"})
    assert (refused.value.permanent, refused.value.retry_after) == (False, 1)
    await line.send({"trace": "a", "name": "a2"})
    await line.decide()
    await line.send({"trace": "c", "name": "c"})
    await line.made.stop()
    assert sorted(line.names) == ["a", "a2", "b", "c"] and host.reserved == 0


async def test_the_budget_of_memory_is_asked_first() -> None:
    line = Line(FakeHost(budget=1500))
    await line.made.start()
    await line.send({"trace": "a"})
    held = line.host.reserved
    with pytest.raises(Refused, match="memory"):
        await line.send({"trace": "b"})
    assert line.host.reserved == held and line.host.ledger.sum("kofagent_dropped_items_total") == 0
    await line.made.stop()


async def test_a_trace_that_is_too_large_does_not_pass() -> None:
    async with Line(maximum_trace_size_bytes=400) as line:
        await line.send({"trace": "a", "name": "x" * 150})
        await line.send({"trace": "a", "name": "y" * 150})
        assert line.filtered("maximum_trace_size_bytes") == 2 and line.host.reserved == 0
        await line.send({"trace": "a"}, {"trace": "b", "name": "b"})
        await line.decide()
        assert line.names == ["b"] and line.filtered("not sampled") == 1


async def test_span_ingest_decides_as_soon_as_a_part_is_enough() -> None:
    async with Line(policies=[{"name": "t", **TEXT}], sampling_strategy="span-ingest") as line:
        await line.send({"trace": "a", "name": "a1"}, {"trace": "b", "name": "b1"})
        await line.send({"trace": "a", "name": "a2", **having("v1")})
        await eventually(lambda: line.names == ["a1", "a2"])
        await line.send({"trace": "a", "name": "a3"})
        assert line.names[-1] == "a3"
        await line.decide()
        assert len(line.names) == 3 and line.filtered("not sampled") == 1
    count = {"name": "c", "type": "span_count", "span_count": {"min_spans": 2}}
    async with Line(policies=[count], sampling_strategy="span-ingest") as line:
        await line.send({"name": "1"})
        await line.send({"name": "2"})
        await eventually(lambda: line.names == ["1", "2"])


async def test_sampled_spans_are_offered_until_they_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "FIRST_WAIT", 0.001)
    async with Line() as line:
        await line.send({"name": "kept"})
        line.sink.refuse = Refused("sending queue full")
        line.made._decide(list(line.made._traces.due(float("inf"))))
        await line.sink.called.wait()
        assert line.host.ledger.sum("kofagent_processor_held_items") == 1 and line.host.reserved > 0
        line.sink.refuse = None
        await line.sink.wait_for(lambda sink: line.names == ["kept"])
    monkeypatch.setattr(processor, "HELD_AT_MOST", 0.001)
    async with Line() as line:
        await line.send({})
        line.sink.refuse = Refused("sending queue full", retry_after=1)
        await line.decide()
        assert line.dropped("sending queue full") == 1


@pytest.mark.parametrize(("drop", "names", "lost"), [(False, ["n"], 0), (True, [], 1)])
async def test_the_stop_decides_on_what_waits_or_drops_it(drop: bool, names: list[str], lost: int) -> None:
    async with Line(drop_pending_traces_on_shutdown=drop) as line:
        await line.send({})
    assert line.names == names and line.dropped("shutdown") == lost


async def test_a_stop_that_takes_too_long_counts_what_it_leaves() -> None:
    line = Line()
    await line.made.start()
    await line.send({})
    line.sink.gate = asyncio.Event()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await line.made.stop()
    await eventually(lambda: not line.made._senders)
    assert line.dropped("shutdown") == 1 and line.host.reserved == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"policies": []}, "policies"),
        ({"policies": [ALL, ALL]}, "'all' is there twice"),
        ({"policies": [{"type": "always_sample"}]}, "name"),
        ({"policies": [{"name": "x", "type": "always"}]}, "always_sample"),
        ({"policies": [{"name": "x", "type": "numeric_attribute"}]}, "min_value or max_value"),
        ({"policies": [{"name": "x", "type": "status_code"}]}, "status_codes"),
        ({"policies": [{"name": "x", "type": "ottl_condition"}]}, "span or spanevent"),
        ({"policies": [{"name": "x", "type": "ottl_condition", "ottl_condition": {"span": ["nope("]}}]}, "nope"),
        (
            {"policies": [{"name": "x", **REGEX, "string_attribute": {"values": ["("], "enabled_regex_matching": True}}]},
            "regular expression",
        ),
        ({"policies": [{"name": "x", "type": "and"}]}, "and needs and_sub_policy"),
        ({"policies": [{"name": "x", "type": "not"}]}, "not needs not_sub_policy"),
        ({"policies": [ALL], "tail_storage": "x"}, "at most 0"),
        ({"policies": [{"name": "x", "type": "rate_limiting"}], "sampling_strategy": "span-ingest"}, "needs whole traces"),
        (
            {
                "policies": [{"name": "x", "type": "and", "and": {"and_sub_policy": [{"name": "y", "type": "bytes_limiting"}]}}],
                "sampling_strategy": "span-ingest",
            },
            "needs whole traces",
        ),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Config.model_validate(options)
