"""Programs of a cluster: detached, each with its own log file, named by pid and start time in the record."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.record import Record, start_time


class Processes:
    """Starts and stops the programs in a record; works on programs started by another process too."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._children: dict[int, subprocess.Popen[bytes]] = {}  # so that they leave no zombies

    def start(self, name: str, command: Sequence[str], env: dict[str, str] | None = None) -> None:
        """Starts a program with its output appended to logs/<name>.log."""
        logs = self._record.folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        with (logs / f"{name}.log").open("ab") as out:
            child = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
                cwd=self._record.folder,
            )
        self._children[child.pid] = child
        self._record.data["processes"][name] = {
            "command": list(command),
            "env": env or {},
            "pid": child.pid,
            "started": start_time(child.pid),
        }
        self._record.save()

    def resume(self, name: str) -> None:
        """Starts a stopped program again."""
        entry = self._record.data["processes"][name]
        self.start(name, entry["command"], entry["env"])

    def pid(self, name: str) -> int | None:
        """The process id while the program runs."""
        entry = self._record.data["processes"].get(name)
        if entry is None or not self._record.this_boot:
            return None
        child = self._children.get(entry["pid"])
        if child is not None and child.poll() is not None:
            return None
        return entry["pid"] if start_time(entry["pid"]) == entry["started"] else None

    def names(self) -> list[str]:
        """All programs, in the order they were started."""
        return list(self._record.data["processes"])

    def stop(self, name: str, *, polite: bool = True, seconds: float = 20) -> None:
        """SIGTERM (polite) and after `seconds` SIGKILL; returns when the program is gone."""
        pid = self.pid(name)
        if pid is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL) if polite else (signal.SIGKILL,):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                break
            deadline = time.monotonic() + seconds
            while self.pid(name) is not None and time.monotonic() < deadline:
                time.sleep(0.02)
            if self.pid(name) is None:
                break
        child = self._children.pop(pid, None)
        if child is not None:
            child.wait()

    def output(self, name: str) -> str:
        """What a program has printed."""
        path: Path = self._record.folder / "logs" / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""
