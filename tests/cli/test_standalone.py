"""`kofagent run --kubeconfig` before its pipelines start: what is said, what stays off, and when it gives up."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from kofagent.cli import standalone
from kofagent.cli.standalone import Place, adapt, look
from kofagent.component import registry
from kofagent.component.protocols import Kubeconfig, StartError
from kofagent.config.blocks import TlsServerBlock
from kofagent.config.load import LoadedConfig, load_config
from kofagent.kubernetes import own_node as own_node_module
from kofagent.kubernetes.choose import find
from kofagent.kubernetes.options import ApiOptions
from kofagent.kubernetes.resources import NODES
from kofagent.net.tls import server_context
from kofagent.values import load_values
from tests.kubernetes.test_kubeconfig import exec_user, write
from tests.support.certificates import Authority
from tests.support.components import eventually
from tests.support.fake_kube import FakeKube
from tests.support.servers import free_port

AWAY = Place(False, "this machine is not a node of the cluster")


@pytest.fixture(autouse=True)
def _machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with known ids."""
    for name, text in (("machine-id", "m1"), ("boot-id", "b1")):
        (tmp_path / name).write_text(text + "\n")
    monkeypatch.setattr(own_node_module, "_MACHINE_ID", (str(tmp_path / "absent"), str(tmp_path / "machine-id")))
    monkeypatch.setattr(own_node_module, "_BOOT_ID", str(tmp_path / "boot-id"))
    monkeypatch.delenv("K8S_NODE_NAME", raising=False)
    monkeypatch.setattr(standalone, "PATIENCE", 2.0)


@pytest.fixture
async def kube() -> AsyncIterator[FakeKube]:
    async with FakeKube() as server:
        server.routes["/version"] = version
        yield server


async def version(request: web.Request) -> web.Response:
    allowed = request.headers.get("Authorization") == "Bearer secret-token"
    return web.json_response({"major": "1"} if allowed else {"code": 401}, status=200 if allowed else 401)


def node(name: str, machine: str, boot: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"nodeInfo": {"machineID": machine, "bootID": boot}}}


async def test_whether_this_machine_is_a_node(kube: FakeKube, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "k", {"server": kube.url}, {"token": kube.token})
    said: list[str] = []
    for i in range(300):
        kube.put(NODES, node(f"far{i}", f"m{i + 10}", f"b{i + 10}"))
    kube.put(NODES, node("kind-control-plane", "m2", "b1"))  # a container on this machine
    kube.put(NODES, node("clone", "m1", "b2"))
    kube.put(NODES, {"metadata": {"name": "new"}})
    assert await look(path, "", said.append) == AWAY
    kube.put(NODES, node("self", "m1", "b1"))
    assert (await look(path, "", said.append)).on_node
    assert said == ["this machine is the cluster's node self"]
    monkeypatch.setenv("K8S_NODE_NAME", "self")
    assert (await look(path, "", said.append)).on_node
    monkeypatch.setenv("K8S_NODE_NAME", "clone")
    assert await look(path, "", said.append) == Place(False, "this machine is not the node clone")
    monkeypatch.setenv("K8S_NODE_NAME", "absent")
    assert await look(path, "", said.append) == Place(False, "the cluster has no node absent (K8S_NODE_NAME)")
    # who may not read nodes is believed what he says of himself
    kube.forbidden = {("list", "nodes"), ("get", "nodes")}
    assert (await look(path, "", said.append)).on_node
    monkeypatch.delenv("K8S_NODE_NAME")
    place = await look(path, "", said.append)
    assert not place.on_node and "may not list nodes at cluster scope (403)" in place.why and "set K8S_NODE_NAME" in place.why


async def test_a_server_that_is_away_is_said_and_waited_for(tmp_path: Path, kube: FakeKube) -> None:
    path = write(tmp_path / "k", {"server": kube.url}, {"token": kube.token})
    for status in (500, 503, 429):
        said: list[str] = []
        kube.failures = []

        async def busy(request: web.Request, status: int = status) -> web.Response:
            return web.json_response({}, status=status)

        kube.routes["/version"] = busy
        place = await look(path, "", said.append)
        assert not place.on_node and "its API server does not answer" in place.why
        assert len(said) == 1 and said[0].startswith("the API server does not answer yet, trying again until it does: ")
    await kube.stop()
    said = []
    assert not (await look(path, "", said.append)).on_node
    assert said == [f"the API server does not answer yet, trying again until it does: {kube.url}: Connection refused"]


