"""k8sobjects against a scripted API server: bodies, pull, watch, selectors, discovery, nothing lost and nothing repeated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from pydantic import ValidationError

from kofagent.component.protocols import StartError
from kofagent.extensions.file_storage.extension import FileStorage
from kofagent.kubernetes.resources import CONFIGMAPS, EVENTS, NODES, PODS
from kofagent.kubernetes.watch import Timing
from kofagent.receivers.k8sobjects import convert
from kofagent.receivers.k8sobjects.config import Config
from kofagent.receivers.k8sobjects.receiver import K8sObjects
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from kofagent.transform.anyvalue import attributes, to_python
from tests.support.components import FakeHost, Sink, eventually, make
from tests.support.fake_kube import FakeKube, pod

FAST = Timing(first_wait=0.02, longest_wait=0.1, watch_seconds=(30, 30), margin=5)


def resources(*plurals: str) -> dict[str, Any]:
    return {"resources": [{"name": p, "kind": p[:-1].capitalize(), "namespaced": p != "nodes"} for p in plurals]}


@pytest.fixture
async def kube(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[FakeKube]:
    async with FakeKube() as server:
        server.use(monkeypatch, tmp_path)
        server.groups = {
            "/api/v1": resources("pods", "events", "configmaps", "nodes"),
            "/apis": {
                "groups": [
                    {"name": "broken.example", "versions": [{"version": "v1"}], "preferredVersion": {"version": "v1"}},
                    {"name": "events.k8s.io", "versions": [{"version": "v1"}], "preferredVersion": {"version": "v1"}},
                ]
            },
            "/apis/events.k8s.io": {"versions": [{"version": "v1"}], "preferredVersion": {"version": "v1"}},
            "/apis/events.k8s.io/v1": resources("events"),
        }
        yield server


class Running:
    def __init__(self, *objects: dict[str, Any], host: FakeHost | None = None, **options: Any) -> None:
        self.host = host or FakeHost()
        self.sink = Sink()
        self.all: list[str] | None = None
        """All that was to come; held against what came until the end."""
        self.receiver = make(K8sObjects, {"objects": list(objects), **options}, kind="receiver", id="k8sobjects", host=self.host)
        self.receiver.timing = FAST
        self.receiver.outputs = {Signal.LOGS: self.sink}

    async def __aenter__(self) -> Running:
        await self.receiver.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *error: object) -> None:
        await self.receiver.stop()
        assert kind is not None or self.all is None or self.seen() == self.all

    @property
    def status(self) -> str | None:
        return self.host.statuses.get("receiver/k8sobjects")

    def records(self) -> list[tuple[dict[str, Any], dict[str, Any], Any]]:
        """(resource attributes, attributes, body) of each."""
        request = ExportLogsServiceRequest.FromString(self.sink.payload(Signal.LOGS))
        return [
            (attributes(e.resource.attributes), attributes(r.attributes), to_python(r.body))
            for e in request.resource_logs
            for s in e.scope_logs
            for r in s.log_records
        ]

    def seen(self) -> list[str]:
        """`TYPE name` of watched, `name` of pulled objects."""
        out = []
        for _, _, body in self.records():
            out.append(f"{body['type']} {body['object']['metadata']['name']}" if "type" in body else body["metadata"]["name"])
        return out

    async def has(self, *wanted: str) -> None:
        """Waits for these in this order; nothing else comes, before the next call or the end."""
        self.all = list(wanted)
        await eventually(lambda: len(self.seen()) >= len(wanted), message=f"{wanted}")
        assert self.seen() == self.all


def note(name: str, *, namespace: str = "default", text: str = "") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace}, "data": {"text": text}}


async def test_a_pulled_object_is_the_body(kube: FakeKube) -> None:
    stored = kube.put(PODS, pod("shop", "web-0"))
    kube.put(
        NODES, {"metadata": {"name": "n1"}, "status": {"allocatable": {"cpu": "4"}, "n": 5, "f": 0.5, "no": None, "yes": True}}
    )
    async with Running({"name": "pods"}, {"name": "nodes"}) as running:
        await eventually(lambda: len(running.records()) == 2)
        (resource, attrs, body), (of_node, _, node) = sorted(running.records(), key=lambda r: -len(r[0]))
        assert resource == {"k8s.namespace.name": "shop"}
        assert attrs == {"k8s.resource.name": "pods"}
        assert body == {**stored, "kind": "Pod", "apiVersion": "v1"}
        assert of_node == {} and node["status"] == {"allocatable": {"cpu": "4"}, "n": 5, "f": 0.5, "no": None, "yes": True}
        request = ExportLogsServiceRequest.FromString(running.sink.payload(Signal.LOGS))
        scope = request.resource_logs[0].scope_logs[0].scope
        assert (
            scope.name == "github.com/open-telemetry/opentelemetry-collector-contrib/receiver/k8sobjectsreceiver" and scope.version
        )
        record = request.resource_logs[0].scope_logs[0].log_records[0]
        assert record.observed_time_unix_nano and not record.time_unix_nano


async def test_pulls_again_every_interval_with_selectors(kube: FakeKube) -> None:
    kube.put(PODS, pod("shop", "web-0", labels={"environment": "production", "tier": "frontend"}))
    kube.put(PODS, pod("shop", "web-1", labels={"environment": "test", "tier": "frontend"}))
    kube.put(PODS, pod("shop", "web-2", labels={"environment": "production", "tier": "frontend"}, phase="Pending"))
    async with Running(
        {
            "name": "pods",
            "interval": "50ms",
            "label_selector": "environment in (production),tier in (frontend)",
            "field_selector": "status.phase=Running",
        }
    ) as running:
        await eventually(lambda: len(running.seen()) >= 3)
        assert set(running.seen()) == {"web-0"}


async def test_a_pull_in_pages_that_expires_sends_each_object_once(kube: FakeKube) -> None:
    kube.page_cap = 10
    names = [f"c{i:02}" for i in range(35)]
    for name in names:
        kube.put(CONFIGMAPS, note(name, text="x" * 200_000))
    async with Running({"name": "configmaps", "interval": "300ms"}) as running:
        running.sink.gate = asyncio.Event()
        await eventually(lambda: len(kube.requests) >= 2)
        kube.expire_continue = True
        running.sink.gate.set()
        await eventually(lambda: len(running.seen()) >= 70)
        assert sorted(running.seen()[:35]) == names, "the second pull begins after all of the first"
        assert not kube.expire_continue, "the page that was asked for had expired"
        assert max(b.size for b in running.sink.batches if hasattr(b, "size")) < 3 << 20, "big objects travel in several batches"


async def test_namespaces_and_excluded_ones(kube: FakeKube) -> None:
    for namespace in ("a", "b", "kube-system", "kube-public"):
        kube.put(PODS, pod(namespace, f"in-{namespace}"))
    async with Running({"name": "pods", "namespaces": ["a", "b"]}) as running:
        await eventually(lambda: sorted(running.seen()) == ["in-a", "in-b"])
    async with Running({"name": "pods", "exclude_namespaces": ["a", {"regexp": "^kube-"}]}) as running:
        await running.has("in-b")
    async with Running({"name": "pods", "mode": "watch", "exclude_namespaces": ["a"]}) as running:
        await eventually(lambda: kube.watches("pods") == 1)
        kube.put(PODS, pod("a", "one"))
        kube.put(PODS, pod("b", "two"))
        await running.has("ADDED two")


async def test_watched_events_of_a_group_without_deletions(kube: FakeKube) -> None:
    """KOF 0.1.1's defaults."""
    kube.put(EVENTS, {"metadata": {"name": "old", "namespace": "shop"}})
    async with Running({"name": "events", "group": "events.k8s.io", "mode": "watch", "exclude_watch_type": ["DELETED"]}) as running:
        await eventually(lambda: kube.watches("events") == 1)
        kube.put(EVENTS, {"metadata": {"name": "one", "namespace": "shop"}, "note": "hello"})
        kube.put(EVENTS, {"metadata": {"name": "one", "namespace": "shop"}, "note": "again"})
        kube.delete(EVENTS, "one", "shop")
        kube.put(EVENTS, {"metadata": {"name": "two", "namespace": "shop"}})
        await running.has("ADDED one", "MODIFIED one", "ADDED two")
        resource, attrs, body = running.records()[0]
        assert resource == {"k8s.namespace.name": "shop"}
        assert attrs == {"k8s.resource.name": "events", "event.domain": "k8s", "event.name": "one"}
        assert body["type"] == "ADDED" and body["object"]["note"] == "hello" and body["object"]["apiVersion"] == "events.k8s.io/v1"
        assert any(path == "/apis/events.k8s.io/v1/events" for _, path, _ in kube.requests)


