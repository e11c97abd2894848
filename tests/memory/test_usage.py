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
    return tmp_path


def test_outside_a_cgroup(cgroup: Path) -> None:
    assert (usage.cgroup_limit(), usage.cgroup_usage()) == (None, None)
    assert usage.total() == usage.machine_total()
    assert set(Account().owners()) == {"memos", "process"}
    assert set(Account().limits()) == {"process"}


@pytest.mark.parametrize(
    ("version", "limit", "current", "key"),
    [
        ("v2", "memory.max", "memory.current", "inactive_file"),
        ("v1", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ],
)
def test_in_a_cgroup(cgroup: Path, version: str, limit: str, current: str, key: str) -> None:
    (cgroup / version / limit).write_text(f"{128 * MIB}\n")
    (cgroup / version / current).write_text(f"{90 * MIB}\n")
    (cgroup / version / "memory.stat").write_text(f"anon 1\nactive_file 5\n{key} {20 * MIB}\n")
    assert usage.cgroup_limit() == usage.total() == 128 * MIB
    assert usage.cgroup_usage() == 70 * MIB
    assert Account().owners()["cgroup"] == 70 * MIB
    assert Account().limits()["cgroup"] == 128 * MIB
    (cgroup / version / "memory.stat").write_text(f"{key} {91 * MIB}\n")
    assert usage.cgroup_usage() == 0


@pytest.mark.parametrize("text", ["max\n", f"{(1 << 63) - 4096}\n", "garbage"])
def test_without_a_limit(cgroup: Path, text: str) -> None:
    (cgroup / "v2" / "memory.max").write_text(text)
    assert usage.cgroup_limit() is None


def test_a_limit_above_the_machine_is_the_machine(cgroup: Path) -> None:
    (cgroup / "v2" / "memory.max").write_text(str(1 << 55))
    assert usage.total() == usage.machine_total()
