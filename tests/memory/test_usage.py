"""What the kernel's files say of a cgroup's memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from kofagent.memory import usage
from kofagent.memory.account import Account

MIB = 1 << 20


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in which both versions of the files are looked for."""
    for name, folder in (("_V2", "v2"), ("_V1", "v1")):
        (tmp_path / folder).mkdir()
        monkeypatch.setattr(usage, name, tmp_path / folder)
    monkeypatch.setattr(usage, "_SELF", tmp_path / "self")
    return tmp_path


def test_outside_a_cgroup(cgroup: Path) -> None:
    assert (usage.cgroup_limit(), usage.cgroup_usage()) == (None, None)
    assert usage.total() == usage.machine_total()
    assert set(Account().owners()) == {"memos", "process"}
    assert set(Account().limits()) == {"process"}


FILES = {
    "v2": ("memory.max", "memory.current", "inactive_file {}\nactive_file {}\nslab_reclaimable 0"),
    "v1": ("memory.limit_in_bytes", "memory.usage_in_bytes", "inactive_file 1\ntotal_inactive_file {}\ntotal_active_file {}"),
}


def write(folder: Path, version: str, limit: int | str, used: int, inactive: int = 0, active: int = 0) -> None:
    """The kernel's files of one cgroup; in MiB."""
    names = FILES[version]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit * MIB if isinstance(limit, int) else limit}\n")
    (folder / names[1]).write_text(f"{used * MIB}\n")
    (folder / "memory.stat").write_text("anon 1\n" + names[2].format(inactive * MIB, active * MIB) + "\n")


@pytest.mark.parametrize("version", ["v2", "v1"])
def test_in_a_cgroup(cgroup: Path, version: str) -> None:
    write(cgroup / version, version, 128, 90, inactive=20, active=30)
    assert usage.cgroup_limit() == usage.total() == 128 * MIB
    assert usage.cgroup_usage() == usage.in_use() == 40 * MIB
    assert Account().owners()["cgroup"] == 40 * MIB
    assert Account().limits()["cgroup"] == 128 * MIB
    write(cgroup / version, version, 128, 90, inactive=91)
    assert usage.cgroup_usage() == 0


@pytest.mark.parametrize(("version", "line"), [("v2", "0::"), ("v1", "7:cpu,memory:")])
def test_the_lowest_limit_above_the_process_counts(cgroup: Path, version: str, line: str) -> None:
    (cgroup / "self").write_text(f"9:cpuset:/elsewhere\n{line}/system.slice/agent.service\n")
    root = cgroup / version
    unlimited = "max" if version == "v2" else str((1 << 63) - 4096)
    write(root / "system.slice" / "agent.service", version, unlimited, 50)
    write(root / "system.slice", version, 512, 300)
    write(root, version, 1024, 900)
    assert (usage.cgroup_limit(), usage.cgroup_usage()) == (512 * MIB, 300 * MIB)
    write(root / "system.slice" / "agent.service", version, 128, 50, active=8)
    assert (usage.cgroup_limit(), usage.cgroup_usage()) == (128 * MIB, 42 * MIB)


def test_a_cgroup_outside_of_what_is_mounted_is_the_root(cgroup: Path) -> None:
    (cgroup / "self").write_text("0::/../../kubepods/pod7\n")
    write(cgroup / "v2", "v2", 128, 50)
    assert usage.cgroup_limit() == 128 * MIB


@pytest.mark.parametrize("text", ["max\n", f"{(1 << 63) - 4096}\n", "garbage"])
def test_without_a_limit(cgroup: Path, text: str) -> None:
    (cgroup / "v2" / "memory.max").write_text(text)
    assert usage.cgroup_limit() is None
    assert usage.in_use() == pytest.approx(usage.process_anonymous(), rel=0.2)


def test_a_limit_above_the_machine_is_the_machine(cgroup: Path) -> None:
    (cgroup / "v2" / "memory.max").write_text(str(1 << 55))
    assert usage.total() == usage.machine_total()
