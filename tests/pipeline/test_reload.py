"""What a reload leaves behind."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from functools import partial

import pytest

from kofagent.component import registry
from kofagent.config.load import LoadedConfig, load_config
from kofagent.memory import garbage
from kofagent.memory.account import ACCOUNT
from kofagent.pipeline.service import Service, run_until
from tests.support.components import eventually

CONFIG = """
receivers:
  otlp: {protocols: {http: {endpoint: "127.0.0.1:0"}, grpc: {endpoint: "127.0.0.1:0"}}}
  filelog: {include: [/nowhere/*.log], operators: [{type: container}]}
  prometheus: {config: {scrape_configs: [{job_name: j, static_configs: [{targets: ["127.0.0.1:1"]}]}]}}
processors: {batch: {}, memory_limiter: {check_interval: 1h, limit_percentage: 80}}
exporters:
  otlphttp: {endpoint: "http://127.0.0.1:1"}
  prometheusremotewrite: {endpoint: "http://127.0.0.1:1", external_labels: {a: b}}
service:
  telemetry: {metrics: {level: none}}
  pipelines:
    logs: {receivers: [otlp, filelog], processors: [memory_limiter, batch], exporters: [otlphttp]}
    metrics: {receivers: [otlp, prometheus], processors: [batch], exporters: [prometheusremotewrite]}
"""


@pytest.fixture(autouse=True)
def _collector() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def plan() -> LoadedConfig:
    return load_config([f"yaml:{CONFIG}"], registry)


def _all_gone(old: list[weakref.ref[object]]) -> bool:
    return all(ref() is None for ref in old)


@pytest.mark.slow
async def test_nothing_of_the_old_pipelines_stays() -> None:
    """The old components are cycles, and were set aside by the garbage collector as what lives long."""
    service = Service(plan())
    await service.start()
    garbage.settle()
    stop, reload = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(run_until(service, stop, reload, plan, str))
    memos = 0
    for turn in range(3):
        graph = service.graph
        components = [
            *graph.receivers.values(),
            *graph.exporters.values(),
            *[p for chain in graph.processors.values() for p in chain],
        ]
        old: list[weakref.ref[object]] = [weakref.ref(one) for one in (graph, *components)]
        del graph, components
        reload.set()
        await eventually(partial(_all_gone, old), message="something holds the old pipelines")
        held = len(ACCOUNT.memos())
        assert not turn or held == memos
        memos = held
    stop.set()
    await running
    await service.stop()
