"""The creator with an observer whose endpoints a test says: receivers start, change and stop with them, each with its accounts."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData

from kofagent.component import registry
from kofagent.component.observing import Endpoint
from kofagent.component.protocols import StartError
from kofagent.config.load import load_config
from kofagent.pipeline.service import Service
from kofagent.prometheus.otlp import to_otlp
from kofagent.receivers.receiver_creator import COMPONENT as ReceiverCreator
from kofagent.receivers.receiver_creator.accounts import ChildLedger, Gauges
from kofagent.receivers.receiver_creator.stores import Part, Shared
from kofagent.telemetry.batch import Batch, MetricBatch
from kofagent.telemetry.ledger import Ledger
from kofagent.telemetry.signal import Signal
from tests.receivers.filelog.support import Store
from tests.receivers.receiver_creator.support import Observed
from tests.support.components import FakeHost, Sink, eventually, make, make_context

POD = {"name": "web", "namespace": "shop", "uid": "u1", "labels": {}, "annotations": {}}


def at(name: str, *, target: str = "127.0.0.1:1", type: str = "port", **details: Any) -> Endpoint:
    return Endpoint(f"observer/{name}", type, target, {"name": name, "port": 1, "pod": POD, **details})


class World:
    """A creator with `receivers`, started with outputs for logs and metrics."""

    def __init__(self, receivers: dict[str, Any], **options: Any) -> None:
        self.observer, self.logs, self.metrics = Observed(), Sink(), Sink()
        self.host = FakeHost({"observer": self.observer})
        options = {"watch_observers": ["observer"], "receivers": receivers, **options}
        self.creator = make(ReceiverCreator, options, kind="receiver", id="receiver_creator/x", host=self.host)
        self.creator.outputs = {Signal.LOGS: self.logs, Signal.METRICS: self.metrics}

    async def __aenter__(self) -> World:
        await self.creator.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.creator.stop()

    def running(self) -> list[str]:
        return sorted(child.part for child in self.creator._all() if child.runs)

    def receiver(self, part: str) -> Any:
        [child] = [each for each in self.creator._all() if each.part == part]
        return child._receiver

    @property
    def status(self) -> str | None:
        return self.host.statuses.get("receiver/receiver_creator/x")


@asynccontextmanager
async def page(text: bytes) -> AsyncIterator[str]:
    """A page of metrics; its host:port."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=text, headers={"Content-Type": "text/plain"})

    app = web.Application()
    app.router.add_get("/metrics", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def scrape(**more: Any) -> dict[str, Any]:
    job = {"job_name": "j", "scrape_interval": "50ms", "scrape_timeout": "50ms", "static_configs": [{"targets": ["`endpoint`"]}]}
    return {"rule": 'type == "port" && port == 1', "config": {"config": {"scrape_configs": [job]}}, **more}


async def test_a_port_is_scraped_with_the_attributes_of_its_pod(tmp_path: Path) -> None:
    attributes = {"app": "`pod.name`-x", "empty": "`pod.labels.none`", "k8s.pod.uid": "", "n": "`port`", "yes": "`port == 1`"}
    async with page(b"a 1\n") as target, World({"prometheus": scrape(resource_attributes=attributes)}) as world:
        world.observer.set(at("http", target=target))
        await world.metrics.wait_for(lambda sink: sink.count > 0)
        batch = world.metrics.batches[0]
        assert isinstance(batch, MetricBatch)
        resource = MetricsData.FromString(to_otlp(batch).payload).resource_metrics[0].resource
        found = {a.key: a.value.string_value for a in resource.attributes}
        assert {
            "app": "web-x",
            "k8s.pod.name": "web",
            "k8s.namespace.name": "shop",
            "n": "1",
            "yes": "true",
        }.items() <= found.items()
        assert "empty" not in found and "k8s.pod.uid" not in found and found["service.name"] == "j"
    accepted = [
        s for m in world.host.ledger.registry.collect() if m.name.startswith("otelcol_receiver_accepted") for s in m.samples
    ]
    assert {s.labels["receiver"] for s in accepted} == {"prometheus/receiver_creator/x"}
    assert sum(s.value for s in accepted if s.name.endswith("_total")) == world.metrics.count


async def test_receivers_follow_the_endpoints_and_are_left_alone_where_nothing_changed_for_them() -> None:
    receivers = {
        "nop/all": {"rule": 'type == "port"'},
        "nop/some": {"rule": 'type == "port" && name == "a"', "resource_attributes": {"x": "`pod.labels.x`"}},
        "nop/pods": {"rule": 'type == "pod"'},
    }
    async with World(receivers) as world:
        world.observer.set(at("a"), at("b"))
        await eventually(lambda: world.running() == ["nop/all|observer/a", "nop/all|observer/b", "nop/some|observer/a"])
        before = world.receiver("nop/some|observer/a")
        world.observer.set(at("a", pod={**POD, "labels": {"x": "1"}}), at("c"))
        await eventually(lambda: world.running() == ["nop/all|observer/a", "nop/all|observer/c", "nop/some|observer/a"])
        assert world.receiver("nop/some|observer/a") is before
        world.observer.set()
        await eventually(lambda: world.creator._children == {} and world.creator._count == 0)


async def test_a_receiver_whose_options_change_is_started_anew() -> None:
    receivers = {
        "otlp": {
            "rule": 'type == "port"',
            "config": {"protocols": {"http": {"endpoint": "127.0.0.1:0", "include_metadata": "`port == 2`"}}},
        }
    }
    async with World(receivers) as world:
        world.observer.set(at("a"))
        await eventually(world.running)
        before = world.receiver("otlp|observer/a")
        assert before.config.protocols.http.include_metadata is False
        port = before.ports["http"]
        world.observer.set(at("a", port=2))
        await eventually(lambda: world.running() and world.receiver("otlp|observer/a") is not before)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        assert world.receiver("otlp|observer/a").config.protocols.http.include_metadata is True


async def test_the_address_is_given_to_a_receiver_that_takes_one_and_has_none() -> None:
    receivers = {
        "kubeletstats/a": {"rule": 'type == "port"', "config": {"auth_type": "none"}},
        "kubeletstats/b": {"rule": 'type == "port"', "config": {"auth_type": "none", "endpoint": "`host`:2"}},
    }
    async with World(receivers) as world:
        world.observer.set(at("a", target="10.0.0.1:1"))
        await eventually(lambda: len(world.running()) == 2)
        assert world.receiver("kubeletstats/a|observer/a").config.endpoint == "10.0.0.1:1"
        assert world.receiver("kubeletstats/b|observer/a").config.endpoint == "10.0.0.1:2"


async def test_one_that_cannot_start_is_named_tried_again_and_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kofagent.receivers.receiver_creator.children.FIRST_RETRY", 0.02)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        receivers = {
            "otlp": {"rule": 'type == "port"', "config": {"protocols": {"http": {"endpoint": f"127.0.0.1:{port}"}}}},
            "nop": {"rule": 'type == "port"'},
        }
        async with World(receivers) as world:
            world.observer.set(at("a"))
            said = await eventually(lambda: world.status)
            assert said.startswith("otlp/receiver_creator/x/observer/a: ") and str(port) in said
            assert world.running() == ["nop|observer/a"]
            taken.close()
            await eventually(lambda: len(world.running()) == 2)
            assert world.status is None


