"""Snapshots: Google's protobuf reads what was put, whatever was shared."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kofagent.receivers.k8s_cluster.catalog import CATALOG
from kofagent.receivers.k8s_cluster.model import Described
from kofagent.receivers.k8s_cluster.snapshot import Snapshot, payloads
from tests.receivers.k8s_cluster.support import attributes_of, number, read_metrics

names = st.sampled_from(["k8s.pod.phase", "k8s.container.cpu_limit", "k8s.resource_quota.used", "k8s.container.status.state"])
points = st.lists(
    st.tuples(names, st.integers(-5, 5), st.sampled_from([(), (("resource", "cpu"),), (("resource", "pods"),)])),
    min_size=1,
    max_size=5,
).map(lambda found: tuple((CATALOG[n].metric, v, a) for n, v, a in found))
resources = st.lists(st.tuples(st.sampled_from(["k8s.pod.uid", "k8s.pod.name"]), st.text(max_size=5)), max_size=2).map(tuple)
one = st.builds(Described, resources, points, st.booleans())
actions = st.lists(st.tuples(st.sampled_from("abcd"), st.one_of(st.none(), st.lists(one, max_size=3))), max_size=12)


@given(actions, st.integers(1, 12))
def test_a_round_sends_what_was_put_last(told: list[tuple[str, list[Described] | None]], most: int) -> None:
    snapshot = Snapshot("scope", "1", "schema", 111)
    plain: dict[str, list[Described]] = {}
    for key, said in told:
        if said is None:
            snapshot.remove(key)
            plain.pop(key, None)
        else:
            snapshot.put(key, said)
            # A key that is put again keeps its place, unless it was taken away between.
            plain[key] = said
            if not said:
                del plain[key]
    for _ in range(2):
        parts = list(payloads([snapshot], 222, most))
        assert all(count <= most + 5 for _, count in parts)
        assert sum(count for _, count in parts) == sum(len(d.points) for said in plain.values() for d in said)
        found = [row for payload, _ in parts for row in read_metrics(payload)]
        expected = [d for said in plain.values() for d in said]
        assert len(found) == len(expected)
        for (resource, metrics, entry), wanted in zip(found, expected, strict=True):
            assert resource == dict(wanted.resource)
            assert (entry.schema_url, entry.scope_metrics[0].scope.name, entry.scope_metrics[0].scope.version) == (
                "schema",
                "scope",
                "1",
            )
            told_points: dict[str, list[tuple[Any, Any]]] = {}
            for metric, value, attributes in wanted.points:
                told_points.setdefault(metric.name, []).append((value, dict(attributes)))
            assert {n: [(number(p), attributes_of(p.attributes)) for p in ps] for n, ps in metrics.items()} == told_points
            times = {(p.start_time_unix_nano, p.time_unix_nano) for ps in metrics.values() for p in ps}
            assert times == {(111 if wanted.started else 0, 222)}


async def test_objects_may_change_while_a_round_is_sent() -> None:
    snapshot = Snapshot("scope", "", "", 0)
    metric = CATALOG["k8s.pod.phase"].metric
    for i in range(50):
        snapshot.put(f"{i}", [Described((("k8s.pod.uid", f"{i}"),), ((metric, i, ()),))])
    seen: list[str] = []
    for i, (payload, _) in enumerate(payloads([snapshot], 1, 1)):
        seen += [resource["k8s.pod.uid"] for resource, _, _ in read_metrics(payload)]
        snapshot.remove(f"{49 - i}")
        snapshot.put(f"new {i}", [Described((), ((metric, 1000 + i, ()),))])
        await asyncio.sleep(0)
    assert seen == [f"{i}" for i in range(50)]


def test_equal_points_are_one_object() -> None:
    snapshot = Snapshot("scope", "", "", 0)
    metric = CATALOG["k8s.pod.phase"].metric
    for i in range(10):
        snapshot.put(f"{i}", [Described((("k8s.pod.uid", f"{i}"),), ((metric, 2, ()),))])
    assert len({id(entries[0][1]) for entries in snapshot.entries.values()}) == 1
