"""Entry by entry what `journalctl -o json` shows, of files that systemd wrote and of those that other tests write."""

from __future__ import annotations

import json
import os
import random
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.receivers.journald.support import Following, read
from tests.support.components import eventually
from tests.support.journal_files import FLAG, JournalWriter
from tests.support.servers import find

pytestmark = pytest.mark.server("journalctl")
BOOTS = ["11" * 16, "44" * 16]


def journalctl(path: Path, *arguments: str) -> list[dict[str, Any]]:
    where = [f"--directory={path}"] if path.is_dir() else [f"--file={path}"]
    command = [find("journalctl") or "", *where, "--output=json", "--utc", "--quiet", *arguments]
    out = subprocess.run(command, capture_output=True, check=False, env={**os.environ, "SYSTEMD_LOG_LEVEL": "err"})
    assert out.returncode in (0, 1), out.stderr
    return [json.loads(line) for line in out.stdout.splitlines()]


def entry(rng: random.Random, number: int) -> list[tuple[str, bytes]]:
    """Fields of an entry of many kinds, the same for the same number."""
    out = [("MESSAGE", rng.choice([f"message {number}", "twice", "Error: " + "x" * rng.randrange(5000), "caf\u00e9\t\n"]).encode())]
    if rng.random() < 0.1:
        out[0] = ("MESSAGE", bytes(rng.randrange(256) for _ in range(20)))
    if rng.random() < 0.9:
        out.append(("PRIORITY", str(rng.randrange(8)).encode()))
    unit = rng.choice(["ssh.service", "kubelet.service", "user@1000.service", "cron.slice"])
    kind = rng.randrange(5)
    if kind == 0:
        out += [("UNIT", unit.encode()), ("_PID", rng.choice([b"1", b"7"]))]
    elif kind == 1:
        out += [("OBJECT_SYSTEMD_UNIT", unit.encode()), ("_UID", rng.choice([b"0", b"1000"]))]
    elif kind == 2:
        out += [("COREDUMP_UNIT", unit.encode()), ("MESSAGE_ID", b"fc2e22bc6ee647b6b90729ab34a250b1"), ("_UID", b"0")]
    else:
        out += [("_SYSTEMD_UNIT", unit.encode()), ("_SYSTEMD_SLICE", b"cron.slice"), ("_UID", b"1000")]
    out.append(("SYSLOG_IDENTIFIER", rng.choice([b"sshd", b"kernel", b"kubelet"])))
    out.append(("_TRANSPORT", rng.choice([b"kernel", b"journal", b"stdout"])))
    out += [("FOO", str(rng.randrange(3)).encode()) for _ in range(rng.randrange(3))]
    return out


