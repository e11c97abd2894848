"""The resource processor and the actions it shares with `attributes`."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from pydantic import ValidationError

from kofagent.processors.resource import COMPONENT, Config
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from kofagent.transform.actions import ActionBlock, Actions
from kofagent.wire import edit
from tests.processors.support import REQUESTS, batch, logs, metrics, pairs, processor, resource_of, run, spans
from tests.reference import attribute_actions
from tests.support.trees import trees


async def after(actions: list[dict[str, Any]], attributes: dict[str, Any], **metadata: tuple[str, ...]) -> dict[str, Any]:
    given_batch = batch(Signal.LOGS, logs({"body": "x"}, resource=attributes), metadata=metadata)
    out = await run(COMPONENT, {"attributes": actions}, given_batch)
    return resource_of(out)


async def test_kof_inserts_the_cluster_name_into_events() -> None:
    actions = [{"action": "insert", "key": "k8s.cluster.name", "value": "adopted-cluster"}]
    assert await after(actions, {"a": 1}) == {"a": 1, "k8s.cluster.name": "adopted-cluster"}
    assert await after(actions, {"k8s.cluster.name": "kept"}) == {"k8s.cluster.name": "kept"}


@pytest.mark.parametrize(
    ("action", "before", "want"),
    [
        ({"action": "INSERT", "key": "n", "value": 1}, {}, {"n": 1}),
        ({"action": "update", "key": "n", "value": 1.5}, {}, {}),
        ({"action": "update", "key": "n", "value": 1.5}, {"n": "x"}, {"n": 1.5}),
        ({"action": "upsert", "key": "n", "value": True}, {"n": "x"}, {"n": True}),
        ({"action": "upsert", "key": "n", "value": ["a", 1]}, {}, {"n": ["a", 1]}),
        ({"action": "upsert", "key": "n", "value": ""}, {"n": 1}, {"n": ""}),
        ({"action": "upsert", "key": "n", "from_attribute": "m"}, {"m": {"deep": [1]}}, {"m": {"deep": [1]}, "n": {"deep": [1]}}),
        ({"action": "upsert", "key": "n", "from_attribute": "m"}, {}, {}),
        ({"action": "upsert", "key": "n", "from_attribute": "m", "default_value": 7}, {}, {"n": 7}),
        ({"action": "insert", "key": "n", "from_context": "metadata.X-Tenant"}, {}, {"n": "one;two"}),
        ({"action": "insert", "key": "n", "from_context": "X-Tenant"}, {}, {"n": "one;two"}),
        ({"action": "insert", "key": "n", "from_context": "metadata.nobody"}, {}, {}),
        ({"action": "delete", "key": "n"}, {"m": 1, "n": 2}, {"m": 1}),
        ({"action": "delete", "pattern": "^k8s[.]"}, {"k8s.a": 1, "x.k8s.b": 2, "k8s.c": 3}, {"x.k8s.b": 2}),
        ({"action": "hash", "key": "n"}, {"n": "secret"}, {"n": hashlib.sha256(b"secret").hexdigest()}),
        ({"action": "hash", "key": "n"}, {"n": 1}, {"n": hashlib.sha256(b"\1" + b"\0" * 7).hexdigest()}),
        ({"action": "hash", "key": "n"}, {"n": [1]}, {"n": ""}),
        (
            {"action": "extract", "key": "n", "pattern": r"(?P<ns>[^/]+)/(?P<pod>.*)"},
            {"n": "kof/web-0", "ns": 1},
            {"n": "kof/web-0", "ns": "kof", "pod": "web-0"},
        ),
        ({"action": "extract", "key": "n", "pattern": r"(?P<a>x)(?P<b>y)?"}, {"n": "x"}, {"n": "x", "a": "x", "b": ""}),
        ({"action": "extract", "key": "n", "pattern": r"(?P<a>\d+)"}, {"n": 5}, {"n": 5}),
        ({"action": "convert", "key": "n", "converted_type": "int"}, {"n": "12"}, {"n": 12}),
        ({"action": "convert", "key": "n", "converted_type": "int"}, {"n": "12 "}, {"n": "12 "}),
        ({"action": "convert", "key": "n", "converted_type": "int"}, {"n": -3.9}, {"n": -3}),
        ({"action": "convert", "key": "n", "converted_type": "double"}, {"n": "1e3"}, {"n": 1000.0}),
        ({"action": "convert", "key": "n", "converted_type": "double"}, {"n": "1_0"}, {"n": "1_0"}),
        ({"action": "convert", "key": "n", "converted_type": "string"}, {"n": True}, {"n": "true"}),
        ({"action": "convert", "key": "n", "converted_type": "string"}, {"n": 2.0}, {"n": "2"}),
    ],
)
async def test_actions(action: dict[str, Any], before: dict[str, Any], want: dict[str, Any]) -> None:
    got = await after([action], before, **{"x-tenant": ("one", "two")})
    assert got == want
    assert {k: type(v) for k, v in got.items()} == {k: type(v) for k, v in want.items()}


@pytest.mark.parametrize(
    "given_batch",
    [
        batch(Signal.LOGS, logs({"body": "a"}, {"body": "b"}, resource={"a": 1}), logs({"body": "c"}, resource={"a": 2})),
        batch(Signal.METRICS, metrics("m", points=3, resource={"a": 1})),
        batch(Signal.TRACES, spans({"name": "s"}, resource={"a": 1})),
    ],
    ids=lambda b: b.signal.value,
)
async def test_all_signals_keep_their_records(given_batch: Batch) -> None:
    made, sink = processor(COMPONENT, {"attributes": [{"action": "upsert", "key": "b", "value": "x"}]}, given_batch.signal)
    await made.start()
    before = given_batch.payload
    await made.consume(given_batch)
    (out,) = sink.batches
    assert out.count == given_batch.count and given_batch.payload == before
    ledger = made.context.ledger
    for way in ("incoming", "outgoing"):
        labels = {"processor": "p", "otel_signal": given_batch.signal.value}
        assert ledger.total(f"otelcol_processor_{way}_items_total", **labels) == out.count


async def test_nothing_changed_is_the_same_batch() -> None:
    same = batch(Signal.LOGS, logs({"body": "a"}, resource={"a": 1}))
    made, sink = processor(COMPONENT, {"attributes": [{"action": "insert", "key": "a", "value": 2}]}, Signal.LOGS)
    await made.start()
    await made.consume(same)
    assert sink.batches == [same]


async def test_another_tenant_is_another_resource() -> None:
    action = {"action": "insert", "key": "t", "from_context": "metadata.tenant"}
    made, sink = processor(COMPONENT, {"attributes": [action]}, Signal.LOGS)
    await made.start()
    for tenant in ("a", "b", "a"):
        await made.consume(batch(Signal.LOGS, logs({"body": "x"}), metadata={"tenant": (tenant,)}))
    got = [resource_of(REQUESTS[Signal.LOGS].FromString(b.payload))["t"] for b in sink.batches]
    assert got == ["a", "b", "a"]


async def test_unknown_fields_of_the_resource_survive() -> None:
    given_batch = batch(Signal.LOGS, logs({"body": "a"}, resource={"a": 1}))
    resource = Resource(attributes=pairs({"a": 1}), dropped_attributes_count=5)
    unknown = b"\xfa\x3e\x03abc"  # field 1007
    got = Actions([ActionBlock(action="delete", key="a")]).apply(resource.SerializeToString() + unknown, edit.RESOURCE)
    assert unknown in got and Resource.FromString(got).dropped_attributes_count == 5 and not Resource.FromString(got).attributes
    assert given_batch.count == 1


async def test_malformed_is_refused_for_good_and_counted() -> None:
    made, _ = processor(COMPONENT, {"attributes": [{"action": "insert", "key": "a", "value": 2}]}, Signal.LOGS)
    await made.start()
    with pytest.raises(Refused) as refused:
        await made.consume(Batch(Signal.LOGS, b"\x0a\x05\x0a\x03\x0a\xff\xff", 3))
    assert refused.value.permanent
    assert made.context.ledger.total("kofagent_dropped_items_total", component="p", signal="logs", reason="malformed") == 3


async def test_a_refusal_behind_goes_through() -> None:
    made, sink = processor(COMPONENT, {"attributes": [{"action": "insert", "key": "a", "value": 2}]}, Signal.LOGS)
    await made.start()
    sink.refuse = Refused("sending queue full")
    with pytest.raises(Refused):
        await made.consume(batch(Signal.LOGS, logs({"body": "a"})))
    ledger = made.context.ledger
    assert ledger.total("otelcol_processor_outgoing_items_total", processor="p", otel_signal="logs") == 0


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ({"action": "insert", "value": 1}, "needs key"),
        ({"action": "insert", "key": "a"}, "needs one of value"),
        ({"action": "insert", "key": "a", "value": 1, "from_attribute": "b"}, "keep one of them"),
        ({"action": "delete"}, "needs key or pattern"),
        ({"action": "delete", "key": "a", "value": 1}, "does not use value"),
        ({"action": "delete", "pattern": "("}, "not a regular expression"),
        ({"action": "extract", "key": "a"}, "needs pattern"),
        ({"action": "extract", "key": "a", "pattern": "(x)"}, "all of them must be named"),
        ({"action": "extract", "key": "a", "pattern": "x"}, "needs groups"),
        ({"action": "convert", "key": "a", "converted_type": "bool"}, "int, double or string"),
        ({"action": "insert", "key": "a", "value": 1, "pattern": "x"}, "does not use pattern"),
        ({"action": "set", "key": "a", "value": 1}, "action"),
        ({"action": "insert", "key": "a", "from_context": "auth.subject"}, "use metadata"),
    ],
)
def test_wrong_actions(action: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Config.model_validate({"attributes": [action]})


def test_actions_in_words() -> None:
    made, _ = processor(
        COMPONENT,
        {
            "attributes": [
                {"action": "insert", "key": "a", "from_attribute": "b", "default_value": 1},
                {"action": "delete", "pattern": "^x"},
                {"action": "convert", "key": "n", "converted_type": "int"},
                {"action": "upsert", "key": "c", "value": "v"},
            ]
        },
        Signal.LOGS,
    )
    assert made.explain().splitlines() == [
        "insert a from attribute b else 1",
        "delete keys like '^x'",
        "convert n to int",
        "upsert c = 'v'",
    ]


def test_no_actions_is_an_error() -> None:
    with pytest.raises(ValidationError):
        Config.model_validate({})


KEYS = st.sampled_from(["a", "b", "k8s.x", "k8s.y", "n", "long-" * 30])
SCALARS = st.one_of(
    st.text(max_size=8),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(allow_nan=False),
    st.binary(max_size=5),
    st.sampled_from(["12", "-7", "1e3", "kof/web", "x" * 200]),
)
VALUES = trees(SCALARS, st.text(max_size=3), most=5)
_SET = st.sampled_from(["insert", "update", "upsert"])
ACTIONS = st.one_of(
    st.builds(lambda a, k, v: {"action": a, "key": k, "value": v}, _SET, KEYS, SCALARS),
    st.builds(lambda a, k, f: {"action": a, "key": k, "from_attribute": f}, _SET, KEYS, KEYS),
    st.builds(
        lambda a, k, f: {"action": a, "key": k, "from_attribute": f, "default_value": 1},
        st.sampled_from(["insert", "upsert"]),
        KEYS,
        KEYS,
    ),
    st.builds(lambda k: {"action": "insert", "key": k, "from_context": "metadata.tenant"}, KEYS),
    st.builds(lambda a, k: {"action": a, "key": k}, st.sampled_from(["delete", "hash"]), KEYS),
    st.builds(lambda a, k: {"action": a, "key": k, "pattern": "^k8s"}, st.sampled_from(["delete", "hash"]), KEYS),
    st.builds(lambda k: {"action": "extract", "key": k, "pattern": "(?P<a>[a-z]+)/(?P<c>.)"}, KEYS),
    st.builds(
        lambda k, t: {"action": "convert", "key": k, "converted_type": t}, KEYS, st.sampled_from(["int", "double", "string"])
    ),
)


@given(st.lists(st.tuples(KEYS, VALUES), max_size=6), st.lists(ACTIONS, min_size=1, max_size=4))
def test_equals_the_plain_twin(attributes: list[tuple[str, Any]], actions: list[dict[str, Any]]) -> None:
    resource = Resource(dropped_attributes_count=3)
    for key, value in attributes:  # keys may come twice
        resource.attributes.extend(pairs({key: value}))
    metadata = {"tenant": ("one", "two")}
    ours = Actions([ActionBlock(**a) for a in actions])
    got = Resource.FromString(ours.apply(resource.SerializeToString(), edit.RESOURCE, metadata))
    attribute_actions.apply(resource.attributes, actions, metadata)
    assert got.SerializeToString(deterministic=True) == resource.SerializeToString(deterministic=True)
