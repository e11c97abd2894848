"""What is numbered: lines of a log file that is rotated, spans of an OTLP client, pages of counters that are scraped."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import itertools
import os
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
from aiohttp import web

from tests.faults.sink import Key
from tests.support.otlp import REQUEST

UID = "2ea1b0ce-52ac-4a3c-9a21-4b4c9bd0a2e4"
TICK = 0.05
"""Seconds between two writes of a source; what it owes after a pause is written at once."""


class Source:
    """A task that makes `rate` items a second until `stop`."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._task: asyncio.Task[None] | None = None
        self._over = asyncio.Event()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Ends after the item under way; an error of the source is raised here."""
        self._over.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        began, made = time.monotonic(), 0
        while not self._over.is_set():
            due = int((time.monotonic() - began) * self.rate) - made
            if due > 0:
                made += due
                await self.make(due)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), TICK)

    async def make(self, count: int) -> None:
        raise NotImplementedError


class Numbered(Source):
    """A source of log records that bear their number. `in_doubt`: those that may be lost."""

    def __init__(self, name: str, rate: float) -> None:
        super().__init__(rate)
        self.name = name
        self.number = 0
        self.in_doubt: set[Key] = set()

    def written(self) -> set[Key]:
        """All records there are."""
        return {(self.name, number) for number in range(self.number)}


class Lines(Numbered):
    """A container's log in containerd's format, in `<root>/default_<name>_<uid>/app/0.log`, rotated every `rotate_every` lines.

    `how` is the name of one of the methods below. `in_doubt`: lines that this way of rotating may lose, being younger than a poll.
    """

    def __init__(self, root: Path, name: str, rate: float, rotate_every: int, how: str = "kubelet", doubt: float = 1.0) -> None:
        super().__init__(name, rate)
        self.folder = root / f"default_{name}_{UID}" / "app"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / "0.log"
        self.rotate_every = rotate_every
        self.rotations = 0
        self.hold = False
        """No rotation for now."""
        self._doubt = doubt
        self._recent: list[tuple[float, int]] = []
        self._rotate: Callable[[], None] = getattr(self, how)
        if how == "symlink":
            (self.folder / "files").mkdir()
            self._point()
        self._file = self.path.open("a")

    async def make(self, count: int) -> None:
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"
        numbers = range(self.number, self.number + count)
        self._file.write("".join(f"{stamp} stdout F trial {self.name} {n:07d} a request was served in 12 ms\n" for n in numbers))
        self._file.flush()
        now = time.monotonic()
        self._recent = [(at, n) for at, n in self._recent if at > now - self._doubt] + [(now, n) for n in numbers]
        before, self.number = self.number, self.number + count
        if self.number // self.rotate_every != before // self.rotate_every and not self.hold:
            self.rotations += 1
            self._rotate()

    async def stop(self) -> None:
        await super().stop()
        self._file.close()

    def kubelet(self) -> None:
        """The older rotated files are compressed, the present one is renamed."""
        self._file.close()
        for rotated in self.folder.glob("0.log.*"):
            if rotated.suffix != ".gz":
                part = Path(f"{rotated}.gz.tmp")
                part.write_bytes(gzip.compress(rotated.read_bytes(), 1))
                part.rename(f"{rotated}.gz")
                rotated.unlink()
        os.rename(self.path, self.folder / f"0.log.{datetime.now(UTC):%Y%m%d-%H%M%S}-{self.rotations:04d}")
        self._file = self.path.open("a")

    def logrotate(self) -> None:
        """0.log.2 becomes 0.log.3, 0.log.1 becomes 0.log.2, ...; the eldest of 9 goes."""
        self._file.close()
        for number in range(8, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{self.path}.{number}", f"{self.path}.{number + 1}")
        os.rename(self.path, f"{self.path}.1")
        self._file = self.path.open("a")

    def copytruncate(self) -> None:
        """Copied over the last copy, then emptied in place."""
        self._may_lose()
        shutil.copyfile(self.path, f"{self.path}.1")
        self._file.truncate(0)

    def recreate(self) -> None:
        """Deleted and begun anew."""
        self._may_lose()
        self._file.close()
        self.path.unlink()
        self._file = self.path.open("a")

    def symlink(self) -> None:
        """0.log is a link; it leads to the next file from now on, the last one stays."""
        self._file.close()
        self._point()
        self._file = self.path.open("a")

    def _point(self) -> None:
        target = self.folder / "files" / f"{self.rotations:04d}.txt"
        target.touch()
        new = self.folder / "new-link"
        new.symlink_to(target)
        new.rename(self.path)

    def _may_lose(self) -> None:
        self.in_doubt.update((self.name, n) for _, n in self._recent)

    def may_lose(self) -> None:
        """For what a trial does to the file by itself."""
        self._may_lose()


class Spans(Source):
    """An OTLP/HTTP client. What was not answered with 2xx is sent again, as an SDK does; `acknowledged` is what was."""

    PIECE = 100

    def __init__(self, url: Callable[[], str], rate: float) -> None:
        super().__init__(rate)
        self._url = url
        self.number = 0
        self.acknowledged: set[Key] = set()
        self.in_order: list[Key] = []
        self.repeated = 0
        """Spans sent again after no answer came: the agent may have had them."""
        self.refused = 0
        """Requests that got another answer."""
        self.slowest = 0.0
        """Seconds until an answer."""
        self.times: list[float] = []
        self.give_up = False
        self._waiting: list[int] = []

    async def make(self, count: int) -> None:
        self._waiting.extend(range(self.number, self.number + count))
        self.number += count
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as session:
            while self._waiting and not self.give_up:
                piece = self._waiting[: self.PIECE]
                if await self._post(session, piece):
                    del self._waiting[: self.PIECE]
                    self.in_order += [("client", n) for n in piece]
                    self.acknowledged.update(self.in_order[-len(piece) :])
                elif self._over.is_set():
                    return
                else:
                    await asyncio.sleep(0.2)

    async def _post(self, session: aiohttp.ClientSession, numbers: list[int]) -> bool:
        request = REQUEST["traces"]()
        spans = request.resource_spans.add().scope_spans.add().spans
        for n in numbers:
            spans.add(name=f"client {n}", trace_id=os.urandom(16), span_id=os.urandom(8), start_time_unix_nano=time.time_ns())
        began = time.monotonic()
        try:
            headers = {"Content-Type": "application/x-protobuf"}
            async with session.post(self._url() + "/v1/traces", data=request.SerializeToString(), headers=headers) as answer:
                await answer.read()
        except (OSError, aiohttp.ClientError, TimeoutError) as error:
            if not isinstance(error, aiohttp.ClientConnectorError):
                self.repeated += len(numbers)
            return False
        self.times.append(time.monotonic() - began)
        self.slowest = max(self.slowest, self.times[-1])
        self.refused += answer.status >= 300
        return answer.status < 300


class Pages:
    """Targets `/t0`, `/t1`, ...; each page has `series` counters with the number of the page as their value."""

    def __init__(self, targets: int, series: int) -> None:
        self.targets, self.series = targets, series
        self.port = 0
        self.served: dict[Key, float] = {}
        """When each page was served, monotonic seconds."""
        self.in_order: list[Key] = []
        self.silent = False
        """Pages are 503 from now on."""
        self.extra: dict[str, bytes] = {}
        """Whole pages by path, for targets that a trial adds."""
        self.asked: dict[str, list[float]] = {}
        self.credentials: set[str] = set()
        """Values of the header Authorization."""

    async def __aenter__(self) -> Pages:
        self._runner = web.ServerRunner(web.Server(self._answer))
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.credentials.add(request.headers.get("Authorization", ""))
        if not request.path.startswith("/t") and request.path not in self.extra:
            return web.Response(text='a{b="never closed')
        target = request.path[2:]
        times = self.asked.setdefault(target, [])
        times.append(time.monotonic())
        if self.silent:
            return web.Response(status=503)
        if request.path in self.extra:
            return web.Response(body=self.extra[request.path], headers={"Content-Encoding": "gzip", "Content-Type": "text/plain"})
        number = len(times)
        lines = [f'trial_number{{t="{target}",s="{s}"}} {number}' for s in range(self.series)]
        response = web.Response(text="# TYPE trial_number counter\n" + "\n".join(lines) + "\n")
        self.served[target, number] = time.monotonic()
        self.in_order.append((target, number))
        return response

    def longest_gap(self) -> float:
        """Seconds between two scrapes of a numbered target, at most."""
        numbered = [times for target, times in self.asked.items() if target.isdecimal()]
        return max((b - a for times in numbered for a, b in itertools.pairwise(times)), default=0.0)
