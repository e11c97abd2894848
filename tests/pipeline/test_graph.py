"""From a configuration to running components: wiring, errors all at once, order of stopping, reload."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from kofagent.component import registry
from kofagent.config.load import LoadedConfig, load_config
from kofagent.pipeline.graph import Graph, StartErrors
from kofagent.pipeline.service import Service
from kofagent.pipeline.telemetry import OwnTelemetry
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.signal import Signal

QUIET = "service: {telemetry: {metrics: {level: none}, logs: {level: error}}}"


def config(text: str) -> LoadedConfig:
    return load_config([f"yaml:{text}", f"yaml:{QUIET}"], registry, environ={})


def graph(text: str) -> Graph:
    plan = config(text)
    it = Graph(plan, Service(plan))
    it.build()
    return it


async def test_a_connector_joins_pipelines_and_a_receiver_feeds_all_that_name_it() -> None:
    it = graph("""
      receivers: {nop: {}}
      processors: {batch: {timeout: 0s}}
      exporters: {nop/a: {}, nop/b: {}}
      connectors: {forward: {}}
      service:
        pipelines:
          logs: {receivers: [nop], processors: [batch], exporters: [forward, nop/a]}
          logs/second: {receivers: [forward], exporters: [nop/b]}
          metrics: {receivers: [nop], exporters: [nop/a]}
    """)
    await it.start()
    assert set(it.receivers["nop"].outputs) == {Signal.LOGS, Signal.METRICS}
    assert it.processors["logs"][0].signal is Signal.LOGS
    taken: list[tuple[str, Any]] = []
    for id, exporter in it.exporters.items():

        async def take(batch: Any, id: str = id) -> None:
            taken.append((id, batch))

        exporter.consume = take  # type: ignore[method-assign]
    batch = Batch(Signal.LOGS, b"", 1)
    await it.receivers["nop"].outputs[Signal.LOGS].consume(batch)
    assert sorted(id for id, _ in taken) == ["nop/a", "nop/b"]
    assert it._pipelines_downstream() == ["logs", "logs/second", "metrics"]
    await it.stop()
    await it.stop()


async def test_everything_that_cannot_start_is_named_and_nothing_stays_up() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        plan = config(f"""
          receivers:
            otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:{port}"}}}}}}
            otlp/free: {{protocols: {{http: {{endpoint: "127.0.0.1:0"}}}}}}
          exporters:
            otlphttp: {{endpoint: "https://127.0.0.1:1", tls: {{ca_file: /nonexistent.pem}}}}
          service: {{pipelines: {{logs: {{receivers: [otlp, otlp/free], exporters: [otlphttp]}}}}}}
        """)
        service = Service(plan)
        with pytest.raises(StartErrors) as error:
            await service.start()
    places = {problem.path[:2] for problem in error.value.problems}
    assert places == {("receivers", "otlp"), ("exporters", "otlphttp")}
    assert str(error.value) == "; ".join(map(str, error.value.problems))
    assert str(port) in str(error.value)
    assert "/nonexistent.pem" in str(error.value)
    await service.stop()


async def test_metrics_of_its_own_that_cannot_be_served_keep_it_from_starting() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        reader = f"{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: {port}}}}}}}}}"
        plan = load_config(
            [
                "yaml:" + PIPE.format(port=0),
                f"yaml:service: {{telemetry: {{metrics: {{readers: [{reader}]}}, logs: {{level: error}}}}}}",
            ],
            registry,
            environ={},
        )
        service = Service(plan)
        with pytest.raises(StartErrors, match=f"127.0.0.1:{port}") as error:
            await service.start()
    assert [problem.path for problem in error.value.problems] == [("service", "telemetry")]
    await service.stop()


async def test_the_own_page_says_that_it_is_ready_when_the_pipelines_run(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = "{pull: {exporter: {prometheus: {host: 127.0.0.1, port: 0}}}}"
    plan = load_config(
        [
            "yaml:" + PIPE.format(port=0),
            f"yaml:service: {{telemetry: {{metrics: {{readers: [{reader}]}}, logs: {{level: error}}}}}}",
        ],
        registry,
        environ={},
    )
    service = Service(plan)
    seen: list[bool] = []
    start = OwnTelemetry.start

    async def started(own: OwnTelemetry) -> None:
        await start(own)
        seen.append(own.ready)

    monkeypatch.setattr(OwnTelemetry, "start", started)
    await service.start()
    assert seen == [False] and service.process.telemetry is not None and service.process.telemetry.ready
    await service.stop()


PIPE = (
    "receivers: {{otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:{port}'}}}}}}}}\n"
    "exporters: {{nop: {{}}}}\nservice: {{pipelines: {{logs: {{receivers: [otlp], exporters: [nop]}}}}}}"
)


def free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_reload_swaps_and_a_start_that_fails_brings_the_old_one_back() -> None:
    environ = {"BOTH": "process"}
    first, second = free(), free()
    plan = config(PIPE.format(port=first))
    plan.environment = {"BOTH": "first", "FIRST": "1"}
    service = Service(plan, environ=environ)
    await service.start()
    assert listens(first)
    assert environ == {"BOTH": "first", "FIRST": "1"}
    plan = config(PIPE.format(port=second))
    plan.environment = {"SECOND": "2"}
    await service.reload(plan)
    assert environ == {"BOTH": "process", "SECOND": "2"}
    assert listens(second)
    assert not listens(first)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(StartErrors):
            await service.reload(config(PIPE.format(port=taken.getsockname()[1])))
    assert listens(second)
    assert environ == {"BOTH": "process", "SECOND": "2"}
    assert not [error for error in service.status().values() if error]
    await service.stop()
    assert not listens(second)
    assert environ == {"BOTH": "process"}


async def test_what_components_share_is_one_object_until_the_graph_is_replaced() -> None:
    plan = config("""
      receivers: {nop: {}}
      exporters: {nop: {}}
      service: {pipelines: {logs: {receivers: [nop], exporters: [nop]}}}
    """)
    service = Service(plan)
    assert service.describe() == {"pipelines": {}, "extensions": []}
    await service.start()
    try:
        assert list(service.describe()["pipelines"]) == ["logs"]
        assert {"receiver/nop": None, "exporter/nop": None}.items() <= service.status().items()
        first: list[int] = service.shared(("a", 1), list)
        assert service.shared(("a", 1), list) is first
        assert service.shared(("a", 2), list) is not first
        await service.reload(plan)
        assert service.shared(("a", 1), list) is not first
    finally:
        await service.stop()


def test_what_a_component_has_to_explain_is_below_its_name() -> None:
    it = graph("""
      receivers: {nop: {}}
      processors: {resource: {attributes: [{key: a, value: b, action: upsert}]}, batch: {}}
      exporters: {nop: {}}
      service: {pipelines: {logs: {receivers: [nop], processors: [resource, batch], exporters: [nop]}}}
    """)
    text = it.explain("logs")
    assert it.processors["logs"][0].explain() in text
    takes = [line.rsplit(", ", 1)[-1] for line in text.splitlines() if line.startswith(("# processor", "# exporter"))]
    assert takes == ["takes OTLP bytes)", "takes columns and OTLP bytes)", "takes columns and OTLP bytes)"]
