"""The agent in 128 MiB, as a process in a real memory cgroup: hostile and large pages, large requests. It is never killed.

What is refused says so, and the agent goes on: each scenario ends with a good page or request. The short forms, in this process, are
`tests/prometheus/test_large_pages.py`, `tests/memory/test_pressure.py` and those of the receivers.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from tests.faults.memory_cgroup import Cgroup, cgroup

pytestmark = pytest.mark.slow
MIB = 1 << 20
LIMIT = 128 * MIB
GZIP = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}


def series(count: int, value: int, first: int = 0) -> bytes:
    line = 'http_requests_total{method="GET",code="200",path="/api/v1/item/%d",instance_id="i-%d",zone="eu-%d"} %d\n'
    return gzip.compress("".join([line % (i, i % 97, i % 3, value) for i in range(first, first + count)]).encode(), 1)


class Agent:
    """The process, what it is asked for, and what it says of itself."""

    def __init__(self, group: Cgroup, process: asyncio.subprocess.Process, ports: dict[str, int]) -> None:
        self.group = group
        self.process = process
        self.ports = ports

    async def metrics(self) -> str:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.ports['own']}/metrics") as answer:
            return await answer.text()

    async def value(self, begins: str) -> float:
        """The sum of the samples of its own page that begin with this."""
        return sum(float(line.rpartition(" ")[2]) for line in (await self.metrics()).splitlines() if line.startswith(begins))

    async def post(self, body: bytes, headers: dict[str, str]) -> int:
        url = f"http://127.0.0.1:{self.ports['http']}/v1/logs"
        async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as answer:
            return answer.status

    async def until(self, condition: Callable[[], Any], seconds: float = 90) -> None:
        """Waits for a condition; the process must live."""
        async with asyncio.timeout(seconds):
            while True:
                assert self.process.returncode is None, f"the agent ended with {self.process.returncode}"
                try:
                    if await condition():
                        return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.1)


class Outside:
    """The target and the backend in one: `page` is what is scraped, `asked` counts scrapes, `got` requests that were taken."""

    def __init__(self) -> None:
        self.page = gzip.compress(b"a 1\n")
        self.got = self.asked = 0

    async def handle(self, request: web.Request) -> web.Response:
        if request.method == "GET":
            self.asked += 1
            return web.Response(body=self.page, headers={"Content-Type": "text/plain", "Content-Encoding": "gzip"})
        await request.read()
        self.got += 1
        return web.Response(status=200)


def free_ports(count: int) -> list[int]:
    import socket

    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


@asynccontextmanager
async def running(tmp_path: Path, **job: Any) -> AsyncIterator[tuple[Agent, Outside]]:
    """An agent in a cgroup of LIMIT, between a target and a backend."""
    outside = Outside()
    app = web.Application(client_max_size=64 * MIB)
    app.router.add_route("*", "/{any:.*}", outside.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    there = f"127.0.0.1:{runner.addresses[0][1]}"
    own, http = free_ports(2)
    job = {"job_name": "j", "scrape_interval": "5s", "scrape_timeout": "5s", "static_configs": [{"targets": [there]}], **job}
    config = {
        "receivers": {
            "prometheus": {"config": {"scrape_configs": [job]}},
            "otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{http}"}}},
        },
        "processors": {"batch": {}},
        "exporters": {
            "prometheusremotewrite": {"endpoint": f"http://{there}/api/v1/write", "tls": {"insecure": True}},
            "otlphttp": {"endpoint": f"http://{there}", "tls": {"insecure": True}},
        },
        "service": {
            "pipelines": {
                "metrics": {"receivers": ["prometheus"], "processors": ["batch"], "exporters": ["prometheusremotewrite"]},
                "logs": {"receivers": ["otlp"], "processors": ["batch"], "exporters": ["otlphttp"]},
            },
            "telemetry": {"metrics": {"readers": [{"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": own}}}}]}},
        },
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    with cgroup(LIMIT) as group:
        if group is None:
            pytest.skip("not tested: no memory cgroup can be made here")
        with open(tmp_path / "log", "wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "kofagent", "run", "--config", str(tmp_path / "config.yaml"),
                stderr=log, preexec_fn=group.enter, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            )  # fmt: skip
        agent = Agent(group, process, {"own": own, "http": http})
        try:
            await agent.until(agent.metrics)
            yield agent, outside
            assert agent.group.peak <= LIMIT
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                try:
                    await asyncio.wait_for(process.wait(), 20)
                except TimeoutError:
                    process.kill()
                    await process.wait()
            await runner.cleanup()
    assert process.returncode == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


async def test_pages_that_do_not_fit_are_refused_and_40_000_series_are_scraped(tmp_path: Path) -> None:
    pages = {
        "10 MiB of short lines": gzip.compress(b"a 1\n" * (10 * MIB // 4)),
        "30 MiB of newlines": gzip.compress(b"\n" * (30 * MIB)),
        "100 000 series": series(100_000, 1),
    }
    async with running(tmp_path) as (agent, outside):
        for name, page in pages.items():
            before = await agent.value("kofagent_memory_refused_total")
            outside.page = page
            await agent.until(lambda before=before: _more(agent, "kofagent_memory_refused_total", before, 2))
            assert agent.process.returncode is None, name
        for turn in range(4):
            outside.page = series(40_000, turn)
            before = await agent.value("otelcol_exporter_sent_metric_points_total")
            await agent.until(lambda before=before: _more(agent, "otelcol_exporter_sent_metric_points_total", before, 40_005))
    assert (tmp_path / "log").read_text().count("does not fit into the memory that is left") >= 1


async def test_40_000_series_that_are_all_replaced_every_2_s(tmp_path: Path) -> None:
    """Two generations and their markers do not fit: scrapes are refused in between, and the agent lives."""
    async with running(tmp_path, scrape_interval="2s", scrape_timeout="2s") as (agent, outside):
        for turn in range(8):
            outside.page = series(40_000, turn, first=40_000 * turn)
            scraped = outside.asked
            await agent.until(lambda scraped=scraped: _asked(outside, scraped + 1))
        outside.page = gzip.compress(b"a 1\n")
        await agent.until(lambda: _more(agent, "otelcol_exporter_sent_metric_points_total", 0, 40_000))


async def test_a_sample_limit_is_told_of_100_000_series(tmp_path: Path) -> None:
    async with running(tmp_path, sample_limit=10_000) as (agent, outside):
        outside.page = series(100_000, 1)
        await agent.until(lambda: _says(tmp_path, "sample limit exceeded (100000 samples, limit 10000)"))
        outside.page = gzip.compress(b"a 1\n")
        await agent.until(lambda: _says(tmp_path, "answers again"))


async def test_large_requests_at_once_are_taken_or_told_to_come_back(tmp_path: Path) -> None:
    """Four of 15 MiB as they are and in 14 KiB of gzip, 8 times 4 MiB, JSON of 5.8 MiB three times, JSON up to the limit.

    One of each set at the least is taken at once, and the others when they come back as they were told.
    """
    record = {
        "severityText": "INFO",
        "body": {"stringValue": "hello"},
        "attributes": [{"key": "a", "value": {"stringValue": "v"}}] * 4,
    }
    plain, in_json = {"Content-Type": "application/x-protobuf"}, {"Content-Type": "application/json"}

    def text(size: int) -> bytes:
        return json.dumps(
            {"resourceLogs": [{"scopeLogs": [{"logRecords": [record] * (size // len(json.dumps(record)))}]}]}
        ).encode()

    sets = [
        (4, _logs(1000, 15 * MIB // 1000), plain),
        (4, gzip.compress(_logs(1, 15 * MIB)), GZIP),
        (8, gzip.compress(_logs(64, MIB // 16)), GZIP),
        (3, text(58 * MIB // 10), in_json),
        (1, text(19 * MIB), in_json),
    ]
    async with running(tmp_path) as (agent, outside):
        for count, body, headers in sets:
            answers = await asyncio.gather(*[agent.post(body, headers) for _ in range(count)])
            assert {200} <= set(answers) <= {200, 503}, f"{len(body)} bytes, {headers}"
            for i in range(answers.count(503)):
                await agent.until(lambda body=body, headers=headers: _taken(agent, body, headers))
                assert agent.process.returncode is None, i
            print(f"{len(body)} bytes, {headers['Content-Type']}: {answers}, peak {agent.group.peak >> 20} MiB")
        before = outside.got
        assert await agent.post(gzip.compress(_logs(10, 100)), GZIP) == 200
        assert outside.got > before


def _logs(records: int, size: int) -> bytes:
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    for i in range(records):
        scope.log_records.add(time_unix_nano=1).body.string_value = f"{i:8d}" * (size // 8)
    return request.SerializeToString()


async def _taken(agent: Agent, body: bytes, headers: dict[str, str]) -> bool:
    return await agent.post(body, headers) == 200


async def _more(agent: Agent, name: str, before: float, by: float) -> bool:
    return await agent.value(name) >= before + by


async def _asked(outside: Outside, times: int) -> bool:
    return outside.asked >= times


async def _says(folder: Path, words: str) -> bool:
    return words in (folder / "log").read_text()
