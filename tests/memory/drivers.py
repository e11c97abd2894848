"""How each memo of the product is filled: its name -> what makes the object that has it and uses it the i-th time, otherwise.

A driver goes through the real use, never to the memo itself, and asserts the answer where that is one line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kofagent.telemetry.batch import Batch
from kofagent.telemetry.signal import Signal
from kofagent.wire import otlp
from kofagent.wire.attributes import encode_attribute, encode_attributes

Use = Callable[[int], Any]
"""One use; with another number there is something else to remember."""


def logs(resource: str, record: bytes = b"") -> bytes:
    """A payload of one record."""
    return otlp.build_resource([otlp.build_scope([record])], encode_attributes({"n": resource}))


def attribute_keys() -> Use:
    from kofagent.transform.attribute_keys import keys_of

    def use(i: int) -> None:
        assert keys_of([encode_attribute(f"k{i}", "v")]) == [b"k%d" % i]

    return use


def resources() -> Use:
    from kofagent.transform.resources import ResourceMap

    mapping = ResourceMap(lambda resource, key: resource + encode_attributes({"k": "v"}))

    def use(i: int) -> None:
        out = mapping.apply(Batch(Signal.LOGS, logs(str(i)), 1))
        assert next(iter(otlp.resources(out.payload))).resource == encode_attributes({"n": str(i), "k": "v"})

    return use


def point_attributes() -> Use:
    from kofagent.transform.otlp_metrics import Metric

    metric = Metric("m", "1", "", "gauge")
    return lambda i: metric.point(1, (("device", f"sd{i}"),), 0, 1)


def attribute_matches() -> Use:
    from kofagent.transform.matching import AttributeBlock, compile_attributes

    test = compile_attributes("regexp", [AttributeBlock(key="a", value="7")])

    def use(i: int) -> None:
        assert test([encode_attribute("b", "7"), encode_attribute("a", str(i))]) is ("7" in str(i))

    return use


def scope_matches() -> Use:
    from kofagent.transform.matching import AttributeBlock, MatchBlock, RecordMatch

    block = MatchBlock(match_type="regexp", resources=[AttributeBlock(key="n", value="7")])
    match = RecordMatch(block, Signal.LOGS)

    def use(i: int) -> None:
        assert match.match(encode_attributes({"n": str(i)}), b"", b"") is ("7" in str(i))

    return use


def filterset() -> Use:
    from kofagent.config.filterset import compile_filterset

    matches = compile_filterset("regexp", ["7"])

    def use(i: int) -> None:
        assert matches(str(i)) is ("7" in str(i))

    return use


DRIVERS: dict[str, Callable[[], Use]] = {
    "transform.attribute_keys": attribute_keys,
    "transform.resources": resources,
    "transform.point_attributes": point_attributes,
    "transform.attribute_matches": attribute_matches,
    "transform.scope_matches": scope_matches,
    "config.filterset": filterset,
}
