"""`Trial`: an agent between numbered sources and a sink, and what is checked at the end of every scenario."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults import books
from tests.faults.agent import Agent
from tests.faults.memory_cgroup import cgroup
from tests.faults.owed import Owed
from tests.faults.road import Road
from tests.faults.sink import Key, Sink
from tests.faults.sources import Lines, Numbered, Pages, Source, Spans
from tests.support.servers import free_port

MIB = 1 << 20
LIMIT_MIB = 128
STOP_WITHIN = 10.0
LOOK_EVERY = 0.2
"""Seconds between two looks at the agent's process."""
LATE = 0.25
"""Seconds by which the trial may be late before its pages can come too late."""
UNDER_WAY = 2.0
"""Seconds before a kill in which a page that was served may not be on disk yet: scrape, batch, write."""

NEAR = 10.0
"""Seconds around a stop or a kill: what is missing there is told apart from scrapes that a busy machine let time out."""

CUT = 0.1
"""Seconds before a reload in which a page that was served may be unread."""


@dataclass
class Result:
    """The line of a scenario."""

    name: str
    seconds: float = 0
    lost: dict[str, int] = field(default_factory=dict)
    twice: dict[str, int] = field(default_factory=dict)
    peak_mib: float = 0
    figures: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    untested: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = " ".join(
            f"{word} {'/'.join(str(n) for n in numbers.values()) or '-'}"
            for word, numbers in (("lost", self.lost), ("twice", self.twice))
        )
        verdict = "FAIL" if self.failures else "PASS"
        head = f"{verdict} {self.name:<12} {counts}  peak {self.peak_mib:.0f} MiB  {self.seconds:.0f} s"
        more = [f"     {', '.join(self.figures)}"] if self.figures else []
        return "\n".join(
            [head, *more, *(f"     failed: {f}" for f in self.failures), *(f"     not tested: {u}" for u in self.untested)]
        )


