"""k8s_events against a scripted API server: bytes, what counts as new, nothing lost and nothing repeated."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from kofagent.component.protocols import StartError
from kofagent.extensions.file_storage.extension import FileStorage
from kofagent.kubernetes.resources import CORE_EVENTS
from kofagent.kubernetes.watch import Timing
from kofagent.receivers.k8s_events.convert import go_time, last_seen, to_record
from kofagent.receivers.k8s_events.receiver import K8sEvents
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from kofagent.transform.anyvalue import attributes
from tests.support.components import FakeHost, Sink, eventually, make
from tests.support.fake_kube import FakeKube

FAST = Timing(first_wait=0.02, longest_wait=0.1, watch_seconds=(30, 30), margin=5)


def stamp(at: float | None = None) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 5 if at is None else at))


def event(name: str, *, at: str | None = None, namespace: str = "default", message: str = "", **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": "2026-01-02T03:04:05Z"},
        "type": "Normal",
        "reason": "Started",
        "message": message or name,
        "lastTimestamp": at or stamp(),
        "firstTimestamp": at or stamp(),
        "count": 1,
        "source": {"component": "kubelet", "host": "node-1"},
        "involvedObject": {
            "kind": "Pod",
            "namespace": namespace,
            "name": "web-0",
            "uid": "u1",
            "apiVersion": "v1",
            "resourceVersion": "77",
            "fieldPath": "spec.containers{app}",
        },
        **more,
    }


def bodies(sink: Sink) -> list[str]:
    request = ExportLogsServiceRequest.FromString(sink.payload(Signal.LOGS))
    return [r.body.string_value for e in request.resource_logs for s in e.scope_logs for r in s.log_records]


@pytest.fixture
async def kube(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[FakeKube]:
    async with FakeKube() as server:
        server.use(monkeypatch, tmp_path)
        yield server


class Running:
    """A started receiver and what it delivered."""

    def __init__(self, options: dict[str, Any] | None = None, host: FakeHost | None = None) -> None:
        self.host = host or FakeHost()
        self.sink = Sink()
        self.receiver = make(K8sEvents, options, kind="receiver", id="k8s_events", host=self.host)
        self.receiver.timing = FAST
        self.receiver.outputs = {Signal.LOGS: self.sink}

    async def __aenter__(self) -> Running:
        await self.receiver.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.receiver.stop()

    async def has(self, *wanted: str) -> None:
        """Waits for exactly these bodies, then a moment for one too many."""
        await eventually(lambda: len(bodies(self.sink)) >= len(wanted), message=f"{wanted}")
        await asyncio.sleep(0.05)
        assert sorted(bodies(self.sink)) == sorted(wanted)


def test_a_record_is_upstreams() -> None:
    resource, record = to_record(
        {**event("e.1", at="2026-01-02T03:04:06Z", message="it \u00fc runs"), "type": "Warning", "action": "Run", "count": 3}, 5
    )
    request = ExportLogsServiceRequest()
    entry = request.resource_logs.add()
    entry.resource.ParseFromString(resource)
    log = entry.scope_logs.add().log_records.add()
    log.ParseFromString(record)
    assert attributes(entry.resource.attributes) == {
        "k8s.node.name": "node-1",
        "k8s.object.kind": "Pod",
        "k8s.object.name": "web-0",
        "k8s.object.uid": "u1",
        "k8s.object.fieldpath": "spec.containers{app}",
        "k8s.object.api_version": "v1",
        "k8s.object.resource_version": "77",
    }
    assert attributes(log.attributes) == {
        "k8s.event.reason": "Started",
        "k8s.event.action": "Run",
        "k8s.event.start_time": "2026-01-02 03:04:05 +0000 UTC",
        "k8s.event.name": "e.1",
        "k8s.event.uid": "",
        "k8s.namespace.name": "default",
        "k8s.event.count": 3,
    }
    assert (log.severity_number, log.severity_text, log.body.string_value) == (13, "Warning", "it \u00fc runs")
    assert (log.time_unix_nano, log.observed_time_unix_nano) == (1767323046_000000000, 5)


@pytest.mark.parametrize(
    "type, number, text",
    [
        ("Normal", 9, "Normal"),
        ("Warning", 13, "Warning"),
        ("Error", 17, "Error"),
        ("Critical", 21, "Critical"),
        ("Odd", 0, ""),
        (None, 0, ""),
    ],
)
def test_severity(type: Any, number: int, text: str) -> None:
    request = ExportLogsServiceRequest()
    log = request.resource_logs.add().scope_logs.add().log_records.add()
    log.ParseFromString(to_record({**event("a"), "type": type}, 1)[1])
    assert (log.severity_number, log.severity_text) == (number, text)


def test_times() -> None:
    log = ExportLogsServiceRequest().resource_logs.add().scope_logs.add().log_records.add()
    log.ParseFromString(to_record({**event("a"), "eventTime": "2026-01-02T03:04:05.123456Z"}, 1)[1])
    assert log.time_unix_nano == 1767323045_123456000
    log.ParseFromString(to_record({**event("a"), "lastTimestamp": None, "firstTimestamp": None}, 1)[1])
    assert log.time_unix_nano == 1767323045_000000000, "the creation time where there is no other"
    assert (
        last_seen({**event("a", at="2026-01-02T03:04:05Z"), "series": {"lastObservedTime": "2026-01-02T03:04:09.000000Z"}})
        == 1767323049
    )
    assert go_time(None) == "0001-01-01 00:00:00 +0000 UTC"
    assert to_record({}, 1), "an event with nothing in it is a record too"


@pytest.mark.parametrize(
    "at", ["2999-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "1600-01-01T00:00:00Z", "0001-01-01T00:00:00Z"]
)
def test_a_time_that_no_record_can_hold_is_none(at: str) -> None:
    """Anyone who may create events writes such times; one of them stopped the stream for good."""
    log = ExportLogsServiceRequest().resource_logs.add().scope_logs.add().log_records.add()
    log.ParseFromString(to_record({**event("a", at=at), "eventTime": at, "series": {"lastObservedTime": at}}, 1)[1])
    assert log.time_unix_nano == 1767323045_000000000, "the creation time, which the API server sets"


def test_both_generations_of_the_api() -> None:
    """What recurs has its last time and count in `series`; the other names are those of events.k8s.io."""
    old = event("a", at="2026-01-02T03:04:06Z", message="m")
    about = old.pop("involvedObject")
    renamed = {
        "regarding": about,
        "note": old.pop("message"),
        "deprecatedSource": old.pop("source"),
        "deprecatedLastTimestamp": old.pop("lastTimestamp"),
        "deprecatedFirstTimestamp": old.pop("firstTimestamp"),
        "deprecatedCount": old.pop("count"),
    }
    assert to_record({**old, **renamed}, 1) == to_record(event("a", at="2026-01-02T03:04:06Z", message="m"), 1)

    def found(**more: Any) -> tuple[int, Any, Any]:
        resource, record = to_record({**event("a", at="2026-01-02T03:04:06Z"), **more}, 1)
        entry = ExportLogsServiceRequest().resource_logs.add()
        entry.resource.ParseFromString(resource)
        log = entry.scope_logs.add().log_records.add()
        log.ParseFromString(record)
        node = attributes(entry.resource.attributes)["k8s.node.name"]
        return log.time_unix_nano // 10**9 - 1767323045, attributes(log.attributes).get("k8s.event.count"), node

    new: dict[str, Any] = {"eventTime": "2026-01-02T03:04:05.000000Z", "count": None, "lastTimestamp": None, "firstTimestamp": None}
    series = {"count": 7, "lastObservedTime": "2026-01-02T03:05:05.000000Z"}
    assert found() == (1, 1, "node-1")
    assert found(**new) == (0, None, "node-1")
    assert found(**new, series=series) == (60, 7, "node-1")
    assert found(series=series) == (60, 7, "node-1")
    assert found(series={}) == found(series=None) == found(series={"count": True, "lastObservedTime": None}) == (1, 1, "node-1")
    kubelet = {"source": {}, "reportingInstance": "node-2"}
    assert found(**kubelet, reportingComponent="kubelet") == found(**kubelet, reportingController="kubelet") == (1, 1, "node-2")
    assert found(**kubelet, reportingComponent="default-scheduler") == (1, 1, "")


async def test_only_what_happens_after_the_start(kube: FakeKube) -> None:
    kube.put(CORE_EVENTS, event("old", at="2026-01-02T03:04:05Z"))
    kube.put(CORE_EVENTS, event("at the start"))
    async with Running() as running:
        await running.has("at the start")
        kube.put(CORE_EVENTS, event("new"))
        await running.has("at the start", "new")
        kube.put(CORE_EVENTS, event("new", message="again", count=2))
        await running.has("at the start", "new", "again")
        kube.delete(CORE_EVENTS, "new", "default")
        kube.put(CORE_EVENTS, event("last"))
        await running.has("at the start", "new", "again", "last")
        assert (
            running.host.ledger.total("otelcol_receiver_accepted_log_records_total", receiver="k8s_events", transport="http") == 4
        )


async def test_namespaces(kube: FakeKube) -> None:
    async with Running({"namespaces": ["a", "b"]}) as running:
        await eventually(lambda: kube.watches("events") == 2)
        for namespace in ("a", "b", "c"):
            kube.put(CORE_EVENTS, event(f"in {namespace}", namespace=namespace))
        await running.has("in a", "in b")


async def test_broken_watches_and_410_lose_and_repeat_nothing(kube: FakeKube) -> None:
    wanted = []
    async with Running() as running:
        await eventually(lambda: kube.watching == 1)
        for round, fault in enumerate([kube.drop_watches, kube.compact, kube.end_watches, kube.gone_in_stream, kube.bookmark] * 3):
            kube.put(CORE_EVENTS, event(f"before {round}"))
            fault()
            if fault == kube.gone_in_stream:
                await asyncio.sleep(0.05)  # nothing is sent behind an ERROR
            kube.put(CORE_EVENTS, event(f"behind {round}"))
            kube.put(CORE_EVENTS, event("the same", message=f"count {round}", count=round + 1))
            wanted += [f"before {round}", f"behind {round}", f"count {round}"]
            await running.has(*wanted)
        assert running.host.statuses.get("receiver/k8s_events") is None


async def test_more_events_than_a_page_after_a_410_come_in_order(kube: FakeKube) -> None:
    kube.page_cap = 7
    async with Running() as running:
        await eventually(lambda: kube.watching == 1)
        kube.silent = True
        names = [f"e{i:03}" for i in range(100)]
        for name in reversed(names):
            kube.put(CORE_EVENTS, event(name))
        kube.silent = False
        kube.expire_continue = True
        kube.compact()
        await running.has(*names)
        assert bodies(running.sink) == names[::-1]


async def test_an_api_server_that_restarts(kube: FakeKube) -> None:
    async with Running() as running:
        kube.put(CORE_EVENTS, event("one"))
        await running.has("one")
        await kube.stop()
        await eventually(lambda: running.host.statuses.get("receiver/k8s_events"))
        kube.put(CORE_EVENTS, event("two"))
        kube.compact()
        kube.put(CORE_EVENTS, event("three"))
        await kube.start()
        await running.has("one", "two", "three")
        await eventually(lambda: running.host.statuses["receiver/k8s_events"] is None)


async def test_another_history(kube: FakeKube) -> None:
    """etcd restored from a backup: versions are lower than those seen."""
    async with Running() as running:
        kube.put(CORE_EVENTS, event("one", at=stamp(time.time() - 1)))
        await eventually(lambda: kube.watching == 1)
        kube.version = 5000
        kube.put(CORE_EVENTS, event("two", at=stamp(time.time() + 1)))
        await eventually(lambda: "two" in bodies(running.sink))
        before = len(bodies(running.sink))
        kube.version = 200
        kube.history.clear()
        kube.objects.clear()
        kube.put(CORE_EVENTS, event("restored", at="2026-01-02T03:04:05Z"))
        kube.put(CORE_EVENTS, event("three", at=stamp(time.time() + 5)))
        kube.failures.append(("watch=1", 410))
        kube.drop_watches()
        await eventually(lambda: len(bodies(running.sink)) > before)
        kube.put(CORE_EVENTS, event("four"))
        await eventually(lambda: "four" in bodies(running.sink))
        assert bodies(running.sink)[before:] == ["three", "four"]


async def test_a_restart_of_the_agent_with_storage(kube: FakeKube, tmp_path: Path) -> None:
    storage = make(
        FileStorage, {"directory": str(tmp_path / "state"), "create_directory": True}, kind="extension", id="file_storage"
    )
    await storage.start()
    host = FakeHost({"file_storage": storage})
    options = {"storage": "file_storage"}
    kube.put(CORE_EVENTS, event("old", at="2026-01-02T03:04:05Z"))
    async with Running(options, host) as running:
        kube.put(CORE_EVENTS, event("one"))
        await running.has("one")
    kube.put(CORE_EVENTS, event("while away", at=stamp(time.time() - 100)))
    async with Running(options, host) as running:
        await running.has("while away")
        kube.put(CORE_EVENTS, event("two"))
        await running.has("while away", "two")
    kube.put(CORE_EVENTS, event("while away", message="again", at=stamp(time.time() - 50)))
    kube.compact()
    async with Running(options, host) as running:
        await running.has("again")
    async with Running(options, host) as running:
        kube.put(CORE_EVENTS, event("three"))
        await running.has("three")
    await storage.stop()


async def test_a_refusal_holds_the_stream_back_and_loses_nothing(kube: FakeKube) -> None:
    async with Running() as running:
        await eventually(lambda: kube.watching == 1)
        running.sink.refuse = Refused("sending queue full", retry_after=0.01)
        for i in range(20):
            kube.put(CORE_EVENTS, event(f"e{i}"))
        await running.sink.called.wait()
        running.sink.refuse = None
        await running.has(*[f"e{i}" for i in range(20)])


@pytest.mark.slow
async def test_what_was_not_taken_is_not_passed(kube: FakeKube, tmp_path: Path) -> None:
    """Stopped while the backend refuses: the position stays, the next start delivers."""
    storage = make(
        FileStorage, {"directory": str(tmp_path / "state"), "create_directory": True}, kind="extension", id="file_storage"
    )
    await storage.start()
    host = FakeHost({"file_storage": storage})
    async with Running({"storage": "file_storage"}, host) as running:
        kube.put(CORE_EVENTS, event("one"))
        await running.has("one")
        running.sink.refuse = Refused("sending queue full", retry_after=60)
        running.sink.called.clear()
        kube.put(CORE_EVENTS, event("two"))
        await running.sink.called.wait()
    async with Running({"storage": "file_storage"}, host) as running:
        await running.has("two")
    await storage.stop()


async def test_dedup_interval(kube: FakeKube) -> None:
    async with Running({"dedup_interval": "-1s"}) as running:
        await eventually(lambda: kube.watching == 1)
        for count in range(1, 5):
            kube.put(CORE_EVENTS, event("one", message=f"{count}", count=count))
        kube.put(CORE_EVENTS, event("two"))
        await running.has("1", "two")
        assert running.host.ledger.sum("kofagent_filtered_items_total") == 3
    watching = kube.watching  # the server notices late that nobody reads any more
    async with Running({"dedup_interval": "1h"}) as running:
        await eventually(lambda: kube.watching == watching + 1)
        kube.put(CORE_EVENTS, event("other", message="5", count=5))
        await eventually(lambda: "5" in bodies(running.sink))
        kube.put(CORE_EVENTS, event("other", message="6", count=6))
        kube.put(CORE_EVENTS, event("three"))
        await eventually(lambda: "three" in bodies(running.sink))
        assert "6" not in bodies(running.sink)


async def test_forbidden_is_said_once_and_tried_again(kube: FakeKube) -> None:
    kube.forbidden = {("list", "events"), ("watch", "events")}
    async with Running() as running:
        error = await eventually(lambda: running.host.statuses.get("receiver/k8s_events"))
        assert "may not list events" in error and '"resources": ["events"]' in error
        kube.forbidden.clear()
        kube.put(CORE_EVENTS, event("one"))
        await running.has("one")
        assert running.host.statuses["receiver/k8s_events"] is None


async def test_without_an_api_server(kube: FakeKube, monkeypatch: pytest.MonkeyPatch) -> None:
    await kube.stop()
    async with Running() as running:
        assert await eventually(lambda: running.host.statuses.get("receiver/k8s_events"))
        await kube.start()
        kube.put(CORE_EVENTS, event("one"))
        await running.has("one")
    monkeypatch.setattr(FakeHost, "kubeconfig", None)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    alone = Running()
    with pytest.raises(StartError, match="no-cluster"):
        await alone.receiver.start()
    await alone.receiver.stop()
