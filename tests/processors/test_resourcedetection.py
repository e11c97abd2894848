"""The resourcedetection processor and its detectors."""

from __future__ import annotations

import platform
import socket
import threading
from typing import Any

import pytest
from pydantic import ValidationError

from kofagent.component.protocols import StartError
from kofagent.processors.resourcedetection import COMPONENT, env, system
from kofagent.processors.resourcedetection.blocks import EnvBlock, SystemBlock
from kofagent.processors.resourcedetection.config import LATER, Config
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from tests.processors.support import REQUESTS, batch, logs, metrics, processor, resource_of, run, spans
from tests.support.components import eventually


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in env.VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("a=1", {"a": "1"}),
        (" a = 1 , b.c=x y ", {"a": "1", "b.c": "x y"}),
        ("a=x%20y%2Cz%3D", {"a": "x y,z="}),
        ("a=%C3%A4+b", {"a": "\u00e4 b"}),
        ("a=,b=2,", {"a": "", "b": "2"}),
        ("a=1,a=2", {"a": "2"}),
        ("url=http://x/?q=1", {"url": "http://x/?q=1"}),
    ],
)
def test_env(text: str, want: dict[str, str]) -> None:
    assert env.parse(text) == want


@pytest.mark.parametrize("text", ["a", "a=1,,b=2", "=1", "a=%zz", "a=%", "a=1,b"])
def test_env_malformed(text: str) -> None:
    with pytest.raises(ValueError, match="OTEL_RESOURCE_ATTRIBUTES"):
        env.parse(text)


def test_env_old_name_and_allowlist() -> None:
    assert env.detect(EnvBlock(), {"OTEL_RESOURCE": "a=1"}) == {"a": "1"}
    assert env.detect(EnvBlock(), {"OTEL_RESOURCE": "a=1", "OTEL_RESOURCE_ATTRIBUTES": "b=2"}) == {"b": "2"}
    assert env.detect(EnvBlock(allowlist=["b"]), {"OTEL_RESOURCE_ATTRIBUTES": "a=1,b=2"}) == {"b": "2"}
    assert env.detect(EnvBlock(), {}) == {}


def test_system_by_default_is_name_and_type() -> None:
    got = system.detect(SystemBlock(hostname_sources=["os"]))
    assert got == {"host.name": socket.gethostname(), "os.type": platform.system().lower()}


def test_system_with_everything_on() -> None:
    options = SystemBlock.model_validate(
        {"hostname_sources": ["os"], "resource_attributes": {name: {"enabled": True} for name in SystemBlock.known}}
    )
    got = system.detect(options)
    assert got["host.arch"] in ("amd64", "arm64") and platform.release() in got["os.description"]
    assert set(got) <= set(SystemBlock.known)
    assert all(isinstance(x, str) for name in ("host.ip", "host.mac", "host.interface") for x in got.get(name, []))
    assert "127.0.0.1" not in got.get("host.ip", [])
    assert all(
        isinstance(
            v, int if name == "host.cpu.cache.l2.size" else list if name in ("host.ip", "host.mac", "host.interface") else str
        )
        for name, v in got.items()
    )


def test_cpu_attributes() -> None:
    text = (
        "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 85\nmodel name\t: Xeon(R): 8175M\n"
        "stepping\t: 4\ncache size\t: 33792 KB\n\nprocessor\t: 1\nmodel\t: 9\n"
    )
    assert system.cpu_attributes(text) == {
        "host.cpu.vendor.id": "GenuineIntel",
        "host.cpu.family": "6",
        "host.cpu.model.id": "85",
        "host.cpu.model.name": "Xeon(R): 8175M",
        "host.cpu.stepping": "4",
        "host.cpu.cache.l2.size": 33792,
    }


def test_hosts_file_and_os_release() -> None:
    assert system.in_hosts_file("web", "# web\n127.0.0.1 localhost\n10.0.0.1 web.example.org web # own\n") == "web.example.org"
    assert system.in_hosts_file("web", "10.0.0.1 website\n") == ""
    assert system.os_release('NAME="Debian GNU/Linux"\nID=debian\n# X=1\nBAD="\n') == {"NAME": "Debian GNU/Linux", "ID": "debian"}


def test_hostname_sources_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> str:
        raise OSError("no")

    monkeypatch.setitem(system._SOURCES, "dns", fails)
    monkeypatch.setitem(system._SOURCES, "cname", lambda: "canonical.example.org")
    assert system.host_name(["dns", "cname", "os"], lambda: True) == "canonical.example.org"
    assert system.host_name(["dns", "cname", "os"], lambda: False) == socket.gethostname()
    with pytest.raises(OSError, match="add os"):
        system.host_name(["dns"], lambda: True)


