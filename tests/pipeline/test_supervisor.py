"""Several collectors in one process: one page, ledgers of their own, reloads of those that changed, one server for equal ones."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from kofagent.component import registry
from kofagent.component.protocols import Kubeconfig
from kofagent.config.load import load_config
from kofagent.config.model import LoadedConfig
from kofagent.kubernetes.resources import PODS
from kofagent.pipeline.process import Variables
from kofagent.pipeline.supervisor import CollectorErrors, Supervisor, of_several, same
from tests.support.components import eventually
from tests.support.fake_kube import FakeKube, pod
from tests.support.servers import free_port

ANSWERS = """
receivers: {{otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:{port}"}}}}}}}}
exporters: {{nop: }}
service:
  pipelines: {{logs: {{receivers: [otlp], exporters: [nop]}}}}
  telemetry:
    logs: {{level: {level}}}
    metrics: {{readers: [{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: {metrics}}}}}}}}}]}}
"""


def plan(*sources: str) -> LoadedConfig:
    return load_config([f"yaml:{source}" for source in sources], registry, environ={})


def answers(port: int = 0, metrics: int = 0, level: str = "info", *more: str) -> LoadedConfig:
    return plan(ANSWERS.format(port=port, metrics=metrics, level=level), *more)


@asynccontextmanager
async def running(**plans: LoadedConfig) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(plans)
    await supervisor.start()
    try:
        yield supervisor
    finally:
        await supervisor.stop()


async def ask(port: int, path: str = "/metrics", body: Any = None) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.request("GET" if body is None else "POST", f"http://127.0.0.1:{port}{path}", json=body) as answer,
    ):
        return answer.status, await answer.text()


async def send(supervisor: Supervisor, collector: str, records: int) -> None:
    receiver: Any = supervisor.services[collector].graph.receivers["otlp"]
    logs = [{"body": {"stringValue": str(index)}} for index in range(records)]
    status, text = await ask(receiver.ports["http"], "/v1/logs", {"resourceLogs": [{"scopeLogs": [{"logRecords": logs}]}]})
    assert status == 200, text


Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def scraped(supervisor: Supervisor, page: int = 0) -> Samples:
    assert supervisor.process.telemetry is not None
    status, text = await ask(supervisor.process.telemetry.addresses[page][1])
    assert status == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(samples: Samples, name: str, label: str = "collector") -> dict[str, float]:
    """Values by a label, of a name that has one series for each."""
    found = [(dict(labels).get(label, ""), value) for (each, labels), value in samples.items() if each == name]
    assert len(found) == len(dict(found))
    return dict(found)


async def test_equal_pages_are_one_and_each_collector_has_a_ledger_of_its_own() -> None:
    async with running(a=answers(), b=answers()) as supervisor:
        await send(supervisor, "a", 3)
        await send(supervisor, "b", 4)
        assert supervisor.process.telemetry is not None and len(supervisor.process.telemetry.addresses) == 1
        samples = await scraped(supervisor)
    accepted, sent = "otelcol_receiver_accepted_log_records_total", "otelcol_exporter_sent_log_records_total"
    assert of(samples, accepted) == of(samples, sent) == {"a": 3, "b": 4}
    assert set(of(samples, "target_info")) == {"a", "b"}
    assert len(of(samples, "target_info", "service_instance_id")) == 2
    assert set(of(samples, "otelcol_process_memory_rss_bytes")) == {""}  # of the process
    assert not [labels for (name, labels) in samples if name.startswith("kofagent_memo") and "collector" in dict(labels)]
    names = [name for name, _ in samples]
    assert len(names) == len(samples)


async def test_pages_that_differ_have_the_series_of_their_own_collector() -> None:
    port = free_port()
    async with running(a=answers(), b=answers(metrics=port)) as supervisor:
        await send(supervisor, "a", 1)
        await send(supervisor, "b", 2)
        for page, want in enumerate(({"a": 1}, {"b": 2})):
            samples = await scraped(supervisor, page)
            assert of(samples, "otelcol_receiver_accepted_log_records_total") == want
            assert set(of(samples, "otelcol_process_memory_rss_bytes")) == {""}


async def test_the_page_is_ready_when_all_pipelines_run(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    supervisor = Supervisor({"a": answers(), "b": answers()})
    resume = supervisor.services["b"].resume

    async def resumed(plan: LoadedConfig) -> None:
        assert supervisor.process.telemetry is not None
        seen.append((await ask(supervisor.process.telemetry.addresses[0][1]))[0])
        await resume(plan)

    monkeypatch.setattr(supervisor.services["b"], "resume", resumed)
    await supervisor.start()
    await supervisor.stop()
    assert seen == [503]


async def test_components_log_with_the_name_and_at_the_level_of_their_collector(capsys: pytest.CaptureFixture[str]) -> None:
    before = [logging.getLogger(name).level for name in ("kofagent.a", "kofagent.b")]
    async with running(a=answers(level="error"), b=answers()) as supervisor:
        for service in supervisor.services.values():
            service.graph.receivers["otlp"].context.log.info("hello")
    err = capsys.readouterr().err
    assert "info b.receiver.otlp: hello" in err and "a.receiver.otlp: hello" not in err
    assert [logging.getLogger(name).level for name in ("kofagent.a", "kofagent.b")] == before


async def test_a_reload_starts_those_anew_that_have_changed() -> None:
    async with running(a=answers(), b=answers()) as supervisor:
        await send(supervisor, "a", 1)
        await send(supervisor, "b", 1)
        graphs = {name: service.graph for name, service in supervisor.services.items()}
        await supervisor.reload({"a": answers(), "b": answers()})
        assert all(service.graph is graphs[name] for name, service in supervisor.services.items())
        changed = answers(0, 0, "info", "processors: {batch: }", "service: {pipelines: {logs: {processors: [batch]}}}")
        await supervisor.reload({"a": answers(), "b": changed})
        assert supervisor.services["a"].graph is graphs["a"]
        assert supervisor.services["b"].graph is not graphs["b"] and "batch" in str(supervisor.services["b"].describe())
        await send(supervisor, "b", 2)
        assert of(await scraped(supervisor), "otelcol_receiver_accepted_log_records_total") == {"a": 1, "b": 3}


async def test_a_reload_in_which_one_cannot_start_leaves_all_as_they_were() -> None:
    first, second = free_port(), free_port()
    async with running(a=answers(first), b=answers(second)) as supervisor:
        old = dict(supervisor.services["a"].plan.components)
        other = "receivers: {otlp: {protocols: {grpc: {endpoint: '127.0.0.1:0'}}}}"
        with pytest.raises(CollectorErrors) as caught:
            await supervisor.reload({"a": answers(first, 0, "info", other), "b": answers(first)})  # a keeps its port
        (problem,) = caught.value.problems
        assert str(problem).startswith("yaml::2: receivers.otlp: b: ") and f"127.0.0.1:{first}" in str(problem)
        assert supervisor.services["a"].plan.components == old
        await send(supervisor, "a", 1)
        await send(supervisor, "b", 1)
        assert [service.graph.receivers["otlp"].ports["http"] for service in supervisor.services.values()] == [first, second]  # type: ignore[attr-defined]


async def test_ports_that_two_collectors_exchange_in_a_reload() -> None:
    first, second = free_port(), free_port()
    async with running(a=answers(first), b=answers(second)) as supervisor:
        await supervisor.reload({"a": answers(second), "b": answers(first)})
        await send(supervisor, "a", 1)
        assert [service.graph.receivers["otlp"].ports["http"] for service in supervisor.services.values()] == [second, first]  # type: ignore[attr-defined]


async def test_what_is_wrong_with_any_of_them_is_told_at_once_and_then_none_runs() -> None:
    first, second = free_port(), free_port()
    supervisor = Supervisor({name: answers(port, second) for name, port in (("a", first), ("b", first), ("c", second))})
    with pytest.raises(CollectorErrors) as caught:
        await supervisor.start()
    assert [str(problem).partition(" cannot")[0] for problem in caught.value.problems] == [
        "yaml::2: receivers.otlp: b: otlp:",
        "yaml::2: receivers.otlp: c: otlp:",
    ]
    for port in (first, second):
        with pytest.raises(aiohttp.ClientConnectorError):
            await ask(port)


HEALTH = """
extensions: {{health_check: {{endpoint: "127.0.0.1:{0}", check_collector_pipeline: {{enabled: {1}, exporter_failure_threshold: 0}}}}}}
service: {{extensions: [health_check]}}
"""


async def test_health_is_that_of_all_and_stays_while_one_is_reloaded() -> None:
    port = free_port()

    def checked(enabled: str) -> LoadedConfig:
        return answers(0, 0, "info", HEALTH.format(port, enabled))

    async with running(a=checked("false"), b=checked("true")) as supervisor:
        status, text = await ask(port, "/")
        assert (status, '"collectors":{"a":"Server available","b":"Server available"}' in text) == (200, True), text
        extension: Any = supervisor.services["b"].graph.extensions["health_check"]
        supervisor.services["b"].report("exporter/nop", "does not answer")
        extension._look(asyncio.get_running_loop().time())
        status, text = await ask(port, "/")
        assert (status, '"collectors":{"a":"Server available","b":"Server not available"}' in text) == (503, True), text
        before = supervisor.services["a"].graph
        await supervisor.reload({"a": answers(), "b": checked("true")})  # the first, who has bound it, leaves
        assert supervisor.services["a"].graph is not before
        status, text = await ask(port, "/")
        assert '"collectors":{"b":' in text
        await supervisor.reload({"a": checked("false"), "b": answers()})
        status, text = await ask(port, "/")
        assert (status, '"collectors":{"a":"Server available"}' in text) == (200, True), text


TARGETS = """
receivers:
  prometheus:
    api_server: {{enabled: true, server_config: {{endpoint: "127.0.0.1:{0}"}}}}
    config: {{scrape_configs: [{{job_name: {1}, static_configs: [{{targets: ["127.0.0.1:1"]}}]}}, {{job_name: both}}]}}
