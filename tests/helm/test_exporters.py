"""node-exporter, kube-state-metrics and OpenCost of the chart on a real node: ready under the chart's accounts, rights, users and
limits, and each series that KOF's dashboards and rules select arrives in real storage with the labels they select it by.

First without ServiceMonitors, where the agents have jobs of their own, and then with them.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster, agent, images
from tests.cluster.control_plane import NODE_ADDRESS
from tests.cluster.node import NODE as NODE_NAME
from tests.cluster.node import obstacles
from tests.helm.chart import MONITORS, Release, template
from tests.support.servers import Server, certificate, find, free_port, get, get_json, victoria_metrics, wait_until

PROGRAMS = {
    "prometheus-node-exporter": "prometheus-node-exporter",
    "kube-state-metrics": "kube-state-metrics",
    "opencost": "opencost",
}
"""Workloads of the release by the program that stands in their image."""
pytestmark = [
    *(
        pytest.mark.server(name)
        for name in (
            "helm",
            "kubelet",
            "kube-apiserver",
            "etcd",
            "kubectl",
            "kube-scheduler",
            "kube-controller-manager",
            "containerd",
            "victoria-metrics",
            "vmauth",
            *PROGRAMS,
        )
    ),
    pytest.mark.skipif(bool(obstacles()), reason="; ".join(obstacles())),
]
AGENTS = "app.kubernetes.io/component=opentelemetry-collector"
COST_LOGIN = ("cost-reader", "s3cret-of-the-costs")

# What KOF 0.3.0's dashboards and rules select of kube-state-metrics: labels with a value they name, or any value.
STATE = {
    "kube_configmap_info": "namespace configmap",
    "kube_daemonset_labels": "namespace daemonset",
    "kube_deployment_labels": "namespace deployment",
    "kube_networkpolicy_labels": "namespace networkpolicy",
    "kube_statefulset_labels": "namespace statefulset",
    "kube_daemonset_status_current_number_scheduled": "namespace daemonset",
    "kube_daemonset_status_desired_number_scheduled": "namespace",
    "kube_daemonset_status_number_available": "namespace",
    "kube_daemonset_status_number_misscheduled": "namespace",
    "kube_daemonset_status_updated_number_scheduled": "namespace",
    "kube_deployment_metadata_generation": "namespace",
    "kube_deployment_spec_replicas": "namespace deployment",
    "kube_deployment_status_condition": "namespace condition=Progressing status=false",
    "kube_deployment_status_observed_generation": "namespace",
    "kube_deployment_status_replicas": "namespace deployment",
    "kube_deployment_status_replicas_available": "namespace deployment",
    "kube_deployment_status_replicas_updated": "namespace",
    "kube_endpoint_info": "namespace",
    "kube_horizontalpodautoscaler_spec_max_replicas": "namespace",
    "kube_horizontalpodautoscaler_spec_min_replicas": "namespace",
    "kube_horizontalpodautoscaler_status_current_replicas": "namespace",
    "kube_horizontalpodautoscaler_status_desired_replicas": "namespace",
    "kube_ingress_info": "namespace",
    "kube_job_status_active": "namespace job_name",
    "kube_job_status_start_time": "namespace job_name",
    "kube_namespace_created": "namespace=apps",
    "kube_node_info": f"node={NODE_NAME}",
    "kube_node_spec_taint": f"key=rack effect=PreferNoSchedule node={NODE_NAME}",
    "kube_node_status_allocatable": "resource=memory node",
    "kube_node_status_capacity": "resource=pods node",
    "kube_node_status_condition": "condition=Ready status=true node",
    "kube_persistentvolume_status_phase": "phase=Pending",
    "kube_persistentvolumeclaim_access_mode": "access_mode=ReadOnlyMany namespace persistentvolumeclaim",
    "kube_persistentvolumeclaim_info": "namespace",
    "kube_pod_container_info": "container_id namespace pod container",
    "kube_pod_container_resource_limits": "resource=memory namespace pod container node",
    "kube_pod_container_resource_requests": "resource=cpu namespace pod container node",
    "kube_pod_container_status_last_terminated_exitcode": "namespace pod container",
    "kube_pod_container_status_last_terminated_reason": "namespace pod container reason=Error",
    "kube_pod_container_status_restarts_total": "namespace pod container",
    "kube_pod_container_status_running": "namespace pod",
    "kube_pod_container_status_terminated": "namespace pod",
    "kube_pod_container_status_waiting": "namespace pod",
    "kube_pod_container_status_waiting_reason": "reason=CrashLoopBackOff namespace pod container",
    "kube_pod_info": f"node={NODE_NAME} namespace pod created_by_name priority_class",
    "kube_pod_owner": "owner_kind=ReplicaSet owner_name namespace pod",
    "kube_pod_status_phase": "phase=Running namespace pod",
    "kube_pod_status_qos_class": "qos_class=Burstable namespace pod",
    "kube_pod_status_reason": "reason=Evicted namespace pod",
    "kube_replicaset_owner": "owner_kind=Deployment owner_name replicaset namespace",
    "kube_resourcequota": "type=hard resource=requests.cpu namespace",
    "kube_service_info": "namespace=apps service",
    "kube_statefulset_metadata_generation": "namespace",
    "kube_statefulset_replicas": "namespace statefulset",
    "kube_statefulset_status_current_revision": "namespace revision",
    "kube_statefulset_status_observed_generation": "namespace",
    "kube_statefulset_status_replicas": "namespace",
    "kube_statefulset_status_replicas_ready": "namespace",
    "kube_statefulset_status_replicas_updated": "namespace",
    "kube_statefulset_status_update_revision": "namespace revision",
    "kube_state_metrics_list_total": "result=success",
    "kube_state_metrics_watch_total": "result=success",
    "kube_state_metrics_total_shards": "",
    "kube_state_metrics_shard_ordinal": "shard_ordinal",
}
# The same of node-exporter, whose series all have `instance`, `nodename` and `pod`; those that every Linux machine has.
MACHINE = {
    "node_boot_time_seconds": "",
    "node_context_switches_total": "",
    "node_cpu_seconds_total": "mode=idle cpu",
    "node_disk_io_now": "device",
    "node_disk_io_time_seconds_total": "device",
    "node_disk_read_bytes_total": "device",
    "node_disk_written_bytes_total": "device",
    "node_filefd_allocated": "",
    "node_filefd_maximum": "",
    "node_filesystem_avail_bytes": "mountpoint=/ fstype device",
    "node_filesystem_files_free": "mountpoint=/ fstype",
    "node_filesystem_readonly": "mountpoint=/",
    "node_filesystem_size_bytes": "mountpoint=/",
    "node_forks_total": "",
    "node_intr_total": "",
    "node_load1": "",
    "node_load5": "",
    "node_load15": "",
    "node_memory_Buffers_bytes": "",
    "node_memory_Cached_bytes": "",
    "node_memory_MemAvailable_bytes": "",
    "node_memory_MemFree_bytes": "",
    "node_memory_MemTotal_bytes": "",
    "node_memory_SwapTotal_bytes": "",
    "node_network_receive_bytes_total": "device=lo",
    "node_network_receive_drop_total": "device=lo",
    "node_network_receive_errs_total": "device",
    "node_network_transmit_bytes_total": "device",
    "node_network_up": "device",
    "node_procs_blocked": "",
    "node_procs_running": "",
    "node_scrape_collector_success": "collector=cpu",
    "node_sockstat_TCP_inuse": "",
    "node_textfile_scrape_error": "",
    "node_time_seconds": "",
    "node_timex_offset_seconds": "",
    "node_timex_sync_status": "",
    "node_uname_info": "release",
    "node_vmstat_pgmajfault": "",
}
# The same of OpenCost; `instance` is the node there.
COSTS = {
    "node_total_hourly_cost": f"instance={NODE_NAME} node={NODE_NAME}",
    "node_cpu_hourly_cost": f"instance={NODE_NAME} node",
    "node_ram_hourly_cost": f"instance={NODE_NAME} node",
    "kube_node_labels": f"node={NODE_NAME}",
    "kube_namespace_labels": "namespace=apps",
    "kube_pod_labels": "namespace=apps pod label_app=web",
    "container_cpu_allocation": f"namespace=apps pod container=c instance={NODE_NAME}",
    "container_memory_allocation_bytes": f"namespace=apps pod container=c instance={NODE_NAME}",
    "pv_hourly_cost": "persistentvolume=disk",
}


def selector(metric: str, labels: str, **more: str) -> str:
    """The PromQL of a line of a table: `a=b` is that value, `a` any."""
    pairs = [each.partition("=") for each in labels.split()] + [(name, "=", value) for name, value in more.items()]
    return metric + "{" + ",".join(f'{name}="{value}"' if equal else f'{name}!=""' for name, equal, value in pairs) + "}"


@dataclass
class World:
    """The cluster, the release in it and the storage."""

    cluster: Cluster
    release: Release
    storage: str
    door: str

    def query(self, promql: str) -> list[dict[str, str]]:
        """Labels of what the storage answers."""
        return [r["metric"] for r in get_json(f"{self.storage}/api/v1/query", query=promql)["data"]["result"]]

    def said(self, part: str) -> str:
        """What a workload printed."""
        return self.cluster.kubectl("-n", "kof", "logs", "-l", f"app.kubernetes.io/name={part}", "--tail=-1")


def vmauth(folder: Path, backend: str) -> tuple[Server, str]:
    """The storage as KOF's URLs have it, with two users: the agents may write, OpenCost may read."""

    def user(name: str, password: str, path: str) -> dict[str, Any]:
        return {
            "username": name,
            "password": password,
            "url_map": [{"src_paths": [path], "url_prefix": backend, "drop_src_path_prefix_parts": 4}],
        }

    config = folder / "vmauth.yaml"
    config.write_text(
        json.dumps(
            {
                "users": [
                    user("agent", "s3cret-of-the-agents", "/vm/insert/0/prometheus/.+"),
                    user(*COST_LOGIN, "/vm/select/0/prometheus/.+"),
                ]
            }
        )
    )
    url = f"http://{NODE_ADDRESS}:{free_port()}"
    program = find("vmauth")
    assert program is not None
    command = [program, f"-auth.config={config}", f"-httpListenAddr={url.removeprefix('http://')}"]
    return Server("vmauth", command, folder, lambda: get(url + "/health")[0] == 200), url