async def test_initial_state_deletions_and_410(kube: FakeKube) -> None:
    kube.page_cap = 3
    names = [f"c{i}" for i in range(8)]
    for name in names:
        kube.put(CONFIGMAPS, note(name))
    async with Running({"name": "configmaps", "mode": "watch"}, include_initial_state=True) as running:
        wanted = [f"ADDED {name}" for name in names]
        await running.has(*wanted)
        kube.delete(CONFIGMAPS, "c3", "default")
        wanted.append("DELETED c3")
        await running.has(*wanted)
        kube.silent = True
        kube.put(CONFIGMAPS, note("c1", text="changed"))
        kube.put(CONFIGMAPS, note("c5", text="changed"))
        kube.silent = False
        kube.compact()
        wanted += ["MODIFIED c1", "MODIFIED c5"]
        await running.has(*wanted)


async def test_a_given_resource_version(kube: FakeKube) -> None:
    for name in ("one", "two", "three"):
        kube.put(CONFIGMAPS, note(name))
    async with Running({"name": "configmaps", "mode": "watch", "resource_version": "101"}) as running:
        await running.has("ADDED two", "ADDED three")


@pytest.fixture
async def stored(tmp_path: Path) -> AsyncIterator[FakeHost]:
    """A host with `file_storage`."""
    storage = make(
        FileStorage, {"directory": str(tmp_path / "state"), "create_directory": True}, kind="extension", id="file_storage"
    )
    await storage.start()
    yield FakeHost({"file_storage": storage})
    await storage.stop()