service: {{pipelines: {{metrics: {{receivers: [prometheus], exporters: [nop]}}}}}}
"""


async def test_targets_of_all_are_at_one_endpoint() -> None:
    port = free_port()
    plans = {name: answers(0, 0, "info", TARGETS.format(port, f"job-{name}")) for name in "ab"}
    async with running(**plans):
        _, text = await ask(port, "/api/v1/targets")
        assert '"scrapePool": "job-a"' in text and '"scrapePool": "job-b"' in text
        _, text = await ask(port, "/api/v1/targets?scrapePool=job-b")
        assert 'job-a",' not in text and '"scrapePool": "job-b"' in text
        _, text = await ask(port, "/api/v1/scrape_pools")
        assert '["both", "job-a", "job-b"]' in text
        _, text = await ask(port, "/api/v1/status/config")
        assert "job-a" in text and "job-b" in text
        _, text = await ask(port)
        assert 'collector="a"' in text and 'collector="b"' in text


async def test_one_that_could_not_be_started_again_is_by_the_next_reload() -> None:
    first, second = free_port(), free_port()
    async with running(a=answers(first), b=answers(second)) as supervisor:
        with socket.socket() as taken:
            await supervisor.services["b"].pause()
            taken.bind(("127.0.0.1", second))
            taken.listen()
            with pytest.raises(CollectorErrors):
                await supervisor.reload({"a": answers(first), "b": answers(second, 0, "error")})
            assert [service.runs for service in supervisor.services.values()] == [True, False]
        await supervisor.reload({"a": answers(first), "b": answers(second)})
        await send(supervisor, "b", 1)


WATCHES = """
receivers: {nop: }
processors: {k8sattributes: {auth_type: kubeConfig, filter: {node: n1}}}
exporters: {nop: }
service:
  pipelines: {logs: {receivers: [nop], processors: [k8sattributes], exporters: [nop]}}
  telemetry: {metrics: {level: none}}
