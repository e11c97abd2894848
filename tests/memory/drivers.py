"""How each memo of the product is filled: its name -> what makes the object that has it and uses it the i-th time, otherwise.

A driver goes through the real use, never to the memo itself, and asserts the answer where that is one line.
"""

from __future__ import annotations

import asyncio
import base64
import importlib
import logging
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData

from kofagent.telemetry.batch import Batch, MetricBatch, Samples
from kofagent.telemetry.series import Family, Series
from kofagent.telemetry.signal import Signal
from kofagent.wire import otlp
from kofagent.wire.attributes import encode_attribute, encode_attributes
from kofagent.wire.varint import length_delimited
from tests.support.components import make, make_context
from tests.support.fake_kube import pod

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

    mapping = ResourceMap[None](lambda resource, key: resource + encode_attributes({"k": "v"}))

    def use(i: int) -> None:
        out = mapping.apply(Batch(Signal.LOGS, logs(str(i)), 1), None)
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
    from kofagent.operators.errors import OperatorError

    chain = opened([{"type": "noop"}])
    return lambda i: chain.failed(chain.operators[0], OperatorError(str(i)), "send")


def patterns() -> Use:
    from kofagent.operators.regex import pattern

    def use(i: int) -> None:
        assert pattern(f"^a{i}$").test(f"a{i}")

    return use


def json(member: Callable[[int], dict[str, Any]]) -> Callable[[], Use]:
    from kofagent.wire.attributes import encode_value
    from kofagent.wire.json_value import JsonEncoder

    def made() -> Use:
        encoder = JsonEncoder()

        def use(i: int) -> None:
            assert encoder.value(member(i)) == encode_value(member(i))

        return use

    return made


def cloudwatch() -> Use:
    from kofagent.exporters.awscloudwatchlogs import events

    record = length_delimited(6, encode_attribute("a", "x")) + length_delimited(5, length_delimited(1, b"body"))

    def use(i: int) -> None:
        built = events.build(logs(str(i), record), ("group", "stream"), False, 1)
        assert f'"n":"{i}"' in built.events[0].message

    return use


def routing() -> Use:
    from kofagent.connectors.routing.table import Splitter
    from kofagent.ottl import parse_condition

    splitter = Splitter((parse_condition('attributes["n"] == "7"', "resource"), "resource"), lambda look: look())

    def use(i: int) -> None:
        payload = logs(str(i))
        assert splitter.split("logs", payload, None) == ((payload, b"") if i == 7 else (b"", payload))

    return use


def transform_resources() -> Use:
    from kofagent.ottl import parse_statement
    from kofagent.processors.transform.config import Group
    from kofagent.processors.transform.groups import runner

    statement = parse_statement('set(attributes["k"], attributes["n"])', "resource")
    made = runner(Group("", "resource", [statement], [], "ignore", False), "logs", lambda *_: None)

    def use(i: int) -> None:
        out = made.run(logs(str(i)), None)
        assert next(iter(otlp.resources(out))).resource == encode_attributes({"n": str(i), "k": str(i)})

    return use


def ottl_patterns() -> Use:
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

    from kofagent.ottl import parse_condition

    condition = parse_condition("IsMatch(body, severity_text)", "log")

    def use(i: int) -> None:
        record = LogRecord(severity_text=f"^{i}$")
        record.body.string_value = str(i)
        assert condition.matches(None, None, record)

    return use


def filter_resources() -> Use:
    from kofagent.processors.filter.config import Config
    from kofagent.processors.filter.rules import Around, Rules

    match = {"match_type": "strict", "resource_attributes": [{"key": "n", "value": "7"}]}
    (rule,) = Rules(Config.model_validate({"metrics": {"exclude": match}}), Signal.METRICS).resource_lists

    def use(i: int) -> None:
        assert rule.skips(Around(encode_attributes({"n": str(i)}), None)) is (i == 7)

    return use


def groupbyattrs() -> Use:
    from kofagent.processors.groupbyattrs import COMPONENT

    processor: Any = make(COMPONENT, {"keys": ["k"]}, kind="processors")
    pair = encode_attribute("k", "v")

    def use(i: int) -> None:
        header, _ = processor._known[encode_attributes({"n": str(i)}), (pair,)]
        assert header == encode_attributes({"n": str(i), "k": "v"})

    return use


def returned() -> Use:
    """Points that went back to their sender; they come again."""
    from kofagent.transform.streams import Returned

    points = Returned()

    def use(i: int) -> None:
        points.put([(b"m", b"%d" % i, b"new", "")])

    return use


def spanmetrics() -> Use:
    from kofagent.connectors.spanmetrics.series import Counted, Explicit

    counted = Counted(1, 0, lambda: Explicit(()))
    counted.remember(2000)

    def use(i: int) -> None:
        assert counted.start_of((b"r", "calls", (b"%d" % i,)), 1, 2) == 1

    return use


