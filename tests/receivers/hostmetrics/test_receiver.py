"""The loop, the options and this machine's own /proc."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from kofagent.component.protocols import StartError
from kofagent.receivers.hostmetrics import COMPONENT
from kofagent.receivers.hostmetrics.catalog import CATALOG
from kofagent.receivers.hostmetrics.config import Config
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from tests.receivers.hostmetrics.support import attributes_of, decoded, points, read
from tests.support.components import FakeHost, Sink, eventually, make

ALL = dict.fromkeys(CATALOG)


def running(options: dict[str, Any], host: FakeHost | None = None) -> tuple[Any, Sink]:
    receiver = make(COMPONENT, {"initial_delay": "0s", "collection_interval": "50ms", **options}, id="hostmetrics", host=host)
    sink = Sink()
    receiver.outputs = {Signal.METRICS: sink}
    return receiver, sink


async def test_collects_again_and_again_and_stops() -> None:
    receiver, sink = running({"scrapers": {"memory": None, "load": {}}})
    await receiver.start()
    await sink.wait_for(lambda s: len(s.batches) >= 3)
    await receiver.stop()
    await receiver.stop()
    batch = sink.batches[0]
    assert batch.signal is Signal.METRICS and batch.count == sum(len(p) for p in points(batch.payload).values())
    ledger = receiver.context.ledger
    assert ledger.total("otelcol_receiver_accepted_metric_points_total", receiver="hostmetrics", transport="") == sink.count


async def test_the_event_loop_is_not_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    receiver, sink = running({"scrapers": {"load": {}}})
    threads = []
    collect = receiver.collect
    monkeypatch.setattr(receiver, "collect", lambda: (threads.append(threading.current_thread()), collect())[1])
    await receiver.start()
    await sink.wait_for(lambda s: len(s.batches) >= 1)
    await receiver.stop()
    assert threads and threading.main_thread() not in threads


async def test_a_collection_that_hangs_is_reported_and_does_not_keep_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    receiver, sink = running({"scrapers": {"load": {}}})
    release = threading.Event()
    collect = receiver.collect
    monkeypatch.setattr(receiver, "collect", lambda: (release.wait(20), collect())[1])
    await receiver.start()
    host = receiver.context.host
    await eventually(lambda: "a collection hangs" in (host.statuses.get("receivers/hostmetrics") or ""))
    release.set()
    await sink.wait_for(lambda s: len(s.batches) >= 1)
    assert host.statuses["receivers/hostmetrics"] is None
    await receiver.stop()


@pytest.mark.parametrize("permanent", [False, True])
async def test_refused_batches_are_counted_once(permanent: bool) -> None:
    receiver, sink = running({"scrapers": {"load": {}}})
    sink.refuse = Refused("sending queue full", permanent=permanent)
    await receiver.start()
    ledger = receiver.context.ledger
    labels = {"component": "hostmetrics", "signal": "metrics", "reason": "sending queue full"}
    count = lambda: ledger.total("otelcol_receiver_refused_metric_points_total", receiver="hostmetrics", transport="")  # noqa: E731
    await eventually(lambda: count() >= 6)
    await receiver.stop()
    refused = count()
    # Whoever refuses for good has counted the drop already.
    assert ledger.total("kofagent_dropped_items_total", **labels) == (0 if permanent else refused)


async def test_an_unexpected_error_behind_is_counted_and_the_rounds_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    receiver, sink = running({"scrapers": {"load": {}}})
    take, failures = sink.consume, iter([RuntimeError("mistake")])

    async def consume(batch: Any) -> None:
        for error in failures:
            raise error
        await take(batch)

    monkeypatch.setattr(sink, "consume", consume)
    await receiver.start()
    await sink.wait_for(lambda s: len(s.batches) >= 2)
    await receiver.stop()
    ledger = receiver.context.ledger
    assert ledger.total("kofagent_dropped_items_total", component="hostmetrics", signal="metrics", reason="internal error") == 3


async def test_root_path_must_be_there(tmp_path: Path) -> None:
    receiver, _ = running({"root_path": str(tmp_path / "nothing"), "scrapers": {"load": {}}})
    with pytest.raises(StartError, match="root_path"):
        await receiver.start()


def test_in_words() -> None:
    receiver, _ = running({"scrapers": {"system": None, "memory": {"metrics": {"system.memory.limit": {"enabled": True}}}}})
    assert receiver.explain().splitlines() == ["memory: system.memory.usage, system.memory.limit", "system: system.uptime"]


def test_defaults() -> None:
    config = Config.model_validate({"scrapers": {"cpu": None}})
    assert (config.collection_interval, config.initial_delay, config.timeout, config.root_path) == (60, 1, 0, "")
    assert config.metadata_collection_interval == 300
    assert list(config.scrapers.configured()) == ["cpu"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "scrapers"),
        ({"scrapers": {}}, "no scraper"),
        ({"scrapers": {"cpuu": {}}}, "did you mean 'cpu'"),
        ({"scrapers": {"cpu": {"metrics": {"system.cpu.tme": {"enabled": True}}}}}, "did you mean 'system.cpu.time'"),
        ({"scrapers": {"cpu": {"metrics": {"system.cpu.time": {"attributes": ["core"]}}}}}, "no attribute 'core'"),
        ({"scrapers": {"cpu": {"metrics": {"system.cpu.time": {"enable": True}}}}}, "enable"),
        ({"scrapers": {"process": {"resource_attributes": {"process.pidd": {"enabled": False}}}}}, "did you mean 'process.pid'"),
        ({"scrapers": {"disk": {"include": {"match_type": "regexp", "devices": ["("]}}}}, "not a regular expression"),
        ({"scrapers": {"disk": {"include": {"devices": ["sda"]}}}}, "match_type is required"),
        ({"scrapers": {"disk": {"include": {"match_type": "glob", "devices": ["sda"]}}}}, "match_type"),
        ({"scrapers": {"cpu": {}}, "collection_interval": "0s"}, "collection_interval"),
        ({"scrapers": {"cpu": {}}, "collection_interval": 10}, "did you mean 10s"),
    ],
)
def test_wrong_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Config.model_validate(options)


def test_a_timeout_ends_the_collection_and_sends_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    host = FakeHost()
    got = read("/", {"load": {}, "process": {}}, host, timeout="1ns")
    assert got == {}
    assert host.ledger.sum("otelcol_scraper_errored_metric_points_total") >= 1


@pytest.mark.skipif(sys.platform != "linux", reason="compares with /proc")
def test_this_machine() -> None:
    got = read("/", ALL)
    memory = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    total = int(memory["MemTotal"].split()[0]) * 1024
    usage = got["system.memory.usage"]
    assert usage["used",] + int(memory["MemAvailable"].split()[0]) * 1024 == pytest.approx(total, rel=0.02)
    assert got["system.cpu.logical.count"][()] == Path("/proc/stat").read_text().count("\ncpu")
    assert got["system.uptime"][()] == pytest.approx(float(Path("/proc/uptime").read_text().split()[0]), abs=5)
    assert got["system.network.io"]["lo", "receive"] == got["system.network.io"]["lo", "transmit"]
    rows = [line.split() for line in Path("/proc/diskstats").read_text().splitlines()]
    names = {row[2] for row in rows if any(map(int, row[3:14]))}
    assert {k[0] for k in got.get("system.disk.io_time", {})} == names


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_this_process_is_among_them() -> None:
    receiver, _ = running({"scrapers": {"process": None}})
    receiver.prepare()
    entries = decoded(receiver.collect().payload).resource_metrics
    (own,) = [e for e in entries if attributes_of(e.resource.attributes)["process.pid"] == os.getpid()]
    attributes = attributes_of(own.resource.attributes)
    assert attributes["process.executable.path"] == os.path.realpath(sys.executable)
    assert attributes["process.parent_pid"] == os.getppid()
    (cpu,) = [m for m in own.scope_metrics[0].metrics if m.name == "process.cpu.time"]
    used = sum(p.as_double for p in cpu.sum.data_points if p.attributes[0].value.string_value != "wait")
    assert 0 < used <= os.times().user + os.times().system + 1
