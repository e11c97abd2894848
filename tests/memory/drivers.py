"""How each memo of the product is filled: its name -> what makes the object that has it and uses it the i-th time, otherwise.

A driver goes through the real use, never to the memo itself, and asserts the answer where that is one line.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData

from kofagent.telemetry.batch import Batch, MetricBatch, Samples
from kofagent.telemetry.series import Family, Series
from kofagent.telemetry.signal import Signal
from kofagent.wire import otlp
from kofagent.wire.attributes import encode_attribute, encode_attributes
from tests.support.components import make

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


def label_pairs() -> Use:
    from kofagent.prometheus.columns import make_series

    def use(i: int) -> None:
        assert make_series((("pod", str(i)),), None).labels == (("pod", str(i)),)

    return use


def labelled() -> Use:
    from kofagent.exporters.prometheusremotewrite.columns import Targets

    targets = Targets({"cluster": "c"}, None, False, "")

    def use(i: int) -> None:
        targets.rotate()
        targets.label_bytes(Samples([Series((("__name__", f"s{i}_{j}"),)) for j in range(500)], [], 0))

    return use


def targets() -> Use:
    from kofagent.exporters.prometheusremotewrite.columns import Targets

    targets = Targets({}, None, True, "")

    def use(i: int) -> None:
        group = Samples([Series((("__name__", "s"),))], [1.0], 0, resource={"service.name": "s", "k": str(i)})
        assert str(i).encode() in targets.infos(MetricBatch([group]))[0]

    return use


def families_sent() -> Use:
    from kofagent.exporters.prometheusremotewrite import COMPONENT

    exporter = make(COMPONENT, {"endpoint": "http://127.0.0.1:1/", "send_metadata": True}, kind="exporters")

    def use(i: int) -> None:
        series = Series((("__name__", f"s{i}"),), Family(f"s{i}"))
        assert len(list(exporter._columns(MetricBatch([Samples([series], [1.0], 0)])))) == 1

    return use


def translator(metric: str = "m", metadata: bool = False, scope: bool = False, resource: bool = False) -> Callable[[], Use]:
    """OTLP to samples: every use has another point, and what else is asked for."""

    def made() -> Use:
        from kofagent.exporters.prometheusremotewrite.translate import Translator
        from kofagent.exporters.prometheusremotewrite.translated import Options

        it = Translator(Options(metadata=metadata, scope_info=scope))
        data = MetricsData()
        group = data.resource_metrics.add()
        name = group.resource.attributes.add(key="service.name").value
        scoped = group.scope_metrics.add()
        one = scoped.metrics.add()
        point = one.gauge.data_points.add(time_unix_nano=1, as_int=1)
        value = point.attributes.add(key="i").value

        def use(i: int) -> None:
            name.string_value = str(i) if resource else "s"
            scoped.scope.name = str(i) if scope else "s"
            one.name = metric.format(i)
            one.description = metric.format(i) if metadata else ""
            value.string_value = str(i)
            assert len(it.translate(data.SerializeToString()).labels) == 1

        return use

    return made


def chain(operators: list[dict[str, Any]], line: Callable[[int], str], shape: str) -> Callable[[], Use]:
    """A file through these operators, compiled to this shape; the i-th line is that of `line`."""

    def made() -> Use:
        stream = opened(operators).open({})
        assert isinstance(stream, Stream)

        def use(i: int) -> None:
            stream.feed_chunk(line(i).encode() + b"\n", 1)
            assert stream.take()[1] == 1
            assert stream.shape == shape

        return use

    from kofagent.operators.chain import Stream

    return made


def opened(operators: list[dict[str, Any]]) -> Any:
    from kofagent.operators.chain import Chain

    return Chain(operators, dropped=lambda *_: None, filtered=lambda *_: None, log=logging.getLogger("test.drivers"))


def head_tables() -> Use:
    chain = opened([{"type": "container", "format": "containerd", "add_metadata_from_filepath": False}])

    def use(i: int) -> None:
        stream = chain.open({"a": "x" * i})
        stream.feed_chunk(b"2026-11-21T10:44:28.123456789Z stdout F body\n", 1)
        assert b"x" * i in stream.take()[0]

    return use


def logged() -> Use:
    chain = opened([{"type": "noop"}])
    return lambda i: chain.failed(chain.operators[0], ValueError(str(i)), "send")


def patterns() -> Use:
    from kofagent.operators.regex import pattern

    def use(i: int) -> None:
        assert pattern(f"^a{i}$").test(f"a{i}")

    return use


_TIME = datetime(2026, 11, 21, tzinfo=UTC)
_CONTAINER = {"type": "container", "format": "containerd", "add_metadata_from_filepath": False}
_REGEX = {"type": "regex_parser", "regex": r"^(?P<word>[a-z0-9]+)"}


def container_line(i: int) -> str:
    """A line of containerd's with another second and another length."""
    return f"{_TIME + timedelta(seconds=i):%Y-%m-%dT%H:%M:%S}.123456789Z stdout F {'x' * i}"


DRIVERS: dict[str, Callable[[], Use]] = {
    "transform.attribute_keys": attribute_keys,
    "transform.resources": resources,
    "transform.point_attributes": point_attributes,
    "transform.attribute_matches": attribute_matches,
    "transform.scope_matches": scope_matches,
    "config.filterset": filterset,
    "operators.seconds": chain([_CONTAINER], container_line, "outcomes"),
    "operators.heads": chain([_CONTAINER], container_line, "outcomes"),
    "operators.head_tables": head_tables,
    "operators.outcomes": chain([_REGEX], lambda i: f"{i}{'x' * 3000} y", "outcomes"),
    "operators.group_keys": chain([{"type": "copy", "from": "body", "to": "resource.a"}], str, "entries"),
    "operators.attribute_pairs": chain([{"type": "copy", "from": "body", "to": "attributes.a"}], str, "entries"),
    "operators.logged": logged,
    "operators.patterns": patterns,
    "prometheus.label_pairs": label_pairs,
    "prometheusremotewrite.labelled": labelled,
    "prometheusremotewrite.targets": targets,
    "prometheusremotewrite.families_sent": families_sent,
    "prometheusremotewrite.series": translator(),
    "prometheusremotewrite.names": translator("m{}"),
    "prometheusremotewrite.scopes": translator(scope=True),
    "prometheusremotewrite.labels": translator(),
    "prometheusremotewrite.metadata_sent": translator("m{}", metadata=True),
}
