"""`kofagent dev`: collect this machine into an embedded region and show, line by line, what arrives."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
import time

from kofagent.cli.sources import explain, print_warnings
from kofagent.component import registry
from kofagent.component.protocols import StartError
from kofagent.config.errors import ConfigErrors
from kofagent.config.load import LoadedConfig, load_config
from kofagent.pipeline.graph import StartErrors
from kofagent.pipeline.service import Service
from kofagent.region.server import Region
from kofagent.telemetry.signal import Signal
from kofagent.values.render import pipelines_directory

log = logging.getLogger("kofagent.dev")

DEFAULT_LOGS = ["/var/log/*.log", "/var/log/syslog", "/var/log/messages", "/var/log/*/*.log", "/var/log/pods/*/*/*.log"]
EVERY = 2.0


def main(arguments: argparse.Namespace) -> int:
    """0 after a drained stop (or --seconds), 1 when it cannot start."""
    try:
        return asyncio.run(_dev(arguments))
    except KeyboardInterrupt:
        return 0


async def _dev(arguments: argparse.Namespace) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    region = Region(arguments.region)
    try:
        await region.start()
    except StartError as error:
        print(f"kofagent dev: {error}; --region 127.0.0.1:0 takes a free port", file=sys.stderr)
        return 1
    config: LoadedConfig | None = None
    try:
        config = load_config(
            [os.path.join(pipelines_directory(), "dev.yaml"), *arguments.config],
            registry,
            environ={
                **os.environ,
                "KOFAGENT_DEV_REGION": region.endpoint,
                "KOFAGENT_DEV_GRPC": arguments.otlp_grpc,
                "KOFAGENT_DEV_HTTP": arguments.otlp_http,
                "KOFAGENT_DEV_LOGS": json.dumps(arguments.logs or DEFAULT_LOGS),
            },
        )
        print_warnings(config)
        service = Service(config)
        await service.start()
    except (ConfigErrors, StartErrors) as errors:
        print(explain(errors, config), file=sys.stderr)
        await region.stop()
        return 1
    print(f"region   http://{region.endpoint}/  (metrics, logs, traces; try /api/v1/query?query=system_memory_usage_bytes)")
    print(f"OTLP     grpc {arguments.otlp_grpc}, http {arguments.otlp_http};  Ctrl-C stops", flush=True)
    try:
        async with asyncio.timeout(arguments.seconds or None):
            await _show(service, region, stop)
    except TimeoutError:
        pass
    await service.stop()
    print(_lines(service, region, {}, 0.0), flush=True)
    await region.stop()
    return 0


async def _show(service: Service, region: Region, stop: asyncio.Event) -> None:
    """A line per signal every EVERY seconds, redrawn in place on a terminal."""
    redraw = sys.stdout.isatty()
    before: dict[str, float] = {}
    drawn = False
    while not stop.is_set():
        started = time.monotonic()
        try:
            async with asyncio.timeout(EVERY):
                await stop.wait()
                return
        except TimeoutError:
            pass
        text = _lines(service, region, before, time.monotonic() - started)
        if redraw and drawn:
            print(f"\x1b[{text.count(chr(10)) + 1}A\x1b[J", end="")
        print(text, flush=True)
        drawn = True
        before = _taken(region)


def _taken(region: Region) -> dict[str, float]:
    return {"metrics": region.samples.taken, "logs": region.logs.taken, "traces": region.spans.taken}


def _lines(service: Service, region: Region, before: dict[str, float], seconds: float) -> str:
    """One line per signal: accepted, stored in the region, rate, refused, dropped."""
    ledger = service.ledger
    dropped = {signal.value: 0.0 for signal in Signal}
    reasons: set[str] = set()
    for metric in ledger.registry.collect():
        for sample in metric.samples:
            if sample.name == "kofagent_dropped_items_total" and sample.value:
                dropped[sample.labels["signal"]] += sample.value
                reasons.add(f"{sample.labels['component']}: {sample.labels['reason']}")
    taken = _taken(region)
    held = {
        "metrics": f"{len(region.samples)} series",
        "logs": f"{len(region.logs)} records",
        "traces": f"{len(region.spans)} traces",
    }
    out = []
    for each in Signal:
        name = each.value
        accepted = ledger.sum(f"otelcol_receiver_accepted_{each.items}_total")
        refused = ledger.sum(f"otelcol_receiver_refused_{each.items}_total")
        rate = (taken[name] - before.get(name, 0)) / seconds if before and seconds else 0.0
        out.append(
            f"{name:<8} accepted {accepted:>9.0f}   stored {taken[name]:>9.0f} ({held[name]})   {rate:>8.1f}/s   "
            f"refused {refused:.0f}   dropped {dropped[name]:.0f}"
        )
    if reasons:
        out.append("dropped because of " + "; ".join(sorted(reasons)))
    errors = [f"{component}: {error}" for component, error in service.status().items() if error]
    return "\n".join(out + errors)
