"""The receiver against a kubelet: all ways of authentication, files that change, a kubelet that fails, claims and capacity."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kofagent.component.protocols import StartError
from kofagent.kubernetes import access as access_module
from kofagent.kubernetes.resources import NODES, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES
from kofagent.receivers.kubeletstats import COMPONENT
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from tests.receivers.kubeletstats.support import FakeKubelet, read, values
from tests.support.certificates import Authority
from tests.support.components import FakeHost, Sink, eventually, make
from tests.support.fake_kube import FakeKube

QUICK = {"collection_interval": "50ms", "initial_delay": "0s"}
STATUS = "receivers/kubeletstats"


@asynccontextmanager
async def running(sink: Sink, host: FakeHost | None = None, **options: Any) -> AsyncIterator[Any]:
    receiver = make(COMPONENT, {**QUICK, **options}, id="kubeletstats", host=host)
    receiver.outputs = {Signal.METRICS: sink}
    try:
        await receiver.start()
        yield receiver
    finally:
        await receiver.stop()


def newest(sink: Sink) -> list[tuple[dict[str, str], dict[str, list[Any]], Any]]:
    batch = sink.batches[-1]
    assert isinstance(batch, Batch)
    return read(batch.payload)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def account(tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "account"
    folder.mkdir()
    (folder / "token").write_text("first")
    (folder / "ca.crt").write_bytes(Path(authority.cert).read_bytes())
    monkeypatch.setattr(access_module, "SERVICE_ACCOUNT", str(folder))
    return folder


def server_context(authority: Authority, client_ca: bool = False) -> ssl.SSLContext:
    pair = authority.issue("kubelet")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    if client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(authority.cert)
    return context


async def test_the_read_only_port() -> None:
    sink, host = Sink(), FakeHost()
    async with FakeKubelet() as kubelet:
        async with running(sink, host, auth_type="none", endpoint=kubelet.endpoint) as receiver:
            await sink.wait_for(lambda s: len(s.batches) >= 2)
            assert "container.cpu.time" in receiver.explain()
        assert set(kubelet.asked) == {"/stats/summary"}, "nobody asked for labels"
    assert len(newest(sink)) == 4
    labels = {"receiver": "kubeletstats"}
    assert host.ledger.total("otelcol_receiver_accepted_metric_points_total", **labels, transport="") == sink.count
    assert host.ledger.total("otelcol_scraper_scraped_metric_points_total", **labels, scraper="kubeletstats") == sink.count
    assert host.statuses.get(STATUS) is None


async def test_the_token_of_the_service_account_is_read_again(account: Path, authority: Authority) -> None:
    sink, host = Sink(), FakeHost()
    async with (
        FakeKubelet("first", server_context(authority)) as kubelet,
        running(sink, host, auth_type="serviceAccount", endpoint=kubelet.endpoint),
    ):
        await sink.wait_for(lambda s: bool(s.batches))
        kubelet.token = "second"
        await eventually(lambda: "401" in (host.statuses.get(STATUS) or ""))
        (account / "new").write_text("second")
        os.replace(account / "new", account / "token")
        before = len(sink.batches)
        await sink.wait_for(lambda s: len(s.batches) > before)
        await eventually(lambda: host.statuses[STATUS] is None)


async def test_a_kubelet_with_a_certificate_of_another_authority(account: Path, authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other-ca")
    sink, host = Sink(), FakeHost()
    async with FakeKubelet("first", server_context(other)) as kubelet:
        options: dict[str, Any] = {"auth_type": "serviceAccount", "endpoint": f"https://{kubelet.endpoint}"}
        async with running(sink, host, **options):
            await eventually(lambda: "TLS" in (host.statuses.get(STATUS) or ""))
            assert "ca_file" in (host.statuses[STATUS] or "")
            assert not sink.batches
        async with running(sink, **options, insecure_skip_verify=True):
            await sink.wait_for(lambda s: bool(s.batches))
        sink = Sink()
        async with running(sink, **options, ca_file=other.cert):
            await sink.wait_for(lambda s: bool(s.batches))


async def test_a_client_certificate(authority: Authority) -> None:
    pair = authority.issue("agent")
    sink = Sink()
    async with FakeKubelet(context=server_context(authority, client_ca=True)) as kubelet:
        options: dict[str, Any] = {"endpoint": kubelet.endpoint, "ca_file": authority.cert}
        async with running(sink, **options, cert_file=pair.cert, key_file=pair.key):
            await sink.wait_for(lambda s: bool(s.batches))


async def test_through_the_api_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sink = Sink()
    async with FakeKube() as kube:
        kube.use(monkeypatch, tmp_path)
        kubelet = FakeKubelet()
        for path in ("/stats/summary", "/pods"):
            kube.routes[f"/api/v1/nodes/node1/proxy{path}"] = kubelet.handle
        for options in (
            {"auth_type": "kubeConfig", "endpoint": "node1"},
            {"auth_type": "serviceAccount", "endpoint": "https://node1:10250"},
            {"auth_type": "kubeConfig", "node": "node1", "insecure_skip_verify": True},
        ):
            sink = Sink()
            async with running(sink, extra_metadata_labels=["container.id"], **options):
                await sink.wait_for(lambda s: bool(s.batches))
            assert {r.get("container.id") for r, _, _ in newest(sink)} == {None, "aaa", "bbb"}
        monkeypatch.delenv("K8S_NODE_NAME", raising=False)
        with pytest.raises(StartError, match="name of the node"):
            async with running(sink, auth_type="kubeConfig"):
                pass


async def test_the_default_endpoint_is_the_node(monkeypatch: pytest.MonkeyPatch, authority: Authority) -> None:
    monkeypatch.setenv("K8S_NODE_NAME", "node-of-the-pod.invalid")
    pair = authority.issue("agent")
    sink, host = Sink(), FakeHost()
    async with running(sink, host, cert_file=pair.cert, key_file=pair.key):
        await eventually(lambda: "https://node-of-the-pod.invalid:10250" in (host.statuses.get(STATUS) or ""))
    host = FakeHost()
    async with running(sink, host, auth_type="none"):
        await eventually(lambda: "http://node-of-the-pod.invalid:10255" in (host.statuses.get(STATUS) or ""))
    host = FakeHost()
    async with running(sink, host, auth_type="none", endpoint="https://:10251"):
        await eventually(lambda: "https://node-of-the-pod.invalid:10251" in (host.statuses.get(STATUS) or ""))


async def test_without_a_service_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(access_module, "SERVICE_ACCOUNT", str(tmp_path / "nowhere"))
    with pytest.raises(StartError, match="--kubeconfig"):
        async with running(Sink(), auth_type="serviceAccount"):
            pass


@pytest.mark.parametrize(
    "answer, said",
    [
        (403, "nodes/stats"),
        (500, "500"),
        (b"{", "other than JSON"),
        (b"[]", "no node"),
        (b"{}", "no node"),
        (b"\xff", "other than JSON"),
    ],
)
async def test_a_failing_kubelet_is_said_once_counted_and_asked_again(
    answer: Any, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    sink, host = Sink(), FakeHost()
    async with FakeKubelet() as kubelet:
        good, kubelet.answers["/stats/summary"] = kubelet.answers["/stats/summary"], answer
        with caplog.at_level(logging.INFO):
            async with running(sink, host, auth_type="none", endpoint=kubelet.endpoint):
                await eventually(lambda: len(kubelet.asked) >= 4)
                assert said in (host.statuses[STATUS] or "")
                assert not sink.batches
                kubelet.answers["/stats/summary"] = good
                await sink.wait_for(lambda s: bool(s.batches))
                await eventually(lambda: host.statuses[STATUS] is None)
        assert sum(r.levelno == logging.WARNING for r in caplog.records) == 1
    assert host.ledger.total("otelcol_scraper_errored_metric_points_total", receiver="kubeletstats", scraper="kubeletstats") >= 3


async def test_a_kubelet_that_goes_and_comes_back() -> None:
    sink, host = Sink(), FakeHost()
    kubelet = FakeKubelet()
    async with kubelet:
        pass
    async with running(sink, host, auth_type="none", endpoint=kubelet.endpoint):
        await eventually(lambda: kubelet.endpoint in (host.statuses.get(STATUS) or ""))
        async with kubelet:
            await sink.wait_for(lambda s: bool(s.batches))


@pytest.mark.parametrize("answer", [500, b"{}", b"[", b'{"metadata": {}, "items": [1, {"metadata": null}]}'])
async def test_without_pods_the_rest_is_sent(answer: Any) -> None:
    sink, host = Sink(), FakeHost()
    async with FakeKubelet() as kubelet:
        kubelet.answers["/pods"] = answer
        async with running(sink, host, auth_type="none", endpoint=kubelet.endpoint, extra_metadata_labels=["container.id"]):
            await sink.wait_for(lambda s: bool(s.batches))
            assert ["k8s.node.name" in r or "k8s.pod.uid" in r for r, _, _ in newest(sink)] == [True, True]
            assert "pods" in (host.statuses[STATUS] or "")


async def test_volumes_of_claims(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sink, host = Sink(), FakeHost()

    def kinds() -> dict[str, str | None]:
        return {r["k8s.volume.name"]: r.get("k8s.volume.type") for r, _, _ in newest(sink)}

    async with FakeKube() as kube, FakeKubelet() as kubelet:
        kube.use(monkeypatch, tmp_path)
        options: dict[str, Any] = {
            "auth_type": "none",
            "endpoint": kubelet.endpoint,
            "metric_groups": ["volume"],
            "extra_metadata_labels": ["k8s.volume.type"],
            "k8s_api_config": {"auth_type": "serviceAccount"},
        }
        async with running(sink, host, **options):
            await sink.wait_for(lambda s: bool(s.batches))
            assert kinds() == {"cache": "emptyDir", "token": None}, "a volume whose kind is not known would be another series later"
            assert "claim" in (host.statuses[STATUS] or "")
            asked = len([1 for _, path, _ in kube.requests if "persistentvolumeclaims" in path])
            assert asked == 1, "asked again after a minute only"
        kube.put(PERSISTENTVOLUMECLAIMS, {"metadata": {"name": "data-web-0", "namespace": "shop"}, "spec": {"volumeName": "pv1"}})
        kube.put(
            PERSISTENTVOLUMES, {"metadata": {"name": "pv1"}, "spec": {"awsElasticBlockStore": {"volumeID": "v1", "fsType": "ext4"}}}
        )
        sink = Sink()
        async with running(sink, FakeHost(), **options):
            await sink.wait_for(lambda s: len(s.batches) >= 3)
        assert kinds() == {"data": "awsElasticBlockStore", "cache": "emptyDir", "token": None}
        (data,) = [r for r, _, _ in newest(sink) if r["k8s.volume.name"] == "data"]
        assert (data["aws.volume.id"], data["k8s.persistentvolumeclaim.name"], data["partition"]) == ("v1", "data-web-0", "0")
        assert len([1 for _, path, _ in kube.requests if path.endswith("persistentvolumes/pv1")]) == 1


async def test_the_capacity_of_the_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sink = Sink()
    name = "k8s.container.memory.node.utilization"
    async with FakeKube() as kube, FakeKubelet() as kubelet:
        kube.use(monkeypatch, tmp_path)
        kube.put(NODES, {"metadata": {"name": "node1"}, "status": {"capacity": {"cpu": "4", "memory": "1Mi"}}})
        kube.put(NODES, {"metadata": {"name": "node2"}, "status": {"capacity": {"cpu": "1", "memory": "1"}}})
        async with running(sink, auth_type="none", endpoint=kubelet.endpoint, node="node1", metrics={name: {"enabled": True}}):
            await sink.wait_for(lambda s: bool(s.batches) and any(name in m for _, m, _ in newest(s)))
            assert [values(m)[name] for _, m, _ in newest(sink) if name in m] == [302 / (1 << 20)]
            kube.put(NODES, {"metadata": {"name": "node1"}, "status": {"capacity": {"cpu": "4", "memory": "2Mi"}}})
            await sink.wait_for(lambda s: [values(m)[name] for _, m, _ in newest(s) if name in m] == [302 / (2 << 20)])


async def test_refused_metrics_are_counted() -> None:
    sink, host = Sink(), FakeHost()
    sink.refuse = Refused("sending queue full")
    async with FakeKubelet() as kubelet, running(sink, host, auth_type="none", endpoint=kubelet.endpoint):
        await eventually(
            lambda: (
                host.ledger.total(
                    "kofagent_dropped_items_total", component="kubeletstats", signal="metrics", reason="sending queue full"
                )
                > 0
            )
        )


async def test_an_answer_that_never_ends_is_given_up() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readline()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{")
            await writer.drain()
            await reader.read()
        finally:
            writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    host = FakeHost()
    async with running(Sink(), host, auth_type="none", endpoint=f"127.0.0.1:{port}", timeout="100ms"):
        await eventually(lambda: "0.1 s" in (host.statuses.get(STATUS) or ""))
    server.close()
