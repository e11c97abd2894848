"""`--collector NAME,NAME,...`: several collectors in one process."""

from __future__ import annotations

import argparse
import signal
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kofagent.cli.main import main
from kofagent.cli.sources import load_several
from kofagent.component import registry
from kofagent.component.protocols import Kubeconfig
from kofagent.config.load import load_config
from kofagent.config.model import LoadedConfig
from kofagent.kubernetes.resources import NODES
from kofagent.pipeline.supervisor import Supervisor
from kofagent.pipeline.together import listeners, tell_apart
from tests.cli.test_run import post
from tests.support import servers
from tests.support.fake_kube import FakeKube
from tests.support.servers import free_port, wait_until
from tests.values.golden import NEWER_NAMES, needs_newer, newer, write_values

NODE = {
    "OTEL_K8S_NODE_NAME": "n1",
    "K8S_NODE_NAME": "n1",
    "OTEL_K8S_NODE_IP": "127.0.0.1",
    "OTEL_K8S_NAMESPACE": "kof",
    "OTEL_K8S_POD_NAME": "p",
}
CLOUDS = ("ec2", "gcp", "azure", "kubeadm")
SECRETS = {f"{name}_{key}": "x" for name in ("KOF_VM", "KOF_JAEGER", "AWS") for key in ("USER", "PASSWORD")}


def arguments(file: str, collectors: list[str], **options: Any) -> argparse.Namespace:
    given = {"generation": None, "part": None, "config": [], "role": None, "collector": None, **options}
    return argparse.Namespace(values=[file], collectors=collectors, **given)


def on_free_ports(plans: dict[str, LoadedConfig], state: Path) -> dict[str, LoadedConfig]:
    """What listens on other ports, and writes to other directories, where the tests run."""
    for name, plan in plans.items():
        for one in listeners(name, plan):
            one.move("127.0.0.1", 0)
        for id, options in plan.components["extensions"].items():
            if id.startswith("file_storage"):
                options.directory = str(state) + options.directory  # type: ignore[attr-defined]
        for id, options in plan.components["receivers"].items():
            if id == "hostmetrics":
                options.root_path = ""  # type: ignore[attr-defined]
        for id, options in plan.components["processors"].items():
            if id.startswith("resourcedetection"):
                options.detectors = [each for each in options.detectors if each not in CLOUDS]  # type: ignore[attr-defined]
    return plans


@pytest.fixture
async def kube(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[FakeKube, Kubeconfig]]:
    for variable, value in NODE.items():
        monkeypatch.setenv(variable, value)
    async with FakeKube() as server:
        server.put(NODES, {"metadata": {"name": "n1"}})
        yield server, Kubeconfig(str(server.use(monkeypatch, tmp_path)))


@needs_newer
@pytest.mark.parametrize("name", NEWER_NAMES)
async def test_the_daemon_sets_of_every_release_run_together(name: str, tmp_path: Path, kube: tuple[FakeKube, Kubeconfig]) -> None:
    file = write_values(tmp_path, newer(name)["values"])
    collectors = [key for key, one in newer(name)["rendered"].items() if one["mode"] == "daemonset"]
    given = arguments(file, collectors, generation=name.partition("-")[0])
    environ = {**NODE, **SECRETS}
    plans, _ = load_several(given, environ, need_secrets=False)
    supervisor = Supervisor(on_free_ports(plans, tmp_path), kubeconfig=kube[1])
    await supervisor.start()
    await supervisor.stop()


STACK = "opentelemetry-kube-stack"
TWO = {STACK: {"clusterName": "c1"}}


def call(capsys: pytest.CaptureFixture[str], *given: str) -> tuple[int, list[str], str]:
    code = main(list(given))
    said = capsys.readouterr()
    return code, said.out.splitlines(), said.err


@pytest.fixture
def on_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in NODE.items():
        monkeypatch.setenv(variable, value)


