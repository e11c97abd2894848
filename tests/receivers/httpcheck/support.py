"""Servers that are checked, and readers of what the receiver sends."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from kofagent.receivers.httpcheck import COMPONENT
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.signal import Signal
from tests.support.components import FakeHost, Sink, make

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Point(NamedTuple):
    """One data point."""

    value: int
    attributes: dict[str, Any]


@asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """The URL of a server on 127.0.0.1, without a path."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        yield f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def running(sink: Sink, *targets: dict[str, Any], host: FakeHost | None = None, **options: Any) -> AsyncIterator[Any]:
    """The receiver with these targets; checks once a minute."""
    receiver = make(COMPONENT, {"initial_delay": "0s", **options, "targets": list(targets)}, id="httpcheck", host=host)
    receiver.outputs = {Signal.METRICS: sink}
    try:
        await receiver.start()
        yield receiver
    finally:
        await receiver.stop()


async def checked(*targets: dict[str, Any], on: tuple[str, ...] = (), **options: Any) -> dict[str, list[Point]]:
    """The points of one check of a target with one endpoint each, by metric; `on` are metrics besides the defaults."""
    sink = Sink()
    metrics = {f"httpcheck.{name}": {"enabled": True} for name in on}
    async with running(sink, *targets, metrics=metrics, **options):
        await sink.wait_for(lambda s: len(s.batches) >= len(targets))
    return points(sink)


def points(sink: Sink, batch: int | None = None) -> dict[str, list[Point]]:
    """By metric without `httpcheck.`; of all batches or one."""
    found: dict[str, list[Point]] = {}
    for each in sink.batches if batch is None else [sink.batches[batch]]:
        assert isinstance(each, Batch)
        for resource in ExportMetricsServiceRequest.FromString(each.payload).resource_metrics:
            for metric in resource.scope_metrics[0].metrics:
                data = metric.sum if metric.HasField("sum") else metric.gauge
                found.setdefault(metric.name.removeprefix("httpcheck."), []).extend(
                    Point(point.as_int, {pair.key: _plain(pair.value) for pair in point.attributes}) for point in data.data_points
                )
    return found


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(each) for each in value.array_value.values]
    return getattr(value, kind)