@pytest.mark.slow
async def test_a_kubeconfig_that_cannot_work_ends_it(kube: FakeKube, tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(StartError, match="no context 'other'; it has: broken, main"):
        await look(write(tmp_path / "k", {"server": kube.url}, {}), "other", said.append)
    with pytest.raises(StartError, match=r"no kubeconfig: .*/absent does not exist"):
        await look(str(tmp_path / "absent"), "", said.append)
    with pytest.raises(StartError, match=r"does not accept the kubeconfig's credentials \(401\).*log in again"):
        await look(write(tmp_path / "k", {"server": kube.url}, {"token": "expired"}), "", said.append)
    with pytest.raises(
        StartError, match=r"exec plugin .* exited with status 3; kubectl --context main get nodes shows what it says"
    ):
        await look(write(tmp_path / "k", {"server": kube.url}, exec_user(tmp_path, "fail")), "", said.append)
    pair = Authority(tmp_path, "theirs").issue("server")
    async with FakeKube(ssl_context=server_context(TlsServerBlock(cert_file=pair.cert, key_file=pair.key))) as secure:
        cluster = {"server": secure.url, "certificate-authority": Authority(tmp_path, "another").cert}
        with pytest.raises(StartError, match=r"TLS handshake failed: .*does not fit this server: fetch it again"):
            await look(write(tmp_path / "k", cluster, {"token": secure.token}), "", said.append)
    authority = Authority(tmp_path, "old")
    pair = authority.issue("old-server", hours=-0.5)
    async with FakeKube(ssl_context=server_context(TlsServerBlock(cert_file=pair.cert, key_file=pair.key))) as secure:
        cluster = {"server": secure.url, "certificate-authority": authority.cert}
        with pytest.raises(StartError, match=r"TLS handshake failed: certificate has expired; renew the API server's certificate"):
            await look(write(tmp_path / "k", cluster, {"token": secure.token}), "", said.append)
    assert said == []


async def test_a_server_that_has_just_started_may_refuse_for_a_moment(kube: FakeKube, tmp_path: Path) -> None:
    asked: list[int] = []

    async def starting(request: web.Request) -> web.Response:
        asked.append(1)
        return web.json_response({}, status=401 if len(asked) == 1 else 200)

    kube.routes["/version"] = starting
    assert await look(write(tmp_path / "k", {"server": kube.url}, {"token": kube.token}), "", print) == AWAY
    assert len(asked) == 2

    async def not_told(request: web.Request) -> web.Response:
        return web.json_response({}, status=403)

    kube.routes["/version"] = not_told  # the version is not for everybody; who may list nodes is well known to the server
    said: list[str] = []
    assert await look(write(tmp_path / "k", {"server": kube.url}, {"token": kube.token}), "", said.append) == AWAY
    assert said == []


async def test_a_plugin_that_asks_its_user_something_has_the_time(
    kube: FakeKube, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standalone, "PATIENCE", 0.3)
    credential = json.dumps(
        {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": kube.token}}
    )
    (tmp_path / "slow").write_text(f"#!{sys.executable}\nimport time\ntime.sleep(1)\nprint({credential!r})\n")
    (tmp_path / "slow").chmod(0o755)
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "./slow"}}
    said: list[str] = []
    assert await look(write(tmp_path / "k", {"server": kube.url}, user), "", said.append) == AWAY
    assert said == []


async def test_the_context_and_kubectls_own_search(kube: FakeKube, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "one", {"server": kube.url}, {"token": kube.token})
    (tmp_path / "two").write_text(
        json.dumps(
            {
                "clusters": [{"name": "c2", "cluster": {"server": "http://second.test"}}],
                "contexts": [{"name": "second", "context": {"cluster": "c2"}}],
            }
        )
    )
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'one'}:{tmp_path / 'two'}")
    assert not (await look("", "", print)).on_node
    assert find(ApiOptions(), Kubeconfig()).server == kube.url
    second = Kubeconfig("", "second")
    assert find(ApiOptions(), second).server == "http://second.test"
    assert find(ApiOptions(auth_type="kubeConfig", context="main"), second).server == kube.url