def exported(count: int, start: int = 0) -> bytes:
    """Entries in the export format."""
    rng = random.Random(start)
    out = []
    for i in range(start, start + count):
        boot = BOOTS[i >= start + count // 2]
        out.append(
            f"__REALTIME_TIMESTAMP={1_700_000_000_000_000 + i * 1000}\n__MONOTONIC_TIMESTAMP={1000 + i}\n_BOOT_ID={boot}\n".encode()
        )
        for name, value in entry(rng, i):
            out.append(name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n")
        out.append(b"\n")
    return b"".join(out)


def remote(path: Path, data: bytes, **environment: str) -> None:
    """Lets systemd write the entries into a file."""
    program = find("systemd-journal-remote") or ""
    subprocess.run([program, "-o", str(path), "-"], input=data, check=True, capture_output=True, env={**os.environ, **environment})


def ordered(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Several values of a field in one order: journalctl's own is not the same in all versions."""
    return [{k: sorted(map(str, v)) if isinstance(v, list) and k == "FOO" else v for k, v in e.items()} for e in entries]


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with three files of systemd's."""
    folder = tmp_path_factory.mktemp("journal")
    for i in range(3):
        remote(folder / f"remote-{i}.journal", exported(60, 40 * i))
    return folder


@pytest.mark.server("systemd-journal-remote")
@pytest.mark.parametrize("compact", ["0", "1"])
@pytest.mark.parametrize("keyed", ["0", "1"])
async def test_files_of_systemd(tmp_path: Path, compact: str, keyed: str) -> None:
    path = tmp_path / "a.journal"
    remote(path, exported(100), SYSTEMD_JOURNAL_COMPACT=compact, SYSTEMD_JOURNAL_KEYED_HASH=keyed)
    assert ordered(await read(path)) == ordered(journalctl(path))
    assert ordered(await read(path, all=True)) == ordered(journalctl(path, "--all"))


@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize("compression", FLAG)
async def test_files_of_the_writer_of_these_tests(tmp_path: Path, compact: bool, compression: str) -> None:
    """With xz and lz4, which this systemd reads and does not write."""
    writer = JournalWriter(tmp_path / "a.journal", compact=compact, compression=compression)
    rng = random.Random(2)
    for i in range(40):
        writer.append(*[name.encode() + b"=" + value for name, value in entry(rng, i)])
    expected = journalctl(writer.path, "--all")
    assert len(expected) == 40
    assert ordered(await read(writer.path, all=True)) == ordered(expected)


@pytest.mark.server("systemd-journal-remote")
@pytest.mark.parametrize(
    "options, arguments",
    [
        ({}, []),
        ({"priority": "info"}, ["--priority=info"]),
        ({"priority": "3"}, ["--priority=3"]),
        ({"priority": "warning..crit"}, ["--priority=warning..crit"]),
        ({"priority": "debug"}, ["--priority=debug"]),
        ({"units": ["ssh"]}, ["--unit=ssh"]),
        ({"units": ["ssh.service", "user@*", "cron.slice"]}, ["--unit=ssh.service", "--unit=user@*", "--unit=cron.slice"]),
        ({"units": ["[ks]*"], "priority": "err"}, ["--unit=[ks]*", "--priority=err"]),
        ({"identifiers": ["sshd", "kernel"]}, ["--identifier=sshd", "--identifier=kernel"]),
        ({"matches": [{"_UID": "0"}, {"_UID": "1000", "FOO": "1"}]}, ["_UID=0", "+", "_UID=1000", "FOO=1"]),
        ({"dmesg": True}, ["--dmesg"]),
        ({"grep": "message [0-9]*5"}, ["--grep=message [0-9]*5"]),
        ({"grep": "MESSAGE"}, ["--grep=MESSAGE"]),
        ({"grep": "error"}, ["--grep=error"]),
        (
            {"units": ["kubelet"], "identifiers": ["kubelet"], "priority": "5", "matches": [{"_TRANSPORT": "stdout"}]},
            ["--unit=kubelet", "--identifier=kubelet", "--priority=5", "_TRANSPORT=stdout"],
        ),
    ],
)
async def test_options(several: Path, options: dict[str, Any], arguments: list[str]) -> None:
    expected = journalctl(several, *arguments)
    assert ordered(await read(several, **options)) == ordered(expected)
    if options.get("grep") != "MESSAGE":
        assert 0 < len(expected) <= 180


@pytest.mark.server("systemd-journald")
async def test_a_journald_that_runs(tmp_path: Path) -> None:
    """Its files grow, are rotated and deleted while they are read."""
    import signal
    import socket

    if os.geteuid():
        pytest.skip("journald runs as root")
    namespace = f"kofagent-{os.getpid()}"
    machine = Path("/etc/machine-id").read_text().strip()
    runtime, folders = (
        Path(f"/run/systemd/journal.{namespace}"),
        [Path(f"{top}/{machine}.{namespace}") for top in ("/var/log/journal", "/run/log/journal")],
    )
    runtime.mkdir(parents=True)
    process = subprocess.Popen([find("systemd-journald") or "", namespace], stderr=subprocess.DEVNULL)
    try:
        await eventually((runtime / "socket").exists)
        await eventually(lambda: any(folder.exists() for folder in folders))
        folder = next(folder for folder in folders if folder.exists())
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(str(runtime / "socket"))

            def send(number: int) -> None:
                sender.send(f"MESSAGE=line {number}\nPRIORITY=6\nFOO={number % 3}\n".encode())

            async with Following({"namespace": namespace, "priority": "debug"}) as f:
                expected = []
                for round in range(4):
                    for number in range(round * 50, round * 50 + 50):
                        send(number)
                        expected.append(f"line {number}")
                    await eventually(lambda: len(_lines(folder)) >= len(expected))
                    await f.poll()
                    process.send_signal(signal.SIGUSR2)  # rotate
                    await eventually(lambda files=round + 2: len(list(folder.iterdir())) >= files)
                    await f.poll()
                process.terminate()  # or it would go on writing about itself
                process.wait(20)
                await f.poll()
                await f.poll()
                assert [b["MESSAGE"] for b in f.bodies() if b["MESSAGE"].startswith("line ")] == expected
                shown = journalctl(folder)
                assert ordered(f.bodies()) == ordered(shown)
                assert f.damaged == 0
    finally:
        process.terminate()
        process.wait(20)
        for folder in [*folders, runtime]:
            if folder.exists():
                subprocess.run(["rm", "-r", str(folder)], check=True)


def _lines(folder: Path) -> list[dict[str, Any]]:
    return [e for e in journalctl(folder) if str(e["MESSAGE"]).startswith("line ")]
