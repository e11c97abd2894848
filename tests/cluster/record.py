"""What a cluster has started and changed on this machine, on disk, so that anybody can undo it, also after a crash.

One JSON file per cluster under the registry folder (not in the cluster's own folder, which a test run may delete first).
Every change is recorded before it is made.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support import servers

REGISTRY = Path(os.environ.get("KOFAGENT_CLUSTERS", servers.ROOT.parent / "clusters"))


def boot_id() -> str:
    """Changes with every boot: process ids and kernel settings of another boot mean nothing."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None when it is gone or a zombie. With the pid it names a process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return None if fields[0] == "Z" else int(fields[19])


@contextmanager
def registry_lock() -> Iterator[None]:
    """Serializes changes of who may use the machine's one node."""
    REGISTRY.mkdir(parents=True, exist_ok=True)
    with (REGISTRY / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Record:
    """The record of the cluster in `folder`."""

    def __init__(self, folder: Path, *, path: Path | None = None) -> None:
        self.folder = folder
        self.id = hashlib.sha256(str(folder).encode()).hexdigest()[:8]
        self.path = path or REGISTRY / f"{self.id}.json"
        self.data: dict[str, Any] = {"folder": str(folder), "boot": boot_id(), "processes": {}, "host": {}}
        if self.path.exists():
            self.data = json.loads(self.path.read_text())

    @classmethod
    def all(cls) -> list[Record]:
        """Every cluster known on this machine."""
        found = []
        for path in sorted(REGISTRY.glob("*.json")) if REGISTRY.exists() else []:
            try:
                found.append(cls(Path(json.loads(path.read_text())["folder"]), path=path))
            except (OSError, ValueError, KeyError):  # being removed by somebody else
                continue
        return found

    def save(self) -> None:
        """Writes the record, whole or not at all."""
        REGISTRY.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps(self.data, indent=1))
        part.replace(self.path)

    def remove(self) -> None:
        """Forgets the cluster."""
        self.path.unlink(missing_ok=True)

    @property
    def exists(self) -> bool:
        """Whether there is a cluster in this folder, running or left over."""
        return self.path.exists()

    @property
    def this_boot(self) -> bool:
        """False after a reboot: then only files are left."""
        return bool(self.data["boot"] == boot_id())

    @property
    def abandoned(self) -> bool:
        """Whether the process that wanted this cluster (none for `up` from the command line) has gone without stopping it."""
        owner = self.data.get("owner")
        return not self.this_boot or (owner is not None and start_time(owner["pid"]) != owner["started"])
