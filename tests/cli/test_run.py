"""`kofagent run` as a process: signals, exit codes, every error at once."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from kofagent.cli.main import main
from tests.support import servers
from tests.support.servers import free_port, wait_until


def config(port: int, metrics: int, path: Path) -> dict[str, Any]:
    return {
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{port}"}}}},
        "exporters": {"file": {"path": str(path), "append": True}},
        "service": {
            "pipelines": {"logs": {"receivers": ["otlp"], "exporters": ["file"]}},
            "telemetry": {"metrics": {"readers": [{"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": metrics}}}}]}},
        },
    }


def post(port: int, body: str) -> int:
    payload = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": body}}]}]}]}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/logs", json.dumps(payload).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        status: int = answer.status
        return status


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kofagent", *arguments], capture_output=True, text=True, timeout=60, check=False, **options
    )


def test_sigterm_drains_and_exits_0_and_sighup_reloads_or_refuses(tmp_path: Path) -> None:
    ports, metrics, out = [free_port(), free_port()], free_port(), tmp_path / "out.json"
    file = tmp_path / "otel.yaml"
    file.write_text(json.dumps(config(ports[0], metrics, out)))
    agent = servers.kofagent(tmp_path, "run", "--config", str(file))
    assert post(ports[0], "first") == 200

    broken = config(ports[0], metrics, out)
    broken["receivers"]["otlp"]["protocols"]["http"]["endpont"] = "x"
    file.write_text(json.dumps(broken, indent=1))
    agent.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "the old one stays in use" in agent.output(), what="the refusal")
    assert f"{file}:" in agent.output()
    assert "endpoint" in agent.output()
    assert post(ports[0], "second") == 200

    file.write_text(json.dumps(config(ports[1], metrics, out)))
    agent.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "configuration reloaded" in agent.output(), what="the reload")
    assert post(ports[1], "third") == 200
    page = urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=10).read().decode()
    accepted = [line for line in page.splitlines() if line.startswith("otelcol_receiver_accepted_log_records_total{")]
    assert sum(float(line.rsplit(" ", 1)[1]) for line in accepted) == 3

    began = time.monotonic()
    assert agent.stop() == 0, agent.output()
    assert time.monotonic() - began < 10
    bodies = [
        r["body"]["stringValue"]
        for line in out.read_text().splitlines()
        for rl in json.loads(line)["resourceLogs"]
        for sl in rl["scopeLogs"]
        for r in sl["logRecords"]
    ]
    assert bodies == ["first", "second", "third"]
    assert "Traceback" not in agent.output()


def test_a_bad_configuration_is_exit_1_with_every_error_its_line_and_a_suggestion(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "otel.yaml"
    file.write_text("""\
receivers:
  otlp:
    protocols:
      http:
        endpont: 127.0.0.1:4318
  filelogg:
    include: [/var/log/x]
exporters:
  otlphttp:
    endpoint: backend:4318
  prometheusremotewrite:
    endpoint: http://127.0.0.1:1/write
    timeout: fast
service:
  pipelines:
    logs:
      receivers: [otlp]
      exporters: [otlphttp, nosuch]
""")
    result = run("run", "--config", str(file))
    said = {"run": (result.returncode, result.stderr)}
    for command, *names in (("validate",), ("explain", "logs")):
        said[command] = (main([command, *names, "--config", str(file)]), capsys.readouterr().err)
    for code, text in said.values():
        assert code == 1
        lines = text.splitlines()
        for number, words in ((5, "endpoint"), (6, "filelog"), (10, "scheme"), (13, "timeout"), (18, "nosuch")):
            assert any(line.startswith(f"{file}:{number}: ") and words in line for line in lines), (number, words, text)
        assert "Traceback" not in text


def test_a_port_in_use_names_the_line_of_the_receiver(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        file = tmp_path / "otel.yaml"
        file.write_text(f"""\
receivers:
  otlp:
    protocols:
      http:
        endpoint: 127.0.0.1:{port}
exporters:
  nop:
service:
  pipelines:
    logs: {{receivers: [otlp], exporters: [nop]}}
  telemetry: {{metrics: {{level: none}}}}
""")
        result = run("run", "--config", str(file))
    assert result.returncode == 1
    assert result.stderr.startswith(f"{file}:2: receivers.otlp: "), result.stderr
    assert f"127.0.0.1:{port}" in result.stderr


def test_missing_secrets_are_all_named_and_unreadable_files_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("global: {clusterName: c}\n")
    no_cluster = Path(__file__).parents[2] / "configs" / "no-cluster.yaml"
    result = run("run", "--values", str(values), "--values", str(no_cluster), "--role", "node")
    assert result.returncode == 1
    assert "storage-vmuser-credentials" in result.stderr
    assert "username" in result.stderr
    assert "password" in result.stderr
    missing = tmp_path / "missing.yaml"
    assert main(["run", "--config", str(missing)]) == 1
    assert str(missing) in capsys.readouterr().err


def test_help_has_an_example_for_every_command_and_bad_command_lines_are_2() -> None:
    for command in ("run", "dev", "validate", "render", "explain", "components"):
        result = run(command, "--help")
        assert result.returncode == 0
        assert "example: kofagent " + command in result.stdout
    assert run("run").returncode == 2
    assert run("run", "--values", "x").returncode == 2
    assert run("nosuch").returncode == 2
