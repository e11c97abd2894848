"""k8s_observer against a scripted API server: the endpoints that upstream has, and what receivers of files are told in addition."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from kofagent.component.observing import TYPES, Wanted
from kofagent.extensions.k8s_observer import COMPONENT as K8sObserver
from kofagent.kubernetes.resources import INGRESSES, NODES, PODS, SERVICES
from tests.receivers.receiver_creator.support import RUNNING, Heard, container_status, ended, put
from tests.support.components import FakeHost, eventually, make, validated
from tests.support.fake_kube import FakeKube, pod

ALL = Wanted(frozenset(TYPES))
FILES = Wanted(frozenset({"pod.container"}), files=True)


@pytest.fixture
async def kube(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[FakeKube]:
    monkeypatch.setattr("kofagent.extensions.k8s_observer.watching.LOOK_SECONDS", 0.02)
    for name in ("OTEL_K8S_NODE_NAME", "K8S_NODE_NAME"):
        monkeypatch.delenv(name, raising=False)
    async with FakeKube() as server:
        server.use(monkeypatch, tmp_path)
        yield server


class World:
    """An observer, and what it tells one reader."""

    def __init__(self, wanted: Wanted = ALL, **options: Any) -> None:
        self.host, self.heard, self._wanted = FakeHost(), Heard(), wanted
        options = {"log_directory": "/nonexistent", **options}
        self.observer = make(K8sObserver, options, kind="extension", id="k8s_observer", host=self.host)

    async def __aenter__(self) -> World:
        await self.observer.start()
        self.observation = self.observer.observe(self._wanted, self.heard)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.observation.stop()
        await self.observer.stop()

    @property
    def ids(self) -> list[str]:
        return sorted(self.heard.now)

    def env(self, id: str) -> dict[str, Any]:
        return self.heard.now[id].env()


async def test_a_pod_its_containers_and_their_ports(kube: FakeKube) -> None:
    put(kube, "web", "u1", labels={"app": "web"}, annotations={"a": "b"})
    about = {"name": "web", "namespace": "shop", "uid": "u1", "labels": {"app": "web"}, "annotations": {"a": "b"}}
    async with World() as world:
        await world.observation.synced.wait()
        assert world.ids == ["k8s_observer/u1", "k8s_observer/u1/app", "k8s_observer/u1/http(8080)"]
        at = {"endpoint": "10.0.0.1", "host": "10.0.0.1"}
        assert world.env("k8s_observer/u1") == {**about, **at, "type": "pod", "id": "k8s_observer/u1"}
        container = world.env("k8s_observer/u1/app")
        [status] = kube.items(PODS)[0]["status"]["containerStatuses"]
        assert container == {
            **at,
            "type": "pod.container",
            "id": "k8s_observer/u1/app",
            "container_name": "app",
            "container_image": "registry.test/app:1.0",
            "container_id": status["containerID"].split("://")[1],
            "is_init_container": False,
            "pod": about,
        }
        port = world.env("k8s_observer/u1/http(8080)")
        expected = {"type": "port", "name": "http", "port": 8080, "transport": "TCP", "pod": about, "endpoint": "10.0.0.1:8080"}
        assert expected.items() <= port.items() and port["host"] == "10.0.0.1" and port["container_name"] == "app"
        assert not any(each.fresh or each.over for each in world.heard.now.values())


async def test_services_ingresses_and_nodes(kube: FakeKube) -> None:
    kube.put(
        SERVICES,
        {"metadata": {"name": "web", "namespace": "shop", "uid": "s"}, "spec": {"clusterIP": "10.1.0.1", "type": "NodePort"}},
    )
    rules = [
        {"host": "a.example.org", "http": {"paths": [{"path": "/x y"}, {}]}},
        {"host": "b.other.org", "http": {"paths": [{"path": "/"}]}},
        {"host": "no-paths"},
    ]
    ingress = {
        "metadata": {"name": "i", "namespace": "shop", "uid": "g"},
        "spec": {"tls": [{"hosts": ["*.example.org"]}], "rules": rules},
    }
    kube.put(INGRESSES, ingress)
    addresses = [{"type": "Hostname", "address": "n1.local"}, {"type": "InternalIP", "address": "192.168.0.1"}]
    status = {"addresses": addresses, "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}}}
    kube.put(NODES, {"metadata": {"name": "n1", "uid": "n", "labels": {"z": "1"}}, "status": status})
    options: dict[str, Any] = {"observe_pods": False, "observe_services": True, "observe_ingresses": True, "observe_nodes": True}
    async with World(**options) as world:
        await world.observation.synced.wait()
        assert world.ids == [
            "k8s_observer/g/a.example.org",
            "k8s_observer/g/a.example.org/x y",
            "k8s_observer/g/b.other.org/",
            "k8s_observer/n1-n",
            "k8s_observer/s",
        ]
        service = world.env("k8s_observer/s")
        assert (service["endpoint"], service["service_type"]) == ("web.shop.svc.cluster.local", "NodePort")
        assert service["type"] == "k8s.service" and service["cluster_ip"] == "10.1.0.1"
        path = world.env("k8s_observer/g/a.example.org/x y")
        assert path["endpoint"] == "https://a.example.org/x%20y" and path["scheme"] == "https" and path["path"] == "/x y"
        assert path["uid"] == path["id"] and path["host"] == "a.example.org"
        assert world.env("k8s_observer/g/b.other.org/")["scheme"] == "http"
        node = world.env("k8s_observer/n1-n")
        assert node["endpoint"] == node["internal_ip"] == "192.168.0.1" and node["hostname"] == "n1.local"
        assert node["kubelet_endpoint_port"] == 10250 and node["external_dns"] == "" and node["labels"] == {"z": "1"}
        kube.delete(SERVICES, "web", "shop")
        await eventually(lambda: "k8s_observer/s" not in world.heard.now)


async def test_changes_are_told_once_and_what_comes_later_is_fresh(kube: FakeKube) -> None:
    put(kube, "old", "u1")
    async with World(Wanted(frozenset({"pod"}))) as world:
        await world.observation.synced.wait()
        put(kube, "new", "u2")
        await eventually(lambda: len(world.ids) == 2)
        put(kube, "old", "u1", labels={"x": "1"})
        await eventually(lambda: world.env("k8s_observer/u1")["labels"])
        kube.put(PODS, {**kube.items(PODS)[1], "spec": {"nodeName": "n1", "containers": [{"name": "b", "image": "c"}]}})
        kube.delete(PODS, "new", "shop")
        await eventually(lambda: len(world.ids) == 1)
        assert world.heard.events == [
            ("k8s_observer/u1", "came"),
            ("k8s_observer/u2", "came"),
            ("k8s_observer/u1", "changed"),
            ("k8s_observer/u2", "gone"),
        ]
        assert not world.heard.now["k8s_observer/u1"].fresh


async def test_what_upstream_leaves_out_is_left_out_for_all_but_receivers_of_files(kube: FakeKube, tmp_path: Path) -> None:
    long_ago, now = "2020-01-01T00:00:00Z", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    containers = [{"name": n, "image": "i", "ports": [{"containerPort": 1}]} for n in ("runs", "waits", "crashed", "ended")]
    status = {
        "phase": "Running",
        "containerStatuses": [
            container_status("runs", RUNNING),
            container_status("waits", {"waiting": {}}),
            container_status("crashed", {"waiting": {}}, restartCount=1, lastState=ended()),
            container_status("ended", ended(long_ago)),
        ],
        "initContainerStatuses": [container_status("init", ended(now))],
    }
    obj = pod("shop", "web", uid="u1", containers=containers)
    obj["status"] |= status
    obj["spec"]["initContainers"] = [{"name": "init", "image": "i"}]
    kube.put(PODS, obj)
    put(kube, "done", "u2", status={"phase": "Succeeded", "containerStatuses": [container_status("app", ended(long_ago))]})

    async def names(wanted: Wanted, **options: Any) -> list[str]:
        async with World(wanted, **options) as world:
            await world.observation.synced.wait()
            return [id.removeprefix("k8s_observer/") for id in world.ids]

    containers_only = Wanted(frozenset({"pod.container"}))
    assert await names(containers_only) == ["u1/runs"]
    assert await names(Wanted(frozenset({"port"}))) == ["u1/(1)"]
    assert await names(containers_only, observe_init_containers=True) == ["u1/init", "u1/runs"]
    assert await names(containers_only, observe_init_containers=True, container_terminated_ttl="0s") == ["u1/runs"]
    assert await names(containers_only, container_terminated_ttl="999999h") == ["u1/ended", "u1/runs"]
    phases = {"observe_pod_phases": ["Succeeded"], "container_terminated_ttl": "999999h"}
    assert await names(containers_only, **phases) == ["u2/app"]
    assert await names(containers_only, namespaces=["other"]) == []
    assert await names(FILES) == ["u1/crashed", "u1/ended", "u1/init", "u1/runs", "u2/app"]
    assert await names(FILES, observe_init_containers=False, observe_pod_phases=["Running"]) == [
        "u1/crashed",
        "u1/ended",
        "u1/runs",
    ]
    assert await names(FILES, log_directory=str(tmp_path)) == [], "they are on other nodes"


async def test_an_ended_container_is_gone_when_its_time_is_over(kube: FakeKube, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [datetime(2026, 1, 2, 4, 4, 4, 990000, tzinfo=UTC).timestamp()]
    monkeypatch.setattr("kofagent.extensions.k8s_observer.watching.time", SimpleNamespace(time=lambda: now[0]))
    put(kube, "web", "u1", status={"containerStatuses": [container_status("app", ended("2026-01-02T03:04:05Z"))]})
    async with World(Wanted(frozenset({"pod.container"})), container_terminated_ttl="1h") as world:
        await eventually(lambda: world.heard.events)
        assert world.ids == ["k8s_observer/u1/app"]
        now[0] += 1
        await eventually(lambda: world.ids == [])


async def test_a_folder_without_a_pod_becomes_the_pods_when_the_api_tells_of_it(kube: FakeKube, tmp_path: Path) -> None:
    (tmp_path / "logs" / "shop_before_u0" / "app").mkdir(parents=True)
    (tmp_path / "logs" / "not a pod").mkdir()
    (tmp_path / "logs" / "other_x_u5" / "app").mkdir(parents=True)
    async with World(FILES, log_directory=str(tmp_path / "logs"), namespaces=["shop"]) as world:
        await world.observation.synced.wait()
        assert world.ids == ["k8s_observer/u0/app"] and not world.heard.now["k8s_observer/u0/app"].fresh
        (tmp_path / "logs" / "shop_flash_u1" / "app").mkdir(parents=True)
        await eventually(lambda: len(world.ids) == 2)
        found = world.heard.now["k8s_observer/u1/app"]
        assert found.fresh and found.over and found.details["pod"]["name"] == "flash"
        put(kube, "flash", "u1", labels={"a": "b"})
        await eventually(lambda: world.env("k8s_observer/u1/app")["pod"]["labels"])
        now = world.heard.now["k8s_observer/u1/app"]
        assert now.fresh and not now.over
        assert [what for id, what in world.heard.events if "/u1/" in id] == ["came", "changed"]
        put(kube, "before", "u0", labels={"a": "b"})
        await eventually(lambda: world.env("k8s_observer/u0/app")["pod"]["labels"])
        assert not world.heard.now["k8s_observer/u0/app"].fresh, "it was there before"
        kube.delete(PODS, "before", "shop")
        await eventually(lambda: world.ids == ["k8s_observer/u1/app"])
        (tmp_path / "logs" / "shop_marker_u3" / "app").mkdir(parents=True)
        await eventually(lambda: len(world.ids) == 2)
        assert world.ids == ["k8s_observer/u1/app", "k8s_observer/u3/app"], "a pod that is gone was told of, and is not told again"
        (tmp_path / "logs" / "shop_before_u0" / "late").mkdir()
        await eventually(lambda: "k8s_observer/u0/late" in world.heard.now, message="a container that was never seen to run")
        (tmp_path / "logs" / "shop_marker_u3" / "app").rmdir()
        (tmp_path / "logs" / "shop_marker_u3").rmdir()
        await eventually(lambda: len(world.ids) == 2)


@pytest.mark.parametrize("hash", ["../../../etc", "a/b", "", "x" * 65])
async def test_no_annotation_leads_out_of_the_directory(kube: FakeKube, hash: str) -> None:
    put(kube, "evil", "u1", annotations={"kubernetes.io/config.mirror": hash, "kubernetes.io/config.hash": hash})
    async with World(FILES) as world:
        await world.observation.synced.wait()
        assert world.env("k8s_observer/u1/app")["pod"]["uid"] == "u1"


async def test_an_address_of_ipv6_stands_in_brackets(kube: FakeKube) -> None:
    put(kube, "web", "u1", ip="fd00::1")
    async with World(Wanted(frozenset({"port"}))) as world:
        await world.observation.synced.wait()
        found = world.env("k8s_observer/u1/http(8080)")
        assert (found["endpoint"], found["host"], found["port"]) == ("[fd00::1]:8080", "fd00::1", 8080)


async def test_the_status_says_what_may_not_be_read_and_the_rest_goes_on(kube: FakeKube) -> None:
    kube.forbidden |= {("list", "services"), ("watch", "services")}
    put(kube, "web", "u1")
    async with World(observe_services=True) as world:
        said = await eventually(lambda: world.host.statuses.get("extension/k8s_observer"))
        assert "services" in said
        await eventually(lambda: "k8s_observer/u1" in world.heard.now)


def test_an_observer_of_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="one of observe_pods"):
        validated(K8sObserver, {"observe_pods": False})
    with pytest.raises(ValidationError, match="Pending"):
        validated(K8sObserver, {"observe_pod_phases": ["running"]})