async def test_rules_and_templates_that_fail_for_one_endpoint_leave_the_others(caplog: pytest.LogCaptureFixture) -> None:
    receivers = {
        "nop/rule": {"rule": 'type == "port" && pod.labels.n > 1'},
        "nop/template": {"rule": 'type == "port"', "resource_attributes": {"x": "`1 + pod.labels.n`"}},
        "nop": {"rule": 'type == "port"'},
    }
    async with World(receivers) as world:
        world.observer.set(at("a"))
        await eventually(lambda: world.running() == ["nop|observer/a"])
        assert "observer/a: nop/rule: nil where a number is needed" in caplog.text
        assert "observer/a: nop/template: nil where a number is needed" in caplog.text


async def test_there_is_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kofagent.receivers.receiver_creator.receiver.MOST", 2)
    async with World({"nop": {"rule": 'type == "port"'}}) as world:
        world.observer.set(at("a"), at("b"), at("c"))
        await eventually(lambda: len(world.running()) == 2)
        assert world.status == "more than 2 receivers would run; the others are not started"
        world.observer.set(at("a"))
        await eventually(lambda: world.status is None)


async def test_the_status_names_some_of_many_that_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    receivers = {"kubeletstats": {"rule": 'type == "port"', "config": {"collection_interval": "`name`"}}}
    async with World(receivers) as world:
        world.observer.set(*[at(f"e{n}") for n in range(8)])
        await eventually(lambda: world.status and world.status.endswith("; and 3 more"))
        world.observer.set()
        await eventually(lambda: world.status is None)