"""


async def test_all_of_them_have_one_client_and_one_watch_of_the_same_objects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FakeKube() as kube:
        access = Kubeconfig(str(kube.use(monkeypatch, tmp_path)))
        kube.put(PODS, pod("ns", "p"))
        supervisor = Supervisor({"a": plan(WATCHES), "b": plan(WATCHES)}, kubeconfig=access)
        await supervisor.start()
        try:
            await eventually(lambda: kube.watches("pods"))
            lists = [path for _, path, query in kube.requests if path.endswith("/pods") and "watch" not in query]
            assert kube.watches("pods") == len(lists) == 1
            # one that starts anew joins the watch of the other
            await supervisor.reload({"a": plan(WATCHES, "processors: {batch: }"), "b": plan(WATCHES)})
            await supervisor.reload({name: plan(WATCHES, "processors: {batch: }") for name in "ab"})
            assert kube.watches("pods") == 1
            lists = [path for _, path, query in kube.requests if path.endswith("/pods") and "watch" not in query]
            assert len(lists) == 1
        finally:
            await supervisor.stop()
        await eventually(lambda: not kube.watches("pods"))


def test_variables_of_several_come_and_go() -> None:
    environ = {"BOTH": "process"}
    variables, a, b = Variables(environ), object(), object()
    variables.put(a, {"BOTH": "a", "A": "1"})
    variables.put(b, {"BOTH": "b", "B": "1"})
    assert environ == {"BOTH": "b", "A": "1", "B": "1"}
    variables.put(a, {"A": "2"})
    assert environ == {"BOTH": "b", "A": "2", "B": "1"}
    variables.put(b, {})
    assert environ == {"BOTH": "process", "A": "2"}
    variables.put(a, {})
    assert environ == {"BOTH": "process"}


async def test_common_objects_are_there_as_long_as_one_of_them_runs() -> None:
    async with running(a=answers(), b=answers()) as supervisor:
        a, b = supervisor.services.values()
        first: list[int] = a.common("x", list)
        assert b.common("x", list) is first and a.shared("x", list) is not b.shared("x", list)
        await a.pause()
        assert b.common("x", list) is first
        await b.pause()
        assert b.common("x", list) is not first


def test_two_configurations_are_the_same_by_their_values() -> None:
    routing = """
      connectors: {routing: {default_pipelines: [logs/x], table: [{context: log, condition: 'attributes["a"] == "b"', pipelines: [logs/x]}]}}
      service: {pipelines: {logs: {exporters: [routing]}, logs/x: {receivers: [routing], exporters: [nop]}}}
    """
    assert same(answers(0, 0, "info", routing), answers(0, 0, "info", routing))
    assert not same(answers(0, 0, "info", routing), answers(0, 0, "info", routing.replace('"b"', '"c"')))
    assert not same(answers(), answers(1))
    other = answers()
    other.environment = {"X": "1"}
    assert not same(answers(), other)


def test_a_problem_that_several_have_is_told_once() -> None:
    warnings = plan(ANSWERS.format(port=0, metrics=0, level="info"), "extensions: {zpages: }").warnings
    assert len(warnings) == 1
    assert [str(each) for each in of_several({"a": warnings, "b": [], "c": warnings})] == [
        str(warnings[0]).replace("zpages: ", "zpages: a, c: ", 1)
    ]