@pytest.mark.parametrize("kept", [True, False])
async def test_what_was_kept_goes_before_a_given_resource_version(kube: FakeKube, stored: FakeHost, kept: bool) -> None:
    for name in ("one", "two"):
        kube.put(CONFIGMAPS, note(name))
    watch = {"name": "configmaps", "mode": "watch", "resource_version": "101", "persist_resource_version": kept}
    async with Running(watch, storage="file_storage", host=stored) as running:
        await running.has("ADDED two")
    kube.put(CONFIGMAPS, note("three"))
    async with Running(watch, storage="file_storage", host=stored) as running:
        await running.has(*(["ADDED three"] if kept else ["ADDED two", "ADDED three"]))


async def test_a_restart_with_storage(kube: FakeKube, stored: FakeHost) -> None:
    host = stored
    watch = {"name": "configmaps", "mode": "watch"}
    kube.put(CONFIGMAPS, note("before"))
    async with Running(watch, storage="file_storage", include_initial_state=True, host=host) as running:
        await running.has("ADDED before")
        kube.put(CONFIGMAPS, note("one"))
        await running.has("ADDED before", "ADDED one")
    kube.put(CONFIGMAPS, note("two"))
    kube.delete(CONFIGMAPS, "one", "default")
    async with Running(watch, storage="file_storage", include_initial_state=True, host=host) as running:
        await running.has("ADDED two", "DELETED one")
    kube.put(CONFIGMAPS, note("three"))
    kube.compact()
    async with Running(watch, storage="file_storage", include_initial_state=True, host=host) as running:
        await eventually(lambda: len(running.seen()) == 1)
        assert running.seen()[0].endswith("three")