def values(door: str) -> dict[str, Any]:
    """What a user writes. OpenCost's image cannot have the digest it is published with, and its price list is not in a program."""
    return {
        "global": {"clusterName": "test1"},
        "kof": {
            "metrics": {"endpoint": f"{door}/vm/insert/0/prometheus/api/v1/write"},
            "logs": {"endpoint": ""},
            "traces": {"endpoint": f"{door}/none"},
        },
        "collectors": {
            "node": {"receivers": {"filelog/kube": None}, "service": {"pipelines": {"logs": None, "traces": None}}},
            "k8scluster": {"service": {"pipelines": {"logs": {"exporters": ["debug"]}}}},
        },
        "kofagent": {"image": {"registry": "localhost", "pullPolicy": "Never"}},
        # this machine's root is no shared mount
        "prometheus-node-exporter": {"hostRootFsMount": {"mountPropagation": ""}},
        "kube-state-metrics": {"prometheus": {"monitor": {"interval": "5s", "scrapeTimeout": "5s"}}},
        "opencost": {
            "opencost": {
                "prometheus": {
                    "existingSecretName": "cost-login",
                    "username_key": "user",
                    "password_key": "word",
                    "external": {"url": f"{door}/vm/select/0/prometheus"},
                },
                "metrics": {"serviceMonitor": {"scrapeInterval": "10s"}},
                "exporter": {"image": {"tag": "1.113.0"}, "defaultClusterId": "test1"},
                "customPricing": {"enabled": True, "costModel": {"description": "test", "CPU": 1.25, "RAM": 0.5, "storage": 0.25}},
            }
        },
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The chart with all three exporters, each under the image name that the chart gives it, and something for them to see."""
    folder = tmp_path_factory.mktemp("exporters")
    with Cluster(folder / "c", kubelet=True) as cluster:
        storage_server, storage = victoria_metrics(folder)
        door_server, door = vmauth(folder, storage)
        try:
            release = template(values=values(door), folder=folder)
            cluster.import_agent("localhost/kofagent:0.1.0")
            for part, program in PROGRAMS.items():
                cluster.import_program(program, container(release, part)["image"])
            for name in ("kof", "apps"):
                cluster.namespace(name)
            for name, login in (
                ("storage-vmuser-credentials", {"username": "agent", "password": "s3cret-of-the-agents"}),
                ("cost-login", dict(zip(("user", "word"), COST_LOGIN, strict=True))),
            ):
                cluster.apply(
                    {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "kof"}, "stringData": login}
                )
            cluster.apply(*applications())
            cluster.kubectl("taint", "node", NODE_NAME, "rack=full:PreferNoSchedule")
            cluster.kubectl("apply", "-f", "-", text=release.text)
            yield World(cluster, release, storage, door)
        finally:
            door_server.stop()
            storage_server.stop()


def container(release: Release, part: str) -> dict[str, Any]:
    """The container of an exporter."""
    (workload,) = (w for w in release.workloads() if w["metadata"]["name"] == f"kof-collectors-{part}")
    found: dict[str, Any] = workload["spec"]["template"]["spec"]["containers"][0]
    return found


def applications() -> list[dict[str, Any]]:
    """One of each kind that dashboards show."""

    def made(api: str, kind: str, name: str, spec: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {
            "apiVersion": api,
            "kind": kind,
            "metadata": {"name": name, "namespace": "apps", "labels": {"app": name}},
            "spec": spec,
            **more,
        }

    def pods(name: str, *command: str, **more: Any) -> dict[str, Any]:
        resources = {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "500m", "memory": "32Mi"}}
        return {
            "metadata": {"labels": {"app": name}},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [
                    {
                        "name": "c",
                        "image": images.BUSYBOX,
                        "imagePullPolicy": "Never",
                        "command": list(command),
                        "resources": resources,
                    }
                ],
                **more,
            },
        }

    idle = ("sh", "-c", "trap exit TERM; while true; do sleep 1; done")

    def workload(name: str, *command: str, **more: Any) -> dict[str, Any]:
        return {"selector": {"matchLabels": {"app": name}}, "template": pods(name, *command, **more)}

    claim = {"accessModes": ["ReadOnlyMany"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "none"}
    disk = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "disk"},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": "/nowhere"},
            "storageClassName": "other",
        },
    }
    return [
        made(
            "apps/v1", "Deployment", "web", {"replicas": 1, **workload("web", *idle, priorityClassName="system-cluster-critical")}
        ),
        made("apps/v1", "Deployment", "crashing", {"replicas": 1, **workload("crashing", "sh", "-c", "exit 3")}),
        made("apps/v1", "DaemonSet", "each", workload("each", *idle)),
        made("apps/v1", "StatefulSet", "ordered", {"serviceName": "web", "replicas": 1, **workload("ordered", *idle)}),
        made("batch/v1", "Job", "once", {"template": pods("once", "true", restartPolicy="Never")}),
        made("v1", "Service", "web", {"selector": {"app": "web"}, "ports": [{"port": 80}]}),
        made("networking.k8s.io/v1", "NetworkPolicy", "web", {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{}]}),
        made("v1", "ResourceQuota", "quota", {"hard": {"requests.cpu": "8"}}),
        made("v1", "PersistentVolumeClaim", "claim", claim),
        disk,
        made("networking.k8s.io/v1", "Ingress", "web", {"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}}),
        made(
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            "web",
            {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "minReplicas": 1,
                "maxReplicas": 2,
                "metrics": [
                    {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}
                ],
            },
        ),
    ]


@pytest.mark.parametrize("part", PROGRAMS)
def test_it_is_ready_without_any_privilege(world: World, part: str) -> None:
    (pod,) = world.cluster.wait_running("kof", f"app.kubernetes.io/name={part}", seconds=180)
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
    assert pod["spec"]["serviceAccountName"] == f"kof-collectors-{part}"
    status, mounts = process(PROGRAMS[part])
    assert status["Uid"].split()[0] == status["Gid"].split()[0] == {"opencost": "1001"}.get(part, "65534")
    assert {int(status[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    options = {line.split()[4]: line.split()[5].split(",") for line in mounts}
    assert "ro" in options["/"]
    tokens = [path for path in options if path.endswith("serviceaccount")]
    assert bool(tokens) == (part != "prometheus-node-exporter")  # it asks the API nothing
    if part == "prometheus-node-exporter":
        assert all("ro" in options[path] for path in ("/host/proc", "/host/sys", "/host/root"))


def process(program: str) -> tuple[dict[str, str], list[str]]:
    """Fields of /proc/PID/status and the mounts of the one process whose image holds the program."""
    found = [
        path.parent
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if path.read_bytes().split(b"\0")[0] == f"/bin/{program}".encode()
    ]
    assert len(found) == 1, found
    status = dict(line.split(":\t", 1) for line in (found[0] / "status").read_text().splitlines() if ":\t" in line)
    return status, (found[0] / "mountinfo").read_text().splitlines()


def missing(world: World, table: dict[str, str], **more: str) -> list[str]:
    """Selectors of the table that find nothing."""
    return [each for metric, labels in table.items() if not world.query(each := selector(metric, labels, **more))]


def arrive(world: World, table: dict[str, str], seconds: float, **more: str) -> None:
    """Waits until every selector finds something."""
    try:
        wait_until(lambda: not missing(world, table, **more), seconds)
    except AssertionError:
        pytest.fail("\n".join(missing(world, table, **more)))


def test_the_state_of_the_cluster_arrives(world: World) -> None:
    arrive(world, STATE, 180, job="kube-state-metrics", clusterName="test1")
    pods = world.query('kube_pod_info{namespace="apps"}')
    # labels of the page stay: the pod is the one that it tells of
    assert {p["pod"].split("-")[0] for p in pods} >= {"web", "crashing", "each", "ordered", "once"}
    assert not [p for p in world.query('{__name__=~"kube_.*",exported_pod!=""}') if p["job"] == "kube-state-metrics"]
    (up,) = world.query('up{job="kube-state-metrics",endpoint="http"}')
    assert (up["namespace"], up["service"], up["container"]) == ("kof", "kof-collectors-kube-state-metrics", "kube-state-metrics")
    assert not world.query("kube_secret_info")  # whoever counts them can read them all


def test_the_machine_arrives(world: World) -> None:
    arrive(world, MACHINE, 120, job="node-exporter", clusterName="test1", nodename=NODE_NAME)
    (uname,) = world.query("node_uname_info")
    assert {"instance", "namespace", "service", "pod", "endpoint", "exported_nodename"} <= set(uname)
    assert uname["container"] == "node-exporter"
    assert {r["device"] for r in world.query("node_network_receive_bytes_total")} == {
        "lo",
        "eth0",
    }  # without hostNetwork, as KOF has it


def test_costs_arrive(world: World) -> None:
    arrive(world, COSTS, 420, job="kof-collectors-opencost", clusterName="test1")


def test_opencost_reads_the_storage_with_its_own_login(world: World) -> None:
    def reads() -> int:
        page = get(world.door + "/metrics")[1].decode()
        return sum(
            int(line.split()[1])
            for line in page.splitlines()
            if line.startswith(f'vmauth_user_requests_total{{username="{COST_LOGIN[0]}"')
        )

    before = wait_until(reads, 120, "OpenCost's queries")
    assert wait_until(lambda: reads() > before, 180, "more of them")
    said = world.said("opencost")
    assert not re.search(r"\b401\b|nauthorized|s3cret", said)


@pytest.mark.parametrize("part", PROGRAMS)
def test_nothing_was_forbidden(world: World, part: str) -> None:
    lines = [
        line
        for line in world.said(part).splitlines()
        if "orbidden" in line or "ermission denied" in line or "ead-only file" in line
    ]
    assert not lines, lines[:5]
    (pod,) = world.cluster.pods("kof", f"app.kubernetes.io/name={part}")
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0


def targets(world: World) -> set[tuple[tuple[str, str], ...]]:
    """Labels of the exporters' targets as series have them."""
    up = world.query('up{job=~"node-exporter|kube-state-metrics|kof-collectors-opencost"} == 1')
    return {tuple(sorted(labels.items())) for labels in up}


def test_service_monitors_give_the_same_labels(world: World, tmp_path: Path) -> None:
    before = targets(world)
    assert len(before) == 4
    definition = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
    for kind in ("ServiceMonitor", "PodMonitor", "Probe"):
        plural = kind.lower() + "s"
        schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
        world.cluster.apply(
            {
                **definition,
                "metadata": {"name": f"{plural}.monitoring.coreos.com"},
                "spec": {
                    "group": "monitoring.coreos.com",
                    "scope": "Namespaced",
                    "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
                    "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
                },
            }
        )
    wait_until(
        lambda: world.cluster.api.request("GET", "/apis/monitoring.coreos.com/v1/servicemonitors")[0] == 200, 30, "monitors served"
    )
    world.cluster.namespace("kcm-system")
    world.cluster.apply(*kcm(tmp_path))
    release = template(values=values(world.door), folder=tmp_path, apis=[MONITORS], sets=["kcm.monitoring=true"])
    assert "prometheus/kofagent:" not in release.text
    world.cluster.kubectl("apply", "-f", "-", text=release.text)
    for workload in (w for w in release.workloads() if w["metadata"]["name"].endswith("-collector")):
        world.cluster.kubectl(
            "-n", "kof", "rollout", "status", f"{workload['kind'].lower()}/{workload['metadata']['name']}", "--timeout=120s"
        )
    wait_until(lambda: len(world.cluster.pods("kof", AGENTS)) == 2, 60, "the agents with jobs of their own are gone")
    fresh = f'timestamp(up{{job=~"node-exporter|kube-state-metrics|kof-collectors-opencost"}}) > {time.time()}'
    wait_until(lambda: len(world.query(fresh)) == 4, 120, "scrapes by the monitors")
    assert {tuple(sorted(labels.items())) for labels in world.query(fresh)} == {
        tuple((name, value) for name, value in labels if name != "__name__") for labels in before
    }
    assert "orbidden" not in world.cluster.kubectl("-n", "kof", "logs", "-l", AGENTS, "--tail=-1")


def test_kcm_is_scraped_with_the_token_of_its_own_account(world: World) -> None:
    """After the test above, which installs with kcm.monitoring."""
    (controller,) = wait_until(lambda: world.query("kcm_caller"), 120, "the controllers' page")
    assert controller["subject"] == "system:serviceaccount:kof:kof-collectors-kcm-metrics"
    assert (controller["job"], controller["namespace"]) == ("kof/control-plane-metrics-monitor", "kcm-system")
    (manager,) = wait_until(lambda: world.query("kcm_up"), 60, "the controller manager's page")
    assert (manager["job"], manager["service"], manager["endpoint"]) == ("kcm-metrics", "kcm-metrics", "http")
    assert not world.query("projectsveltos_objects")


# Two pages: 8080 for everybody; 8443 by TLS for bearers, telling whose token it was.
KCM = """
import base64, http.server, json, ssl, threading

class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        if self.server.server_port == 8080:
            body = "kcm_up 1\\nprojectsveltos_objects 1\\n"
        elif kind == "Bearer" and token.count(".") == 2:
            claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
            body = 'kcm_caller{subject="%s"} 1\\n' % claims["sub"]
        else:
            return self.send_error(401)
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(body.encode())

secure = http.server.ThreadingHTTPServer(("", 8443), Page)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/conf/tls.crt", "/conf/tls.key")
secure.socket = context.wrap_socket(secure.socket, server_side=True)
threading.Thread(target=secure.serve_forever).start()
http.server.ThreadingHTTPServer(("", 8080), Page).serve_forever()
"""


def kcm(folder: Path) -> list[dict[str, Any]]:
    """KCM's controllers, as far as their metrics go."""
    cert, key = certificate(folder)
    place: dict[str, Any] = {"namespace": "kcm-system"}
    labels = {"control-plane": "kcm-controller-manager"}
    pod = agent.pod_spec([], files="kcm", host_network=False)
    pod["containers"][0] |= {
        "command": [sys.executable, "/conf/kcm.py"],
        "ports": [{"name": "http", "containerPort": 8080}, {"name": "metrics", "containerPort": 8443}],
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "kcm", **place},
            "data": {"kcm.py": KCM, "tls.crt": cert.read_text(), "tls.key": key.read_text()},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kcm-metrics", **place, "labels": labels},
            "spec": {"selector": labels, "ports": [{"name": "http", "port": 8080}]},
        },
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "kcm", **place, "labels": labels}, "spec": pod},
    ]