@pytest.mark.usefixtures("on_a_node")
def test_validate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_values(tmp_path, TWO)
    code, out, err = call(
        capsys, "validate", "--values", file, "--collector", "daemon, target-allocator", "--collector=controller-k0s"
    )
    assert code == 0 and [line.split(": ")[1] for line in out] == [
        "kof-collectors-daemon",
        "kof-collectors-ta-daemon",
        "kof-collectors-controller-k0s-daemon",
    ]
    otlp = "receivers.otlp.protocols"
    (warning, *notes) = err.splitlines()
    assert warning.startswith("warning: ") and "resource/k8sclustername: daemon: is named" in warning
    assert notes == [
        f"note: target-allocator: {otlp}.grpc listens on 0.0.0.0:14317 instead of 0.0.0.0:4317, which {otlp}.grpc of daemon has",
        f"note: target-allocator: {otlp}.http listens on 0.0.0.0:14318 instead of 0.0.0.0:4318, which {otlp}.http of daemon has",
        "note: target-allocator: receivers.prometheus.api_server.server_config is one with that of daemon, at 0.0.0.0:9090",
        "note: target-allocator: service.telemetry.metrics.readers[0].pull.exporter.prometheus is one with that of daemon, "
        "at 0.0.0.0:8888",
    ]


@pytest.mark.usefixtures("on_a_node")
def test_errors_of_all_are_told_at_once_with_the_names_of_those_that_have_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    default = {"config": {"exporters": {"debug": {"verbosity": "loud"}}}}
    own = {"daemon": {"config": {"receivers": {"otlp": {"protocls": {}}}}}}
    file = write_values(tmp_path, {STACK: {"clusterName": "c1", "defaultCRConfig": default, "collectors": own}})
    for command, *more in (("validate",), ("run",), ("explain", "logs")):
        code, _, err = call(capsys, command, *more, "--values", file, "--collector", "daemon,target-allocator,x")
        found = err.replace(f"{file}:", "").splitlines()
        assert code == 1
        assert any(": daemon, target-allocator: " in line and "debug.verbosity" in line for line in found), found
        assert [line for line in found if "otlp.protocls: daemon: unknown key" in line], found
        assert any(
            line.endswith("x: x: there is no such collector; use one of cluster, controller-k0s, daemon, target-allocator")
            for line in found
        )
        assert len(found) == (4 if command == "validate" else 3)
    code, _, err = call(capsys, "render", "--values", file, "--collector", "daemon,y,x")
    assert (code, err.count("there is no such collector")) == (1, 2)


