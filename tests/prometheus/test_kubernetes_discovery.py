"""Discovery against an API server: targets come, change and go; what is read; what happens when it cannot be read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kofagent.component.protocols import StartError
from kofagent.kubernetes.resources import (
    ENDPOINTS,
    ENDPOINTSLICES,
    INGRESSES,
    JOBS,
    NAMESPACES,
    NODES,
    PODS,
    REPLICASETS,
    SERVICES,
    Resource,
)
from kofagent.prometheus.allocation import Allocation
from kofagent.prometheus.discovery.config import KubernetesSdConfig
from kofagent.prometheus.discovery.group import Group
from kofagent.prometheus.discovery.kubernetes.connect import connector
from kofagent.prometheus.discovery.kubernetes.discovery import KubernetesDiscovery
from tests.support.components import FakeHost
from tests.support.fake_kube import FakeKube

LOG = logging.getLogger("test")
M = "__meta_kubernetes_"


class Found:
    """What a discovery reported."""

    def __init__(self) -> None:
        self.groups: dict[str, Group] = {}
        self.updates: list[list[str]] = []
        self.problems: dict[str, str] = {}

    def update(self, groups: Any) -> None:
        self.updates.append([group.source for group in groups])
        for group in groups:
            if group.targets:
                self.groups[group.source] = group
            else:
                del self.groups[group.source]

    def report(self, what: str, why: str | None) -> None:
        if why is None:
            self.problems.pop(what, None)
        else:
            self.problems[what] = why

    def labels(self, name: str) -> list[str]:
        return sorted({**g.labels, **t}.get(name, "") for g in self.groups.values() for t in g.targets)

    @property
    def addresses(self) -> list[str]:
        return self.labels("__address__")


async def eventually(condition: Callable[[], Any], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def discovering(kube: FakeKube, options: dict[str, Any], **more: Any) -> AsyncIterator[Found]:
    found = Found()
    client = kube.client()
    config = KubernetesSdConfig.model_validate(options)
    more.setdefault("slow", 0.3)
    task = asyncio.ensure_future(KubernetesDiscovery(config, lambda: client, LOG, found.report, **more).run(found.update))
    try:
        yield found
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not client.informers and not client.running


def pod(name: str, ip: str, *, namespace: str = "shop", node: str = "n1", **labels: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "nodeName": node,
            "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80, "protocol": "TCP"}]}],
        },
        "status": {"podIP": ip, "phase": "Running"},
    }


def service(name: str, namespace: str = "shop", **labels: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"ports": [{"port": 80}], "type": "ClusterIP"},
    }


def piece(service_name: str, *pods: tuple[str, str, str], namespace: str = "shop") -> dict[str, Any]:
    """An EndpointSlice of (pod, address, node)."""
    return {
        "metadata": {"name": f"{service_name}-1", "namespace": namespace, "labels": {"kubernetes.io/service-name": service_name}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
        "endpoints": [
            {"addresses": [ip], "nodeName": node, "targetRef": {"kind": "Pod", "namespace": namespace, "name": name}}
            for name, ip, node in pods
        ],
    }


def put(kube: FakeKube, *objects: tuple[Resource, dict[str, Any]]) -> None:
    for resource, obj in objects:
        kube.put(resource, obj)


async def test_pods_come_change_and_go() -> None:
    async with FakeKube() as kube:
        kube.put(PODS, pod("a", "10.0.0.1"))
        async with discovering(kube, {"role": "pod"}) as found:
            await eventually(lambda: found.addresses == ["10.0.0.1:80"])
            kube.put(PODS, pod("b", ""))
            kube.put(PODS, pod("c", "10.0.0.3"))
            await eventually(lambda: found.addresses == ["10.0.0.1:80", "10.0.0.3:80"])
            kube.put(PODS, pod("b", "10.0.0.2"))
            await eventually(lambda: "10.0.0.2:80" in found.addresses)
            kube.put(PODS, pod("a", "10.0.0.1", app="web"))
            await eventually(lambda: "web" in found.labels(M + "pod_label_app"))
            kube.delete(PODS, "a", "shop")
            await eventually(lambda: found.addresses == ["10.0.0.2:80", "10.0.0.3:80"])
            # The pod that had no address was never worth a report.
            assert not any("pod/shop/b" in update for update in found.updates[:2])


@pytest.mark.slow
async def test_a_change_is_not_kept_waiting_by_those_of_other_nodes() -> None:
    async with FakeKube() as kube:
        kube.put(ENDPOINTSLICES, piece("mine", ("a", "10.0.0.1", "n1")))
        async with discovering(kube, {"role": "endpointslice"}, allocation=Allocation("per-node", "n1"), slow=60.0) as found:
            await eventually(lambda: found.addresses == ["10.0.0.1:80"])
            for i in range(40):
                kube.put(ENDPOINTSLICES, piece("others", ("b", f"10.0.1.{i}", "n2")))
                await asyncio.sleep(0.1)  # so that each is a change of its own: reports after 0.1, 0.3, 0.7, 1.5, 3.1, 6.3 s
            kube.put(ENDPOINTSLICES, piece("mine", ("a", "10.0.0.2", "n1")))
            await eventually(lambda: found.addresses == ["10.0.0.2:80"], 1.5)


async def test_what_happened_while_the_watch_was_away_is_found() -> None:
    async with FakeKube() as kube:
        put(kube, (PODS, pod("a", "10.0.0.1")), (PODS, pod("b", "10.0.0.2")))
        async with discovering(kube, {"role": "pod"}) as found:
            await eventually(lambda: len(found.addresses) == 2)
            kube.delete(PODS, "a", "shop")
            kube.put(PODS, pod("c", "10.0.0.3"))
            kube.compact()
            await eventually(lambda: found.addresses == ["10.0.0.2:80", "10.0.0.3:80"])


async def test_a_stream_of_changes_is_reported_in_few_pieces() -> None:
    async with FakeKube() as kube, discovering(kube, {"role": "pod"}, slow=0.5) as found:
        await eventually(lambda: kube.watches("pods"))
        for i in range(60):
            kube.put(PODS, pod(f"p{i}", f"10.0.1.{i}"))
            await asyncio.sleep(0.02)
        await eventually(lambda: len(found.addresses) == 60)
        assert len(found.updates) < 12


@pytest.mark.parametrize(
    ("role", "resource", "obj"),
    [
        ("node", NODES, {"metadata": {"name": "n1"}, "status": {"addresses": [{"type": "InternalIP", "address": "10.9.9.9"}]}}),
        ("service", SERVICES, service("web")),
        ("ingress", INGRESSES, {"metadata": {"name": "i", "namespace": "shop"}, "spec": {"rules": [{"host": "a.example"}]}}),
        (
            "endpoints",
            ENDPOINTS,
            {
                "metadata": {"name": "e", "namespace": "shop"},
                "subsets": [{"addresses": [{"ip": "10.1.1.1"}], "ports": [{"port": 80}]}],
            },
        ),
        ("endpointslice", ENDPOINTSLICES, piece("web", ("p", "10.1.1.1", "n1"))),
        ("pod", PODS, pod("a", "10.0.0.1")),
    ],
)
async def test_every_role_reports_and_forgets(role: str, resource: Resource, obj: dict[str, Any]) -> None:
    async with FakeKube() as kube:
        kube.put(resource, obj)
        async with discovering(kube, {"role": role}) as found:
            await eventually(lambda: len(found.addresses) == 1)
            kube.delete(resource, obj["metadata"]["name"], obj["metadata"].get("namespace", ""))
            await eventually(lambda: not found.groups)


@pytest.mark.parametrize("role", ["endpoints", "endpointslice"])
async def test_services_and_pods_of_endpoints_may_come_and_change_later(role: str) -> None:
    async with FakeKube() as kube:
        if role == "endpointslice":
            kube.put(ENDPOINTSLICES, piece("web", ("a", "10.0.0.1", "n1")))
        else:
            kube.put(
                ENDPOINTS,
                {
                    "metadata": {"name": "web", "namespace": "shop"},
                    "subsets": [
                        {
                            "addresses": [{"ip": "10.0.0.1", "targetRef": {"kind": "Pod", "namespace": "shop", "name": "a"}}],
                            "ports": [{"port": 80}],
                        }
                    ],
                },
            )
        async with discovering(kube, {"role": role}) as found:
            await eventually(lambda: found.labels(M + "service_name") == [""])
            kube.put(SERVICES, service("web", team="x"))
            await eventually(lambda: found.labels(M + "service_label_team") == ["x"])
            kube.put(PODS, pod("a", "10.0.0.1"))
            await eventually(lambda: found.labels(M + "pod_phase") == ["Running"])
            kube.put(PODS, {**pod("a", "10.0.0.1"), "status": {"podIP": "10.0.0.1", "phase": "Failed"}})
            await eventually(lambda: found.labels(M + "pod_phase") == ["Failed"])
            kube.put(SERVICES, service("web", team="y"))
            await eventually(lambda: found.labels(M + "service_label_team") == ["y"])
            kube.delete(SERVICES, "web", "shop")
            await eventually(lambda: found.labels(M + "service_name") == [""])
            kube.delete(PODS, "a", "shop")
            await eventually(lambda: found.labels(M + "pod_phase") == [""])


async def test_attached_objects_may_change() -> None:
    async with FakeKube() as kube:
        owned = lambda kind, name: [{"kind": kind, "name": name, "controller": True}]  # noqa: E731
        put(
            kube,
            (NODES, {"metadata": {"name": "n1", "labels": {"zone": "a"}}}),
            (NAMESPACES, {"metadata": {"name": "shop", "labels": {"t": "1"}}}),
            (REPLICASETS, {"metadata": {"name": "rs", "namespace": "shop", "ownerReferences": owned("Deployment", "web")}}),
            (JOBS, {"metadata": {"name": "j", "namespace": "shop", "ownerReferences": owned("CronJob", "nightly")}}),
        )
        first, second = pod("a", "10.0.0.1"), pod("b", "10.0.0.2")
        first["metadata"]["ownerReferences"], second["metadata"]["ownerReferences"] = owned("ReplicaSet", "rs"), owned("Job", "j")
        put(kube, (PODS, first), (PODS, second))
        attach = {"node": True, "namespace": True, "deployment": True, "job": True, "cronjob": True}
        async with discovering(kube, {"role": "pod", "attach_metadata": attach}) as found:
            await eventually(lambda: found.labels(M + "node_label_zone") == ["a", "a"])
            assert found.labels(M + "namespace_label_t") == ["1", "1"]
            assert found.labels(M + "pod_deployment_name") == ["", "web"]
            assert (found.labels(M + "pod_job_name"), found.labels(M + "pod_cronjob_name")) == (["", "j"], ["", "nightly"])
            kube.put(NODES, {"metadata": {"name": "n1", "labels": {"zone": "b"}}})
            kube.put(NAMESPACES, {"metadata": {"name": "shop", "labels": {"t": "2"}}})
            await eventually(
                lambda: found.labels(M + "node_label_zone") == ["b", "b"] and found.labels(M + "namespace_label_t") == ["2", "2"]
            )
            kube.delete(NODES, "n1")
            await eventually(lambda: not found.groups)


async def test_namespaces_and_selectors_limit_what_is_listed() -> None:
    async with FakeKube() as kube:
        put(
            kube,
            (PODS, pod("a", "10.0.0.1", app="web")),
            (PODS, pod("b", "10.0.0.2", app="db")),
            (PODS, pod("c", "10.0.0.3", namespace="other", app="web")),
            (PODS, pod("d", "10.0.0.4", namespace="third", app="web")),
        )
        options = {"role": "pod", "namespaces": {"names": ["shop", "third"]}, "selectors": [{"role": "pod", "label": "app=web"}]}
        async with discovering(kube, options) as found:
            await eventually(lambda: found.addresses == ["10.0.0.1:80", "10.0.0.4:80"])
        lists = [(path, query) for _, path, query in kube.requests if "watch" not in query]
        assert sorted(path for path, _ in lists) == ["/api/v1/namespaces/shop/pods", "/api/v1/namespaces/third/pods"]
        assert all(query["labelSelector"] == "app=web" for _, query in lists)


async def test_the_own_namespace() -> None:
    async with FakeKube() as kube:
        put(kube, (PODS, pod("a", "10.0.0.1", namespace="default")), (PODS, pod("b", "10.0.0.2")))
        async with discovering(kube, {"role": "pod", "namespaces": {"own_namespace": True}}) as found:
            await eventually(lambda: found.addresses == ["10.0.0.1:80"])


async def test_the_agent_of_a_node_reads_the_pods_of_its_node_only() -> None:
    async with FakeKube() as kube:
        put(
            kube,
            (PODS, pod("a", "10.0.0.1")),
            (PODS, pod("b", "10.0.0.2", node="n2")),
            (SERVICES, service("web")),
            (ENDPOINTSLICES, piece("web", ("a", "10.0.0.1", "n1"), ("b", "10.0.0.2", "n2"))),
            (NODES, {"metadata": {"name": "n1"}, "status": {"addresses": [{"type": "InternalIP", "address": "10.9.0.1"}]}}),
            (NODES, {"metadata": {"name": "n2"}, "status": {"addresses": [{"type": "InternalIP", "address": "10.9.0.2"}]}}),
        )
        allocation = Allocation("per-node", "n2")
        for role, expected in (("pod", ["10.0.0.2:80"]), ("endpointslice", ["10.0.0.2:80"]), ("node", ["10.9.0.2:0"])):
            async with discovering(
                kube,
                {"role": role, "selectors": [{"role": "pod", "field": "status.phase=Running"}] if role == "pod" else []},
                allocation=allocation,
            ) as found:
                await eventually(lambda found=found: found.groups)
                assert found.addresses == expected
        selectors = {query.get("fieldSelector") for _, path, query in kube.requests if path.endswith("/pods")}
        assert selectors == {"status.phase=Running,spec.nodeName=n2", "spec.nodeName=n2"}
        assert {query.get("fieldSelector") for _, path, query in kube.requests if path.endswith("/nodes")} == {"metadata.name=n2"}


async def test_the_agent_of_the_cluster_does_not_even_list_pods_for_what_has_a_node() -> None:
    async with FakeKube() as kube:
        kube.put(PODS, pod("a", "10.0.0.1"))
        put(
            kube,
            (ENDPOINTSLICES, piece("web", ("a", "10.0.0.1", "n1"))),
            (
                ENDPOINTSLICES,
                {
                    "metadata": {"name": "kubernetes", "namespace": "default"},
                    "addressType": "IPv4",
                    "ports": [{"port": 6443}],
                    "endpoints": [{"addresses": ["172.16.0.1"]}],
                },
            ),
        )
        for role in ("pod", "node"):
            async with discovering(kube, {"role": role}, allocation=Allocation("without-node")):
                pass
        assert not kube.requests
        async with discovering(kube, {"role": "endpointslice"}, allocation=Allocation("without-node")) as found:
            await eventually(lambda: found.addresses == ["172.16.0.1:6443"])


async def test_jobs_with_equal_needs_share_their_watches() -> None:
    async with FakeKube() as kube:
        put(kube, (PODS, pod("a", "10.0.0.1")), (SERVICES, service("web")), (ENDPOINTSLICES, piece("web", ("a", "10.0.0.1", "n1"))))
        client, config = kube.client(), KubernetesSdConfig(role="endpointslice")
        founds = [Found() for _ in range(20)]
        selected = lambda obj, lookup: False  # noqa: E731
        tasks = [
            asyncio.ensure_future(
                KubernetesDiscovery(config, lambda: client, LOG, found.report, select=selected if i else None).run(found.update)
            )
            for i, found in enumerate(founds)
        ]
        await eventually(lambda: founds[0].groups)
        await eventually(lambda: kube.watching == 3)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not any(found.groups for found in founds[1:])
        assert len([1 for _, _, query in kube.requests if "watch" not in query]) == 3


async def test_a_selected_object_may_become_another_one() -> None:
    async with FakeKube() as kube:
        put(
            kube,
            (PODS, pod("a", "10.0.0.1")),
            (SERVICES, service("web", app="web")),
            (ENDPOINTSLICES, piece("web", ("a", "10.0.0.1", "n1"))),
        )

        def select(obj: Any, lookup: Any) -> bool:
            return (lookup.service("shop", obj["metadata"]["labels"]["kubernetes.io/service-name"]) or {})["metadata"][
                "labels"
            ].get("app") == "web"

        async with discovering(kube, {"role": "endpointslice"}, select=select) as found:
            await eventually(lambda: found.groups)
            kube.put(SERVICES, service("web", app="other"))
            await eventually(lambda: not found.groups)
            kube.put(SERVICES, service("web", app="web"))
            await eventually(lambda: found.groups)


async def test_what_may_not_be_read_is_reported_and_the_rest_goes_on() -> None:
    async with FakeKube() as kube:
        put(kube, (PODS, pod("a", "10.0.0.1")), (SERVICES, service("web")), (ENDPOINTSLICES, piece("web", ("a", "10.0.0.1", "n1"))))
        kube.forbidden = {("list", "services")}
        async with discovering(kube, {"role": "endpointslice"}) as found:
            await eventually(lambda: found.groups)
            assert "may not list services" in found.problems["services"]
            assert found.labels(M + "service_name") == [""] and found.labels(M + "pod_name") == ["a"]


async def test_what_is_unavailable_for_now_is_waited_for() -> None:
    async with FakeKube() as kube:
        put(kube, (PODS, pod("a", "10.0.0.1")), (SERVICES, service("web", team="x")))
        put(kube, (ENDPOINTSLICES, piece("web", ("a", "10.0.0.1", "n1"))))
        kube.failures = [("/services", 503)] * 3
        async with discovering(kube, {"role": "endpointslice"}) as found:
            await eventually(lambda: found.groups)
            assert found.labels(M + "service_label_team") == ["x"], "labels are complete from the first time on"
            assert not kube.failures


async def test_without_a_cluster_it_says_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    found = Found()

    def connect() -> Any:
        raise StartError("not in a Kubernetes cluster")

    await KubernetesDiscovery(KubernetesSdConfig(role="pod"), connect, LOG, found.report).run(found.update)
    assert found.problems == {"role pod": "not in a Kubernetes cluster"}
    assert "not in a Kubernetes cluster" in caplog.text


async def test_an_api_server_with_credentials_of_its_own(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret-token\n")
    async with FakeKube() as kube:
        kube.put(PODS, pod("a", "10.0.0.1"))
        host = FakeHost()
        options = {"role": "pod", "api_server": kube.url, "authorization": {"credentials_file": str(token)}}
        configs = [
            KubernetesSdConfig.model_validate(o)
            for o in (options, {**options, "role": "node"}, {**options, "authorization": {"credentials": "x"}})
        ]
        clients = [connector(config, host, "test")() for config in configs]
        assert clients[0] is clients[1] and clients[0] is not clients[2]
        found = Found()
        task = asyncio.ensure_future(KubernetesDiscovery(configs[0], lambda: clients[0], LOG, found.report).run(found.update))
        await eventually(lambda: found.addresses == ["10.0.0.1:80"])
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeKube() as kube:
        kube.put(PODS, pod("a", "10.0.0.1"))
        path = kube.use(monkeypatch, tmp_path)
        host = FakeHost()
        for options in ({"role": "pod", "kubeconfig_file": str(path)}, {"role": "pod"}):
            config = KubernetesSdConfig.model_validate(options)
            found = Found()
            task = asyncio.ensure_future(
                KubernetesDiscovery(config, connector(config, host, "t"), LOG, found.report).run(found.update)
            )
            await eventually(lambda found=found: found.addresses == ["10.0.0.1:80"])
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
