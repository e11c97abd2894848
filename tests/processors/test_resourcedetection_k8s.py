"""The k8s_api detector of resourcedetection, by both its names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kofagent.component.protocols import StartError
from kofagent.kubernetes.resources import NAMESPACES, NODES
from kofagent.processors.resourcedetection import COMPONENT, processor
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.signal import Signal
from tests.processors.support import REQUESTS, logs, resource_of
from tests.support.components import FakeHost, Sink, eventually, make
from tests.support.fake_kube import FakeKube

ALL = {"k8s.node.name": "n1", "k8s.node.uid": "node-uid", "k8s.cluster.uid": "cluster-uid"}


@pytest.fixture
async def kube(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[FakeKube]:
    monkeypatch.setattr(processor, "FIRST_RETRY", 0.02)
    monkeypatch.setenv("K8S_NODE_NAME", "n1")
    async with FakeKube() as server:
        server.use(monkeypatch, tmp_path)
        server.put(NODES, {"metadata": {"name": "n1", "uid": "node-uid"}})
        server.put(NAMESPACES, {"metadata": {"name": "kube-system", "uid": "cluster-uid"}})
        yield server


def sent(made: Any) -> list[dict[str, Any]]:
    return [resource_of(REQUESTS[Signal.LOGS].FromString(b.payload)) for b in made.next.batches]


def detection(**options: Any) -> Any:
    made = make(COMPONENT, {"detectors": ["k8snode"], **options}, kind="processor", id="resourcedetection", host=FakeHost())
    made.signal, made.next = Signal.LOGS, Sink()
    return made


@pytest.mark.parametrize("name", ["k8snode", "k8s_api"])
async def test_name_and_uids(kube: FakeKube, name: str) -> None:
    made = detection(detectors=[name])
    await made.start()
    await made.consume(Batch(Signal.LOGS, logs({"body": "x"}, resource={"a": "b"}).SerializeToString(), 1))
    assert sent(made) == [{"a": "b", **ALL}]
    await made.stop()


async def test_another_variable_and_attributes_off(kube: FakeKube, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("K8S_NODE_NAME")
    monkeypatch.setenv("NODE", "n1")
    made = detection(
        k8snode={
            "node_from_env_var": "NODE",
            "resource_attributes": {"k8s.node.uid": {"enabled": False}, "k8s.cluster.uid": {"enabled": False}},
        }
    )
    await made.start()
    assert made.detected == {"k8s.node.name": "n1"}
    assert not kube.requests, "nothing that is not asked for is read"
    await made.stop()


async def test_without_the_variable(kube: FakeKube, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("K8S_NODE_NAME")
    made = detection()
    with pytest.raises(StartError, match=r"K8S_NODE_NAME; set it in the pod from the field spec.nodeName"):
        await made.start()
    await made.stop()


async def test_the_clusters_uid_may_be_forbidden(kube: FakeKube) -> None:
    kube.forbidden = {("get", "namespaces")}
    made = detection()
    await made.start()
    assert made.detected == {k: v for k, v in ALL.items() if k != "k8s.cluster.uid"}
    await made.stop()


async def test_an_api_server_that_comes_later(kube: FakeKube) -> None:
    await kube.stop()
    made = detection()
    await made.start()
    assert made.detected == {"k8s.node.name": "n1"}
    await made.consume(Batch(Signal.LOGS, logs({"body": "x"}).SerializeToString(), 1))
    assert await eventually(lambda: made.context.host.statuses.get("processor/resourcedetection"))
    await kube.start()
    await eventually(lambda: made.detected == ALL)
    await made.consume(Batch(Signal.LOGS, logs({"body": "x"}).SerializeToString(), 1))
    assert sent(made) == [{"k8s.node.name": "n1"}, ALL]
    await eventually(lambda: made.context.host.statuses["processor/resourcedetection"] is None)
    await made.stop()


async def test_fail_on_missing_metadata(kube: FakeKube) -> None:
    kube.forbidden = {("get", "nodes")}
    made = detection(fail_on_missing_metadata=True)
    with pytest.raises(StartError, match="may not get nodes"):
        await made.start()
    await made.stop()
