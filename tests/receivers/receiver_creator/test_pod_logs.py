"""Logs of pods as KOF's daemon reads them: a scripted API server, files on the disk, and no line that is lost or read twice."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kofagent.kubernetes.resources import PODS
from kofagent.telemetry.signal import Signal
from tests.receivers.filelog.support import Store
from tests.receivers.receiver_creator.support import FAST, RUNNING, World, container_status, ended, put, write
from tests.support.components import eventually
from tests.support.fake_kube import FakeKube

U1, U2, U9 = (f"00000000-0000-4000-8000-00000000000{n}" for n in (1, 2, 9))
STATIC = "0123456789abcdef0123456789abcdef"


@pytest.fixture
async def kube(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[FakeKube]:
    for name, seconds in FAST.items():
        monkeypatch.setattr(name, seconds)
    async with FakeKube() as server:
        server.use(monkeypatch, tmp_path)
        yield server


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    (tmp_path / "pods").mkdir()
    return tmp_path / "pods"


async def test_a_container_that_comes_is_read_from_its_beginning_and_one_that_was_there_from_its_end(
    kube: FakeKube, logs: Path
) -> None:
    put(kube, "old", U1)
    write(logs, "old", ["before"], uid=U1)
    async with World(logs) as world:
        await eventually(lambda: len(world.running()) == 1 and world.creator.settled())
        write(logs, "new", ["first", "ERROR second"], uid=U2)
        put(kube, "new", U2, labels={"app": "web"})
        await eventually(lambda: len(world.bodies()) == 2)
        write(logs, "old", ["after"], uid=U1)
        await eventually(lambda: len(world.bodies()) == 3)
        assert world.bodies() == ["first", "ERROR second", "after"]
        resource, record = world.records()[1]
        assert record.severity_text == "ERROR"
        expected = {
            "k8s.pod.name": "new",
            "k8s.pod.uid": U2,
            "k8s.namespace.name": "shop",
            "k8s.container.name": "app",
            "container.image.name": "registry.test/app:1.0",
        }
        assert expected.items() <= resource.items() and resource["container.id"]
        assert not any(world.host.statuses.values())
        accepted = world.host.ledger.total(
            "otelcol_receiver_accepted_log_records_total", receiver="filelog/receiver_creator", transport=""
        )
        assert accepted == 3, "all receivers of a template have one account"


async def test_what_came_while_the_agent_was_down_is_read_and_the_rest_goes_on_where_it_was(kube: FakeKube, logs: Path) -> None:
    put(kube, "old", U1)
    write(logs, "old", ["before"], uid=U1)
    store = Store()
    async with World(logs, store) as world:
        await eventually(lambda: len(world.running()) == 1 and world.creator.settled())
        write(logs, "old", ["one"], uid=U1)
        await eventually(lambda: world.bodies() == ["one"])
    write(logs, "old", ["two"], uid=U1)
    write(logs, "new", ["three"], uid=U2)
    put(kube, "new", U2)
    kube.items(PODS)[1]["metadata"]["creationTimestamp"] = "2999-01-01T00:00:00Z"
    async with World(logs, store) as world:
        await eventually(lambda: sorted(world.bodies()) == ["three", "two"])


async def test_init_containers_and_what_has_ended_is_read_to_its_end_once(kube: FakeKube, logs: Path) -> None:
    async with World(logs) as world:
        await eventually(lambda: kube.watches("pods"))
        status: dict[str, Any] = {
            "phase": "Pending",
            "containerStatuses": [container_status("app", {"waiting": {"reason": "PodInitializing"}})],
            "initContainerStatuses": [container_status("init", RUNNING)],
        }
        write(logs, "job", ["from init"], uid=U1, container="init")
        put_with_init(kube, U1, status)
        await eventually(lambda: world.bodies() == ["from init"])
        assert world.names() == [f"filelog|k8s_observer/{U1}/init"], "the other container has not begun"
        write(logs, "job", ["from app"], uid=U1)
        put_with_init(
            kube,
            U1,
            {
                "phase": "Succeeded",
                "containerStatuses": [container_status("app", ended())],
                "initContainerStatuses": [container_status("init", ended())],
            },
        )
        await eventually(lambda: sorted(world.bodies()) == ["from app", "from init"])
        await eventually(lambda: world.running() == [], message="what has ended is read once")
        assert len(world.names()) == 2
        kube.delete(PODS, "job", "shop")
        await eventually(lambda: world.names() == [])
        assert not any(U1 in key for key in world.store.values), "the state of a pod that is gone is removed"
    assert sorted(world.bodies()) == ["from app", "from init"]


def put_with_init(kube: FakeKube, uid: str, status: dict[str, Any]) -> None:
    containers = [{"name": "app", "image": "a"}]
    put(kube, "job", uid, containers=containers, status=status)
    kube.items(PODS)[0]["spec"]["initContainers"] = [{"name": "init", "image": "i"}]
    kube.put(PODS, kube.items(PODS)[0])


async def test_a_pod_that_is_over_before_it_is_seen_is_read_from_its_files(kube: FakeKube, logs: Path) -> None:
    async with World(logs) as world:
        await eventually(lambda: kube.watches("pods"))
        write(logs, "flash", ["a", "b"], uid=U9)
        await eventually(lambda: world.bodies() == ["a", "b"])
        resource, _ = world.records()[0]
        assert resource["k8s.pod.name"] == "flash" and "container.image.name" not in resource
        put(kube, "flash", U9)  # the API tells of it after all
        write(logs, "flash", ["c"], uid=U9)
        await eventually(lambda: len(world.bodies()) == 3)
        assert world.records()[2][0]["container.image.name"] == "registry.test/app:1.0"
        assert world.bodies() == ["a", "b", "c"]


async def test_what_a_pod_wrote_that_was_deleted_before_its_containers_were_seen_to_run(kube: FakeKube, logs: Path) -> None:
    async with World(logs) as world:
        await eventually(lambda: kube.watches("pods"))
        put(kube, "short", U1, status={"phase": "Pending", "containerStatuses": []})
        write(logs, "short", ["a"], uid=U1)
        kube.delete(PODS, "short", "shop")
        await eventually(lambda: world.bodies() == ["a"])
        shutil.rmtree(logs / f"shop_short_{U1}")
        await eventually(lambda: world.names() == [])


async def test_lines_that_were_written_at_the_end_are_read_before_the_receiver_stops(kube: FakeKube, logs: Path) -> None:
    async with World(logs) as world:
        await eventually(lambda: kube.watches("pods"))
        put(kube, "web", U1)
        write(logs, "web", ["a"], uid=U1)
        await eventually(lambda: world.bodies() == ["a"])
        kube.delete(PODS, "web", "shop")
        write(logs, "web", ["last words"], uid=U1)
        await eventually(lambda: world.names() == [])
        assert world.bodies() == ["a", "last words"]


async def test_a_restart_of_the_container_is_read_on_by_the_same_receiver(kube: FakeKube, logs: Path) -> None:
    async with World(logs) as world:
        await eventually(lambda: kube.watches("pods"))
        put(kube, "web", U1)
        write(logs, "web", ["a"], uid=U1)
        await eventually(lambda: world.bodies() == ["a"])
        [child] = world.creator._all()
        receiver = child._receiver
        crashed = container_status("app", {"waiting": {"reason": "CrashLoopBackOff"}}, restartCount=1, lastState=ended(code=1))
        put(kube, "web", U1, status={"containerStatuses": [crashed]})
        write(logs, "web", ["b"], uid=U1, file="1.log")
        await eventually(lambda: world.bodies() == ["a", "b"])
        assert child._receiver is receiver


async def test_a_static_pod_is_read_under_the_uid_of_its_folder(kube: FakeKube, logs: Path) -> None:
    annotations = {"kubernetes.io/config.mirror": STATIC, "kubernetes.io/config.hash": STATIC}
    async with World(logs) as world:
        await eventually(lambda: kube.watches("pods"))
        write(logs, "etcd-n1", ["a"], uid=STATIC)
        put(kube, "etcd-n1", "uid-in-the-api", annotations=annotations)
        await eventually(lambda: world.bodies() == ["a"])
        assert world.names() == [f"filelog|k8s_observer/{STATIC}/app"]


async def test_pods_of_other_nodes_have_no_receivers(kube: FakeKube, logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_K8S_NODE_NAME", raising=False)
    monkeypatch.delenv("K8S_NODE_NAME", raising=False)
    put(kube, "elsewhere", U1, node="n2")
    async with World(logs) as world:
        await eventually(lambda: kube.watches("pods"))
        write(logs, "here", ["a"], uid=U2)
        put(kube, "here", U2)
        await eventually(lambda: world.bodies() == ["a"])
        assert world.names() == [f"filelog|k8s_observer/{U2}/app"]
    monkeypatch.setenv("OTEL_K8S_NODE_NAME", "n1")
    async with World(logs) as world:
        await eventually(world.names)
        assert any(q.get("fieldSelector") == "spec.nodeName=n1" for _, _, q in kube.requests)


async def test_lines_wait_in_their_files_while_nobody_takes_them(kube: FakeKube, logs: Path) -> None:
    """Also those of a pod that is gone: the receiver stops when they have an owner."""
    async with World(logs) as world:
        world.sink.gate = asyncio.Event()
        await eventually(lambda: kube.watches("pods"))
        put(kube, "web", U1)
        write(logs, "web", ["a", "b"], uid=U1)
        await eventually(world.sink.called.is_set)
        kube.delete(PODS, "web", "shop")
        put(kube, "other", U2)
        write(logs, "other", [], uid=U2)
        await eventually(lambda: len(world.names()) == 2)
        assert not world.creator.settled()
        world.sink.gate.set()
        await eventually(lambda: world.names() == [f"filelog|k8s_observer/{U2}/app"])
        assert world.bodies() == ["a", "b"]


async def test_files_are_read_while_the_api_server_is_down_and_get_their_pods_when_it_is_back(
    kube: FakeKube, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kofagent.extensions.k8s_observer.watching.PATIENCE", 0.05)
    write(logs, "web", ["before"], uid=U1)
    put(kube, "web", U1)
    await kube.stop()
    async with World(logs) as world:
        await eventually(lambda: world.running() and world.creator.settled())
        write(logs, "web", ["a"], uid=U1)
        await eventually(lambda: world.bodies() == ["a"])
        assert "container.image.name" not in world.records()[0][0]
        await kube.start()
        await eventually(lambda: kube.watches("pods"))
        await world.observer._watching[0].synced.wait()
        [child] = world.creator._all()
        await eventually(lambda: child._running.attributes.get("container.image.name"))
        write(logs, "web", ["b"], uid=U1)
        await eventually(lambda: len(world.bodies()) == 2)
        assert world.bodies() == ["a", "b"]
        assert world.records()[1][0]["container.image.name"] == "registry.test/app:1.0"


async def test_what_nobody_took_of_a_pod_that_is_gone_is_counted_when_it_is_given_up(
    kube: FakeKube, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kofagent.receivers.receiver_creator.children.LONGEST_END", 0.5)
    monkeypatch.setattr("kofagent.receivers.filelog.receiver._STOP_S", 0.05)
    async with World(logs) as world:
        world.sink.gate = asyncio.Event()
        await eventually(lambda: kube.watches("pods"))
        put(kube, "web", U1)
        write(logs, "web", ["a", "b"], uid=U1)
        await eventually(world.sink.called.is_set)
        kube.delete(PODS, "web", "shop")
        await eventually(lambda: world.names() == [])
        labels = {"component": "filelog/receiver_creator", "signal": "logs", "reason": "shutdown"}
        assert world.host.ledger.total("kofagent_dropped_items_total", **labels) == 2


async def test_annotations_read_the_pods_files_in_place_of_the_rule(
    kube: FakeKube, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kofagent.receivers.receiver_creator.hints.LOG_DIRECTORY", str(logs))
    annotations = {
        "io.opentelemetry.discovery.logs/enabled": "true",
        "io.opentelemetry.discovery.logs.app/config": "include: [/etc/shadow]\nattributes: {asked: 'yes'}\n",
    }
    async with World(logs) as world:
        await eventually(lambda: kube.watches("pods"))
        write(logs, "web", ["ERROR a"], uid=U1)
        put(kube, "web", U1, annotations=annotations)
        await eventually(lambda: world.bodies() == ["ERROR a"])
        assert world.names() == [f"filelog/discovery|k8s_observer/{U1}/app"]
        resource, record = world.records()[0]
        assert resource["k8s.container.name"] == "app" and record.severity_text == ""
        assert {a.key: a.value.string_value for a in record.attributes}["asked"] == "yes"
        put(kube, "web", U1, annotations={})  # the rule is for it again
        await eventually(lambda: world.running() == [f"filelog|k8s_observer/{U1}/app"] and world.creator.settled())
        write(logs, "web", ["b"], uid=U1)
        await eventually(lambda: len(world.bodies()) == 2)
        assert world.bodies() == ["ERROR a", "b"]


async def test_what_annotations_ask_for_and_may_not_is_refused(
    kube: FakeKube, logs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    annotations = {
        "io.opentelemetry.discovery.logs/enabled": "true",
        "io.opentelemetry.discovery.logs/config": "storage: file_storage/other",
    }
    async with World(logs) as world:
        await eventually(lambda: kube.watches("pods"))
        write(logs, "web", ["a"], uid=U1)
        put(kube, "web", U1, annotations=annotations)
        await eventually(lambda: "storage may not be set by an annotation" in caplog.text)
        assert world.names() == []


async def test_errors_of_one_receiver_are_named_and_stop_no_other(kube: FakeKube, logs: Path) -> None:
    receivers = {
        "filelog": {"rule": 'type == "pod.container"', "config": {"include": ["DIRECTORY/*_`pod.uid`/*/*.log"]}},
        "filelog/bad": {"rule": 'type == "pod.container"', "config": {"include": ["x"], "encoding": "`pod.labels.coding`"}},
    }
    async with World(logs, receivers=receivers) as world:
        await eventually(lambda: kube.watches("pods"))
        put(kube, "web", U1, labels={"coding": "no-such-encoding"})
        write(logs, "web", ["a"], uid=U1)
        await eventually(lambda: len(world.bodies()) == 1)
        said = await eventually(lambda: world.host.statuses.get("receiver/receiver_creator"))
        assert said.startswith(f"filelog/bad/receiver_creator/k8s_observer/{U1}/app: encoding:") and "no-such-encoding" in said
        put(kube, "web", U1, labels={"coding": "utf-8"})
        await eventually(lambda: len(world.running()) == 2)
        assert world.host.statuses["receiver/receiver_creator"] is None


async def test_what_is_remembered_of_pods_that_are_gone_is_nothing(kube: FakeKube, logs: Path) -> None:
    """Neither loggers nor accounts, gauges, stores or statuses: pods come and go by the thousands."""
    async with World(logs) as world:
        await eventually(lambda: kube.watches("pods"))
        put(kube, "web", U1)
        write(logs, "web", ["a"], uid=U1)
        await eventually(lambda: world.bodies() == ["a"])
        kube.delete(PODS, "web", "shop")
        await eventually(lambda: world.names() == [])
        shutil.rmtree(logs / f"shop_web_{U1}")
        await eventually(lambda: not world.observer._watching[0]._pods._told)
        held = (logging.Logger.manager.loggerDict, world.store.values, world.host.statuses, world.creator._errors)
        assert not any(U1 in str(key) for each in held for key in each)
        samples = [sample for metric in world.host.ledger.registry.collect() for sample in metric.samples]
        assert samples and not any(U1 in str(sample.labels) for sample in samples)
        assert not any("open_files" in sample.name for sample in samples), "the gauge of the last receiver is gone"


async def test_a_pod_that_comes_back_is_read_on_by_the_same_receiver(
    kube: FakeKube, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kofagent.receivers.receiver_creator.children.QUIET_SECONDS", 60)
    async with World(logs) as world:
        await eventually(lambda: kube.watches("pods"))
        put(kube, "web", U1)
        write(logs, "web", ["a"], uid=U1)
        await eventually(lambda: world.bodies() == ["a"])
        [child] = world.creator._all()
        receiver = child._receiver
        kube.delete(PODS, "web", "shop")
        await eventually(lambda: child._wanted is None)
        put(kube, "web", U1)
        await eventually(lambda: child._wanted is not None and child._running is child._wanted)
        write(logs, "web", ["b"], uid=U1)
        await eventually(lambda: world.bodies() == ["a", "b"])
        assert child._receiver is receiver and world.creator._all() == [child]


async def test_what_no_pipeline_is_for_is_not_started(kube: FakeKube, logs: Path, caplog: pytest.LogCaptureFixture) -> None:
    world = World(logs)
    world.outputs = {Signal.METRICS: world.sink}
    async with world:
        put(kube, "web", U1)
        write(logs, "web", ["a"], uid=U1)
        await eventually(lambda: kube.watches("pods"), message="discovery of scrapers")
        assert "filelog brings in no metrics, which receiver_creator is for: it is not started" in caplog.text
        assert world.names() == []
