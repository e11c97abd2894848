"""probabilistic_sampler: upstream's cases for spans and log records, by their values."""

from __future__ import annotations

import zlib
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pydantic import ValidationError

from kofagent.processors.probabilistic_sampler import COMPONENT
from kofagent.processors.probabilistic_sampler.sampler import fnv, hashed_randomness
from kofagent.telemetry.signal import Signal
from kofagent.transform.anyvalue import attributes
from kofagent.transform.sampling import randomness_text
from tests.processors.support import batch, pairs, processor, run
from tests.support.components import FakeHost

HALF = "fefefefefefefefefe80000000000000"
"""Its randomness is 0x80000000000000: sampled at 50 % and not at 49 %."""
LAST = "111111111111111111ffffffffffffff"
"""Sampled at every share."""


async def span(options: dict[str, Any], trace_id: str = HALF, state: str = "", **attrs: Any) -> str | None:
    """The tracestate of a span that passes; None when it does not."""
    request = ExportTraceServiceRequest()
    one = request.resource_spans.add().scope_spans.add().spans.add(trace_id=bytes.fromhex(trace_id), trace_state=state)
    one.attributes.extend(pairs({key.replace("_", "."): value for key, value in attrs.items()}))
    out = await run(COMPONENT, options, batch(Signal.TRACES, request))
    return out.resource_spans[0].scope_spans[0].spans[0].trace_state if out.resource_spans else None


NO = None
CASES: list[tuple[Any, ...]] = [
    # trace ID, percentage, precision, arriving tracestate, what equalizing and what proportional write
    (HALF, 100, 14, "", "ot=th:0", "ot=th:0"),
    (HALF, 50, 14, "", "ot=th:8", "ot=th:8"),
    ("ddddddddddddddddddc0000000000000", 25, 14, "", "ot=th:c", "ot=th:c"),
    ("ddddddddddddddddddb0000000000000", 25, 14, "", NO, NO),
    (HALF, 1, 14, "ot=rv:FD70A3D70A3D71", *["ot=rv:FD70A3D70A3D71;th:fd70a3d70a3d71"] * 2),
    (HALF, 1, 4, "ot=rv:FD70A3D70A3D71", *["ot=rv:FD70A3D70A3D71;th:fd70a"] * 2),
    (HALF, 1, 3, "ot=rv:FD70A3D70A3D71", NO, NO),
    (HALF, 1, 14, "ot=rv:FD70A3D70A3D70", NO, NO),
    (HALF, 49, 14, "", NO, NO),
    (HALF, 1, 14, "ot=rv:fd70B000000000", *["ot=rv:fd70B000000000;th:fd70a3d70a3d71"] * 2),
    ("a0a0a0a0a0a0a0a0a0fe000000000000", 1, 4, "", "ot=th:fd70a", "ot=th:fd70a"),
    (HALF, 50, 14, "ot=rv:90000000000000;th:80000000000000", "ot=rv:90000000000000;th:8", NO),
    (HALF, 25, 14, "ot=th:8", NO, NO),
    ("ff" * 16, 25, 14, "ot=th:8", "ot=th:c", "ot=th:e"),
    (HALF, 50, 14, "ot=rv:c0000000000000;th:8", "ot=rv:c0000000000000;th:8", "ot=rv:c0000000000000;th:c"),
    (HALF, 100, 14, "ot=rv:40000000000000;th:8", *["ot=rv:40000000000000;th:0"] * 2),
    (HALF, 40, 3, "ot=rv:a0000000000000", *["ot=rv:a0000000000000;th:99a"] * 2),
    ("a0a0a0a0a0a0a0a0a0d0000000000000", 40, 6, "ot=th:8", "ot=th:99999a", "ot=th:cccccd"),
    ("a0a0a0a0a0a0a0a0a0b0000000000000", 40, 3, "ot=th:8", "ot=th:99a", NO),
    ("a0a0a0a0a0a0a0a0a080000000000000", 40, 3, "ot=th:8", NO, NO),
    (HALF, 200, 14, "", "ot=th:0", "ot=th:0"),
    (LAST, 100 * 2.0**-14, 14, "ot=th:fffc", "ot=th:fffc", "ot=th:fffffff"),
    (LAST, (1 - 8e-7) * 100, 10, "", "ot=th:00000cccccccd", "ot=th:00000cccccccd"),
    (LAST, 2.0**-4, 14, "ot=th:fffffffffffff8", "ot=th:fffffffffffff8", NO),
    (HALF, 50, 4, "vendor=x,ot=th:0;k:v", "ot=th:8;k:v,vendor=x", "ot=th:8;k:v,vendor=x"),
]  # fmt: skip