@pytest.mark.parametrize("command", [["run"], ["validate"], ["render"], ["explain", "logs"]])
def test_a_collector_twice_is_an_error_with_those_there(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_values(tmp_path, TWO)
    code, _, err = call(capsys, *command, "--values", file, "--collector", "daemon,cluster,daemon")
    assert code == 1
    assert err.splitlines()[0] == (
        "--collector: configuration: daemon is named twice; name each once, of cluster, target-allocator, daemon, controller-k0s"
    )
    with pytest.raises(SystemExit) as ended:
        main([*command, "--values", file, "--collector", "daemon,"])
    assert ended.value.code == 2 and "--collector has an empty name" in capsys.readouterr().err


@pytest.mark.usefixtures("on_a_node")
def test_render_prints_a_document_for_each_and_what_runs_can_be_run_beside_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_values(tmp_path, TWO)
    alone = [call(capsys, "render", "--values", file, "--collector", name)[1] for name in ("daemon", "target-allocator")]
    code, out, _ = call(capsys, "render", "--values", file, "--collector", "daemon,target-allocator")
    assert code == 0 and out == [*alone[0], "---", *alone[1]]
    code, out, err = call(capsys, "render", "--values", file, "--collector", "daemon,target-allocator", "--as-run")
    assert code == 0 and err.count("note: ") == 4
    texts = "\n".join(out).split("\n---\n")
    plans = {name: load_config([f"yaml:{text}"], registry, NODE) for name, text in zip("ab", texts, strict=True)}
    together = tell_apart(plans)
    assert len(together.notes) == 2 and all(" is one with " in note for note in together.notes)  # nothing is to be moved
    assert "endpoint: 0.0.0.0:14317" in texts[1]


@pytest.mark.usefixtures("on_a_node")
def test_explain_shows_the_pipeline_of_each_that_has_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_values(tmp_path, TWO)
    given = ("--values", file, "--collector", "daemon,target-allocator")
    code, out, _ = call(capsys, "explain", "traces", *given)
    assert code == 0 and [line for line in out if line.startswith("# collector")] == [
        "# collector daemon",
        "# collector target-allocator",
    ]
    code, out, _ = call(capsys, "explain", "logs/audit", *given)
    assert code == 0 and [line for line in out if line.startswith("# collector")] == ["# collector daemon"]
    code, _, err = call(capsys, "explain", "logs/audi", *given)
    assert code == 1 and "none of these collectors has a pipeline 'logs/audi'; did you mean 'logs/audit'?" in err


def test_each_has_a_directory_of_its_own(tmp_path: Path) -> None:
    file = write_values(tmp_path, TWO)
    plans, _ = load_several(arguments(file, ["daemon", "cluster"], state=str(tmp_path / "state")), NODE)
    assert {plan.components["extensions"]["file_storage/kofagent"].directory for plan in plans.values()} == {  # type: ignore[attr-defined]
        str(tmp_path / "state" / name) for name in plans
    }


def small(port: int, metrics: int) -> dict[str, Any]:
    """A collector that needs nothing."""
    reader = {"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": metrics}}}}
    return {
        "enabled": True,
        "config": {
            "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": "127.0.0.1:0"}, "http": {"endpoint": f"127.0.0.1:{port}"}}}},
            "service": {
                "extensions": [],
                "pipelines": {signal: {"receivers": ["otlp"], "exporters": ["debug"]} for signal in ("logs", "metrics", "traces")},
                "telemetry": {"metrics": {"readers": [reader]}},
            },
        },
    }


@pytest.mark.slow
def test_the_process(tmp_path: Path) -> None:
    """Starts, reloads the one that has changed, keeps both when one is broken, and ends."""
    (first, second, third), metrics = [free_port() for _ in range(3)], free_port()
    stack: Any = {"clusterName": "c1", "collectors": {"a": small(first, metrics), "b": small(second, metrics)}}
    file = write_values(tmp_path, {STACK: stack})
    agent = servers.kofagent(tmp_path, "run", "--values", file, "--collector", "a,b", "--state", "none")
    wait_until(lambda: "running 2 collectors: a, b" in agent.output(), what="the start")
    assert post(first, "x") == post(second, "x") == 200
    stack["collectors"]["b"] = {"enabled": True, "config": {"receivers": {"otlp": {"protocls": {}}}}}
    write_values(tmp_path, {STACK: stack})
    agent.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "the old one stays in use" in agent.output(), what="the refusal")
    assert "otlp.protocls: b: unknown key" in agent.output()
    assert post(first, "x") == post(second, "x") == 200
    stack["collectors"]["b"] = small(third, metrics)
    write_values(tmp_path, {STACK: stack})
    agent.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "b: configuration reloaded" in agent.output(), what="the reload")
    assert "a: configuration reloaded" not in agent.output()
    assert post(third, "x") == 200
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=10) as answer:
        page = answer.read().decode()
    accepted = [line for line in page.splitlines() if line.startswith("otelcol_receiver_accepted_log_records_total{")]
    assert {line.split('"')[1]: float(line.rsplit(" ", 1)[1]) for line in accepted if 'transport="http"' in line} == {
        "a": 2,
        "b": 3,
    }
    assert agent.stop() == 0, agent.output()
    assert "Traceback" not in agent.output()
