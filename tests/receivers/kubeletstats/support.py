"""A kubelet's answers in their real shape, a kubelet that gives them, and readers of what the receiver sent."""

from __future__ import annotations

import copy
import json
import ssl
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

Object = dict[str, Any]
NODE_START, POD_START, CONTAINER_START = "2024-05-01T10:00:00Z", "2024-05-01T11:00:00Z", "2024-05-01T11:00:05Z"
WEB, INIT = "6f1c7f2e-0001", "6f1c7f2e-0002"


def _cpu(n: int) -> Object:
    return {
        "time": "2024-05-02T00:00:00Z",
        "usageNanoCores": n * 1_000_003,
        "usageCoreNanoSeconds": n * 7_000_000_009,
        "psi": {"full": {"total": 0, "avg10": 0, "avg60": 0, "avg300": 0}},
    }


def _memory(n: int) -> Object:
    return {
        "time": "2024-05-02T00:00:00Z",
        "availableBytes": n + 1,
        "usageBytes": n + 2,
        "workingSetBytes": n + 3,
        "rssBytes": n + 4,
        "pageFaults": n + 5,
        "majorPageFaults": n + 6,
    }


def _fs(n: int) -> Object:
    return {
        "time": "2024-05-02T00:00:00Z",
        "availableBytes": n + 1,
        "capacityBytes": n + 2,
        "usedBytes": n + 3,
        "inodesFree": n + 4,
        "inodes": n + 5,
        "inodesUsed": n + 6,
    }


def _interface(name: str, n: int) -> Object:
    return {"name": name, "rxBytes": n + 1, "rxErrors": n + 2, "txBytes": n + 3, "txErrors": n + 4}


SUMMARY: Object = {
    "node": {
        "nodeName": "node1",
        "systemContainers": [{"name": "kubelet", "startTime": NODE_START, "cpu": _cpu(1), "memory": _memory(1)}],
        "startTime": NODE_START,
        "cpu": _cpu(10),
        "memory": _memory(1_000_000),
        "network": {
            "time": "2024-05-02T00:00:00Z",
            **_interface("eth0", 100),
            "interfaces": [_interface("eth0", 100), _interface("eth1", 200)],
        },
        "fs": _fs(2_000_000),
        "runtime": {"imageFs": _fs(3_000_000)},
        "rlimit": {"time": "2024-05-02T00:00:00Z", "maxpid": 100, "curproc": 5},
        "swap": {"time": "2024-05-02T00:00:00Z", "swapAvailableBytes": 0, "swapUsageBytes": 0},
    },
    "pods": [
        {
            "podRef": {"name": "web-0", "namespace": "shop", "uid": WEB},
            "startTime": POD_START,
            "containers": [
                {
                    "name": "app",
                    "startTime": CONTAINER_START,
                    "cpu": _cpu(3),
                    "memory": _memory(300),
                    "rootfs": _fs(400),
                    "logs": _fs(500),
                },
                {
                    "name": "side",
                    "startTime": CONTAINER_START,
                    "cpu": {"time": "2024-05-02T00:00:00Z", "usageCoreNanoSeconds": 5},
                    "memory": {"time": "2024-05-02T00:00:00Z", "workingSetBytes": 9},
                },
            ],
            "cpu": _cpu(4),
            "memory": _memory(600),
            "network": {
                "time": "2024-05-02T00:00:00Z",
                **_interface("eth0", 700),
                "interfaces": [_interface("eth0", 700), _interface("net1", 800)],
            },
            "volume": [
                {**_fs(900), "name": "data", "pvcRef": {"name": "data-web-0", "namespace": "shop"}},
                {**_fs(1000), "name": "cache"},
                {**_fs(1100), "name": "token"},
            ],
            "ephemeral-storage": _fs(1200),
            "process_stats": {"process_count": 2},
            "swap": {"time": "2024-05-02T00:00:00Z"},
        },
        {"podRef": {"name": "job-1", "namespace": "shop", "uid": INIT}, "startTime": POD_START, "containers": []},
    ],
}

PODS: Object = {
    "kind": "PodList",
    "apiVersion": "v1",
    "metadata": {},
    "items": [
        {
            "metadata": {"name": "web-0", "namespace": "shop", "uid": WEB},
            "spec": {
                "volumes": [
                    {"name": "data", "persistentVolumeClaim": {"claimName": "data-web-0"}},
                    {"name": "cache", "emptyDir": {}},
                    {"name": "token", "projected": {"sources": []}},
                ],
                "containers": [
                    {
                        "name": "app",
                        "resources": {"limits": {"cpu": "100m", "memory": "1Ki"}, "requests": {"cpu": "50m", "memory": "512"}},
                    },
                    {"name": "side", "resources": {"limits": {"cpu": "300m"}, "requests": {"cpu": "150m", "memory": "512"}}},
                ],
            },
            "status": {
                "containerStatuses": [
                    {"name": "app", "containerID": "containerd://aaa"},
                    {"name": "side", "containerID": "cri-o://bbb"},
                ]
            },
        },
        {"metadata": {"name": "job-1", "namespace": "shop", "uid": INIT}, "spec": {}, "status": {}},
    ],
}


def summary() -> Object:
    return copy.deepcopy(SUMMARY)


def pods() -> Object:
    return copy.deepcopy(PODS)