@pytest.mark.parametrize(("override", "want"), [(True, "env"), (False, "data")])
async def test_override(override: bool, want: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "host.name=env,k8s.node.name=n1")
    for given_batch in (
        batch(Signal.LOGS, logs({"body": "x"}, resource={"host.name": "data", "n": 1})),
        batch(Signal.METRICS, metrics("m", resource={"host.name": "data", "n": 1})),
        batch(Signal.TRACES, spans({"name": "s"}, resource={"host.name": "data", "n": 1})),
    ):
        out = await run(COMPONENT, {"override": override}, given_batch)
        assert resource_of(out) == {"host.name": want, "n": 1, "k8s.node.name": "n1"}


async def test_the_first_detector_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "host.name=env")
    options: dict[str, Any] = {"detectors": ["env", " system"], "system": {"hostname_sources": ["os"]}}
    out = await run(COMPONENT, options, batch(Signal.LOGS, logs({"body": "x"})))
    assert resource_of(out) == {"host.name": "env", "os.type": platform.system().lower()}
    out = await run(COMPONENT, {**options, "attributes": ["os.type"]}, batch(Signal.LOGS, logs({"body": "x"})))
    assert resource_of(out) == {"os.type": platform.system().lower()}


async def test_a_name_server_that_hangs_costs_the_timeout_only(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setitem(system._SOURCES, "dns", lambda: str(release.wait(20)))
    made, _ = processor(COMPONENT, {"detectors": ["system"], "timeout": "50ms"}, Signal.LOGS)
    await made.start()
    release.set()
    assert made.detected["host.name"] == socket.gethostname()
    await made.stop()


async def test_malformed_environment_is_an_error_of_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "nonsense-secret")
    made, _ = processor(COMPONENT, {}, Signal.LOGS)
    with pytest.raises(StartError, match="key=value") as error:
        await made.start()
    assert "secret" not in str(error.value)


async def test_refresh_takes_what_is_new_and_keeps_what_was_when_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "a=1")
    made, sink = processor(COMPONENT, {"refresh_interval": "10ms"}, Signal.LOGS)
    await made.start()
    await made.consume(batch(Signal.LOGS, logs({"body": "x"})))
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "a=2")
    await eventually(lambda: made.detected == {"a": "2"})
    await made.consume(batch(Signal.LOGS, logs({"body": "x"})))
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "broken")
    warned: list[Any] = []
    monkeypatch.setattr(made.context.log, "warning", lambda *args: warned.append(args))
    await eventually(lambda: warned)
    assert made.detected == {"a": "2"}
    await made.stop()
    assert [resource_of(REQUESTS[Signal.LOGS].FromString(b.payload)) for b in sink.batches] == [{"a": "1"}, {"a": "2"}]


async def test_nothing_detected_is_the_same_batch_and_malformed_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    made, sink = processor(COMPONENT, {}, Signal.LOGS)
    await made.start()
    same = batch(Signal.LOGS, logs({"body": "x"}))
    await made.consume(same)
    assert sink.batches == [same]
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "a=1")
    await made.start()
    with pytest.raises(Refused):
        await made.consume(Batch(Signal.LOGS, b"\x0a\x7f", 2))
    assert made.context.ledger.total("kofagent_dropped_items_total", component="p", signal="logs", reason="malformed") == 2


def test_defaults() -> None:
    config = Config()
    assert (config.detectors, config.override, config.timeout, config.refresh_interval) == (["env"], True, 5.0, 0.0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"detectors": ["consul"]}, "not available in this release"),
        ({"detectors": ["env"], "consul": {"resource_attributes": {}}}, "not available in this release"),
        ({"detectors": ["sytem"]}, "did you mean 'system'"),
        ({"detectors": []}, "no detector"),
        ({"system": {"hostname_sources": ["bind"]}}, "unknown source of the host name 'bind'"),
        ({"system": {"resource_attributes": {"host.nam": {"enabled": True}}}}, "did you mean 'host.name'"),
        ({"overide": True}, "overide"),
    ],
)
def test_wrong_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Config.model_validate(options)


def test_every_later_detector_says_so() -> None:
    for name in LATER:
        with pytest.raises(ValidationError, match=f"'{name}' is not available"):
            Config.model_validate({"detectors": [name]})