@pytest.mark.parametrize("mode", ["equalizing", "proportional"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[1]:g}%-{case[2]}-{case[3]}")
async def test_consistent_modes(mode: str, case: Any) -> None:
    trace_id, percentage, precision, state, equalizing, proportional = case
    options = {"sampling_percentage": percentage, "sampling_precision": precision, "mode": mode, "fail_closed": False}
    assert await span(options, trace_id, state) == (equalizing if mode == "equalizing" else proportional)


@pytest.mark.parametrize("mode", ["equalizing", "proportional"])
@pytest.mark.parametrize(
    ("trace_id", "state"),
    [
        ("00" * 16, ""),
        (HALF, "ot=rv:abababababababab"),
        (HALF, "ot=th:abababababababab"),
        (HALF, "ot=th:-1"),
        ("ffffffffffffffffff70000000000000", "ot=th:8"),
        (HALF, "ot=th:8;rv:70000000000000"),
    ],
)
async def test_what_cannot_be_sampled(mode: str, trace_id: str, state: str) -> None:
    options = {"sampling_percentage": 100, "mode": mode}
    assert await span(options, trace_id, state) is None
    assert await span({**options, "fail_closed": False}, trace_id, state) is not None


@pytest.mark.parametrize("mode", ["", "hash_seed", "equalizing", "proportional"])
@pytest.mark.parametrize(
    ("percentage", "priority", "sampled"),
    [(0, 2, True), (0, 1.0, True), (0, "1", True), (100, 0, False), (100, 0.0, False), (100, "0", False)]
    + [(0, value, False) for value in (-1, "-0.5", "NaN", "x", True)]
    + [(100, value, True) for value in (-1, "-0.5", "NaN", "1_0", False)],
)
async def test_the_priority_of_a_span_has_the_last_word(mode: str, percentage: float, priority: Any, sampled: bool) -> None:
    passed = await span({"sampling_percentage": percentage, "mode": mode, "hash_seed": 4321}, sampling_priority=priority)
    assert (passed is not None) is sampled


async def test_a_hash_is_written_as_randomness_and_its_share_as_threshold() -> None:
    randomness = randomness_text(hashed_randomness(bytes.fromhex(HALF), 22))
    assert await span({"sampling_percentage": 100, "hash_seed": 22}) == f"ot=rv:{randomness};th:0"
    options = {"sampling_percentage": 99.9, "hash_seed": 22}
    assert (await span(options) or "").startswith(f"ot=rv:{randomness};th:00")
    for state in ("ot=th:0", "ot=rv:70000000000000", "ot=th:x"):
        assert await span(options, state=state) is None, "it says already how it was sampled"
        assert await span({**options, "fail_closed": False}, state=state) == state
    assert await span({**options, "fail_closed": False}, "00" * 16) == "ot=rv:ffffffffffffff;th:0"


async def test_what_does_not_pass_is_counted_by_why() -> None:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for trace_id, state, given in (
        (HALF, "", {}),
        ("00" * 16, "", {}),
        (HALF, "ot=th:x", {"sampling.priority": 0}),
    ):
        scope.spans.add(trace_id=bytes.fromhex(trace_id), trace_state=state).attributes.extend(pairs(given))
    made, sink = processor(COMPONENT, {"sampling_percentage": 1, "mode": "equalizing"}, Signal.TRACES)
    await made.start()
    await made.consume(batch(Signal.TRACES, request))
    assert sink.batches == [], "nothing is left to hand on"
    total = made.context.ledger.total
    labels = {"component": "p", "signal": "traces"}
    assert total("kofagent_filtered_items_total", **labels, rule="not sampled") == 2
    assert total("kofagent_filtered_items_total", **labels, rule="fail_closed") == 1
    name = "otelcol_processor_probabilistic_sampler_count_traces_sampled_total"
    assert total(name, processor="p", policy="sampling_priority", sampled="false") == 1


def test_the_hash_is_fnv() -> None:
    """The known value of `foobar`: the seed goes before the data, its lowest byte first."""
    assert fnv(b"ar", int.from_bytes(b"foob", "little")) == 0xBF9CF968


def test_the_randomness_of_a_hash() -> None:
    """14 bits that decide, in reverse, 28 made of the others, and the 14 again."""
    assert fnv(b"1234", 49) == 0x53603A48
    assert hashed_randomness(b"1234", 49) == (0x3FFF - 0x3A48) << 42 | (0x14D8 ^ 0x14D8 << 10) << 14 | 0x3A48


def records() -> ExportLogsServiceRequest:
    """Upstream's hundred log records."""
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    for i in range(100):
        trace_id = bytes(8) + bytes([i]) * 8
        given: dict[str, Any] = {"rando": fnv(trace_id, 123)}
        if i % 2 == 0:
            given |= {"foo": trace_id, "bar": trace_id.hex() if i else ""}
        if i % 4 == 0:
            given["priority"] = 100.0
        scope.log_records.add(trace_id=trace_id).attributes.extend(pairs(given))
    return request


RECORD = {"attribute_source": "record"}


@pytest.mark.parametrize(
    ("options", "received"),
    [
        ({"sampling_percentage": 50}, 45),
        ({**RECORD, "sampling_percentage": 0, "from_attribute": "foo"}, 0),
        ({**RECORD, "sampling_percentage": 100, "from_attribute": "foo", "fail_closed": False}, 100),
        ({**RECORD, "sampling_percentage": 50, "from_attribute": "foo"}, 23),
        ({**RECORD, "sampling_percentage": 50, "from_attribute": "bar"}, 29),
        ({**RECORD, "sampling_percentage": 0, "sampling_priority": "priority", "from_attribute": "rando"}, 25),
        ({**RECORD, "sampling_percentage": 50, "sampling_priority": "priority", "from_attribute": "rando"}, 64),
        ({**RECORD, "sampling_percentage": 100, "sampling_priority": "priority", "from_attribute": "rando"}, 100),
        ({"sampling_percentage": 0, "sampling_priority": "priority"}, 25),
        ({"sampling_percentage": 50, "sampling_priority": "priority", "fail_closed": False}, 57),
        ({"sampling_percentage": 100, "sampling_priority": "priority"}, 100),
    ],
)
async def test_upstreams_hundred_log_records(options: dict[str, Any], received: int) -> None:
    host = FakeHost()
    out = await run(COMPONENT, options, batch(Signal.LOGS, records()), host)
    assert (len(out.resource_logs[0].scope_logs[0].log_records) if out.resource_logs else 0) == received
    assert host.ledger.sum("kofagent_filtered_items_total") == 100 - received
    name = "otelcol_processor_probabilistic_sampler_count_logs_sampled_total"
    assert host.ledger.sum(name) == 100


async def log(options: dict[str, Any], trace_id: str = HALF, **attrs: Any) -> dict[str, Any] | None:
    """The attributes of a record that passes."""
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(trace_id=bytes.fromhex(trace_id))
    record.attributes.extend(pairs({key.replace("_", "."): value for key, value in attrs.items()}))
    out = await run(COMPONENT, options, batch(Signal.LOGS, request))
    return attributes(out.resource_logs[0].scope_logs[0].log_records[0].attributes) if out.resource_logs else None


async def test_what_is_written_to_log_records() -> None:
    proportional = {"mode": "proportional", "sampling_percentage": 50}
    assert await log({**proportional, "sampling_percentage": 100}, k="v") == {"k": "v", "sampling.threshold": "0"}
    assert await log(proportional, "fefefefefefefefefef0000000000000", sampling_threshold="c") == {"sampling.threshold": "e"}
    randomness = randomness_text(hashed_randomness(b"1234", 49))
    options = {**RECORD, "sampling_percentage": 100, "from_attribute": "v", "hash_seed": 49}
    assert await log(options, "", v="1234") == {"v": "1234", "sampling.randomness": randomness, "sampling.threshold": "0"}
    equalizing = {"mode": "equalizing", "sampling_percentage": 50}
    assert await log(equalizing, "fefefefefefefefefeb0000000000000", sampling_threshold="c") is None
    passed = await log({**equalizing, "sampling_priority": "prio"}, "fe" * 16, sampling_threshold="c", prio=37)
    assert passed == {"sampling.threshold": "c", "prio": 37}
    for wrong in ({"sampling_threshold": "x"}, {"sampling_randomness": "1"}):
        assert await log(equalizing, **wrong) is None
        assert await log({**equalizing, "fail_closed": False}, **wrong) == {k.replace("_", "."): v for k, v in wrong.items()}


@pytest.mark.parametrize(
    ("priority", "written"), [(10.125, "e6147b"), (100, "0"), (250, "0"), (0, None), (-1, None), ("90", None), (True, None)]
)
async def test_the_priority_of_a_log_record_is_a_percentage(priority: Any, written: str | None) -> None:
    options = {"sampling_percentage": 0, "sampling_priority": "prio", "sampling_precision": 6}
    passed = await log(options, sampling_randomness="e6147c00000000", prio=priority)
    assert (passed or {}).get("sampling.threshold") == written


async def test_all_records_of_a_trace_share_their_fate() -> None:
    """A smaller share is a part of a larger one, in every mode."""
    for mode in ("hash_seed", "equalizing", "proportional"):
        passed = []
        for percentage in (10, 40, 70):
            request = ExportTraceServiceRequest()
            scope = request.resource_spans.add().scope_spans.add()
            for i in range(300):
                digest = (zlib.crc32(b"%d" % i) * 2654435761 & (1 << 64) - 1).to_bytes(8, "big") * 2
                scope.spans.add(trace_id=digest, name=str(i))
                scope.spans.add(trace_id=digest, name=str(i))
            out = await run(COMPONENT, {"mode": mode, "sampling_percentage": percentage}, batch(Signal.TRACES, request))
            names = [s.name for s in out.resource_spans[0].scope_spans[0].spans]
            assert len(names) == 2 * len(set(names)), "whole traces"
            assert abs(len(set(names)) / 3 - percentage) < 12
            passed.append(set(names))
        assert passed[0] < passed[1] < passed[2]


@pytest.mark.parametrize(
    "options",
    [
        {"sampling_percentage": -1},
        {"sampling_percentage": float("nan")},
        {"sampling_percentage": 1e-16},
        {"sampling_precision": 0},
        {"sampling_precision": 15},
        {"mode": "random"},
        {"attribute_source": "body"},
        {"hash_seed": 1 << 32},
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        COMPONENT.Config.model_validate(options)