class FakeKubelet:
    """Serves /stats/summary and /pods. `answers` by path: an object, bytes, or a status."""

    def __init__(self, token: str = "", context: ssl.SSLContext | None = None) -> None:
        self.token = token
        self.answers: dict[str, Any] = {"/stats/summary": summary(), "/pods": pods()}
        self.asked: list[str] = []
        self._context = context
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def __aenter__(self) -> FakeKubelet:
        app = web.Application()
        app.router.add_get("/{tail:.*}", self.handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._context, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def handle(self, request: web.Request) -> web.Response:
        path = "/" + request.path.split("/proxy/")[-1].lstrip("/")
        self.asked.append(path)
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.Response(status=401, text="Unauthorized")
        answer = self.answers[path]
        if isinstance(answer, int):
            return web.Response(status=answer)
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        return web.Response(body=body, content_type="application/json")


def number(point: Any) -> float:
    return point.as_int if point.WhichOneof("value") == "as_int" else point.as_double


def read(payload: bytes) -> list[tuple[dict[str, str], dict[str, list[Any]], Any]]:
    """(resource attributes, data points by metric name, ResourceMetrics) of each resource."""
    out = []
    for entry in ExportMetricsServiceRequest.FromString(payload).resource_metrics:
        (scope,) = entry.scope_metrics
        out.append(
            (
                {kv.key: kv.value.string_value for kv in entry.resource.attributes},
                {m.name: list(getattr(m, str(m.WhichOneof("data"))).data_points) for m in scope.metrics},
                entry,
            )
        )
    return out


def values(metrics: dict[str, list[Any]]) -> dict[str, float]:
    """The values of metrics with one point."""
    return {name: number(points[0]) for name, points in metrics.items() if len(points) == 1}


def network(metrics: dict[str, list[Any]]) -> dict[tuple[str, ...], float]:
    """(metric, interface, direction) to value."""
    return {
        (name, *(kv.value.string_value for kv in p.attributes)): number(p)
        for name, points in metrics.items()
        for p in points
        if p.attributes
    }


def measured(prefix: str, stats: Object, files: Object) -> dict[str, float]:
    """What the default metrics of a node, pod or container must be, straight from the kubelet's fields; what it does not say is left out."""
    cpu, memory = stats.get("cpu", {}), stats.get("memory", {})
    found = {
        f"{prefix}.{name}": source.get(field)
        for source, name, field in (
            (memory, "memory.available", "availableBytes"),
            (memory, "memory.usage", "usageBytes"),
            (memory, "memory.rss", "rssBytes"),
            (memory, "memory.working_set", "workingSetBytes"),
            (memory, "memory.page_faults", "pageFaults"),
            (memory, "memory.major_page_faults", "majorPageFaults"),
            (files, "filesystem.available", "availableBytes"),
            (files, "filesystem.capacity", "capacityBytes"),
            (files, "filesystem.usage", "usedBytes"),
        )
    }
    found |= {
        f"{prefix}.{name}": cpu[field] / 1_000_000_000
        for name, field in (("cpu.usage", "usageNanoCores"), ("cpu.time", "usageCoreNanoSeconds"))
        if field in cpu
    }
    return {name: value for name, value in found.items() if value is not None}


def expected(source: Object) -> dict[tuple[str, ...], float]:
    """All default metrics and those of volumes of a summary: (what it is of, metric, interface, direction) to value."""
    out: dict[tuple[str, ...], float] = {}

    def put(of: str, prefix: str, stats: Object, files: Object) -> None:
        out.update({(of, name): value for name, value in measured(prefix, stats, files).items()})
        net = stats.get("network") or {}
        for metric, field, direction in (
            ("io", "rxBytes", "receive"),
            ("io", "txBytes", "transmit"),
            ("errors", "rxErrors", "receive"),
            ("errors", "txErrors", "transmit"),
        ):
            if field in net:
                out[of, f"{prefix}.network.{metric}", net["name"], direction] = net[field]

    put(source["node"]["nodeName"], "k8s.node", source["node"], source["node"].get("fs", {}))
    for pod in source["pods"]:
        uid = pod["podRef"]["uid"]
        put(uid, "k8s.pod", pod, pod.get("ephemeral-storage", {}))
        for container in pod.get("containers") or ():
            put(f"{uid}/{container['name']}", "container", container, container.get("rootfs", {}))
        for volume in pod.get("volume") or ():
            for metric, field in (
                ("available", "availableBytes"),
                ("capacity", "capacityBytes"),
                ("inodes", "inodes"),
                ("inodes.free", "inodesFree"),
                ("inodes.used", "inodesUsed"),
            ):
                if field in volume:
                    out[f"{uid}/{volume['name']}", f"k8s.volume.{metric}"] = volume[field]
    return out


def sent(payload: bytes) -> dict[tuple[str, ...], float]:
    """What a payload has, in the same form."""
    out: dict[tuple[str, ...], float] = {}
    for resource, metrics, _ in read(payload):
        below = resource.get("k8s.container.name") or resource.get("k8s.volume.name")
        of = resource.get("k8s.node.name") or "/".join(filter(None, (resource["k8s.pod.uid"], below)))
        for name, points in metrics.items():
            for point in points:
                key = (of, name, *(kv.value.string_value for kv in point.attributes))
                assert key not in out
                out[key] = number(point)
    return out