def decisions(sampled: bool) -> Callable[[], Use]:
    """Of traces that were decided on."""

    def made() -> Use:
        from kofagent.processors.tail_sampling.traces import Decisions

        known = Decisions(1000, 1000)

        def use(i: int) -> None:
            known.put(b"%016d" % i, sampled)
            assert known.of(b"%016d" % i) is sampled

        return use

    return made


def basicauth() -> Use:
    from kofagent.extensions.basicauth import COMPONENT

    users = "\n".join(f"u{i}:p{i}" for i in range(3000))
    auth: Any = make(COMPONENT, {"htpasswd": {"inline": users}}, kind="extensions")
    loop = asyncio.new_event_loop()
    loop.run_until_complete(auth.start())

    def use(i: int) -> None:
        token = base64.b64encode(f"u{i}:p{i}".encode()).decode()
        assert loop.run_until_complete(auth.authenticate({"authorization": f"Basic {token}"})) == {"auth.username": (f"u{i}",)}

    weakref.finalize(use, loop.close)
    return use


def login_attempts() -> Use:
    from kofagent.extensions.basicauth.attempts import Attempts

    attempts = Attempts()

    def use(i: int) -> None:
        tries = attempts.of("10.0.0.1", f"u{i}")
        assert not tries.used_up()
        tries.count()

    return use


def excluded() -> Use:
    from kofagent.receivers.filelog.globs import Finder

    folder = tempfile.TemporaryDirectory()
    finder = Finder([f"{folder.name}/*/*.log"], [f"{folder.name}/*/no.log"])

    def use(i: int) -> None:
        if i:
            shutil.rmtree(f"{folder.name}/{i - 1}")
        os.mkdir(f"{folder.name}/{i}")
        for name in ("yes.log", "no.log"):
            open(f"{folder.name}/{i}/{name}", "w").close()
        assert finder.find() == [f"{folder.name}/{i}/yes.log"]

    weakref.finalize(use, folder.cleanup)
    return use


def journal_blocks() -> Use:
    from kofagent.receivers.journald.file import JournalFile
    from tests.support.journal_files import JournalWriter

    folder = tempfile.TemporaryDirectory()
    writer = JournalWriter(Path(folder.name, "a.journal"))
    values = [b"N%d=" % i + b"x" * 60_000 for i in range(30)]
    writer.append(*values)
    file = JournalFile(os.open(writer.path, os.O_RDONLY), str(writer.path))
    entry = file.next(1)
    assert entry is not None

    def use(i: int) -> None:
        assert file.value(entry.items[i % 30], 5).data == values[i % 30][:5]

    weakref.finalize(use, folder.cleanup)
    return use


def journal_values() -> Use:
    from kofagent.receivers.journald.fields import Style
    from kofagent.receivers.journald.file import JournalFile
    from kofagent.receivers.journald.matches import Matches
    from kofagent.receivers.journald.values import Values
    from tests.support.journal_files import JournalWriter

    folder = tempfile.TemporaryDirectory()
    writer = JournalWriter(Path(folder.name, "a.journal"))
    for _ in range(2):  # only what is shared is remembered
        writer.append(*[f"N{i}={i}" for i in range(3000)])
    file = JournalFile(os.open(writer.path, os.O_RDONLY), str(writer.path))
    entry = file.next(1)
    assert entry is not None
    values = Values(file, Matches(), Style(False, False))

    def use(i: int) -> None:
        fields, bad = values.fields(entry._replace(items=(entry.items[i % 3000],)))
        assert (len(fields), bad) == (1, 0)

    weakref.finalize(use, folder.cleanup)
    return use


def sample_heads() -> Use:
    from kofagent.wire import remote_write

    def use(i: int) -> None:
        head, labels, _ = remote_write.encode_samples([b"x" * i], [1.0], 1)
        assert head[:1] == b"\x0a" and len(labels) == i

    return use


def files_seen() -> Use:
    """Once some are forgotten, no file is begun anew."""
    from kofagent.exporters.file import COMPONENT

    folder = tempfile.TemporaryDirectory()
    options = {"path": f"{folder.name}/*.txt", "group_by": {"enabled": True, "max_open_files": 1}}
    exporter: Any = make(COMPONENT, options, kind="exporters")

    def use(i: int) -> None:
        exporter._writer(f"{folder.name}/{i}.txt")

    weakref.finalize(use, folder.cleanup)
    return use


def own_log() -> Use:
    from kofagent.config.model import LogSampling
    from kofagent.pipeline.own_log import Sampling

    sampling = Sampling(LogSampling.model_validate({"tick": "1h", "initial": 1, "thereafter": 0}))

    def use(i: int) -> None:
        record = logging.LogRecord("kofagent", logging.INFO, "x.py", 1, f"event {i}", (), None)
        assert sampling.filter(record) and not sampling.filter(record)

    return use


def events_sent() -> Use:
    from kofagent.receivers.k8s_events import COMPONENT

    receiver: Any = make(COMPONENT, {"auth_type": "none", "dedup_interval": "1h"})

    def use(i: int) -> None:
        event = {"metadata": {"uid": str(i)}}
        assert not receiver._repeated("ADDED", event) and receiver._repeated("MODIFIED", event)

    return use


