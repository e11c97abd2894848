"""host_observer: real sockets of this process come and go."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from kofagent.component.observing import Wanted
from kofagent.extensions.host_observer import COMPONENT as HostObserver
from kofagent.extensions.host_observer.sockets import listening
from tests.receivers.receiver_creator.support import Heard
from tests.support.components import FakeHost, eventually, make

PORTS = Wanted(frozenset({"hostport"}))


def observer(host: FakeHost | None = None) -> Any:
    return make(HostObserver, {"refresh_interval": "20ms"}, kind="extension", id="host_observer", host=host)


@pytest.fixture
async def heard() -> AsyncIterator[Heard]:
    watched, heard = observer(), Heard()
    await watched.start()
    observation = watched.observe(PORTS, heard)
    await observation.synced.wait()
    yield heard
    await watched.stop()


def bound(family: int, kind: int, address: str) -> socket.socket:
    made = socket.socket(family, kind)
    made.bind((address, 0))
    return made


async def test_ports_that_are_listened_on_come_and_go_with_their_process(heard: Heard) -> None:
    with closing(bound(socket.AF_INET, socket.SOCK_STREAM, "0.0.0.0")) as server:
        port = server.getsockname()[1]
        id = f"(host_observer)0.0.0.0-{port}-TCP-{os.getpid()}"
        server.listen()
        await eventually(lambda: id in heard.now)
        env = heard.now[id].env()
        assert (env["endpoint"], env["host"], env["port"], env["type"]) == (f"127.0.0.1:{port}", "127.0.0.1", port, "hostport")
        assert env["transport"] == "TCP" and env["is_ipv6"] is False
        assert env["process_name"] == Path("/proc/self/comm").read_text().strip()
        assert env["command"] == Path("/proc/self/cmdline").read_text().rstrip("\0").replace("\0", " ")
    await eventually(lambda: id not in heard.now)


async def test_a_port_that_nobody_listens_on_is_none(heard: Heard) -> None:
    with (
        closing(bound(socket.AF_INET, socket.SOCK_STREAM, "127.0.0.1")) as silent,
        closing(bound(socket.AF_INET, socket.SOCK_DGRAM, "127.0.0.1")) as udp,
        closing(bound(socket.AF_INET, socket.SOCK_DGRAM, "127.0.0.1")) as with_peer,
    ):
        with_peer.connect(("127.0.0.1", 9))
        ports = {each.getsockname()[1]: each for each in (silent, udp, with_peer)}
        await eventually(lambda: any(e.details["port"] == udp.getsockname()[1] for e in heard.now.values()))
        [found] = [each for each in heard.now.values() if each.details["port"] in ports]
        assert found.details["transport"] == "UDP" and found.target == f"127.0.0.1:{udp.getsockname()[1]}"


@pytest.mark.skipif(not socket.has_ipv6 or not os.path.exists("/proc/net/if_inet6"), reason="no IPv6 here")
async def test_ports_of_ipv6(heard: Heard) -> None:
    with closing(bound(socket.AF_INET6, socket.SOCK_STREAM, "::")) as server:
        server.listen()
        port = server.getsockname()[1]
        await eventually(lambda: any(e.target == f"[::1]:{port}" and e.details["is_ipv6"] for e in heard.now.values()))


def test_addresses_are_those_that_the_kernel_means(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    rest = " 00000000:00000000 00:00000000 00000000     0        0 42 1 0000 100 0 0 10 0\n"
    (tmp_path / "net" / "tcp").write_text(head + "   0: 0100007F:1F90 00000000:0000 0A" + rest + "   1: garbage\n")
    (tmp_path / "net" / "tcp6").write_text(head + "   0: B80D01200000000067452301EFCDAB89:0050 0000:0000 0A" + rest)
    found = listening(str(tmp_path))
    assert [(each.address, each.port, each.v6, each.inode) for each in found] == [
        ("127.0.0.1", 8080, False, "42"),
        ("2001:db8::123:4567:89ab:cdef", 80, True, "42"),
    ]


async def test_what_cannot_be_read_is_said_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HostObserver, "proc", "/nonexistent")
    host, heard = FakeHost(), Heard()
    watched = observer(host)
    watched.observe(PORTS, heard)
    said = await eventually(lambda: host.statuses.get("extension/host_observer"))
    assert "the ports cannot be read" in said
    monkeypatch.setattr(HostObserver, "proc", "/proc")
    await eventually(lambda: host.statuses["extension/host_observer"] is None)
    await watched.stop()


async def test_nothing_is_read_for_those_who_want_no_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HostObserver, "proc", "/nonexistent")
    host = FakeHost()
    watched = observer(host)
    observation = watched.observe(Wanted(frozenset({"pod"})), Heard())
    await observation.synced.wait()
    await watched.stop()
    assert host.statuses == {}
