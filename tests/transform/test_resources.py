"""The memory of rewritten resources."""

from __future__ import annotations

from collections.abc import Hashable

import pytest

from kofagent.telemetry.batch import Batch
from kofagent.telemetry.signal import Signal
from kofagent.transform import attribute_keys
from kofagent.transform.resources import ResourceMap
from kofagent.wire import otlp
from kofagent.wire.attributes import attribute_key, encode_attribute, encode_attributes


def payload(*names: str) -> bytes:
    return b"".join(otlp.build_resource([otlp.build_scope([b""])], encode_attributes({"n": name})) for name in names)


def test_asked_once_per_resource_and_key() -> None:
    asked: list[tuple[bytes, Hashable]] = []

    def change(resource: bytes, key: Hashable) -> bytes:
        asked.append((resource, key))
        return resource + encode_attributes({"k": str(key)})

    mapping = ResourceMap(change)
    given = Batch(Signal.LOGS, payload("a", "b", "a"), 3, {"m": ("x",)})
    out = mapping.apply(given, 1)
    assert [e.resource for e in otlp.resources(out.payload)] == [encode_attributes({"n": n, "k": "1"}) for n in "aba"]
    assert (out.count, out.metadata, given.payload) == (3, given.metadata, payload("a", "b", "a"))
    mapping.apply(given, 1)
    assert len(asked) == 2
    mapping.apply(given, 2)
    assert len(asked) == 4
    mapping.clear()
    mapping.apply(given, 1)
    assert len(asked) == 6


def test_a_payload_without_a_resource() -> None:
    mapping = ResourceMap[None](lambda resource, key: encode_attributes({"k": 1}))
    out = mapping.apply(Batch(Signal.LOGS, otlp.build_resource([otlp.build_scope([b""])]), 1), None)
    assert [e.resource for e in otlp.resources(out.payload)] == [encode_attributes({"k": 1})]


def test_keys_are_those_of_the_walk() -> None:
    pairs = [encode_attribute(key, value) for key in ("a", "b", "", "long" * 100) for value in (1, "x", "y" * 300)] * 2
    assert attribute_keys.keys_of(pairs) == [attribute_key(pair) for pair in pairs]
    with pytest.raises(ValueError, match="malformed"):
        attribute_keys.keys_of([b"\x0a\x7f"])