def cluster_points() -> Use:
    from kofagent.receivers.k8s_cluster.model import Described
    from kofagent.receivers.k8s_cluster.snapshot import Snapshot
    from kofagent.transform.otlp_metrics import Metric

    metric = Metric("m", "1", "", "gauge")
    snapshot = Snapshot("s", "", "", 0)
    return lambda i: snapshot.put("one", [Described((("a", "b"),), ((metric, i, ()),), True)])


def value_of(module: str, name: str, text: Callable[[int], Any]) -> Callable[[], Use]:
    """A function of one argument."""
    function = getattr(importlib.import_module(module), name)
    return lambda: lambda i: function(text(i))


def meta_labels() -> Use:
    from kofagent.prometheus.discovery.kubernetes.labels import annotations_and_labels

    def use(i: int) -> None:
        assert len(annotations_and_labels({"labels": {f"k{i}": "v"}}, "pod")) == 2

    return use


def k8sattributes(known: bool, pods: bool = False) -> Callable[[], Use]:
    """Telemetry of a pod that is known, each time of another one where `pods`, or of one that nobody knows."""

    def made() -> Use:
        from kofagent.processors.k8sattributes.cluster import Cluster
        from kofagent.processors.k8sattributes.config import Config

        by_uid = {"pod_association": [{"sources": [{"from": "resource_attribute", "name": "k8s.pod.uid"}]}]}
        cluster = Cluster(Config.model_validate(by_uid), make_context("processors", "k8sattributes"))

        def use(i: int) -> None:
            uid = f"u{i if pods else 0}"
            if known and (pods or i == 0):
                cluster.pods.put(pod("shop", "web", uid=uid), 0.0)
            _, found, _, _ = cluster.enrich(encode_attributes({"k8s.pod.uid": uid, "i": i}), "")
            assert (found is not None) is known

        return use

    return made


_TIME = datetime(2026, 11, 21, tzinfo=UTC)
_CONTAINER = {"type": "container", "format": "containerd", "add_metadata_from_filepath": False}
_REGEX = {"type": "regex_parser", "regex": r"^(?P<word>[a-z0-9]+)"}


def container_line(i: int) -> str:
    """A line of containerd's with another second and another length."""
    return f"{_TIME + timedelta(seconds=i):%Y-%m-%dT%H:%M:%S}.123456789Z stdout F {'x' * i}"


DRIVERS: dict[str, Callable[[], Use]] = {
    "wire.sample_heads": sample_heads,
    "wire.json_keys": json(lambda i: {f"k{i}": 1}),
    "wire.json_pairs": json(lambda i: {"k": str(i)}),
    "transform.attribute_keys": attribute_keys,
    "transform.resources": resources,
    "transform.returned": returned,
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
    "awscloudwatchlogs.attributes": cloudwatch,
    "basicauth.right": basicauth,
    "basicauth.attempts": login_attempts,
    "file.seen": files_seen,
    "filelog.excluded": excluded,
    "filter.resources": filter_resources,
    "groupbyattrs.resources": groupbyattrs,
    "journald.blocks": journal_blocks,
    "journald.values": journal_values,
    "k8s_cluster.points": cluster_points,
    "k8s_events.sent": events_sent,
    "k8sattributes.pods": k8sattributes(True, pods=True),
    "k8sattributes.resources": k8sattributes(True),
    "k8sattributes.unknown": k8sattributes(False),
    "kubeletstats.times": value_of(
        "kofagent.receivers.kubeletstats.summary", "start_of", lambda i: {"startTime": (_TIME + timedelta(seconds=i)).isoformat()}
    ),
    "kubernetes.images": value_of("kofagent.kubernetes.image", "split_image", lambda i: f"app:{i}"),
    "kubernetes.milli": value_of("kofagent.kubernetes.quantity", "milli", str),
    "kubernetes.quantities": value_of("kofagent.kubernetes.quantity", "parse", str),
    "kubernetes.whole": value_of("kofagent.kubernetes.quantity", "whole", str),
    "own_log.messages": own_log,
    "prometheus.label_pairs": label_pairs,
    "prometheus.meta_labels": meta_labels,
    "ottl.patterns": ottl_patterns,
    "routing.resources": routing,
    "ottl.resources": transform_resources,
    "spanmetrics.timestamps": spanmetrics,
    "tail_sampling.sampled": decisions(True),
    "tail_sampling.not_sampled": decisions(False),
    "prometheusremotewrite.labelled": labelled,
    "prometheusremotewrite.targets": targets,
    "prometheusremotewrite.families_sent": families_sent,
    "prometheusremotewrite.series": translator(),
    "prometheusremotewrite.names": translator("m{}"),
    "prometheusremotewrite.scopes": translator(scope=True),
    "prometheusremotewrite.labels": translator(),
    "prometheusremotewrite.metadata_sent": translator("m{}", metadata=True),
}