async def test_unknown_objects(kube: FakeKube) -> None:
    unknown = {"name": "unicorns", "group": "events.k8s.io"}
    refused = Running(unknown)
    with pytest.raises(StartError, match=r"no resource 'unicorns' in group 'events.k8s.io'; correct its name"):
        await refused.receiver.start()
    await refused.receiver.stop()
    kube.put(PODS, pod("shop", "web-0"))
    for mode in ("ignore", "silent"):
        async with Running(unknown, {"name": "nothing"}, {"name": "pods"}, error_mode=mode) as running:
            await running.has("web-0")
            assert running.status is None


async def test_an_object_that_may_not_be_read_does_not_stop_the_others(kube: FakeKube) -> None:
    kube.put(PODS, pod("shop", "web-0"))
    kube.put(CONFIGMAPS, note("one"))
    kube.forbidden = {("list", "configmaps"), ("watch", "configmaps")}
    async with Running(
        {"name": "configmaps", "interval": "50ms"}, {"name": "configmaps", "mode": "watch"}, {"name": "pods"}
    ) as running:
        await eventually(lambda: running.seen() == ["web-0"])
        error = await eventually(lambda: running.status)
        assert "may not list configmaps" in error
        kube.forbidden = set()
        await eventually(lambda: "one" in running.seen())


async def test_without_an_api_server(kube: FakeKube) -> None:
    await kube.stop()
    async with Running({"name": "pods"}, {"name": "configmaps", "mode": "watch"}) as running:
        assert await eventually(lambda: running.status)
        kube.put(PODS, pod("shop", "web-0"))
        await kube.start()
        await running.has("web-0")
        await eventually(lambda: kube.watches("configmaps") == 1)
        await eventually(lambda: running.status is None)


async def test_a_pull_waits_for_a_backend_that_refuses(kube: FakeKube) -> None:
    kube.put(PODS, pod("shop", "web-0"))
    async with Running({"name": "pods"}) as running:
        running.sink.refuse = Refused("sending queue full", retry_after=0.01)
        await running.sink.called.wait()
        running.sink.refuse = None
        await running.has("web-0")


async def test_objects_nested_without_end_are_counted(kube: FakeKube) -> None:
    deep: dict[str, Any] = {}
    for _ in range(60):
        deep = {"a": deep}
    kube.put(CONFIGMAPS, {**note("deep"), "data": deep})
    kube.put(CONFIGMAPS, note("flat"))
    async with Running({"name": "configmaps"}) as running:
        await running.has("flat")
        assert (
            running.host.ledger.total("kofagent_dropped_items_total", component="k8sobjects", signal="logs", reason="malformed")
            == 1
        )


@pytest.mark.parametrize("name, named", [("a", {"event.domain": "k8s", "event.name": "a"}), ("", {}), (5, {}), (None, {})])
def test_an_event_is_named_after_an_object_that_has_a_name(name: Any, named: dict[str, str]) -> None:
    _, data = convert.watched("ADDED", {"metadata": {"name": name}}, "pods", 1)
    found = {a.key: a.value.string_value for a in LogRecord.FromString(data).attributes}
    assert found == {"k8s.resource.name": "pods", **named}


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"objects": [{"name": "pods", "exclude_watch_type": ["DELETED"]}]},
            "exclude_watch_type can only be used with mode: watch",
        ),
        ({"objects": [{"name": "pods"}], "include_initial_state": True}, "include_initial_state can only be used"),
        ({"objects": [{"name": "pods", "namespaces": ["a"], "exclude_namespaces": ["b"]}]}, "cannot both be given"),
        ({"objects": [{"name": "pods", "exclude_namespaces": [{"regexp": "("}]}]}, "not a regular expression"),
        ({"objects": [{"name": "pods", "initial_delay": "2h"}]}, "initial_delay must be less than interval"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config.model_validate(options)
