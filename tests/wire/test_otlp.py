from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from kofagent.wire import otlp, otlp_split
from kofagent.wire.otlp_check import check
from kofagent.wire.varint import length_delimited
from tests.reference import wire as plain
from tests.support.otlp import REQUEST, items, log_request, metric_request, requests, trace_request

SIGNALS = ["logs", "metrics", "traces"]
cases = st.one_of([st.tuples(st.just(s), requests(s)) for s in SIGNALS])
pairs = st.one_of([st.tuples(st.just(s), requests(s), requests(s)) for s in SIGNALS])


@given(cases)
def test_count_check_and_plain_count_agree(case: tuple[str, Any]) -> None:
    signal, request = case
    payload = request.SerializeToString()
    assert otlp.count(signal, payload) == check(signal, payload) == plain.count(signal, payload) == items(signal, request)


@given(pairs)
def test_concatenation_is_the_merge(pair: tuple[str, Any, Any]) -> None:
    signal, first, second = pair
    joined = first.SerializeToString() + second.SerializeToString()
    first.MergeFrom(second)
    assert REQUEST[signal].FromString(joined) == first


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("bad", [b"\xff", b"\x0a\x05abc", b"\x0a\x02\x12\x05", b"\x07", b"\x0a\x04\x12\x02\x12\x09"])
def test_malformed_outline(signal: str, bad: bytes) -> None:
    for function in (otlp.count, check):
        with pytest.raises(ValueError):
            function(signal, bad)


def test_normalise() -> None:
    payload = log_request("a", "b")
    assert otlp.normalise(payload) is payload
    assert otlp.normalise(b"\x10\x05" + payload + length_delimited(9, b"zz")) == payload
    with pytest.raises(ValueError):
        otlp.normalise(payload[:-1])


def _flat(signal: str, payload: bytes) -> Any:
    """Every item with the identity of all that encloses it."""
    out: list[Any] = []
    entries: list[Any] = list(otlp.resources(payload))  # messages, of which their protocols tell only what the product uses
    for entry in entries:
        for scope in entry.scopes:
            around = (
                entry.HasField("resource"),
                entry.resource,
                entry.schema_url,
                scope.HasField("scope"),
                scope.scope,
                scope.schema_url,
            )
            for record in scope.records:
                if signal != "metrics":
                    out.append((around, record))
                    continue
                kind, points = otlp.points(record)
                metric = otlp.parse_metric(record)
                if kind:
                    del getattr(metric, kind).points[:]
                out.extend((around, metric.SerializeToString(), point) for point in points)
    return out


@given(cases, st.integers(0, 6), st.integers(0, 400))
def test_split_keeps_every_item_in_order_within_the_limits(case: tuple[str, Any], max_items: int, max_bytes: int) -> None:
    signal, request = case
    payload = request.SerializeToString()
    parts = otlp_split.split(signal, payload, max_items, max_bytes)
    assert [n for _, n in parts] == [check(signal, p) for p, _ in parts]
    assert _flat(signal, b"".join(p for p, _ in parts)) == _flat(signal, payload)
    for part, n in parts:
        assert not max_items or n <= max_items
        assert not max_bytes or len(part) <= max_bytes or n <= 1, (len(part), n)
    if len(parts) > 1 and signal != "metrics":  # a metric may have no points
        assert all(n for _, n in parts)


def test_split_fills_the_parts() -> None:
    assert [n for _, n in otlp_split.split("traces", trace_request(100), 30)] == [30, 30, 30, 10]
    assert [n for _, n in otlp_split.split("metrics", metric_request(7) + metric_request(4), 5)] == [5, 5, 1]
    payload = trace_request(100)
    parts = otlp_split.split("traces", payload, max_bytes=5000)
    assert len(parts) <= len(payload) // 5000 + 2
    assert otlp_split.split("traces", payload, 100)[0][0] is payload