VALUES = """\
global: {clusterName: laptop}
kof: {basic_auth: false, logs: {endpoint: "http://127.0.0.1:1/logs"}, metrics: {endpoint: "http://127.0.0.1:1/w"},
  traces: {endpoint: "http://127.0.0.1:1"}}
"""


def of_values(folder: Path, role: str, generation: str, *more: str) -> LoadedConfig:
    (folder / "values.yaml").write_text(VALUES)
    return load_values([str(folder / "values.yaml")], role, registry, generation=generation, environ=os.environ, over=[*more])


@pytest.mark.parametrize("generation, name", [("0.3.0", "filelog/kube"), ("0.1.1", "filelog")])
def test_kofs_values_on_a_laptop(generation: str, name: str, tmp_path: Path) -> None:
    said: list[str] = []
    config = of_values(tmp_path, "node", generation)
    away = adapt(config, AWAY, said.append)
    assert said[0] == (
        f"receivers.{name} stays off: log files of a node (/var/log/pods/*/*/*.log): this machine is not a node of the cluster"
    )
    assert [s.split(":")[0] for s in said[1:]] == (["receivers.prometheus"] if generation == "0.3.0" else [])
    assert away.pipelines["logs"].receivers == ["otlp"]
    assert name not in away.components["receivers"] and "prometheus" in away.components["receivers"]
    assert config.pipelines["logs"].receivers == ["otlp", name] and name in config.components["receivers"]
    said.clear()
    assert adapt(config, Place(True, ""), said.append) is config and said == []
    cluster = of_values(tmp_path, "k8scluster", generation)
    assert adapt(cluster, AWAY, said.append).pipelines == cluster.pipelines
    assert said == []  # what is scraped there is asked through the API server


def test_what_else_needs_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps(
        {
            "receivers": {
                "filelog/mixed": {"include": ["/var/log/pods/*/*/*.log", "/tmp/app.log"]},
                "file_log/own": {"include": ["/var/log/syslog"]},
                "filelog/unused": {"include": ["/var/log/containers/*.log"]},
                "hostmetrics": {"root_path": "/hostfs", "scrapers": {"cpu": None}},
                "hostmetrics/here": {"scrapers": {"cpu": None}},
                "kubeletstats": {"auth_type": "serviceAccount", "endpoint": "https://${env:K8S_NODE_NAME}:10250"},
                "kubeletstats/named": {"auth_type": "serviceAccount", "endpoint": "n1"},
            },
            "exporters": {"nop": None},
            "service": {
                "pipelines": {
                    "logs": {"receivers": ["filelog/mixed", "file_log/own"], "exporters": ["nop"]},
                    "metrics": {"receivers": ["hostmetrics/here", "kubeletstats/named"], "exporters": ["nop"]},
                    "metrics/node": {"receivers": ["hostmetrics", "kubeletstats"], "exporters": ["nop"]},
                }
            },
        }
    )
    (tmp_path / "otel.yaml").write_text(text)
    said: list[str] = []
    away = adapt(load_config([str(tmp_path / "otel.yaml")], registry), AWAY, said.append)
    assert said == [
        "receivers.filelog/mixed: log files of a node (/var/log/pods/*/*/*.log) left out: this machine is not a node of the cluster",
        "receivers.hostmetrics stays off: the root directory of a node (/hostfs): this machine is not a node of the cluster",
        "receivers.kubeletstats stays off: the kubelet of an unnamed node (set endpoint: NAME, or K8S_NODE_NAME): "
        "this machine is not a node of the cluster",
    ]
    assert away.components["receivers"]["filelog/mixed"].include == ["/tmp/app.log"]  # type: ignore[attr-defined]
    assert {name: p.receivers for name, p in away.pipelines.items()} == {
        "logs": ["filelog/mixed", "file_log/own"],
        "metrics": ["hostmetrics/here", "kubeletstats/named"],
        "metrics/node": ["nop"],
    }
    said.clear()
    monkeypatch.setenv("K8S_NODE_NAME", "n1")
    adapt(load_config([str(tmp_path / "otel.yaml")], registry), AWAY, said.append)
    assert not any("kubeletstats" in s for s in said)


