"""Real stores behind the agent, read back through their own APIs."""

from __future__ import annotations

import asyncio
import json
import urllib.parse
from typing import Any

from tests.faults.trial import Trial
from tests.support import servers

WANTED = ("victoria-metrics", "victoria-logs")


async def stores(trial: Trial) -> None:
    """VictoriaMetrics and VictoriaLogs stop and come back, the agent is killed: both have everything, by their own APIs."""
    if absent := [name for name in WANTED if servers.find(name) is None]:
        trial.untested(f"real stores: {' and '.join(absent)} not installed")
        return
    folder = trial.folder / "stores"
    folder.mkdir()
    metrics, vm = await asyncio.to_thread(servers.victoria_metrics, folder)
    try:
        logs, vl = await asyncio.to_thread(servers.victoria_logs, folder)
        try:
            await _stores(trial, metrics, vm, logs, vl)
        finally:
            await asyncio.to_thread(logs.stop)
    finally:
        await asyncio.to_thread(metrics.stop)


async def _stores(trial: Trial, metrics: servers.Server, vm: str, logs: servers.Server, vl: str) -> None:
    pods = [trial.pod(f"pod-{n}", 100, 500) for n in range(2)]
    await trial.begin(lambda config: _send_to(config, vm, vl))
    for source in [*pods, trial.spans]:
        source.start()
    pause = trial.lasts(4, 60)
    await asyncio.sleep(pause)
    trial.say("the stores stop")
    await asyncio.gather(*(asyncio.to_thread(store.stop) for store in (metrics, logs)))
    await asyncio.sleep(pause)
    trial.say("the agent is killed")
    await trial.agent.kill()
    await trial.agent.start()
    await asyncio.sleep(pause)
    trial.say("the stores come back")
    await asyncio.gather(*(asyncio.to_thread(store.restart) for store in (metrics, logs)))
    await asyncio.sleep(pause)
    for source in trial.sources:
        await source.stop()
    trial.pages.silent = True

    async def all_there() -> bool:
        await asyncio.to_thread(_read_back, trial, vm, vl)
        return not any(trial.missing().values())

    for _ in range(60):
        if await all_there():
            break
        await asyncio.sleep(1)
    counts = {"lines": trial.sink.lines, "samples": trial.sink.samples}
    trial.figure(", ".join(f"{len(arrivals.count)} {kind} read back" for kind, arrivals in counts.items()))
    await trial.settle(5)
    trial.check(trial.result.twice["lines"] <= 2 * 200 + 1000, f"{trial.result.twice['lines']} lines twice after one kill")


def _send_to(config: dict[str, Any], vm: str, vl: str) -> None:
    exporters = config["exporters"]
    del exporters["otlphttp/logs"]["endpoint"]
    exporters["otlphttp/logs"]["logs_endpoint"] = vl + "/insert/opentelemetry/v1/logs"
    exporters["prometheusremotewrite"]["endpoint"] = vm + "/api/v1/write"


def _read_back(trial: Trial, vm: str, vl: str) -> None:
    """Puts into the trial's sink what the stores have."""
    sink = trial.sink
    sink.lines, sink.samples = type(sink.lines)(), type(sink.samples)()
    servers.get(vl + "/internal/force_flush")
    query = urllib.parse.urlencode({"query": "trial | fields _msg", "limit": 10_000_000})
    for line in servers.get(f"{vl}/select/logsql/query?{query}", 60)[1].decode().splitlines():
        _, source, number, *_ = json.loads(line)["_msg"].split(" ", 3)
        sink.lines.add(source, int(number))
    servers.get(vm + "/internal/force_flush")
    query = urllib.parse.urlencode({"match[]": "trial_number"})
    for line in servers.get(f"{vm}/api/v1/export?{query}", 60)[1].decode().splitlines():
        series = json.loads(line)
        for value in series["values"]:
            if value is not None:
                sink.samples.add(f"{series['metric']['t']}/{series['metric']['s']}", int(value))