async def test_an_observer_that_does_not_run_ends_the_start() -> None:
    creator = make(ReceiverCreator, {"watch_observers": ["k8s_observer"]}, kind="receiver", host=FakeHost())
    creator.outputs = {}
    with pytest.raises(StartError, match="extension 'k8s_observer' is not running"):
        await creator.start()
    other = make(ReceiverCreator, {"watch_observers": ["x"]}, kind="receiver", host=FakeHost({"x": object()}))
    other.outputs = {}
    with pytest.raises(StartError, match="extension 'x' cannot observe endpoints"):
        await other.start()


async def test_an_endpoint_that_is_over_is_for_receivers_of_files_only() -> None:
    receivers = {"nop": {"rule": 'type == "pod.container"'}, "nop/p": {"rule": 'type == "port"'}}
    async with World(receivers) as world:
        gone = Endpoint("observer/c", "pod.container", "", {"container_name": "c", "pod": POD}, over=True)
        world.observer.set(gone, at("a"))
        await eventually(lambda: world.running() == ["nop/p|observer/a"])


async def test_what_is_malformed_is_dropped_and_counted() -> None:
    async with World({"nop": {"rule": 'type == "port"'}}) as world:
        world.observer.set(at("a"))
        await eventually(world.running)
        consumer = world.receiver("nop|observer/a").outputs[Signal.LOGS]
        with pytest.raises(Exception, match="malformed"):
            await consumer.consume(Batch(Signal.LOGS, b"\xff\xff", 3))
        labels = {"component": "nop/receiver_creator/x", "signal": "logs", "reason": "malformed"}
        assert world.host.ledger.total("kofagent_dropped_items_total", **labels) == 3


def test_what_is_compiled_is_shown_for_an_endpoint_that_is_made_up() -> None:
    receivers = {
        "filelog": {
            "rule": 'type == "pod.container"',
            "config": {"include": ["/x/`pod.name`"], "operators": [{"type": "json_parser"}]},
        },
        "filelog/later": {"rule": 'type == "pod"', "config": {"include": ["x"], "encoding": "`labels.none + 1`"}},
    }
    creator = make(ReceiverCreator, {"receivers": receivers}, kind="receiver")
    shown = creator.explain()
    assert '# filelog: type == "pod.container"' in shown and "json_parser" in shown
    assert shown.endswith("# cannot be shown before there is an endpoint (ExpressionError)")