@pytest.mark.parametrize("long", ["resource", "scope"])
def test_what_encloses_the_records_of_a_part_counts_for_its_size(long: str) -> None:
    request = REQUEST["logs"].FromString(log_request(*"abcdefghij" * 10))
    entry = request.resource_logs[0]
    (entry if long == "resource" else entry.scope_logs[0]).schema_url = "s" * 500
    parts = otlp_split.split("logs", request.SerializeToString(), max_bytes=1000)
    assert len(parts) > 1 and all(len(part) <= 1000 for part, _ in parts)
    assert otlp.count("logs", b"".join(part for part, _ in parts)) == 100


@pytest.mark.parametrize("many", ["resource_logs", "scope_logs"])
def test_many_that_enclose_one_record_each_count_for_the_size_of_a_part(many: str) -> None:
    request = REQUEST["logs"]()
    entry = request.resource_logs.add()
    for _ in range(200):
        of = entry if many == "scope_logs" else request.resource_logs.add()
        of.scope_logs.add().log_records.add(severity_number=1)
    parts = otlp_split.split("logs", request.SerializeToString(), max_bytes=300)
    assert all(len(part) <= 300 for part, _ in parts) and sum(count for _, count in parts) == 200


def test_metrics_without_points_take_room_in_a_part_too() -> None:
    request = ExportMetricsServiceRequest()
    entry = request.resource_metrics.add()
    entry.resource.attributes.add(key="k" * 36)
    metrics = entry.scope_metrics.add().metrics
    for _ in range(3):
        metrics.add()
    points = request.resource_metrics.add().scope_metrics.add().metrics.add().gauge.data_points
    for _ in range(2):
        points.add().as_int = 0
    parts = otlp_split.split("metrics", request.SerializeToString(), max_bytes=80)
    assert sum(items for _, items in parts) == 2
    assert all(len(part) <= 80 or items <= 1 for part, items in parts), [(len(part), items) for part, items in parts]


@given(cases)
def test_building_from_parts_equals_the_original(case: tuple[str, Any]) -> None:
    signal, request = case
    built = b""
    for entry in otlp.resources(request.SerializeToString()):
        scopes = [otlp.build_scope(s.records, s.scope, s.schema_url) for s in entry.scopes]
        built += otlp.build_resource(scopes, entry.resource, entry.schema_url)
    assert _flat_loose(signal, built) == _flat_loose(signal, request.SerializeToString())


def _flat_loose(signal: str, payload: bytes) -> Any:
    return [(a[1:3] + a[4:], *rest) for a, *rest in _flat(signal, payload)]


@given(cases)
def test_map_records(case: tuple[str, Any]) -> None:
    _signal, request = case
    payload = request.SerializeToString()
    assert otlp.map_records(payload, lambda r, s, e: r) is payload
    kept = otlp.map_records(payload, lambda r, s, e: None if len(r) % 2 else r)
    want = [r for e in otlp.resources(payload) for s in e.scopes for r in s.records if not len(r) % 2]
    assert [r for e in otlp.resources(kept) for s in e.scopes for r in s.records] == want


def test_map_records_leaves_out_what_it_emptied() -> None:
    payload = log_request("a") + log_request("b", "c")
    kept = otlp.map_records(payload, lambda r, s, e: None if b"a" in r else r)
    assert kept == log_request("b", "c")
    assert otlp.map_records(payload, lambda r, s, e: None) == b""


def test_unknown_fields_survive_an_edit() -> None:
    scope = length_delimited(2, b"\x08\x01") + length_delimited(77, b"x")
    entry = length_delimited(1, b"") + length_delimited(2, scope) + length_delimited(99, b"y")
    request = otlp.parse_request(length_delimited(1, entry))
    request.resources[0].resource = b"\x10\x01"
    out = request.SerializeToString()
    assert length_delimited(77, b"x") in out and length_delimited(99, b"y") in out and length_delimited(1, b"\x10\x01") in out
