"""Trimming, packing and reading lists, each held against its plain meaning."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kofagent.kubernetes.lists import split_list
from kofagent.kubernetes.resources import DEPLOYMENTS, NODES, PODS
from kofagent.kubernetes.store import PackedStore
from kofagent.kubernetes.trim import ALL, Trimmer, covers, union
from tests.support.fake_kube import pod
from tests.support.trees import maps

UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

NAMES = ["a", "b", "c.d", "metadata", "items", "\u00e9\u4e2d"]
names = st.sampled_from(NAMES)
objects = maps(NAMES, st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8), most=5)


def test_fields_are_kept_and_nothing_else() -> None:
    source = {**pod("default", "web", labels={"app": "x"}, annotations={"prometheus.io/port": "80", "other": "1"}), "kind": "Pod"}
    source["metadata"].update(uid="u", managedFields=[{"manager": "m"}])
    trim = Trimmer(
        ["metadata.labels", ("metadata", "annotations", "prometheus.io/port"), "spec.containers.ports.name", "status.none"]
    )
    assert trim(source) == {
        "metadata": {
            "name": "web",
            "namespace": "default",
            "uid": "u",
            "labels": {"app": "x"},
            "annotations": {"prometheus.io/port": "80"},
        },
        "spec": {"containers": [{"ports": [{"name": "http"}]}]},
        "status": {},
    }
    whole = Trimmer(ALL)(source)
    assert whole == {**source, "metadata": {k: v for k, v in source["metadata"].items() if k != "managedFields"}}
    assert "managedFields" in source["metadata"]


def test_unions_and_cover() -> None:
    have = union(["metadata.labels", "spec.a.b"], ["metadata.labels.app", ("spec", "a")])
    assert have == {("metadata", "labels"), ("spec", "a")}
    assert covers(have, union(["metadata.labels.x", "spec.a"]))
    assert not covers(have, union(["spec"]))
    assert covers(union(ALL), union(["x"])) and union(["x"], ALL) == {("*",)}
    assert Trimmer(["metadata.annotations"]).only_metadata
    assert not Trimmer(["status.phase"]).only_metadata and not Trimmer(ALL).only_metadata


def plain_cut(source: Any, paths: list[tuple[str, ...]]) -> Any:
    """The plain twin: keeps a key when a path leads through it."""
    if isinstance(source, list):
        return [plain_cut(v, paths) for v in source]
    if not isinstance(source, dict) or () in paths:
        return source
    out = {}
    for key, value in source.items():
        below = [p[1:] for p in paths if p and p[0] == key]
        if below and value is not None:
            out[key] = plain_cut(value, below)
    return out


@given(objects, st.lists(st.lists(names, min_size=1, max_size=3).map(tuple), max_size=4))
@UNTIMED
def test_trimming_equals_the_plain_twin(source: dict[str, Any], paths: list[tuple[str, ...]]) -> None:
    before = json.dumps(source)
    made = Trimmer(paths)
    assert made(source) == plain_cut(source, sorted(made.fields))
    assert json.dumps(source) == before


def test_more_fields_keep_the_order_of_those_before() -> None:
    """Else every object without the new fields would count as changed."""
    names = [f"spec.f{i}" for i in range(12)]
    obj = {"metadata": {"name": "a", "namespace": "b", "uid": "u"}, "spec": {f"f{i}": i for i in range(12)}}
    few, more = Trimmer(names), Trimmer([*names, *[f"spec.g{i}" for i in range(50)], "metadata.labels", "a.b"])
    assert json.dumps(few(obj)) == json.dumps(more(obj))


@given(st.lists(st.tuples(st.integers(0, 5), st.none() | objects), max_size=30), st.integers(0, 60))
@UNTIMED
def test_the_store_is_a_dict(changes: list[tuple[int, dict[str, Any] | None]], filling: int) -> None:
    store = PackedStore()
    twin: dict[str, dict[str, Any] | None] = {}
    for i in range(filling):  # past the dictionary's size objects are compressed
        obj = pod("default", f"filler-{i}", labels={"filler": "x" * 500})
        store.put(f"f{i}", obj)
        twin[f"f{i}"] = obj
    for number, obj in changes:
        key = str(number)
        if obj is None:
            assert store.pop(key) == twin.pop(key, None)
            continue
        # 1, 1.0 and True are equal and yet not the same JSON, so the twin compares text.
        changed, old = store.put(key, obj)
        assert changed == (json.dumps(obj) != json.dumps(twin.get(key)) or key not in twin)
        assert old == (twin.get(key) if changed else None)
        twin[key] = obj
    assert dict(store) == twin and len(store) == len(twin) and set(store) == set(twin)
    store.clear()
    assert not store and "f0" not in store


@given(st.lists(objects, max_size=5), objects, st.booleans(), st.sampled_from([None, 1]))
@UNTIMED
def test_lists_in_either_order(items: list[Any], metadata: Any, items_last: bool, indent: int | None) -> None:
    parts = {"kind": "PodList", "metadata": metadata, "items": items} if items_last else {"items": items, "metadata": metadata}
    found, said = split_list(json.dumps(parts, indent=indent, ensure_ascii=False))
    assert list(found) == items and said == metadata


def test_a_null_list_is_empty() -> None:
    found, said = split_list('{"kind":"PodList","metadata":{"resourceVersion":"5"},"items":null}')
    assert list(found) == [] and said == {"resourceVersion": "5"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "nonsense",
        '{"kind"',
        '{"items":[{}]}',
        '{"kind":"x","metadata":{},"items":3 x',
        '{"metadata":{},"items":[{}',
        '{"metadata":{},"items":[{} {}]}',
    ],
)
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        found, _ = split_list(text)
        list(found)


def test_paths() -> None:
    assert PODS.path() == "/api/v1/pods"
    assert PODS.path("kube-system", "a/b") == "/api/v1/namespaces/kube-system/pods/a%2Fb"
    assert NODES.path("ignored", "n1", "proxy") == "/api/v1/nodes/n1/proxy"
    assert DEPLOYMENTS.path("x") == "/apis/apps/v1/namespaces/x/deployments"
    assert str(DEPLOYMENTS) == "deployments.apps" and DEPLOYMENTS.api_version == "apps/v1"
