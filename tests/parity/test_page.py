"""The recorded page of the Go collector, scraped by kofagent: the same series, labels and values, also after the end."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from kofagent.receivers.prometheus import COMPONENT
from kofagent.telemetry.batch import MetricBatch
from kofagent.telemetry.series import STALE_BITS
from kofagent.telemetry.signal import Signal
from tests.support.components import Sink, make

HERE = Path(__file__).parent
RECORDED_INSTANCE = "127.0.0.1:19157"
# Upstream's own additions, and the one gap of upstream's that Prometheus does not have (see README.md).
SCOPE = ("otel_scope_name", "otel_scope_version")
ENDS_HERE_TOO = {"lat_sum"}


def recorded(name: str) -> dict[tuple[tuple[str, str], ...], list[str]]:
    out = {}
    for entry in json.loads((HERE / "page-expected.json").read_text())[name]:
        labels = {k: v for k, v in entry["labels"].items() if k not in SCOPE}
        if labels["__name__"] == "target_info":
            continue
        values = entry["values_in_order"]
        if labels["__name__"] in ENDS_HERE_TOO:
            values = [*values, "nan"]
        out[tuple(sorted(labels.items()))] = values
    return out


def recorded_target_info(name: str) -> set[tuple[tuple[str, str], ...]]:
    """`target_info` is the exporter's, made of the resource of each group."""
    found = [entry["labels"] for entry in json.loads((HERE / "page-expected.json").read_text())[name]]
    return {
        tuple(sorted((k, v) for k, v in labels.items() if k != "__name__"))
        for labels in found
        if labels["__name__"] == "target_info"
    }


def written(sink: Sink, instance: str) -> dict[tuple[tuple[str, str], ...], list[str]]:
    out: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for batch in sink.batches:
        assert isinstance(batch, MetricBatch)
        for group in batch.groups:
            for series, value in zip(group.series, group.values, strict=True):
                labels = {k: RECORDED_INSTANCE if v == instance else v for k, v in series.labels}
                values = out.setdefault(tuple(sorted(labels.items())), [])
                text = "nan" if math.isnan(value) else str(float(value))
                if not values or values[-1] != text:
                    values.append(text)
    return out


@pytest.mark.parametrize("honor", [False, True])
async def test_series_equal_the_recording(honor: bool) -> None:
    page = (HERE / "page.txt").read_bytes()

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=page, headers={"Content-Type": "text/plain; version=0.0.4"})

    app = web.Application()
    app.router.add_get("/metrics", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    instance = f"127.0.0.1:{runner.addresses[0][1]}"
    options: dict[str, Any] = {
        "config": {
            "global": {"external_labels": {"clusterName": "child1"}},
            "scrape_configs": [
                {
                    "job_name": "parity",
                    "scrape_interval": "200ms",
                    "scrape_timeout": "200ms",
                    "honor_labels": honor,
                    "static_configs": [{"targets": [instance], "labels": {"node": "n1"}}],
                    "relabel_configs": [
                        {"source_labels": ["node"], "regex": "(.+)", "target_label": "nodename", "replacement": "x-$1"}
                    ],
                    "metric_relabel_configs": [{"source_labels": ["__name__"], "regex": "drop_.*|go_gc.*", "action": "drop"}],
                }
            ],
        }
    }
    receiver = make(COMPONENT, options, id="prometheus")
    sink = Sink()
    receiver.outputs = {Signal.METRICS: sink}
    await receiver.start()
    try:
        await sink.wait_for(lambda s: len(s.batches) >= 2)
        await runner.cleanup()
        await sink.wait_for(
            lambda s: any(
                series.name == "up" and value == 0.0
                for b in s.batches
                for g in b.groups
                for series, value in zip(g.series, g.values, strict=True)
            )
        )
    finally:
        await receiver.stop()
        await runner.cleanup()

    expected, found = recorded(f"honor_labels_{str(honor).lower()}"), written(sink, instance)
    for values in (expected, found):
        for labels in [labels for labels in values if dict(labels)["__name__"] == "scrape_duration_seconds"]:
            values[labels] = ["..."]
    assert found == expected

    infos = {
        tuple(
            sorted(
                {
                    (
                        "job" if k == "service.name" else "instance" if k == "service.instance.id" else k.replace(".", "_")
                    ): RECORDED_INSTANCE if v == instance else RECORDED_INSTANCE[-5:] if v == instance[10:] else v
                    for k, v in (g.resource or {}).items()
                }.items()
            )
        )
        for b in sink.batches
        for g in b.groups
    }
    assert infos == recorded_target_info(f"honor_labels_{str(honor).lower()}")

    markers = {
        struct.unpack("<Q", struct.pack("<d", v))[0]
        for b in sink.batches
        for g in b.groups
        for s, v in zip(g.series, g.values, strict=True)
        if math.isnan(v) and dict(s.labels).get("v") != "nan"
    }
    assert markers == {STALE_BITS}