def test_a_nodes_own_logs_are_of_the_values_only(tmp_path: Path) -> None:
    said: list[str] = []
    more = (
        'yaml:{"receivers": {"filelog/sys": {"include": ["/var/log/syslog"]}}, "service": {"pipelines": {"logs/sys": {"receivers": '
        '["filelog/sys"], "exporters": ["debug"]}}}}'
    )
    assert adapt(of_values(tmp_path, "node", "0.3.0", more), AWAY, said.append).pipelines["logs/sys"].receivers == ["nop"]
    assert any(s.startswith("receivers.filelog/sys stays off: log files of a node (/var/log/syslog)") for s in said)


@pytest.mark.slow
async def test_run_as_a_user_does_it(kube: FakeKube, tmp_path: Path) -> None:
    """The whole command: it starts without an API server, keeps a broken kubeconfig's sentence short, reloads, stops with 0."""
    path = write(tmp_path / "k", {"server": kube.url}, {"token": kube.token})
    (tmp_path / "values.yaml").write_text(VALUES)
    own, targets, http, grpc = (free_port() for _ in range(4))
    changes = {
        "receivers": {
            "otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{http}"}, "grpc": {"endpoint": f"127.0.0.1:{grpc}"}}},
            "prometheus": {"api_server": {"server_config": {"endpoint": f"127.0.0.1:{targets}"}}},
        },
        "service": {
            "telemetry": {"metrics": {"readers": [{"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": own}}}}]}}
        },
    }
    arguments = ["run", "--values", str(tmp_path / "values.yaml"), "--role", "node", "--config", "yaml:" + json.dumps(changes)]
    log = tmp_path / "log"

    async def start(*more: str) -> asyncio.subprocess.Process:
        with log.open("wb") as out:
            return await asyncio.create_subprocess_exec(sys.executable, "-m", "kofagent", *arguments, *more, stdout=out, stderr=out)

    failed = await start("--kubeconfig", path, "--context", "nowhere")
    assert await failed.wait() == 1
    assert log.read_text().splitlines()[-1] == "kofagent run: the kubeconfig has no context 'nowhere'; it has: broken, main"
    await kube.stop()
    agent = await start("--kubeconfig", path)
    await eventually(lambda: "everything is ready" in log.read_text(), 60)
    assert log.read_text().count("stays off") == 1
    await eventually(lambda: "Connection refused" in log.read_text().split("everything is ready")[1], 30)
    await kube.start()
    await eventually(lambda: "the API server answers again" in log.read_text(), 60)
    agent.send_signal(signal.SIGHUP)
    await eventually(lambda: "configuration reloaded" in log.read_text(), 60)
    assert log.read_text().count("stays off") == 2
    agent.terminate()
    assert await agent.wait() == 0
    assert "Traceback" not in log.read_text()
    assert log.read_text().splitlines()[-1].endswith("info run: stopped")


@pytest.mark.parametrize(
    "job, noted",
    [
        ({"kubernetes_sd_configs": [{"role": "node"}]}, False),
        ({"kubernetes_sd_configs": [{"role": "service"}]}, True),
        ({"static_configs": [{"targets": ["a:1"]}]}, False),
        (
            {
                "kubernetes_sd_configs": [{"role": "endpoints"}],
                "relabel_configs": [{"target_label": "__address__", "replacement": "api:443"}],
            },
            False,
        ),
        (
            {
                "kubernetes_sd_configs": [{"role": "pod"}],
                "relabel_configs": [
                    {"source_labels": ["__meta_kubernetes_pod_ip"], "target_label": "__address__", "replacement": "$1:9090"}
                ],
            },
            True,
        ),
    ],
)
def test_jobs_of_pods_are_noted(job: dict[str, Any], noted: bool, tmp_path: Path) -> None:
    (tmp_path / "otel.yaml").write_text(
        json.dumps(
            {
                "receivers": {"prometheus": {"config": {"scrape_configs": [{"job_name": "j", **job}]}}},
                "exporters": {"nop": None},
                "service": {"pipelines": {"metrics": {"receivers": ["prometheus"], "exporters": ["nop"]}}},
            }
        ).replace("$1", "$$1")
    )
    said: list[str] = []
    adapt(load_config([str(tmp_path / "otel.yaml")], registry), AWAY, said.append)
    assert bool(said) is noted
