"""What a reload leaves behind."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from aiohttp import web

from kofagent.component import registry
from kofagent.config.load import LoadedConfig, load_config
from kofagent.memory import garbage
from kofagent.memory.account import ACCOUNT
from kofagent.pipeline.service import Service, run_until
from kofagent.prometheus.target import Target
from kofagent.telemetry.batch import MetricBatch
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


class Targets:
    """`/slow` answers when it is told to, `/fast` at once."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.go = asyncio.Event()
        self.fast = 0
        self.taken: dict[str, list[float]] = {}

    async def slow(self, request: web.Request) -> web.Response:
        self.asked.set()
        await self.go.wait()
        return web.Response(text="slow 7\n")

    async def quick(self, request: web.Request) -> web.Response:
        self.fast += 1
        return web.Response(text="fast 1\n")

    async def consume(self, batch: Any) -> None:
        assert isinstance(batch, MetricBatch)
        for group in batch.groups:
            for series, value in zip(group.series, group.values, strict=True):
                self.taken.setdefault(dict(series.labels)["__name__"], []).append(value)


async def test_a_reload_lets_scrapes_under_way_end_while_the_others_go_on_and_a_stop_does_not_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Target, "offset", lambda self, now=None: 0.0)  # a part of the interval, of an hour here
    targets = Targets()
    app = web.Application()
    app.router.add_get("/slow", targets.slow)
    app.router.add_get("/fast", targets.quick)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    at = site._server.sockets[0].getsockname()  # type: ignore[union-attr]
    job = "{{job_name: {0}, metrics_path: /{0}, scrape_interval: {1}, scrape_timeout: {1}, static_configs: [{{targets: ['127.0.0.1:{2}']}}]}}"
    jobs = ", ".join(job.format(name, every, at[1]) for name, every in (("slow", "1h"), ("fast", "100ms")))

    def read() -> LoadedConfig:
        text = f"""
          receivers: {{prometheus: {{initial_scrape_offset: 1ms, config: {{scrape_configs: [{jobs}]}}}}}}
          exporters: {{prometheusremotewrite: {{endpoint: "http://127.0.0.1:1"}}}}
          service:
            telemetry: {{metrics: {{level: none}}}}
            pipelines: {{metrics: {{receivers: [prometheus], exporters: [prometheusremotewrite]}}}}
        """
        return load_config([f"yaml:{text}"], registry)

    service = Service(read())
    stop, reload = asyncio.Event(), asyncio.Event()
    await service.start()
    service.graph.exporters["prometheusremotewrite"].consume = targets.consume  # type: ignore[method-assign]
    running = asyncio.create_task(run_until(service, stop, reload, read, str))
    try:
        await eventually(targets.asked.is_set)
        first = service.graph
        reload.set()
        before = targets.fast
        await eventually(lambda: targets.fast > before + 2)  # goes on while the reload waits
        assert service.graph is first
        targets.go.set()
        await eventually(lambda: service.graph is not first)
        assert targets.taken["slow"] == [7.0]
        assert 0.0 not in targets.taken["up"]
        targets.go.clear()
        targets.asked.clear()
        await eventually(targets.asked.is_set)
        reload.set()
        await eventually(lambda: not reload.is_set())
        stop.set()
        await running
    finally:
        running.cancel()
        await service.stop()
        await runner.cleanup()


async def test_what_is_learned_from_the_data_is_kept_as_long_as_somebody_asks_for_it() -> None:
    text = """
receivers: {nop: {}}
processors: {cumulativetodelta: {max_staleness: AGE}, deltatocumulative: {}}
exporters: {nop: {}}
service:
  telemetry: {metrics: {level: none}}
  pipelines: {metrics/a: {receivers: [nop], processors: [PROCESSORS], exporters: [nop]}}
"""

    def of(processors: str, age: str) -> LoadedConfig:
        return load_config(["yaml:" + text.replace("PROCESSORS", processors).replace("AGE", age)], registry)

    def streams(at: int) -> Any:
        component: Any = service.graph.processors["metrics/a"][at]
        return (component._state if at == 0 else component._kept).streams

    service = Service(of("cumulativetodelta, deltatocumulative", "1h"))
    await service.start()
    first, second = streams(0), streams(1)
    await service.reload(of("cumulativetodelta, deltatocumulative", "2h"))
    assert (streams(0), streams(1)) == (first, second) and first.max_stale == 7200
    gone = weakref.ref(second)
    del second
    await service.reload(of("cumulativetodelta", "1h"))
    gc.collect()
    assert streams(0) is first and gone() is None, "nobody asked for it"
    await service.stop()