def test_receivers_of_one_template_share_an_account() -> None:
    ledger, gauges = Ledger(), Gauges()
    a, b = (ChildLedger(ledger, f"nop/{name}", "nop", gauges) for name in "ab")
    a.counter("c", "h", receiver="nop/a")(1)
    b.counter("c", "h", receiver="nop/b")(2)
    assert ledger.total("c_total", receiver="nop") == 3
    a.gauge("g", "h", lambda: 5, receiver="nop/a")
    b.gauge("g", "h", receiver="nop/b")(7)
    a.gauge("other", "h", lambda: 1, receiver="nop/a")
    assert ledger.total("g", receiver="nop") == 12
    a.forget("g", receiver="nop/a")
    assert ledger.total("g", receiver="nop") == 7
    b.forget("g", receiver="nop/b")
    assert "nop" not in str([s for m in ledger.registry.collect() if m.name == "g" for s in m.samples])
    a.dropped("nop/a", Signal.LOGS, "malformed", 1)
    assert a.total("kofagent_dropped_items_total", component="nop/a", signal="logs", reason="malformed") == 1
    assert ledger.total("kofagent_dropped_items_total", component="nop", signal="logs", reason="malformed") == 1


async def test_each_receiver_has_its_own_part_of_the_one_store() -> None:
    store = Store()
    shared = Shared(make_context("receiver", "receiver_creator", FakeHost({"s": store})), "s")
    a, b = Part(shared, "x|1"), Part(shared, "x|2")
    assert await a.open_store("receiver", "x") is a
    await asyncio.gather(a.set("k", b"1"), a.set("other", b"2"), b.apply({"k": b"3"}))
    assert (await a.get("k"), await b.get("k"), await b.get("other")) == (b"1", b"3", None)
    assert await a.items() == {"k": b"1", "other": b"2"} and await a.items("o") == {"other": b"2"}
    assert sorted(await a.keys()) == ["k", "other"] and await b.keys("z") == []
    await a.delete("other")
    assert await shared.parts() == {"x|1", "x|2"}
    await shared.remove("x|1")
    assert list(store.values) == ["of/x|2\x1fk"]
    await shared.close()


async def test_a_store_that_cannot_be_written_is_everybodys_error() -> None:
    class Full(Store):
        async def apply(self, changes: Any) -> None:
            raise OSError(28, "No space left on device")

    shared = Shared(make_context("receiver", "receiver_creator", FakeHost({"s": Full()})), "s")
    found = await asyncio.gather(*[Part(shared, part).set("k", b"1") for part in "ab"], return_exceptions=True)
    assert [type(each) for each in found] == [OSError, OSError]
    await shared.close()


CONFIG = """\
extensions:
  host_observer: {refresh_interval: 20ms}
  file_storage: {directory: FOLDER/state, create_directory: true}
receivers:
  receiver_creator:
    watch_observers: [host_observer]
    receivers:
      filelog:
        rule: type == "hostport" && port == PORT && pod == nil
        config: {include: [FOLDER/*.log], start_at: beginning, poll_interval: 10ms, storage: file_storage}
exporters:
  file: {path: FOLDER/out.json, flush_interval: 10ms, append: true}
service:
  telemetry: {metrics: {level: none}}
  extensions: [host_observer, file_storage]
  pipelines:
    logs: {receivers: [receiver_creator], exporters: [file]}
"""


async def test_a_service_reloads_and_every_line_is_there_once(tmp_path: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        file = tmp_path / "c.yaml"
        file.write_text(CONFIG.replace("FOLDER", str(tmp_path)).replace("PORT", str(server.getsockname()[1])))
        plan = load_config([str(file)], registry, {})
        service = Service(plan)
        await service.start()
        out, log = tmp_path / "out.json", tmp_path / "a.log"
        for n in range(3):
            with log.open("a") as lines:
                lines.write(f"line-{n}\n")
            await eventually(lambda n=n: out.exists() and f"line-{n}" in out.read_text())  # type: ignore[misc]
            await service.reload(plan)
        assert service.status()["receiver/receiver_creator"] is None
        await service.stop()
    assert [out.read_text().count(f"line-{n}") for n in range(3)] == [1, 1, 1]
    assert len([t for t in asyncio.all_tasks() if "filelog" in t.get_name()]) == 0
