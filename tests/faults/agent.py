"""`Agent`: kofagent as a process of its own, in a memory cgroup where one can be made."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import aiohttp
import psutil

from tests.faults.memory_cgroup import Cgroup

READY_WITHIN = 120
"""Seconds after which a start has failed on any machine; what the promise is, trials compare themselves."""


class Agent:
    """Started, killed and stopped as often as a trial wants, with one configuration file and one log."""

    def __init__(self, folder: Path, config: Path, metrics: int, cgroup: Cgroup | None) -> None:
        self.folder, self.config, self.metrics_port, self.cgroup = folder, config, metrics, cgroup
        self.log = folder / "agent.log"
        self.log.touch()
        self.process: asyncio.subprocess.Process | None = None
        self.meant_to_end = True
        self.kills: list[tuple[float, float]] = []
        """When it was killed or told to stop, and when it was gone, monotonic seconds."""
        self.reloads: list[tuple[float, float]] = []
        """Beginnings and ends."""
        self.peak = 0
        self.environment: dict[str, str] = {}
        """More of it, from the next start on."""

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.returncode is None

    async def start(self) -> float:
        """Seconds until it says that it is ready; `AssertionError` with its log if it ends or never does."""
        begin, before = time.monotonic(), self.log.stat().st_size
        join = f"echo $$ > {self.cgroup.folder}/cgroup.procs && " if self.cgroup is not None else ""
        with self.log.open("ab") as out:
            self.process = await asyncio.create_subprocess_exec(
                "/bin/sh",
                "-c",
                f'{join}exec "$@"',
                "agent",
                sys.executable,
                "-m",
                "kofagent",
                "run",
                "--config",
                str(self.config),
                cwd=self.folder,
                stdout=out,
                stderr=out,
                env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(Path(__file__).parents[2]), **self.environment},
            )
        while b"everything is ready" not in self.log.read_bytes()[before:]:
            assert self.running, f"the agent ended at its start:\n{self.output()[-2000:]}"
            assert time.monotonic() - begin < READY_WITHIN, f"the agent did not get ready:\n{self.output()[-2000:]}"
            await asyncio.sleep(0.05)
        self.meant_to_end = False
        return time.monotonic() - begin

    async def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.meant_to_end = True
        began = time.monotonic()
        if self.running:
            self.process.kill()
        await self.process.wait()
        self.kills.append((began, time.monotonic()))

    async def stop(self) -> tuple[int, float]:
        """SIGTERM: the exit code and the seconds it took; killed after a minute (-9)."""
        assert self.process is not None
        self.meant_to_end = True
        began = time.monotonic()
        if self.running:
            self.process.terminate()
            try:
                await asyncio.wait_for(self.process.wait(), 60)
            except TimeoutError:
                await self.kill()
        self.kills.append((began, time.monotonic()))
        assert self.process.returncode is not None
        return self.process.returncode, time.monotonic() - began

    async def reload(self) -> None:
        """SIGHUP, and waits until it is done."""
        assert self.process is not None
        done = "configuration reloaded, running"
        before, began = self.output().count(done), time.monotonic()
        self.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(READY_WITHIN):
            while self.output().count(done) == before:
                await asyncio.sleep(0.05)
        self.reloads.append((began, time.monotonic()))

    async def page(self) -> str:
        """Its own /metrics."""
        url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(20)) as session, session.get(url) as answer:
            return await answer.text()

    def output(self) -> str:
        """Its log so far, of all starts."""
        return self.log.read_text(errors="replace")

    def memory(self) -> int:
        """Bytes now that the kernel cannot take back; remembers the most."""
        now = 0
        if self.running:
            assert self.process is not None
            try:
                if self.cgroup is not None:
                    now = self.cgroup.anonymous
                else:
                    now = psutil.Process(self.process.pid).memory_info().rss
            except (psutil.Error, OSError):
                now = 0
        self.peak = max(self.peak, now)
        return now

    def descriptors(self) -> int:
        """Files and sockets that it has open."""
        assert self.process is not None
        return psutil.Process(self.process.pid).num_fds()