class Trial:
    """Everything of one scenario. Scenarios start sources, do their worst, and call `settle`; `check` collects what is not true.

    Roads of their own lead from the agent to the sink for logs, traces and metrics, so that one can be bad and the others good.
    """

    def __init__(self, name: str, folder: Path, short: bool, *, limit_mib: int = LIMIT_MIB, factor: float = 1.0) -> None:
        self.result = Result(name)
        self.folder, self.short = folder, short
        self._factor = factor
        self.sink, self.pages = Sink(), Pages(20, 10)
        self.lines: list[Numbered] = []
        self.state = folder / "state"
        self.pods = folder / "pods"
        self.http, self.metrics = free_port(), free_port()
        self.spans = Spans(lambda: f"http://127.0.0.1:{self.http}", 500)
        self.began = time.monotonic()
        self._owed = Owed(self.sink, self.spans, self.pages)
        self._limit = limit_mib
        self._stack = contextlib.AsyncExitStack()
        self._watch: asyncio.Task[None] | None = None
        self.late = 0.0
        """Seconds by which this process, whose pages are scraped, was late at most."""

    async def __aenter__(self) -> Trial:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.pods.mkdir(exist_ok=True)
        group = self._stack.enter_context(cgroup(self._limit * MIB))
        if group is None:
            self.result.untested.append(f"{self._limit} MiB: no memory cgroup can be made here")
        await self._stack.enter_async_context(self.sink)
        self.roads = {
            signal: await self._stack.enter_async_context(Road(self.sink.port)) for signal in ("logs", "traces", "metrics")
        }
        await self._stack.enter_async_context(self.pages)
        self.agent = Agent(self.folder, self.folder / "agent.json", self.metrics, group)
        self.killed = lambda: group.killed if group is not None else 0
        return self

    async def __aexit__(self, kind: object, error: object, *_: object) -> None:
        if self._watch is not None:
            self._watch.cancel()
        if self.agent.running:
            await self.agent.kill()
        for source in self.sources:
            with contextlib.suppress(Exception):
                await source.stop()
        await self._stack.aclose()

    # What the agent is told

    def configure(self, change: Callable[[dict[str, Any]], None] | None = None) -> None:
        """Writes the configuration: every queue and every place on disk, nothing given up. `change` may alter it."""
        queue = {"storage": "file_storage", "queue_size": 100_000}
        retry = {"initial_interval": "200ms", "max_interval": "2s", "max_elapsed_time": 0}
        address = {signal: f"http://127.0.0.1:{road.port}" for signal, road in self.roads.items()}
        pipelines = {
            "logs": ("filelog", "otlphttp/logs"),
            "traces": ("otlp", "otlphttp/traces"),
            "metrics": ("prometheus", "prometheusremotewrite"),
        }
        targets = [
            {"targets": [f"127.0.0.1:{self.pages.port}"], "labels": {"__metrics_path__": f"/t{n}"}}
            for n in range(self.pages.targets)
        ]
        config: dict[str, Any] = {
            "receivers": {
                "filelog": {
                    "include": [f"{self.pods}/*/*/*.log"],
                    "start_at": "beginning",
                    "storage": "file_storage",
                    "include_file_path": True,
                    "operators": [{"type": "container"}],
                    "retry_on_failure": {"enabled": True, "max_elapsed_time": 0},
                },
                "otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{self.http}"}}},
                "prometheus": {
                    "config": {
                        "scrape_configs": [
                            {"job_name": "trial", "scrape_interval": "1s", "scrape_timeout": "1s", "static_configs": targets}
                        ]
                    }
                },
            },
            "processors": {"batch": {"send_batch_size": 1000}},
            "exporters": {
                "otlphttp/logs": {"endpoint": address["logs"], "sending_queue": dict(queue), "retry_on_failure": dict(retry)},
                "otlphttp/traces": {"endpoint": address["traces"], "sending_queue": dict(queue), "retry_on_failure": dict(retry)},
                "prometheusremotewrite": {
                    "endpoint": address["metrics"] + "/api/v1/write",
                    "sending_queue": dict(queue),
                    "retry_on_failure": dict(retry),
                },
            },
            "extensions": {"file_storage": {"directory": str(self.state), "create_directory": True}},
            "service": {
                "extensions": ["file_storage"],
                "pipelines": {
                    signal: {"receivers": [receiver], "processors": ["batch"], "exporters": [exporter]}
                    for signal, (receiver, exporter) in pipelines.items()
                },
                "telemetry": {
                    "logs": {"sampling": {"enabled": False}},
                    "metrics": {"readers": [{"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": self.metrics}}}}]},
                },
            },
        }
        if change is not None:
            change(config)
        self.agent.config.write_text(json.dumps(config, indent=1))

    async def begin(self, change: Callable[[dict[str, Any]], None] | None = None) -> None:
        """Starts the agent, and watches its memory and its life from now on."""
        self.configure(change)
        self.say(f"ready in {await self.agent.start():.1f} s")
        self._watch = asyncio.create_task(self._watching())

    async def _watching(self) -> None:
        woken = time.monotonic()
        while True:
            self.late = max(self.late, time.monotonic() - woken - LOOK_EVERY)
            woken = time.monotonic()
            self.agent.memory()
            if not self.agent.running and not self.agent.meant_to_end:
                assert self.agent.process is not None
                reason = "for memory" if self.killed() else "by itself"
                self.check(False, f"the agent ended {reason} ({self.agent.process.returncode})")
                self.agent.meant_to_end = True
            await asyncio.sleep(LOOK_EVERY)

    @property
    def sources(self) -> list[Source]:
        """All that are started and stopped."""
        return [*self.lines, self.spans]

    def pod(self, name: str, rate: float, rotate_every: int, how: str = "kubelet") -> Lines:
        """A pod that logs; not started."""
        lines = Lines(self.pods, name, rate, rotate_every, how)
        self.lines.append(lines)
        return lines

    def lasts(self, short: float, full: float) -> float:
        """Seconds that something lasts in this form; the full form may be scaled."""
        return short if self.short else max(short, full * self._factor)

    # What is told

    def say(self, text: str) -> None:
        """Progress."""
        print(f"  {self.result.name} +{time.monotonic() - self.began:.0f} s: {text}", file=sys.stderr, flush=True)

    def figure(self, text: str) -> None:
        """A figure for the scenario's line."""
        self.result.figures.append(text)

    def check(self, holds: bool, otherwise: str) -> None:
        """Notes a promise that is not kept; the scenario goes on."""
        if not holds and otherwise not in self.result.failures:
            self.result.failures.append(otherwise)
            self.say(f"FAILED: {otherwise}")

    def untested(self, text: str) -> None:
        """Says what could not be tried here."""
        self.result.untested.append(text)

    async def until(self, condition: Callable[[], Any], seconds: float) -> bool:
        """True when the condition came true within these seconds."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.1)
        return True

    # The end

    def missing(self) -> dict[str, set[Key]]:
        """What of everything that has to arrive has not: lines, spans, samples."""
        # What a stop or a kill cuts is not owed, however long the end takes.
        kills = [(at - UNDER_WAY, max(at + 0.5, gone)) for at, gone in self.agent.kills]
        # A receiver that is made anew cuts the scrape under way, as Prometheus does.
        kills += [(began - CUT, ended) for began, ended in self.agent.reloads]
        return self._owed.missing(self.lines, kills)

    async def settle(self, seconds: float, *, may_be_lost: dict[str, int] | None = None) -> None:
        """Stops the sources, waits until all has arrived, stops the agent; checks losses, books, log and exit.

        `may_be_lost`: items of which the agent has to have counted the loss.
        """
        for source in self.sources:
            await source.stop()
        self.pages.silent = True
        allowed = dict(may_be_lost or {})
        busy = os.getloadavg()[0] > (os.cpu_count() or 1) or self.late > LATE
        if (failed := self.sink.failed_scrapes) and busy and "samples" not in allowed:
            # The page was made, and came too late: the scrape says so with an `up 0`, which arrives.
            allowed["samples"] = failed * self.pages.series
            self.figure(f"{failed} scrapes failed; the trial itself was {self.late:.1f} s late")
        await self.until(lambda: all(len(keys) <= allowed.get(kind, 0) for kind, keys in self.missing().items()), seconds)
        behind = [arrivals.behind for arrivals in (self.sink.lines, self.sink.spans, self.sink.samples)]
        if any(behind):
            self.figure("behind a later one {}/{}/{}".format(*behind))
        missing = self.missing()
        self.result.lost = {kind: len(keys) for kind, keys in missing.items()}
        self.result.twice = {"lines": self.sink.lines.twice, "spans": self.sink.spans.twice, "samples": self.sink.samples.twice}
        for kind, keys in missing.items():
            self.check(
                len(keys) <= allowed.get(kind, 0),
                f"{len(keys)} {kind} lost of {self._owed.total(self.lines)[kind]}, such as {sorted(keys)[:3]}",
            )
        if missing["samples"]:
            served = {self.pages.served[key[0].partition("/")[0], key[1]] for key in missing["samples"]}
            near = [at for at in served if any(began - NEAR <= at <= gone + NEAR for began, gone in self.agent.kills[-20:])]
            self.figure(
                f"{len(served)} pages did not arrive, {len(near)} of them served within {NEAR:.0f} s of an end of the agent"
            )
        self.check(self.sink.backwards == 0, f"times of series went back {self.sink.backwards} times")
        if self.agent.running:
            await self.balance()
            code, took = await self.agent.stop()
            self.check(code == 0, f"SIGTERM ended with {code}")
            self.check(took <= STOP_WITHIN, f"SIGTERM took {took:.1f} s")
        self.check(self.killed() == 0, f"killed for memory {self.killed()} times")
        self.clean_log()
        self.result.peak_mib = self.agent.peak / MIB
        self.result.seconds = time.monotonic() - self.began
        load, cores = os.getloadavg()[0], os.cpu_count() or 1
        if load > cores:
            self.figure(f"load {load:.1f} on {cores} cores: times may be those of the machine")

    async def balance(self) -> dict[str, books.Book]:
        """The books, which have to balance within some looks: what is between two owners right now is in none."""
        for _ in range(40):
            now = books.read(await self.agent.page())
            if all(book.missing == 0 for book in now.values()):
                break
            await asyncio.sleep(0.25)
        for book in now.values():
            self.check(book.missing == 0, f"the books do not balance: {book}")
        return now

    async def dropped(self, signal: str) -> float:
        """Items of which the agent says that it will never deliver them."""
        return books.read(await self.agent.page())[signal].lost

    async def emptied(self, seconds: float = 30) -> None:
        """Waits until no queue has a log record or a span."""
        for _ in range(int(seconds / 0.3)):
            now = books.read(await self.agent.page())
            if not now["logs"].of["queued"] and not now["traces"].of["queued"]:
                return
            await asyncio.sleep(0.3)

    def clean_log(self) -> None:
        """No exception that nobody handled."""
        output = self.agent.output()
        for sign in ("Traceback (most recent call last)", "never retrieved", "was never awaited"):
            place = output.find(sign)
            self.check(place < 0, f"in the agent's log: {output[place : place + 1500]}")
