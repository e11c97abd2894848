"""A real node exporter, scraped by kofagent and by a real Prometheus with the same configuration: the same series."""

from __future__ import annotations

import asyncio
import json
import math
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web

from kofagent.prometheus.families import canonical_bound
from kofagent.receivers.prometheus import COMPONENT
from kofagent.telemetry.signal import Signal
from tests.support import servers
from tests.support.components import Sink, make

Key = tuple[tuple[str, str], ...]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@asynccontextmanager
async def process(name: str, *arguments: str) -> AsyncIterator[None]:
    binary = servers.find(name)
    assert binary
    quiet = asyncio.subprocess.DEVNULL
    running = await asyncio.create_subprocess_exec(binary, *arguments, stdout=quiet, stderr=quiet)
    try:
        yield
    finally:
        running.kill()
        await running.wait()


async def fetch(url: str, ready: Any = bool, seconds: float = 40) -> bytes:
    """The body of `url` once it answers 200 and `ready(body)`."""
    async with asyncio.timeout(seconds), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(url) as response:
                    body = await response.read()
                    if response.status == 200 and ready(body):
                        return body
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.2)


def key(labels: dict[str, str]) -> Key:
    return tuple(sorted((k, canonical_bound(v) if k in ("le", "quantile") else v) for k, v in labels.items()))


@pytest.mark.server("prometheus")
@pytest.mark.server("prometheus-node-exporter")
@pytest.mark.slow
async def test_the_same_series_as_prometheus(tmp_path: Path) -> None:
    exporter, server = free_port(), free_port()
    async with process("prometheus-node-exporter", f"--web.listen-address=127.0.0.1:{exporter}", "--no-collector.systemd"):
        page = await fetch(f"http://127.0.0.1:{exporter}/metrics", lambda b: b"node_cpu" in b)

        async def replay(request: web.Request) -> web.StreamResponse:
            return web.Response(body=page, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

        app = web.Application()
        app.router.add_get("/metrics", replay)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        recorded = f"127.0.0.1:{runner.addresses[0][1]}"
        jobs = [
            {
                "job_name": job,
                "scrape_interval": "1s",
                "scrape_timeout": "1s",
                "static_configs": [{"targets": [address], "labels": {"zone": "z1", "device": "mine"}}],
                "relabel_configs": [
                    {"source_labels": ["__address__"], "regex": "(.+):(.+)", "target_label": "host", "replacement": "$1"},
                    {"source_labels": ["__address__"], "action": "hashmod", "modulus": 7, "target_label": "shard"},
                ],
                "metric_relabel_configs": [
                    {"source_labels": ["__name__"], "regex": "go_gc_.*", "action": "drop"},
                    {"regex": "mode", "action": "labelmap", "replacement": "the_mode"},
                    {"source_labels": ["cpu"], "regex": "(.+)", "target_label": "core", "replacement": "c${1}"},
                ],
            }
            for job, address in (("live", f"127.0.0.1:{exporter}"), ("recorded", recorded))
        ]
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump({"scrape_configs": jobs}))
        receiver, sink = make(COMPONENT, {"config": {"scrape_configs": jobs}}, id="prometheus"), Sink()
        receiver.outputs = {Signal.METRICS: sink}
        arguments = (
            f"--config.file={tmp_path}/prometheus.yml",
            f"--storage.tsdb.path={tmp_path}/data",
            f"--web.listen-address=127.0.0.1:{server}",
        )
        async with process("prometheus", *arguments):
            await receiver.start()
            try:
                await sink.wait_for(lambda s: len(s.batches) >= 4)
                shown = {t.labels["job"]: t for pool in receiver.pools.values() for t in pool.targets}
                base = f"http://127.0.0.1:{server}/api/v1"
                both = await fetch(
                    f"{base}/targets?state=active",
                    lambda b: [t["health"] for t in json.loads(b)["data"]["activeTargets"]] == ["up", "up"],
                )
                answer = json.loads(
                    await fetch(
                        f"{base}/query?query=%7Bjob%3D~%22live%7Crecorded%22%7D",
                        lambda b: len({r["metric"]["job"] for r in json.loads(b)["data"]["result"]}) == 2,
                    )
                )
            finally:
                await receiver.stop()
                await runner.cleanup()

    theirs = {key(r["metric"]): float(r["value"][1]) for r in answer["data"]["result"]}
    ours = {key(dict(s.labels)): v for b in sink.batches for g in b.groups for s, v in zip(g.series, g.values, strict=True)}
    assert len(ours) > 500
    assert set(ours) == set(theirs)
    changing = {"scrape_duration_seconds", "scrape_series_added"}
    for labels, value in ours.items():
        named = dict(labels)
        if named["job"] == "recorded" and named["__name__"] not in changing:
            assert value == theirs[labels] or (math.isnan(value) and math.isnan(theirs[labels])), labels
    for entry in json.loads(both)["data"]["activeTargets"]:
        target = shown[entry["labels"]["job"]]
        assert (entry["labels"], entry["discoveredLabels"], entry["scrapeUrl"]) == (target.labels, target.discovered, target.url)
