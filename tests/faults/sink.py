"""`Sink`: the backend of a trial. It remembers each numbered item's first arrival, what came again and what came out of order."""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
import time
from collections import Counter, deque
from dataclasses import dataclass, field

import snappy
from aiohttp import web

from tests.support.otlp import REQUEST
from tests.support.remote_write import WriteRequest, is_stale

Key = tuple[str, int]
"""Source and number."""


@dataclass
class Arrivals:
    """Of one kind of items."""

    count: Counter[Key] = field(default_factory=Counter)
    behind: int = 0
    """First arrivals of a number below one of the same source that was there already."""
    _highest: dict[str, int] = field(default_factory=dict)

    def add(self, source: str, number: int) -> None:
        key = source, number
        self.count[key] += 1
        if self.count[key] > 1:
            return
        if number < self._highest.get(source, -1):
            self.behind += 1
        else:
            self._highest[source] = number

    @property
    def twice(self) -> int:
        """Arrivals that were not the first of their number."""
        return self.count.total() - len(self.count)


@dataclass(frozen=True)
class Answer:
    """What a request gets. Only 2xx is remembered as arrived, before a `cut` too."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    wait: float = 0
    """Seconds before the answer."""
    cut: bool = False
    """The connection is broken in the answer's place."""


@dataclass(frozen=True)
class Asked:
    """A request: when (monotonic seconds), path, status of the answer."""

    at: float
    path: str
    status: int


class Sink:
    """OTLP/HTTP for logs and traces, remote write for metrics, on one port.

    `script` has answers for the next requests, `otherwise` for all others, `poison` a word whose presence in a body is a 400.
    """

    def __init__(self) -> None:
        self.lines, self.spans, self.samples = Arrivals(), Arrivals(), Arrivals()
        self.backwards = 0
        """Samples of a series that are older than one that came before, repetitions left out."""
        self.failed_scrapes = 0
        """Samples `up 0` of the job "trial"."""
        self.script: deque[Answer] = deque()
        self.otherwise = Answer()
        self.poison = b""
        self.slow_path = ("", 0.0)
        """Path whose answers wait, and the seconds."""
        self.asked: list[Asked] = []
        self.headers: set[str] = set()
        """Values of all headers of all requests."""
        self.port = 0
        self._newest: dict[str, int] = {}

    async def __aenter__(self) -> Sink:
        self._runner = web.ServerRunner(web.Server(self._answer))
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.otherwise = Answer()
        await self._runner.cleanup()

    def forget(self) -> None:
        """Nothing has arrived yet."""
        self.lines, self.spans, self.samples = Arrivals(), Arrivals(), Arrivals()
        self._newest.clear()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        began = time.monotonic()
        body = await request.read()
        self.headers.update(request.headers.values())
        answer = self.script.popleft() if self.script else self.otherwise
        await asyncio.sleep(self.slow_path[1] if request.path == self.slow_path[0] else answer.wait)
        status = answer.status
        if 200 <= status < 300:
            plain = _unpacked(request, body)
            if self.poison and self.poison in plain:
                status = 400
            else:
                self.take(request.path, plain)
        self.asked.append(Asked(began, request.path, status))
        if answer.cut and request.transport is not None:
            sock = request.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            request.transport.abort()
        return web.Response(status=status, headers=answer.headers)

    def take(self, path: str, body: bytes) -> None:
        """Remembers what is in a request that was unpacked."""
        if path.endswith("/logs"):
            for resource in REQUEST["logs"].FromString(body).resource_logs:
                for scope in resource.scope_logs:
                    for record in scope.log_records:
                        _, source, number, *_ = record.body.string_value.split(" ", 3)
                        self.lines.add(source, int(number))
        elif path.endswith("/traces"):
            for resource in REQUEST["traces"].FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        source, number = span.name.split(" ")
                        self.spans.add(source, int(number))
        else:
            self._take_samples(body)

    def _take_samples(self, body: bytes) -> None:
        for series in WriteRequest.FromString(body).timeseries:
            labels = {label.name: label.value for label in series.labels}
            if labels["__name__"] == "up" and labels["job"] == "trial":
                self.failed_scrapes += sum(sample.value == 0 for sample in series.samples)
            if labels["__name__"] != "trial_number":
                continue
            source = f"{labels['t']}/{labels['s']}"
            for sample in series.samples:
                if is_stale(sample.value):
                    continue
                known = self.samples.count[source, int(sample.value)]
                self.samples.add(source, int(sample.value))
                if not known:
                    self.backwards += sample.timestamp < self._newest.get(source, 0)
                    self._newest[source] = max(sample.timestamp, self._newest.get(source, 0))


def _unpacked(request: web.BaseRequest, body: bytes) -> bytes:
    """aiohttp has undone gzip already."""
    if request.headers.get("Content-Encoding") == "snappy":
        return bytes(snappy.decompress(body))
    return gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
